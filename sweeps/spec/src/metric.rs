//! The metrics of a curve: name, unit, direction, and whether training or evaluation makes them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::task::{BINS, TaskMetric, TaskScore};

mod task;

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $unit:literal, $direction:ident, $origin:ident;)*) => {
        /// A metric of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Metric {
            $($(#[$doc])* $variant,)*
            /// A score of a task, or of the held-out text.
            Task(TaskMetric),
        }

        impl Metric {
            /// Metrics that a run has once, whatever its tasks.
            pub const PLAIN: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the database, on the wire and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Task(metric) => metric.name(),
                }
            }

            /// The unit of its values.
            #[must_use]
            pub const fn unit(self) -> &'static str {
                match self {
                    $(Self::$variant => $unit,)*
                    Self::Task(metric) => metric.score().unit(),
                }
            }

            /// Which way is better.
            #[must_use]
            pub const fn direction(self) -> Direction {
                match self {
                    $(Self::$variant => Direction::$direction,)*
                    Self::Task(metric) => metric.score().direction(),
                }
            }

            /// Who makes it.
            #[must_use]
            pub const fn origin(self) -> Origin {
                match self {
                    $(Self::$variant => Origin::$origin,)*
                    Self::Task(_) => Origin::Evaluation,
                }
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
    /// Mean training loss since the last report; the unit is that of language models, and the
    /// loss of a diffusion model is the squared error of the noise per value.
    TrainLoss = "train/loss", "nats/token", Down, Training;
    /// Loss on the fixed held-out set: tokens, or (image, timestep, noise) triples.
    ValidationLoss = "validation/loss", "nats/token", Down, Evaluation;
    /// The same per byte of text.
    ValidationBitsPerByte = "validation/bits_per_byte", "bits/byte", Down, Evaluation;
    /// Loss of a diffusion model at the timesteps of the first fifth, those with least noise.
    NoiseLossBin1 = "validation/noise_loss/1", "squared error/value", Down, Evaluation;
    /// The second fifth.
    NoiseLossBin2 = "validation/noise_loss/2", "squared error/value", Down, Evaluation;
    /// The third fifth.
    NoiseLossBin3 = "validation/noise_loss/3", "squared error/value", Down, Evaluation;
    /// The fourth fifth.
    NoiseLossBin4 = "validation/noise_loss/4", "squared error/value", Down, Evaluation;
    /// The last fifth, those with most noise.
    NoiseLossBin5 = "validation/noise_loss/5", "squared error/value", Down, Evaluation;
    /// The least noise loss that any model can have on these triples, where the density is known.
    NoiseLossFloor = "validation/noise_loss/floor", "squared error/value", None, Evaluation;
    /// Variational upper bound of the held-out images' code length.
    BoundBits = "validation/bound", "bits/value", Down, Evaluation;
    /// Its Monte Carlo standard error.
    BoundBitsError = "validation/bound/error", "bits/value", None, Evaluation;
    /// The code length of the same images under the true density, where it is known.
    TrueBits = "validation/true_bits", "bits/value", None, Evaluation;
    /// Fréchet distance of samples and held-out images in the features of the trainer.
    FrechetDistance = "samples/frechet", "squared feature", Down, Evaluation;
    /// The same between two halves of held-out images: what the sample size alone gives.
    FrechetFloor = "samples/frechet/floor", "squared feature", None, Evaluation;
    /// Share of held-out images that a sample comes as near to as a held-out neighbour.
    Coverage = "samples/coverage", "share", Up, Evaluation;
    /// Share of samples that nearly equal another sample.
    Duplicates = "samples/duplicates", "share", Down, Evaluation;
    /// Share of known modes that samples fall into.
    ModeCoverage = "samples/mode_coverage", "share", Up, Evaluation;
    /// Share of samples that the known density finds plausible.
    InMode = "samples/in_mode", "share", Up, Evaluation;
    /// Total variation distance of the samples' modes from the true weights.
    ModeDistance = "samples/mode_distance", "share", Down, Evaluation;
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

const ALL_COUNT: usize = Metric::PLAIN.len() + TaskMetric::COUNT;

const fn all() -> [Metric; ALL_COUNT] {
    let mut all = [Metric::TrainLoss; ALL_COUNT];
    let mut place = 0;
    while place < ALL_COUNT {
        all[place] = if place < Metric::PLAIN.len() {
            Metric::PLAIN[place]
        } else {
            Metric::Task(TaskMetric::at(place - Metric::PLAIN.len()))
        };
        place += 1;
    }
    all
}

impl Metric {
    /// Every metric: the plain ones, then those of every place for a task.
    pub const ALL: &'static [Self] = &all();

    /// Whether a run with this many tasks can have it.
    #[must_use]
    pub const fn exists_with(self, tasks: usize) -> bool {
        match self {
            Self::Task(metric) => metric.task() as usize <= tasks,
            _ => true,
        }
    }
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
