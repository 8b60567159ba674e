//! Training windows made of tasks, at the fractions that the run states.
//!
//! Whether a window is made of a task, of which, and of which items are functions of the run's seed
//! and the number of the sample, drawn from a stream of its own. So the mixture is the same on
//! every backend and after a resume, and the text of the other windows is what it was without it.

use sweep_data::task::TaskItems;
use sweep_spec::random::{Purpose, Stream};

/// The tasks that windows are made of.
#[derive(Debug)]
pub(crate) struct Mixture {
    seed: u64,
    batch: usize,
    sequence: usize,
    /// Upper end of each task's share of [0, 1), with its items.
    parts: Vec<(f64, TaskItems)>,
}

impl Mixture {
    /// A mixture of these fractions.
    pub(super) fn new(
        seed: u64,
        batch: usize,
        sequence: usize,
        tasks: Vec<(f64, TaskItems)>,
    ) -> Self {
        let mut end = 0.0;
        let parts = tasks
            .into_iter()
            .map(|(fraction, items)| {
                end += fraction;
                (end, items)
            })
            .collect();
        Self { seed, batch, sequence, parts }
    }

    /// Replaces the windows of a step that are made of tasks; `inputs` and `targets` are
    /// [batch * sequence].
    pub(crate) fn apply(&self, step: u64, inputs: &mut [i32], targets: &mut [i32]) {
        if self.parts.is_empty() {
            return;
        }
        let windows = inputs.chunks_exact_mut(self.sequence);
        let pairs = windows.zip(targets.chunks_exact_mut(self.sequence));
        for (sample, (inputs, targets)) in (step * self.batch as u64..).zip(pairs) {
            if let Some(window) = self.window(sample) {
                for (place, pair) in window.windows(2).enumerate() {
                    (inputs[place], targets[place]) = (i32::from(pair[0]), i32::from(pair[1]));
                }
            }
        }
    }

    /// The window of a sample, `sequence` tokens and the one after them, where it is made of a
    /// task.
    fn window(&self, sample: u64) -> Option<Vec<u8>> {
        let mut draws = Stream::new(self.seed, Purpose::TaskMixture, sample);
        let share = draws.uniform();
        let (_, items) = self.parts.iter().find(|(end, _)| share < *end)?;
        Some(items.window(self.sequence + 1, &mut draws))
    }
}

#[cfg(test)]
mod tests {
    use sweep_spec::task::{Suite, Task};

    use super::*;

    fn items(suite: Suite) -> TaskItems {
        let task =
            Task { name: String::new(), suite, path: None, items: 1, fraction: 0.5, times: 1 };
        TaskItems::open(&task, 64).expect("drawn")
    }

    fn mixture(seed: u64) -> Mixture {
        let parts = vec![
            (0.25, items(Suite::Brackets { length: 8 })),
            (0.5, items(Suite::Sorting { length: 4 })),
        ];
        Mixture::new(seed, 8, 32, parts)
    }

    #[test]
    fn windows_come_at_the_stated_fractions() {
        let mixture = mixture(1);
        let mut counts = [0_u32; 3];
        let samples = 8000;
        for sample in 0..samples {
            let place = match mixture.window(sample) {
                Some(window) if window[0] == b'B' => 0,
                Some(window) if window[0] == b'S' => 1,
                Some(window) => panic!("{window:?}"),
                None => 2,
            };
            counts[place] += 1;
        }
        for (count, fraction) in counts.into_iter().zip([0.25, 0.5, 0.25]) {
            let share = f64::from(count) / samples as f64;
            // Four standard deviations of 8,000 draws.
            assert!((share - fraction).abs() < 0.023, "{counts:?}");
        }
    }

    #[test]
    fn other_windows_stay_as_they_were_and_a_step_is_a_function_of_its_number() {
        let mixture = mixture(2);
        let step = |step: u64| {
            let (mut inputs, mut targets) = (vec![-1; 256], vec![-2; 256]);
            mixture.apply(step, &mut inputs, &mut targets);
            (inputs, targets)
        };
        let (inputs, targets) = step(3);
        assert_eq!((inputs.clone(), targets.clone()), step(3));
        assert_ne!(inputs, step(4).0);
        for (inputs, targets) in inputs.chunks(32).zip(targets.chunks(32)) {
            let whole = inputs.iter().all(|&token| token >= 0);
            let untouched = inputs.iter().all(|&token| token == -1);
            assert!(whole || untouched);
            // The target is the token after the input.
            assert!(untouched || inputs[1..] == targets[..31]);
            assert_eq!(untouched, targets.iter().all(|&token| token == -2));
        }
    }
}
