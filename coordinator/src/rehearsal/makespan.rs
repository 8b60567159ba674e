//! How good the order is on whole grids whose costs are not what was predicted.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use sweep_spec::{
    attempt::{AttemptKey, Ending},
    cost::CostModel,
    id::RunId,
    run::{RunConfig, RunRole},
};

use super::events::{at, beat, config, ended_in, grants, join, sweep};
use crate::scheduler::{Event, Scheduler};

/// Slots that train for as long as they are told.
pub(crate) struct Cluster<'a> {
    scheduler: Scheduler,
    slots: u32,
    seconds: &'a dyn Fn(&RunConfig) -> f64,
    /// Whether attempts report what they took.
    measured: bool,
    /// Who trains what: end in nanoseconds, slot, attempt.
    running: BinaryHeap<Reverse<(u128, u32, AttemptKey)>>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(slots: u32, measured: bool, seconds: &'a dyn Fn(&RunConfig) -> f64) -> Self {
        let mut scheduler = Scheduler::new(CostModel::default());
        scheduler.on_event(at(0), join("w", slots, 1, Vec::new()));
        scheduler.on_event(at(0), Event::SessionOpened { worker: "w".into() });
        Self { scheduler, slots, seconds, measured, running: BinaryHeap::new() }
    }

    /// Trains runs; gives the time at which the last one ends.
    pub(crate) fn train(mut self, runs: &[RunConfig]) -> f64 {
        let members: Vec<_> = runs.iter().map(|run| (run.clone(), RunRole::Fit)).collect();
        self.scheduler.on_event(at(0), sweep(1, &members));
        let by_id: HashMap<RunId, &RunConfig> = runs.iter().map(|run| (run.id(), run)).collect();
        let (mut now, mut left) = (Duration::ZERO, runs.len());
        self.fill(now, &by_id);
        while let Some(Reverse((end, _, key))) = self.running.pop() {
            now = Duration::from_nanos(u64::try_from(end).expect("less than 500 years"));
            let run = by_id[&key.run];
            let seconds = self.measured.then(|| (self.seconds)(run));
            let event = ended_in(&key, Ending::Finished { step: run.steps }, seconds);
            self.scheduler.on_event(now, event);
            left -= 1;
            self.fill(now, &by_id);
            let busy = self.running.len().min(left);
            assert!(busy == left || busy == self.slots as usize, "a slot idles while runs wait");
        }
        assert_eq!(left, 0, "every run is trained");
        now.as_secs_f64()
    }

    fn fill(&mut self, now: Duration, runs: &HashMap<RunId, &RunConfig>) {
        let keys: Vec<AttemptKey> =
            self.running.iter().map(|Reverse((_, _, key))| key.clone()).collect();
        let held: HashSet<u32> = self.running.iter().map(|Reverse((_, slot, _))| *slot).collect();
        let free: Vec<u32> = (0..self.slots).filter(|slot| !held.contains(slot)).collect();
        for grant in grants(&self.scheduler.on_event(now, beat("w", 1, &keys, &free))) {
            let sent = Event::Sent { key: grant.key.clone(), sequence: 1 };
            self.scheduler.on_event(now, sent);
            let end = now + Duration::from_secs_f64((self.seconds)(runs[&grant.key.run]));
            self.running.push(Reverse((end.as_nanos(), grant.slot, grant.key)));
        }
    }
}

/// Seconds as the scheduler predicts them before anything is measured.
pub(crate) fn predicted(run: &RunConfig) -> f64 {
    CostModel::default().predict("AMD EPYC", run).map_or(run.flops() / 1e9, |found| found.seconds)
}

/// A grid of model and data sizes, and what its training came to.
#[derive(Clone, Debug)]
pub struct Makespan {
    /// Model sizes.
    pub models: u32,
    /// Data sizes of each.
    pub sizes: u32,
    /// The largest data size over the smallest.
    pub span: f64,
    /// Slots it was trained on.
    pub slots: u32,
    /// Its makespan over the lower bound, once for each draw of the costs.
    pub ratios: Vec<f64>,
}

/// Models, data sizes, their span, slots: grids as they are trained.
const GRIDS: &[(u32, u32, f64, u32)] =
    &[(6, 8, 30.0, 4), (8, 6, 30.0, 8), (5, 10, 100.0, 4), (4, 12, 10.0, 16), (10, 10, 30.0, 16)];

/// Trains each of the grids `draws` times, each time with other costs: half to one and a half times
/// what was predicted.
#[must_use]
pub fn makespans(draws: u32) -> Vec<Makespan> {
    let of = |&(models, sizes, span, slots)| {
        let runs = grid(models, sizes, span);
        let ratios = (0..draws).map(|draw| over_bound(&runs, slots, draw)).collect();
        Makespan { models, sizes, span, slots, ratios }
    };
    GRIDS.iter().map(of).collect()
}

fn grid(models: u32, sizes: u32, span: f64) -> Vec<RunConfig> {
    let mut runs = Vec::new();
    for model in 0..models {
        for size in 0..sizes {
            let share = f64::from(size) / f64::from(sizes - 1);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let steps = (400.0 * span.powf(share)) as u64;
            runs.push(config(32 * (model + 1), steps));
        }
    }
    runs
}

/// The makespan over its lower bound: all work spread evenly, or the longest run alone.
fn over_bound(runs: &[RunConfig], slots: u32, draw: u32) -> f64 {
    let seconds =
        |run: &RunConfig| predicted(run) * (0.5 + chance(&format!("{} {draw}", run.id())));
    let lengths: Vec<f64> = runs.iter().map(seconds).collect();
    let longest = lengths.iter().copied().fold(0.0, f64::max);
    let bound = longest.max(lengths.iter().sum::<f64>() / f64::from(slots));
    Cluster::new(slots, true, &seconds).train(runs) / bound
}

/// A number from 0 to 1, by chance but always the same.
fn chance(text: &str) -> f64 {
    let hash = blake3::hash(text.as_bytes());
    let draw = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
    f64::from(draw) / f64::from(u32::MAX)
}
