//! When a sweep would be done: the order of the scheduler, played on predicted seconds.

use std::collections::HashMap;

use super::PlannedRun;
use crate::{id::RunId, run::RunRole};

/// A run that has to be placed.
struct Waiting<'a> {
    run: &'a PlannedRun,
    seconds: f64,
    /// Seconds of the longest chain that starts with it: of a trunk, up to the end of its last
    /// branch.
    chain: f64,
}

/// Seconds until the last run ends on `slots` slots: the longest chain first, a branch from the
/// moment its trunk has its step, check runs when all others have ended. `seconds` are those of
/// the steps that each run trains itself.
pub(super) fn wall_seconds(runs: &[PlannedRun], seconds: &[f64], slots: u32) -> f64 {
    let mut free = vec![0.0_f64; slots.max(1) as usize];
    // Seconds per step and the start of every trunk that was placed.
    let mut trunks: HashMap<&RunId, (f64, f64)> = HashMap::new();
    for checks in [false, true] {
        let begin = free.iter().copied().fold(0.0, f64::max);
        free.iter_mut().for_each(|slot| *slot = begin);
        let mut waiting = waiting(runs, seconds, checks);
        waiting.sort_by(|a, b| b.chain.total_cmp(&a.chain));
        while !waiting.is_empty() {
            let slot = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("at least one slot");
            let (place, start) = next(&waiting, *slot, &trunks);
            let Waiting { run, seconds, .. } = waiting.remove(place);
            *slot = start + seconds;
            if run.role == RunRole::Trunk {
                #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
                let per_step = seconds / run.steps.max(1) as f64;
                trunks.insert(&run.id, (start, per_step));
            }
        }
    }
    free.into_iter().fold(0.0, f64::max)
}

fn waiting<'a>(runs: &'a [PlannedRun], seconds: &[f64], checks: bool) -> Vec<Waiting<'a>> {
    let of_phase = |run: &PlannedRun| (run.role == RunRole::Check) == checks;
    let mut tails: HashMap<&RunId, f64> = HashMap::new();
    for (run, &seconds) in runs.iter().zip(seconds).filter(|(run, _)| of_phase(run)) {
        if let Some(parent) = &run.parent {
            let tail = tails.entry(&parent.run).or_default();
            *tail = tail.max(seconds);
        }
    }
    runs.iter()
        .zip(seconds)
        .filter(|(run, _)| of_phase(run))
        .map(|(run, &seconds)| {
            let chain = seconds + tails.get(&run.id).copied().unwrap_or(0.0);
            Waiting { run, seconds, chain }
        })
        .collect()
}

/// The run that a slot takes which is free at `free`, and when it begins: the longest chain among
/// those that are ready by then, otherwise the one that is ready first.
fn next(waiting: &[Waiting<'_>], free: f64, trunks: &HashMap<&RunId, (f64, f64)>) -> (usize, f64) {
    let mut first: Option<(usize, f64)> = None;
    for (place, entry) in waiting.iter().enumerate() {
        let ready = match &entry.run.parent {
            None => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
            Some(edge) => match trunks.get(&edge.run) {
                Some((start, per_step)) => start + per_step * edge.step as f64,
                // Its trunk waits too, and its chain is longer.
                None => f64::INFINITY,
            },
        };
        if ready <= free {
            return (place, free);
        }
        if first.is_none_or(|(_, earliest)| ready < earliest) {
            first = Some((place, ready));
        }
    }
    first.expect("called with runs that wait")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::content_hash,
        run::ParentEdge,
        shape::{LmShape, Mlp, Shape},
    };

    fn run(name: u64, role: RunRole, parent: Option<(u64, u64)>, steps: u64) -> PlannedRun {
        let id = |name: u64| RunId::from_hash(&content_hash("test", &name));
        let shape = Shape::Lm(LmShape {
            vocabulary: 256,
            width: 32,
            layers: 2,
            heads: 2,
            sequence: 64,
            mlp: Mlp::Relu2,
            token_shift: false,
        });
        PlannedRun {
            id: id(name),
            role,
            parameters: shape.parameters(),
            shape,
            tokens: 0,
            tokens_requested: 0.0,
            tokens_per_parameter: 0.0,
            flops: 0.0,
            flops_6nd: 0.0,
            parent: parent.map(|(run, step)| ParentEdge { run: id(run), step }),
            own_flops: 0.0,
            budget: None,
            batch: 1,
            learning_rate: 1e-2,
            steps,
            epochs: 0.0,
            seed: 0,
            memory_bytes: 0,
            seconds: Vec::new(),
        }
    }

    fn wall(seconds: &[f64], slots: u32) -> f64 {
        let runs: Vec<_> =
            (0..seconds.len() as u64).map(|name| run(name, RunRole::Fit, None, 1)).collect();
        wall_seconds(&runs, seconds, slots)
    }

    #[test]
    fn the_longest_run_first_fills_the_slots() {
        assert_eq!(wall(&[1.0, 2.0, 3.0, 4.0], 2), 5.0);
        assert_eq!(wall(&[9.0, 1.0, 1.0], 2), 9.0);
        assert_eq!(wall(&[], 4), 0.0);
    }

    #[test]
    fn branches_begin_while_their_trunk_goes_on_and_checks_come_last() {
        let runs = [
            run(0, RunRole::Trunk, None, 100),
            run(1, RunRole::Fit, Some((0, 40)), 50),
            run(2, RunRole::Fit, Some((0, 100)), 125),
            run(3, RunRole::Check, None, 10),
        ];
        let seconds = [10.0, 1.0, 2.5, 3.0];
        // Two slots: the branch at step 40 runs from second 4 to 5, the last one from 10 to 12.5.
        assert_eq!(wall_seconds(&runs, &seconds, 2), 15.5);
        assert_eq!(wall_seconds(&runs, &seconds, 1), 16.5);
    }
}
