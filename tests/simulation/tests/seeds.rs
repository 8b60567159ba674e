//! Seeds that every change must survive, and faults that they must find.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sweep_simulation::{Invariant, Mutation, Outcome, play};

/// Seeds of one test run: about a quarter of a minute on two cores.
const SEEDS: u64 = 200;

static ALONE: Mutex<()> = Mutex::new(());

/// One test at a time: h2 forgets a stream that was reset after a second by the system's clock, which
/// a seed that is played in a tenth of that never sees, and one among many others might.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays seeds on all cores until one of them breaks a promise; gives the first such.
fn first_broken(mutation: Option<Mutation>) -> Option<(u64, Outcome)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, stop) = (AtomicU64::new(0), AtomicU64::new(SEEDS));
    let one = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= stop.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = play(seed, mutation).unwrap_or_else(|error| panic!("{seed}: {error:#}"));
            if outcome.violation.is_some() {
                stop.fetch_min(seed, Ordering::Relaxed);
                return Some((seed, outcome));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one)).collect();
        let found =
            threads.into_iter().filter_map(|thread| thread.join().expect("a player panicked"));
        found.min_by_key(|(seed, _)| *seed)
    })
}

#[test]
fn every_promise_holds_through_disasters() {
    let _alone = alone();
    if let Some((seed, Outcome { violation: Some((at, violation)), .. })) = first_broken(None) {
        panic!("seed {seed} after {at:?}: {violation}; hint: simulate --seed {seed}");
    }
}

#[test]
fn a_seed_is_played_the_same_way_twice() {
    let _alone = alone();
    for seed in 0..8 {
        assert_eq!(play(seed, None).unwrap(), play(seed, None).unwrap(), "seed {seed}");
    }
}

/// The first seed that finds a fault, and the promise that it broke.
#[expect(clippy::print_stdout, reason = "which seed and why, for whoever asks with --nocapture")]
fn found(mutation: Mutation) -> Invariant {
    let _alone = alone();
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
