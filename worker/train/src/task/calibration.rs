//! Whether confidence is deserved: sums over bins of confidence, for tasks and for held-out text.
//!
//! The confidence of a prediction is the probability that the model gives to it. A model is
//! calibrated when, of the predictions made with confidence p, a share p is right (Guo et al. 2017,
//! 1706.04599). The error and its interval are computed from these sums in `sweep-fit`.

use burn::tensor::{Device, Int, Tensor};
use sweep_data::Dataset;
use sweep_spec::metric::{BINS, Metric, TaskMetric, TaskScore};

use super::answer::{largest, log_softmax};
use crate::{error::TrainError, model::lm::Lm, order::read_windows, sample::row_values};

/// Held-out tokens looked at, at most: 800 in a bin leave 2 % of noise on its share.
const TOKENS: usize = 8192;

/// Windows at once: 8 of 512 tokens and 65,536 entries are a GiB of logits.
const WINDOWS: usize = 8;

/// Sums by bin of confidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bins {
    count: [u32; BINS],
    right: [u32; BINS],
    confidence: [f64; BINS],
    brier: f64,
}

impl Bins {
    /// Takes in one prediction.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a confidence is from 0 to 1 but for rounding"
    )]
    #[expect(clippy::cast_precision_loss, reason = "there are ten bins")]
    pub(super) fn add(&mut self, confidence: f64, right: bool) {
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        self.count[bin] += 1;
        self.right[bin] += u32::from(right);
        self.confidence[bin] += confidence;
        self.brier += (confidence - f64::from(u8::from(right))).powi(2);
    }

    fn total(&self) -> f64 {
        self.count.iter().map(|&count| f64::from(count)).sum()
    }

    /// The Brier score and the bins, as metrics of a task; nothing where nothing was predicted.
    pub(super) fn metrics(&self, task: u8, with_bins: bool) -> Vec<(Metric, f64)> {
        let metric = |score| Metric::Task(TaskMetric::new(task, score));
        if self.total() == 0.0 {
            return Vec::new();
        }
        let mut found = vec![
            (metric(TaskScore::Brier), self.brier / self.total()),
            (metric(TaskScore::Items), self.total()),
        ];
        for (bin, number) in (0..BINS).zip(0_u8..).filter(|_| with_bins) {
            let count = f64::from(self.count[bin]);
            found.push((metric(TaskScore::BinCount(number)), count));
            found.push((metric(TaskScore::BinRight(number)), f64::from(self.right[bin])));
            if count > 0.0 {
                let mean = self.confidence[bin] / count;
                found.push((metric(TaskScore::BinConfidence(number)), mean));
            }
        }
        found
    }
}

/// Next-token prediction on held-out text: share of the most probable tokens that are right, mean
/// loss, Brier score and bins.
pub(crate) fn text(
    model: &Lm,
    dataset: &Dataset,
    starts: &[u64],
    sequence: usize,
    device: &Device,
) -> Result<Vec<(Metric, f64)>, TrainError> {
    let (mut bins, mut right, mut nats) = (Bins::default(), 0_u32, 0.0);
    for starts in starts[..starts.len().min(TOKENS / sequence)].chunks(WINDOWS) {
        let (inputs, targets) = read_windows(starts, sequence, dataset.validation());
        let rows: Vec<i32> = (0..).take(inputs.len()).collect();
        let logits = model.logits(
            Tensor::<1, Int>::from_data(&inputs[..], device),
            Tensor::<1, Int>::from_data(&rows[..], device),
        );
        let values = row_values(logits)?;
        for (logits, &target) in values.chunks_exact(values.len() / rows.len()).zip(&targets) {
            let (logs, best) = (log_softmax(logits), largest(logits));
            let target = usize::try_from(target).expect("a token is not negative");
            bins.add(libm::exp(logs[best]), best == target);
            right += u32::from(best == target);
            nats -= logs[target];
        }
    }
    let mut found = bins.metrics(TaskMetric::TEXT, true);
    if !found.is_empty() {
        let metric = |score| Metric::Task(TaskMetric::new(TaskMetric::TEXT, score));
        found.push((metric(TaskScore::TokenAccuracy), f64::from(right) / bins.total()));
        found.push((metric(TaskScore::AnswerNats), nats / bins.total()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_summed_by_confidence() {
        let mut bins = Bins::default();
        for (confidence, right) in [(0.05, false), (0.95, true), (1.0, true), (0.99, false)] {
            bins.add(confidence, right);
        }
        assert_eq!((bins.count[0], bins.count[9], bins.right[9]), (1, 3, 2));
        let metrics = bins.metrics(2, true);
        let of = |score| {
            let metric = Metric::Task(TaskMetric::new(2, score));
            metrics.iter().find(|(found, _)| *found == metric).map(|(_, value)| *value)
        };
        let brier = (0.05_f64.powi(2) + 0.05_f64.powi(2) + 0.99_f64.powi(2)) / 4.0;
        assert!((of(TaskScore::Brier).expect("present") - brier).abs() < 1e-12);
        let mean = of(TaskScore::BinConfidence(9)).expect("present");
        assert!((mean - 0.98).abs() < 1e-12, "{mean}");
        // An empty bin has no confidence, not one of 0.
        assert_eq!(of(TaskScore::BinConfidence(4)), None);
        assert_eq!(of(TaskScore::BinCount(4)), Some(0.0));
        assert!(Bins::default().metrics(1, true).is_empty());
    }
}
