//! How a run is trained: optimiser, width scaling, learning-rate schedule.
//!
//! The schedule is a pure function of the step, so a resumed run needs no scheduler state.

use serde::{Deserialize, Serialize};

/// Raised when the same configuration would train to other weights than before; it enters the
/// identity of every run.
pub const TRAINING_REVISION: u32 = 2;

/// AdamW (Loshchilov and Hutter 2019, 1711.05101) with global-norm clipping.
///
/// Width scaling follows muP (Yang et al. 2022, 2203.03466, table 8): the learning rate of a
/// matrix with fan-in d is `learning_rate * base_width / d`; embedding and gains keep
/// `learning_rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Peak learning rate at `base_width`.
    pub learning_rate: f64,
    /// The width at which the learning rate is the stated one.
    pub base_width: u32,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, on matrices only, times the learning rate of the matrix.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip_norm: f64,
}

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Constant, then down to zero as 1 - sqrt(progress) over the last `fraction` of the steps
    /// (Haegele et al. 2024, 2405.18392).
    Wsd {
        /// Share of all steps that cools down, above 0, at most 1.
        // A recipe cannot say 0; that is a trunk, which never cools down.
        fraction: f64,
    },
    /// Half a cosine down to `floor` times the peak (Loshchilov and Hutter 2017, 1608.03983).
    Cosine {
        /// What is left at the end, as a share of the peak.
        floor: f64,
    },
}

/// Learning-rate schedule over the steps of a run; it ends exactly at the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Steps of linear warm-up at most.
    pub warmup_steps: u64,
    /// Warm-up is never longer than this share of the run: a fixed warm-up starves short runs
    /// (Porian et al. 2024, 2406.19146).
    pub warmup_fraction: f64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// Steps of warm-up of a run of `steps` steps; at least 1.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "step counts are below 2^53 and the product is not negative"
    )]
    pub fn warmup(&self, steps: u64) -> u64 {
        let bound = (self.warmup_fraction * steps as f64) as u64;
        self.warmup_steps.min(bound).max(1)
    }

    /// Whether the rate stays at its peak after warm-up: the schedule of a trunk.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(self.decay, Decay::Wsd { fraction } if fraction == 0.0)
    }

    /// The step (0-based) at which a run of `steps` steps begins to cool down: steps before it
    /// have the constant rate or the warm-up's. `None` for a schedule without a constant part.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "step counts are below 2^53 and the share is at most 1"
    )]
    pub fn cooldown_start(&self, steps: u64) -> Option<u64> {
        match self.decay {
            Decay::Wsd { .. } if self.is_constant() => None,
            Decay::Wsd { fraction } => {
                let decay_steps = (fraction * steps as f64).round().max(1.0) as u64;
                Some(steps.saturating_sub(decay_steps))
            }
            Decay::Cosine { .. } => None,
        }
    }

    /// The schedule of the trunk under runs of this schedule: the same warm-up, whatever the
    /// length, then constant.
    #[must_use]
    pub fn trunk(&self) -> Self {
        Self {
            warmup_steps: self.warmup_steps,
            warmup_fraction: 1.0,
            decay: Decay::Wsd { fraction: 0.0 },
        }
    }

    /// The factor on the peak learning rate at `step` (0-based) of `steps`, in (0, 1].
    ///
    /// # Panics
    /// When `step` is not below `steps`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        assert!(step < steps, "step {step} of {steps}");
        let warmup = self.warmup(steps);
        let rising = ((step + 1) as f64 / warmup as f64).min(1.0);
        let falling = match self.decay {
            Decay::Wsd { .. } if self.is_constant() => 1.0,
            Decay::Wsd { fraction } => {
                let decay_steps = (fraction * steps as f64).round().max(1.0);
                let start = steps as f64 - decay_steps;
                // The last step still moves: progress is (i + 1) / (n + 1) at the i-th of n.
                let progress = (step as f64 + 1.0 - start) / (decay_steps + 1.0);
                1.0 - libm::sqrt(progress.clamp(0.0, 1.0))
            }
            Decay::Cosine { floor } => {
                let span = (steps - warmup).max(1) as f64;
                let progress = (step.saturating_sub(warmup) as f64 + 1.0) / (span + 1.0);
                let wave = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.min(1.0)));
                if step < warmup { 1.0 } else { floor + (1.0 - floor) * wave }
            }
        };
        rising.min(falling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wsd(fraction: f64) -> Schedule {
        Schedule { warmup_steps: 10, warmup_fraction: 0.1, decay: Decay::Wsd { fraction } }
    }

    #[test]
    fn wsd_rises_stays_and_falls_to_the_last_step() {
        let schedule = wsd(0.2);
        let factors: Vec<f64> = (0..200).map(|step| schedule.factor(step, 200)).collect();
        assert_eq!(factors[0], 0.1);
        assert_eq!(factors[9], 1.0);
        assert!(factors[9..160].iter().all(|&factor| factor == 1.0));
        assert!(factors[160..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(factors[199] > 0.0 && factors[199] < 0.02, "{}", factors[199]);
    }

    #[test]
    fn a_trunk_has_the_rates_of_its_branches_before_they_cool_down() {
        for (steps, fraction) in [(200_u64, 0.2), (137, 0.3), (1000, 0.15), (20, 0.25)] {
            let schedule = Schedule { warmup_fraction: 0.6, ..wsd(fraction) };
            let start = schedule.cooldown_start(steps).expect("it cools down");
            let trunk = schedule.trunk();
            assert!(trunk.is_constant() && trunk.cooldown_start(steps).is_none());
            // The end of the trunk is anything from the fork on.
            for end in [start, steps, 3 * steps] {
                for step in 0..start {
                    let (ours, its) = (schedule.factor(step, steps), trunk.factor(step, end));
                    assert_eq!(ours.to_bits(), its.to_bits(), "step {step} of {steps}");
                }
            }
            assert!(schedule.factor(start, steps) < 1.0);
        }
    }

    #[test]
    fn warm_up_is_bounded_by_a_share_of_the_run() {
        assert_eq!(wsd(0.2).warmup(1000), 10);
        assert_eq!(wsd(0.2).warmup(40), 4);
        assert_eq!(wsd(0.2).warmup(3), 1);
    }

    #[test]
    fn a_cosine_ends_at_its_floor() {
        let schedule =
            Schedule { warmup_steps: 5, warmup_fraction: 0.5, decay: Decay::Cosine { floor: 0.1 } };
        let last = schedule.factor(999, 1000);
        assert!((last - 0.1).abs() < 1e-4, "{last}");
        assert!((0..1000).all(|step| schedule.factor(step, 1000) > 0.0));
    }

    #[test]
    fn every_run_length_has_a_rate_above_zero_at_every_step() {
        for steps in 1..50 {
            for step in 0..steps {
                let factor = wsd(1.0).factor(step, steps);
                assert!(factor > 0.0 && factor <= 1.0, "{step} of {steps}: {factor}");
            }
        }
    }
}
