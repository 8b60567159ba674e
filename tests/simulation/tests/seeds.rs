//! Seeds that every change must survive, and faults that they must find.

use std::{
    ops::{ControlFlow, Range},
    path::Path,
};

use sweep_simulation::{Invariant, Mutation, Outcome, play_seeds};

/// Seeds of one test run: about a quarter of a minute on two cores.
const SEEDS: u64 = 200;

/// Plays seeds on all cores until `stop` says so; how they went, by seed.
fn played(
    seeds: Range<u64>,
    mutation: Option<Mutation>,
    stop: fn(&Outcome) -> bool,
) -> Vec<(u64, Outcome)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let program = Path::new(env!("CARGO_BIN_EXE_simulate"));
    let mut outcomes = Vec::new();
    play_seeds(program, seeds, mutation, cores, |seed, outcome| {
        let told = if stop(&outcome) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        outcomes.push((seed, outcome));
        Ok(told)
    })
    .expect("seeds can be played");
    outcomes.sort_unstable_by_key(|(seed, _)| *seed);
    outcomes
}

/// The first seed that breaks a promise.
fn first_broken(mutation: Option<Mutation>) -> Option<(u64, Outcome)> {
    let broken = |outcome: &Outcome| outcome.violation.is_some();
    played(0..SEEDS, mutation, broken).into_iter().find(|(_, outcome)| broken(outcome))
}

#[test]
fn every_promise_holds_through_disasters() {
    if let Some((seed, Outcome { violation: Some((at, violation)), .. })) = first_broken(None) {
        panic!("seed {seed} after {at:?}: {violation}; hint: simulate --seed {seed}");
    }
}

#[test]
fn a_seed_is_played_the_same_way_twice() {
    let once = || played(0..8, None, |_| false);
    assert_eq!(once(), once());
}

/// The first seed that finds a fault, and the promise that it broke.
#[expect(clippy::print_stdout, reason = "which seed and why, for whoever asks with --nocapture")]
fn found(mutation: Mutation) -> Invariant {
    let (seed, outcome) = first_broken(Some(mutation)).expect("the fault is found");
    let (at, violation) = outcome.violation.expect("it was found by one");
    println!("{mutation:?}: seed {seed} after {at:.0?}: {violation}");
    violation.invariant
}

#[test]
fn acknowledging_before_the_commit_is_found() {
    assert_eq!(found(Mutation::AcknowledgeBeforeCommit), Invariant::AcknowledgedIsDurable);
}

#[test]
fn a_missing_fence_is_found() {
    assert_eq!(found(Mutation::NoFencing), Invariant::EndedIsClosed);
}

#[test]
fn renumbered_batches_are_found() {
    // Which of them breaks first, the seeds decide: a batch that is dropped is a hole in the curve as
    // well, and one that is refused for ever keeps its run from ending.
    let broken = found(Mutation::RenumberedSequence);
    let promises = [
        Invariant::AcknowledgedIsDurable,
        Invariant::NoGapBeforeCheckpoint,
        Invariant::EverythingEnds,
    ];
    assert!(promises.contains(&broken), "{broken:?}");
}
