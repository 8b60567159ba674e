//! How long the scheduler takes for a decision while many runs wait for many workers.

use std::time::Duration;

use sweep_spec::{
    attempt::{AttemptKey, Ending},
    cost::CostModel,
    run::RunRole,
};

use super::events::{at, beat, config, ended_in, grants, join, sweep};
use crate::scheduler::{Action, Event, Scheduler};

/// Slots of each worker.
const SLOTS: u32 = 4;

/// As many as a sweep may have.
const RUNS_OF_A_SWEEP: u64 = 10_000;

/// Shapes of the runs: a cost model of one shape would be no test of it.
const SHAPES: u64 = 40;

/// Of the runs, this share is trained to the end, with measured seconds: each end makes the cost
/// model, and so the queue, new.
const ENDED_SHARE: u64 = 5;

/// Plays grants, heartbeats and ends of `runs` waiting runs on `workers` workers; gives the time that
/// each event took by a clock.
pub fn decisions(runs: u64, workers: u64, clock: &dyn Fn() -> Duration) -> Vec<Duration> {
    let mut scheduler = crowded(runs, workers);
    let mut times = Vec::new();
    let mut held: Vec<Vec<(AttemptKey, u32)>> = (0..workers).map(|_| Vec::new()).collect();
    let (mut ended_runs, mut turn) = (0, 0);
    while workers > 0 && ended_runs < runs.div_ceil(ENDED_SHARE) {
        let (number, now) = (turn % workers, at(1 + turn / workers * 5));
        let place = usize::try_from(number).expect("workers fit into memory");
        let mut decide = |event| timed(&mut scheduler, now, event, clock, &mut times);
        if let Some((key, _)) = held[place].pop() {
            let seconds = 1.0 + chance_of(turn);
            decide(ended_in(&key, Ending::Finished { step: 100 }, Some(seconds)));
            ended_runs += 1;
        }
        let keys: Vec<_> = held[place].iter().map(|(key, _)| key.clone()).collect();
        let busy: Vec<u32> = held[place].iter().map(|(_, slot)| *slot).collect();
        let free: Vec<u32> = (0..SLOTS).filter(|slot| !busy.contains(slot)).collect();
        for grant in grants(&decide(beat(&name(number), 1, &keys, &free))) {
            let holder: usize = grant.worker.parse().expect("workers are called by number");
            decide(Event::Sent { key: grant.key.clone(), sequence: 1 });
            held[holder].push((grant.key, grant.slot));
        }
        if turn.is_multiple_of(20) {
            decide(Event::Tick);
        }
        turn += 1;
    }
    times
}

/// Runs that wait and workers that have just come.
pub(crate) fn crowded(runs: u64, workers: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(CostModel::default());
    let step = usize::try_from(RUNS_OF_A_SWEEP).expect("a few thousand");
    for first in (0..runs).step_by(step) {
        let member = |run: u64| {
            let width = 16 * (1 + u32::try_from(run % SHAPES).expect("a few"));
            (config(width, 100 + run), RunRole::Fit)
        };
        let members: Vec<_> = (first..runs.min(first + RUNS_OF_A_SWEEP)).map(member).collect();
        scheduler.on_event(at(0), sweep(first, &members));
    }
    for worker in 0..workers {
        scheduler.on_event(at(0), join(&name(worker), SLOTS, 1, Vec::new()));
        scheduler.on_event(at(0), Event::SessionOpened { worker: name(worker) });
    }
    scheduler
}

/// The name of a worker; all are of one length, so that their order is that of their numbers.
fn name(worker: u64) -> String {
    format!("{worker:06}")
}

/// A number from 0 to 1 that differs from turn to turn.
fn chance_of(turn: u64) -> f64 {
    f64::from(u32::try_from(turn % 97).expect("below 97")) / 97.0
}

fn timed(
    scheduler: &mut Scheduler,
    now: Duration,
    event: Event,
    clock: &dyn Fn() -> Duration,
    times: &mut Vec<Duration>,
) -> Vec<Action> {
    let start = clock();
    let actions = scheduler.on_event(now, event);
    times.push(clock().saturating_sub(start));
    actions
}
