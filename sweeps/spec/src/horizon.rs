//! How batch and learning rate follow the length of a run.
//!
//! One batch for all lengths bends a scaling law: it is too large for the short runs, which then
//! make too few steps, and too small for the long ones, which are then too noisy. The critical
//! batch grows with the training tokens D, about as D^0.47, and hardly with the parameters (Zhang
//! et al. 2024, 2410.21676); at a fixed batch the best learning rate falls as D^-0.32 (Bjorck et
//! al. 2024, 2409.19913).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Count;

/// Powers of the training tokens that batch and learning rate follow. The batch that comes out is
/// rounded to whole sequences, at least 1; the rate is as exact as the power.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    /// Training tokens (or images) at which batch and learning rate are the stated ones.
    pub tokens: Count,
    /// The batch is the stated one times (D / `tokens`) to this power; 0.5 is a good start.
    #[serde(default)]
    pub batch_exponent: f64,
    /// The learning rate is the stated one times (D / `tokens`) to this power; -0.32 is a good
    /// start where the batch is the same for all.
    #[serde(default)]
    pub rate_exponent: f64,
}

impl Horizon {
    /// The batch in sequences of a run of `tokens`, where `batch` is that of `self.tokens`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1, and a cast saturates"
    )]
    pub fn batch(&self, batch: u32, tokens: f64) -> u32 {
        (f64::from(batch) * self.power(tokens, self.batch_exponent)).round().max(1.0) as u32
    }

    /// The peak learning rate of a run of `tokens`, where `rate` is that of `self.tokens`.
    #[must_use]
    pub fn rate(&self, rate: f64, tokens: f64) -> f64 {
        rate * self.power(tokens, self.rate_exponent)
    }

    /// From `libm`, so that a run has the same identity on every machine.
    #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
    fn power(&self, tokens: f64, exponent: f64) -> f64 {
        libm::pow(tokens / self.tokens.0 as f64, exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_and_rate_follow_the_length_of_a_run() {
        let horizon =
            Horizon { tokens: Count(2_000_000), batch_exponent: 0.5, rate_exponent: -0.25 };
        assert_eq!(horizon.batch(16, 2e6), 16);
        assert_eq!(horizon.batch(16, 5e5), 8);
        assert_eq!(horizon.batch(16, 8e6), 32);
        assert_eq!(horizon.batch(16, 1.0), 1, "never less than one sequence");
        assert_eq!(horizon.rate(0.01, 2e6), 0.01);
        assert!((horizon.rate(0.01, 32e6) - 0.005).abs() < 1e-15);
        assert!((horizon.rate(0.01, 125e3) - 0.02).abs() < 1e-15);
    }

    #[test]
    fn exponents_of_zero_change_nothing() {
        let horizon = Horizon { tokens: Count(7), batch_exponent: 0.0, rate_exponent: 0.0 };
        assert_eq!((horizon.batch(5, 1e9), horizon.rate(0.3, 1e9)), (5, 0.3));
    }
}
