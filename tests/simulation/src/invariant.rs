//! What must hold whatever happens. The ledger remembers what was promised, and compares the store
//! with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::RunId,
    metric::{Metric, Point},
    run::{Run, RunConfig},
};
use sweep_store::{
    Memory, Outcome,
    simulation::{AttemptLook, RunLook},
};
use worker::simulation::{Acked, scripted_loss};

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Invariant {
    /// A point that a worker was told is durable is in the store, with its value, for ever.
    AcknowledgedIsDurable,
    /// A run has at most one live attempt, the last one, and is `running` exactly while it lives.
    OneLiveAttempt,
    /// Attempts are only added, and how one ended never changes.
    AttemptsOnlyRise,
    /// An attempt does not end before it began, whatever the wall clock is set to.
    StampsRise,
    /// An attempt that has ended takes no more points.
    EndedIsClosed,
    /// A run finishes once and is never trained again.
    FinishedOnce,
    /// The curve has no hole and goes at least up to the last committed checkpoint of its lineage.
    NoGapBeforeCheckpoint,
    /// Every stored value is the one that the run has at that step.
    ValuesAreTheRuns,
    /// Once the disasters are over every run finishes, with one value for each of its steps.
    EverythingEnds,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

fn broken<T>(invariant: Invariant, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}

/// What was promised so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: Memory,
    configs: BTreeMap<RunId, RunConfig>,
    /// Points that workers hold to be durable.
    acked: BTreeSet<(AttemptKey, Metric, u64)>,
    /// The store as it was last seen.
    seen: Vec<RunLook>,
}

impl Ledger {
    pub(crate) fn new(store: Memory, runs: &[Run]) -> Self {
        let configs = runs.iter().map(|run| (run.config.id(), run.config.clone())).collect();
        Self { store, configs, acked: BTreeSet::new(), seen: Vec::new() }
    }

    /// Points that workers hold to be durable.
    pub(crate) fn acked_points(&self) -> usize {
        self.acked.len()
    }

    /// Whether every run has finished.
    pub(crate) fn all_finished(&self) -> bool {
        !self.seen.is_empty() && self.seen.iter().all(|run| run.state == RunState::Finished)
    }

    /// Attempts so far, in all.
    pub(crate) fn attempts(&self) -> usize {
        self.seen.iter().map(|run| run.attempts.len()).sum()
    }

    /// Takes note of an acknowledgement and checks it at once.
    pub(crate) fn acknowledge(&mut self, acked: &Acked) -> Result<(), Violation> {
        for point in &acked.points {
            self.is_durable(&acked.key, point.metric, point.step, Some(point.value))?;
            self.acked.insert((acked.key.clone(), point.metric, point.step));
        }
        Ok(())
    }

    fn is_durable(
        &self,
        key: &AttemptKey,
        metric: Metric,
        step: u64,
        value: Option<f64>,
    ) -> Result<(), Violation> {
        let stored = self.store.value(key, metric, step);
        let same = stored
            .is_some_and(|stored| value.is_none_or(|value| stored.to_bits() == value.to_bits()));
        if same {
            return Ok(());
        }
        let name = metric.name();
        let what = format!("{key}, {name} at step {step}: {stored:?} is stored, not {value:?}");
        broken(Invariant::AcknowledgedIsDurable, what)
    }

    /// Compares the store with what it was.
    pub(crate) fn look(&mut self) -> Result<(), Violation> {
        let now = self.store.look();
        for (place, run) in now.iter().enumerate() {
            one_live_attempt(run)?;
            stamps_rise(run)?;
            self.no_gap(run)?;
            if let Some(before) = self.seen.get(place) {
                only_rise(before, run)?;
            }
        }
        self.seen = now;
        Ok(())
    }

    fn no_gap(&self, run: &RunLook) -> Result<(), Violation> {
        let (steps, fork) = (self.steps(&run.id), fork(&self.configs[&run.id]));
        let needed = last_checkpoint(run);
        // What a branch begins after at its fork is its trunk's.
        let reaches = needed <= fork || steps.last().is_some_and(|&last| last >= needed);
        if is_whole(&steps, fork) && reaches {
            return Ok(());
        }
        let what = format!("run {}: checkpoint {needed}, but steps {steps:?}", run.id.short());
        broken(Invariant::NoGapBeforeCheckpoint, what)
    }

    /// Steps of the curve of training losses.
    fn steps(&self, run: &RunId) -> Vec<u64> {
        let curve = self.store.canonical(run, Metric::TrainLoss);
        curve.iter().map(|point| point.step).collect()
    }

    /// What must hold in the end.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.look()?;
        for (key, metric, step) in &self.acked {
            self.is_durable(key, *metric, *step, None)?;
        }
        for (id, config) in &self.configs {
            self.values(id, config)?;
            self.complete(id, config)?;
        }
        Ok(())
    }

    fn values(&self, id: &RunId, config: &RunConfig) -> Result<(), Violation> {
        for (number, Point { metric, step, value }) in self.store.all_points(id) {
            if value.to_bits() != scripted_loss(config, step).to_bits() {
                let short = id.short();
                let name = metric.name();
                let what = format!("run {short} attempt {number}: {name} {value} at step {step}");
                return broken(Invariant::ValuesAreTheRuns, what);
            }
        }
        Ok(())
    }

    fn complete(&self, id: &RunId, config: &RunConfig) -> Result<(), Violation> {
        let state = self.seen.iter().find(|run| run.id == *id).map(|run| run.state);
        let steps = self.steps(id);
        let last = self.store.canonical(id, Metric::ValidationLoss);
        let whole = is_whole(&steps, fork(config))
            && steps.last() == Some(&config.steps)
            && last.iter().map(|point| point.step).eq([config.steps]);
        if state == Some(RunState::Finished) && whole {
            return Ok(());
        }
        let (short, all) = (id.short(), config.steps);
        let what = format!("run {short} is {state:?} with steps {steps:?} of {all}");
        broken(Invariant::EverythingEnds, what)
    }
}

/// Whether a curve has no hole, and begins at the first step or, of a branch, at the latest after
/// its fork: what lies before belongs to the trunk.
fn is_whole(steps: &[u64], fork: u64) -> bool {
    let Some(&first) = steps.first() else { return true };
    (1..=fork + 1).contains(&first) && steps.iter().copied().eq(first..first + steps.len() as u64)
}

/// Step that a branch forks at; 0 for other runs.
fn fork(config: &RunConfig) -> u64 {
    config.parent.as_ref().map_or(0, |edge| edge.step)
}

/// Step of the last checkpoint that the curve must reach: of those that the attempt that began last
/// committed, else of the one it began after.
fn last_checkpoint(run: &RunLook) -> u64 {
    let begun = (1_u32..).zip(&run.attempts).filter_map(|(n, at)| Some((n, at.resume_step?)));
    let Some((number, resume_step)) = begun.last() else { return 0 };
    let own = run.checkpoints.iter().filter(|(_, attempt)| *attempt == number);
    own.map(|&(step, _)| step).max().unwrap_or(resume_step)
}

fn one_live_attempt(run: &RunLook) -> Result<(), Violation> {
    let short = run.id.short();
    let finished = |attempt: &&AttemptLook| attempt.outcome == Some(Outcome::Finished);
    let ends = run.attempts.iter().filter(finished).count();
    if ends > 1 || (ends == 1) != (run.state == RunState::Finished) {
        let what = format!("run {short} is {:?} with {ends} finished attempts", run.state);
        return broken(Invariant::FinishedOnce, what);
    }
    let live: Vec<usize> =
        (1..).zip(&run.attempts).filter(|(_, at)| at.outcome.is_none()).map(|(n, _)| n).collect();
    let last_lives = live == [run.attempts.len()];
    if (live.is_empty() && run.state != RunState::Running)
        || (last_lives && run.state == RunState::Running)
    {
        return Ok(());
    }
    let (state, all) = (run.state, run.attempts.len());
    let what = format!("run {short} is {state:?}; of {all} attempts {live:?} live");
    broken(Invariant::OneLiveAttempt, what)
}

fn stamps_rise(run: &RunLook) -> Result<(), Violation> {
    for (number, attempt) in (1..).zip(&run.attempts) {
        let began = attempt.started_unix_ms;
        if let Some(ended) = attempt.ended_unix_ms.filter(|&ended| ended < began) {
            let short = run.id.short();
            let what = format!("run {short} attempt {number} began at {began}, ended at {ended}");
            return broken(Invariant::StampsRise, what);
        }
    }
    Ok(())
}

fn only_rise(before: &RunLook, now: &RunLook) -> Result<(), Violation> {
    let short = now.id.short();
    if before.state == RunState::Finished && before.attempts != now.attempts {
        let what = format!("run {short} was finished and changed");
        return broken(Invariant::FinishedOnce, what);
    }
    if now.attempts.len() < before.attempts.len() {
        let what = format!("run {short} has fewer attempts than before");
        return broken(Invariant::AttemptsOnlyRise, what);
    }
    for (number, (old, new)) in (1..).zip(before.attempts.iter().zip(&now.attempts)) {
        if old.outcome.is_none() {
            continue;
        }
        if new.outcome != old.outcome {
            let what = format!("run {short} attempt {number}: its end changed");
            return broken(Invariant::AttemptsOnlyRise, what);
        }
        if (new.points, new.last_seq) != (old.points, old.last_seq) {
            let what = format!(
                "run {short} attempt {number} had ended with {} points and has {}",
                old.points, new.points
            );
            return broken(Invariant::EndedIsClosed, what);
        }
    }
    Ok(())
}
