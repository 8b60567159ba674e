//! A batch in parts, so that several threads of a CPU can share one step.
//!
//! The gradient of a batch is the weighted sum of the gradients of its parts. How a batch is cut
//! depends on the batch alone and the sum is taken in the order of the parts, so a run has the same
//! bits whatever the number of threads, which may change from step to step.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use burn::tensor::Tensor;

use crate::{
    model::{Model, leaf},
    ops::weighted_sum,
};

/// Tokens of a part, at least: below that the passes over the weights cost more than a second core
/// gains.
const PART_TOKENS: usize = 512;

/// Mean loss of a batch in nats per token, outside any graph, and the gradient of every parameter.
pub(crate) struct Gradients {
    pub(crate) loss: Tensor<1>,
    /// In the order of the model's parameters.
    pub(crate) parameters: Vec<Tensor<2>>,
}

/// The parts of a batch of `windows` windows of `sequence` tokens, as ranges of windows. A batch on
/// a GPU stays whole.
pub(crate) fn parts(windows: usize, sequence: usize, is_cpu: bool) -> Vec<Range<usize>> {
    let wanted = if is_cpu { windows * sequence / PART_TOKENS } else { 1 };
    let count = wanted.clamp(1, windows.max(1));
    (0..count).map(|part| part * windows / count..(part + 1) * windows / count).collect()
}

/// Gradients of a batch, part by part on up to `threads` threads. `loss` gives the mean loss of
/// the windows of one part, in the graph of the model that it is handed.
pub(crate) fn gradients<M: Model>(
    model: &M,
    parts: &[Range<usize>],
    threads: usize,
    loss: impl Fn(&M, Range<usize>) -> Tensor<1> + Sync,
) -> Gradients {
    let found = share(parts.len(), threads, |part| {
        // Leaves of its own: parts that shared one would share, and wait for, one graph.
        let mut replica = model.clone();
        for parameter in replica.parameters_mut() {
            parameter.value = leaf(parameter.plain());
        }
        let loss = loss(&replica, parts[part].clone());
        let mut gradients = loss.backward();
        let mut taken = Vec::new();
        for parameter in replica.parameters_mut() {
            let gradient = parameter.value.grad_remove(&mut gradients);
            taken.push(gradient.expect("every parameter takes part in the loss"));
        }
        (loss.inner(), taken)
    });
    combine(found, &weights(parts))
}

/// The share of each part in the mean over all windows.
#[expect(clippy::cast_precision_loss, reason = "counts of windows are below 2^24")]
fn weights(parts: &[Range<usize>]) -> Vec<f32> {
    let windows: usize = parts.iter().map(Range::len).sum();
    parts.iter().map(|part| part.len() as f32 / windows as f32).collect()
}

fn combine(found: Vec<(Tensor<1>, Vec<Tensor<2>>)>, weights: &[f32]) -> Gradients {
    let (losses, columns): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let weighted = losses.into_iter().zip(weights).map(|(loss, &weight)| loss * weight);
    let loss = weighted.reduce(|sum, loss| sum + loss).expect("a batch has a part");
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let count = columns[0].len();
    let parameters = (0..count)
        .map(|_| {
            let row = columns.iter_mut().map(|column| column.next().expect("as many as the first"));
            weighted_sum(row.collect(), weights)
        })
        .collect();
    Gradients { loss, parameters }
}

/// Results of `work` for 0, 1, ... in this order, on up to `threads` threads, this one among them.
///
/// # Panics
/// When `work` does.
pub(crate) fn share<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return done;
            }
            done.push((index, work(index)));
        }
    };
    let mut all = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for helper in helpers {
            all.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_batch_once_and_depend_on_it_alone() {
        for (windows, sequence, count) in
            [(16, 64, 2), (4, 32, 1), (16, 128, 4), (5, 512, 5), (1, 512, 1), (33, 64, 4)]
        {
            let parts = parts(windows, sequence, true);
            assert_eq!(parts.len(), count, "{windows} x {sequence}");
            let covered: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert!(covered.into_iter().eq(0..windows));
            assert!((weights(&parts).iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(parts(1000, 512, false), std::slice::from_ref(&(0..1000)));
    }

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8, 100] {
            let squares = share(40, threads, |index| index * index);
            assert!(squares.into_iter().eq((0..40).map(|index| index * index)), "{threads}");
        }
        assert!(share(0, 4, |index| index).is_empty());
    }

    #[test]
    #[should_panic(expected = "part 3")]
    fn a_panic_of_a_part_is_the_callers() {
        share(4, 2, |index| assert!(index != 3, "part {index}"));
    }
}
