//! Trunks and branches: when a branch may start, and what the end of a trunk makes of it.
//!
//! A branch waits for its trunk's checkpoint at the step it forks at, and may start while the trunk
//! goes on. A trunk that has ended without that checkpoint, because the fork was asked for after it
//! had passed the step, holds nobody up: the branch starts from the nearest earlier checkpoint and
//! trains the steps between again. Where the coordinator keeps the checkpoint, a branch may start
//! anywhere, best where the checkpoint lies already.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use sweep_spec::{attempt::RunState, id::RunId, run::ParentEdge};

use super::{Action, LEASE, Scheduler, order::Speeds, state::RunEntry};

/// Where a run stands with its trunk.
pub(super) enum Fork<'a> {
    /// It forks from nothing, or from what its trunk left: it may start anywhere.
    Free,
    /// Its trunk's checkpoint lies on these workers.
    At(&'a BTreeSet<String>),
    /// It lies on these, and the coordinator keeps it for all others.
    Kept(&'a BTreeSet<String>),
    /// The checkpoint is still to be made, by the trunk at this index.
    Waits(usize),
}

impl Scheduler {
    /// Where a run stands with its trunk.
    pub(super) fn fork(&self, run: &RunEntry) -> Fork<'_> {
        let Some(edge) = &run.config.parent else { return Fork::Free };
        let Some(&index) = self.index.get(&edge.run) else { return Fork::Free };
        let trunk = &self.runs[index];
        match trunk.checkpoints.get(&edge.step) {
            Some(workers) if trunk.kept.contains(&edge.step) => Fork::Kept(workers),
            Some(workers) => Fork::At(workers),
            None if trunk.state == RunState::Finished => Fork::Free,
            None => Fork::Waits(index),
        }
    }

    /// Of a branch, the trunk's checkpoint that it begins after, where the coordinator keeps it.
    pub(crate) fn kept_fork(&self, run: &RunId) -> Option<ParentEdge> {
        let run = self.run(run)?;
        let kept = matches!(self.fork(run), Fork::Kept(_));
        run.config.parent.clone().filter(|_| kept)
    }

    /// Whether a branch waits for these workers, which have its checkpoint, rather than train the
    /// steps of its trunk again on another one: while one of them is there, while one may come back
    /// after a restart of the coordinator, and while the trunk is trained anew, since it makes the
    /// checkpoint again.
    pub(super) fn is_worth_waiting(
        &self,
        now: Duration,
        run: &RunEntry,
        holders: &BTreeSet<String>,
    ) -> bool {
        let alive = |holder: &String| {
            let worker = self.workers.get(holder);
            worker.is_some_and(|worker| worker.expires.is_some() && self.has_room(worker, run))
                && !self.bad_places.holds_worker(now, holder)
        };
        let trunk = run.config.parent.as_ref().and_then(|edge| self.run(&edge.run));
        now < LEASE
            || holders.iter().any(alive)
            || trunk.is_some_and(|trunk| !trunk.state.is_ended())
    }

    /// Predicted seconds after each trunk: those of its longest branch that is still to be
    /// trained, by the index of the trunk.
    pub(super) fn tails(&self, speeds: &mut Speeds, kind: Option<&str>) -> HashMap<usize, f64> {
        let mut tails: HashMap<usize, f64> = HashMap::new();
        let branches = self.branches.iter().map(|&index| &self.runs[index]);
        for run in branches.filter(|run| run.state == RunState::Queued) {
            let Some(edge) = &run.config.parent else { continue };
            let Some(&trunk) = self.index.get(&edge.run) else { continue };
            let tail = tails.entry(trunk).or_default();
            *tail = tail.max(speeds.length(self, run, kind));
        }
        tails
    }

    /// Ends the branches that wait for a checkpoint which their trunk will never make: with a trunk
    /// that failed they fail, with one that was given up by itself they are given up, with one that
    /// diverged they diverge, since their path is its path.
    pub(super) fn settle_branches(&mut self, actions: &mut Vec<Action>) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        for place in 0..self.branches.len() {
            let index = self.branches[place];
            let run = &self.runs[index];
            if run.state != RunState::Queued || run.live.is_some() {
                continue;
            }
            let Fork::Waits(trunk) = self.fork(run) else { continue };
            let trunk = &self.runs[trunk];
            let what = match trunk.state {
                RunState::Failed => "failed",
                RunState::Diverged => "diverged",
                // With its sweep, a trunk is given up only where no branch of it is wanted.
                RunState::Cancelled => "was given up",
                _ => continue,
            };
            let why = trunk.reason.as_deref().unwrap_or("no reason is kept");
            let reason = format!("its trunk {} {what}: {why}", trunk.id.short());
            self.set_state(index, trunk.state, Some(reason));
            actions.push(self.state_row(index));
        }
    }

    /// The runs to retry with these: the trunk of a branch, without which it would end again, and
    /// the branches that ended with a trunk before they began.
    pub(super) fn with_family(&self, runs: &[RunId]) -> Vec<RunId> {
        let mut all: Vec<RunId> = Vec::with_capacity(runs.len());
        let mut seen: BTreeSet<&RunId> = BTreeSet::new();
        let mut add = |id| {
            if seen.insert(id) {
                all.push(id.clone());
            }
        };
        let known = runs.iter().filter_map(|id| self.run(id));
        for run in known {
            if let (Some(edge), Fork::Waits(_)) = (&run.config.parent, self.fork(run)) {
                add(&edge.run);
            }
            add(&run.id);
        }
        let chosen: BTreeSet<&RunId> = runs.iter().collect();
        for run in &self.runs {
            let Some(edge) = &run.config.parent else { continue };
            let ended = matches!(run.state, RunState::Failed | RunState::Cancelled);
            if ended && run.attempts == 0 && chosen.contains(&edge.run) {
                add(&run.id);
            }
        }
        all
    }

    /// Why a branch waits, where its trunk is the reason.
    pub(super) fn explain_fork(&self, now: Duration, run: &RunEntry) -> Option<String> {
        let edge = run.config.parent.as_ref()?;
        let trunk = edge.run.short();
        match self.fork(run) {
            Fork::Free | Fork::Kept(_) => None,
            Fork::At(workers) => {
                let names: Vec<&str> = workers.iter().map(String::as_str).collect();
                let waits = run.checkpoint.is_none() && self.is_worth_waiting(now, run, workers);
                waits.then(|| format!(
                    "It forks from trunk {trunk} at step {}, whose checkpoint lies on worker {}: \
                     it waits for a slot there.",
                    edge.step,
                    names.join(", ")
                ))
            }
            Fork::Waits(index) => {
                let entry = &self.runs[index];
                let stands = match (&entry.live, entry.state) {
                    (Some(live), _) => format!("is at step {} now", live.step),
                    (None, RunState::Queued) if entry.paused => "is paused by itself".to_owned(),
                    (None, RunState::Queued) => "waits for a slot itself".to_owned(),
                    (None, state) => format!("is {} (hint: sweep retry {trunk})", state.name()),
                };
                Some(format!(
                    "It forks from trunk {trunk} at step {}; the trunk {stands}.",
                    edge.step
                ))
            }
        }
    }
}
