//! Which training windows make up which step: a computed permutation of the windows, anew for
//! every epoch, so that the data position is a function of the step and a resume needs no cursor.

use sweep_data::TokenFile;
use sweep_spec::random::{Permutation, Purpose};

use crate::error::TrainError;

/// The order of training windows of one run.
pub(crate) struct DataOrder {
    seed: u64,
    windows: u64,
    sequence: usize,
    batch: u64,
    /// The permutation in use and its epoch.
    epoch: (u64, Permutation),
}

impl DataOrder {
    /// The order for a corpus of this many tokens. A window takes `sequence` tokens and the one
    /// after them.
    pub(crate) fn new(
        seed: u64,
        tokens: u64,
        sequence: usize,
        batch: u32,
    ) -> Result<Self, TrainError> {
        let windows = tokens.saturating_sub(1) / sequence as u64;
        if windows == 0 {
            return Err(TrainError::CorpusTooSmall { tokens, needed: sequence as u64 + 1 });
        }
        let first = Permutation::new(seed, Purpose::DataOrder, 0, windows);
        Ok(Self { seed, windows, sequence, batch: u64::from(batch), epoch: (0, first) })
    }

    /// Inputs and targets of a step, [batch * sequence] each.
    pub(crate) fn batch(&mut self, step: u64, tokens: &TokenFile) -> (Vec<i32>, Vec<i32>) {
        let starts: Vec<u64> =
            (step * self.batch..(step + 1) * self.batch).map(|sample| self.start(sample)).collect();
        read_windows(&starts, self.sequence, tokens)
    }

    /// Numbers of the images of a step, where `tokens` was the number of images and one more, and
    /// a window is one of them.
    pub(crate) fn images(&mut self, step: u64) -> Vec<u64> {
        assert_eq!(self.sequence, 1, "an image is one unit of data");
        (step * self.batch..(step + 1) * self.batch).map(|sample| self.start(sample)).collect()
    }

    fn start(&mut self, sample: u64) -> u64 {
        let epoch = sample / self.windows;
        if epoch != self.epoch.0 {
            self.epoch =
                (epoch, Permutation::new(self.seed, Purpose::DataOrder, epoch, self.windows));
        }
        self.epoch.1.at(sample % self.windows) * self.sequence as u64
    }
}

/// Inputs and targets of the windows at these starts.
pub(crate) fn read_windows(
    starts: &[u64],
    sequence: usize,
    tokens: &TokenFile,
) -> (Vec<i32>, Vec<i32>) {
    let mut window = vec![0; sequence + 1];
    let mut inputs = Vec::with_capacity(starts.len() * sequence);
    let mut targets = Vec::with_capacity(starts.len() * sequence);
    for &start in starts {
        tokens.copy(start, &mut window);
        inputs.extend_from_slice(&window[..sequence]);
        targets.extend_from_slice(&window[1..]);
    }
    (inputs, targets)
}

/// Starts of `count` evaluation windows spread evenly over a held-out part of `tokens` tokens;
/// all windows where there are fewer.
pub(crate) fn evaluation_starts(tokens: u64, sequence: usize, count: u64) -> Vec<u64> {
    let windows = tokens.saturating_sub(1) / sequence as u64;
    let count = count.min(windows);
    (0..count).map(|index| index * windows / count * sequence as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_takes_every_window_once() {
        let mut order = DataOrder::new(3, 1001, 10, 4).expect("windows");
        for epoch in 0..3 {
            let mut starts: Vec<u64> =
                (epoch * 100..(epoch + 1) * 100).map(|sample| order.start(sample)).collect();
            starts.sort_unstable();
            assert!(starts.into_iter().eq((0..100).map(|window| window * 10)), "epoch {epoch}");
        }
    }

    #[test]
    fn a_corpus_below_one_window_is_refused() {
        let refused = DataOrder::new(0, 10, 10, 1);
        assert!(matches!(refused, Err(TrainError::CorpusTooSmall { tokens: 10, needed: 11 })));
    }

    #[test]
    fn evaluation_windows_are_spread_and_distinct() {
        let starts = evaluation_starts(10_001, 10, 7);
        assert_eq!(starts.len(), 7);
        assert!(starts.windows(2).all(|pair| pair[1] >= pair[0] + 10));
        assert_eq!(evaluation_starts(101, 10, 50).len(), 10);
        assert!(evaluation_starts(5, 10, 50).is_empty());
    }
}
