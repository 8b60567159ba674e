//! What a seed stands for: the runs, the workers, how their trainers behave, and the disasters.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use sweep_spec::{
    grid::{Grid, GridRun},
    run::{Run, RunRole},
};
use sweep_store::{NewRun, NewSweep};
use worker::{
    FakeRun,
    simulation::{scripted_family, scripted_run},
};

use crate::draw::Draw;

/// Disasters come until then; what follows must bring every run to its end.
const DISASTERS_LAST: (u64, u64) = (60_000, 150_000);

/// Name of the sweep.
pub(crate) const SWEEP: &str = "simulated";

/// Lengths of the branches of a trunk, each once.
fn lengths(draw: &mut Draw) -> Vec<u64> {
    let drawn: BTreeSet<u64> = (0..draw.between(1, 3)).map(|_| draw.between(15, 60)).collect();
    drawn.into_iter().collect()
}

/// A seed's world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) runs: Vec<Run>,
    pub(crate) workers: Vec<WorkerPlan>,
    /// Time of a commit in the store.
    pub(crate) commit: Duration,
    /// Longest way of a message.
    pub(crate) latency_max: Duration,
    /// Messages that break their connection's direction, in a million.
    pub(crate) losses_per_million: u64,
    /// When the disasters end.
    pub(crate) calm: Duration,
    /// Between two disasters.
    pub(crate) pace_millis: (u64, u64),
    /// Connections find out that nothing comes through.
    pub(crate) keep_alive: bool,
    /// The operator gives runs up, pauses and changes priorities.
    pub(crate) meddles: bool,
}

/// A worker and its trainers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerPlan {
    pub(crate) slots: u32,
    pub(crate) step: Duration,
    pub(crate) checkpoint_steps: u64,
    pub(crate) script: VecDeque<FakeRun>,
}

impl Scenario {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let workers = (0..draw.between(1, 3)).map(|_| WorkerPlan::draw(draw)).collect();
        let mut runs: Vec<Run> =
            (0..draw.between(1, 5)).map(|seed| scripted_run(draw.between(15, 60), seed)).collect();
        if draw.one_in(2) {
            runs.extend(scripted_family(&lengths(draw), runs.len() as u64));
        }
        let quick = draw.between(500, 8_000);
        Self {
            runs,
            workers,
            commit: draw.millis(5, 120),
            latency_max: draw.millis(2, 400),
            losses_per_million: if draw.one_in(2) { draw.between(50, 2_000) } else { 0 },
            calm: draw.millis(DISASTERS_LAST.0, DISASTERS_LAST.1),
            pace_millis: (quick / 4, quick * 2),
            keep_alive: draw.one_in(2),
            meddles: draw.one_in(2),
        }
    }

    /// The sweep of all runs.
    pub(crate) fn sweep(&self) -> NewSweep {
        sweep_of(&self.runs)
    }
}

/// The sweep of these runs.
pub(crate) fn sweep_of(runs: &[Run]) -> NewSweep {
    let role = |run: &Run| if run.config.is_trunk() { RunRole::Trunk } else { RunRole::Fit };
    let entry = |run: &Run| GridRun {
        run: run.clone(),
        role: role(run),
        tokens_requested: 1.0,
        budget: None,
    };
    let grid = Grid { runs: runs.iter().map(entry).collect(), merged: 0 };
    let new = |run: &Run| NewRun {
        run: run.clone(),
        role: role(run),
        budget_flops: None,
        tokens_requested: 1.0,
    };
    NewSweep {
        id: grid.sweep_id(SWEEP),
        name: SWEEP.to_owned(),
        recipe: String::new(),
        runs: runs.iter().map(new).collect(),
        unix_ms: 0,
        planned_seconds: None,
    }
}

impl WorkerPlan {
    fn draw(draw: &mut Draw) -> Self {
        let acts = (0..draw.below(4)).map(|_| {
            let step = draw.between(0, 20);
            match draw.below(3) {
                0 => FakeRun::Crash(step),
                1 => FakeRun::Fail(step),
                _ => FakeRun::Finish,
            }
        });
        Self {
            script: acts.collect(),
            slots: u32::try_from(draw.between(1, 2)).expect("one or two"),
            step: draw.millis(100, 700),
            checkpoint_steps: draw.between(2, 12),
        }
    }
}
