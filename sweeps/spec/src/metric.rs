//! The metrics of a curve: name, unit, direction, and whether training or evaluation makes them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $unit:literal, $direction:ident, $origin:ident;)*) => {
        /// A metric of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Metric {
            $($(#[$doc])* $variant,)*
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the database, on the wire and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The unit of its values.
            #[must_use]
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit),* }
            }

            /// Which way is better.
            #[must_use]
            pub const fn direction(self) -> Direction {
                match self { $(Self::$variant => Direction::$direction),* }
            }

            /// Who makes it.
            #[must_use]
            pub const fn origin(self) -> Origin {
                match self { $(Self::$variant => Origin::$origin),* }
            }
        }
    };
}

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lower is better.
    Down,
    /// Higher is better.
    Up,
    /// Neither.
    None,
}

/// Whether a metric comes from training steps or from an evaluation. A full spool thins the first
/// and keeps the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by training steps.
    Training,
    /// Made by an evaluation on held-out data.
    Evaluation,
}

metrics! {
    /// Mean training loss since the last report.
    TrainLoss = "train/loss", "nats/token", Down, Training;
    /// Loss on the fixed held-out set.
    ValidationLoss = "validation/loss", "nats/token", Down, Evaluation;
    /// The same per byte of text.
    ValidationBitsPerByte = "validation/bits_per_byte", "bits/byte", Down, Evaluation;
    /// Global gradient norm before clipping.
    GradientNorm = "gradient_norm", "1", None, Training;
    /// Learning rate at base width.
    LearningRate = "learning_rate", "1", None, Training;
    /// Training tokens seen.
    Tokens = "tokens", "tokens", None, Training;
    /// Exact training FLOPs spent.
    Flops = "flops", "FLOPs", None, Training;
    /// Speed since the last report.
    TokensPerSecond = "tokens_per_second", "tokens/s", Up, Training;
    /// Seconds of training of this attempt.
    Seconds = "seconds", "s", None, Training;
}

/// Text that names no metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no metric is called `{0}`")]
pub struct UnknownMetric(String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        Self::ALL
            .iter()
            .copied()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(name: String) -> Result<Self, UnknownMetric> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.name().to_owned()
    }
}

/// One value of a metric at a step. The value may be NaN or infinite: a diverged run is data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Which metric.
    pub metric: Metric,
    /// Optimiser steps done when it was measured.
    pub step: u64,
    /// Its value, in the metric's unit.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for &metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        assert!("loss".parse::<Metric>().is_err());
    }
}
