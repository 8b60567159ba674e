//! Which run goes where: a value that turns events into actions.
//!
//! It reads no clock, no database and no random source; the same events give the same actions. The
//! actor around it stores and sends what it decides, in that order. What is here is what the store
//! says, plus who is online.

mod explain;
mod fork;
mod hand_in;
mod lease;
mod lifetime;
mod memory;
mod order;
mod policy;
mod rules;
mod search;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sweep_spec::{
    attempt::{AttemptKey, Device, Ending, RunState, Slot},
    id::{RunId, SweepId},
    policy::Policy,
    run::RunRole,
};
use sweep_store::{AttemptStatus, EndRow, SavedRun, StateRow};

pub(crate) use state::{Live, RunEntry, Scheduler, WorkerView};

/// A heartbeat at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// Right of a worker to its attempts since its last heartbeat: four missed beats.
pub(crate) const LEASE: Duration = Duration::from_secs(20);

/// Grants of one cycle at most, so that a cycle stays short whatever waits; the rest is granted in
/// the next one.
pub(crate) const GRANTS_MAX: usize = 256;

/// Why an attempt stops whose run is held back.
const PAUSED: &str = "paused";

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time went by.
    Tick,
    /// The coordinator stood still for so long: whoever was silent may not have been heard.
    Stood(Duration),
    /// A sweep was handed in, or is loaded after a start; its runs are as the store has them.
    Sweep {
        id: SweepId,
        members: Vec<(RunId, RunRole)>,
        runs: Vec<SavedRun>,
        cancelled: bool,
        policy: Policy,
    },
    /// The terms of a sweep changed.
    Policy { sweep: SweepId, policy: Policy },
    /// Runs are given up by themselves.
    Drop(Vec<RunId>),
    /// Runs are held back by themselves, or go on.
    Pause { runs: Vec<RunId>, paused: bool },
    /// A sweep is given up.
    Cancel(SweepId),
    /// Failed and cancelled runs get a fresh budget.
    Retry(Vec<RunId>),
    /// A worker is there, with what it holds and what the store says of each.
    Join(Joined),
    /// A worker opened its life line.
    SessionOpened { worker: String },
    /// A worker's life line broke; its leases go on.
    SessionClosed { worker: String },
    /// A sign of life.
    Beat(Beat),
    /// A grant went out as this directive.
    Sent { key: AttemptKey, sequence: u64 },
    /// The store refused a grant: its run has moved on.
    GrantRefused { key: AttemptKey },
    /// An attempt ended, and every point of it is durable.
    Ended(Ended),
    /// A checkpoint was committed.
    Checkpoint { key: AttemptKey, step: u64 },
    /// The coordinator keeps the files of a committed checkpoint.
    Kept { run: RunId, step: u64 },
    /// An operator wants a worker to leave.
    Drain { worker: String },
}

/// A worker that joins.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) worker: String,
    pub(crate) host: String,
    pub(crate) incarnation: u64,
    /// Drawn anew at each start of its process; empty where it is not known.
    pub(crate) start_id: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) held: Vec<Held>,
    /// Time until its machine is taken away, where it knows.
    pub(crate) lifetime: Option<Duration>,
}

/// An attempt that a joining worker holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: AttemptKey,
    /// `None` when it has ended.
    pub(crate) slot: Option<u32>,
    /// What the store says of it.
    pub(crate) status: Option<AttemptStatus>,
}

/// A heartbeat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat {
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) received: u64,
    pub(crate) running: Vec<Running>,
    pub(crate) ended: Vec<AttemptKey>,
    pub(crate) free_slots: Vec<u32>,
    pub(crate) draining: bool,
    pub(crate) devices: Vec<Device>,
}

/// An attempt that holds a slot.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) key: AttemptKey,
    pub(crate) step: u64,
    pub(crate) tokens_per_second: Option<f64>,
}

/// The end of an attempt as its worker reports it.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) key: AttemptKey,
    pub(crate) ending: Ending,
    /// Step it began after; absent when it never began.
    pub(crate) resume_step: Option<u64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) points_thinned: u64,
}

impl Ended {
    /// Steps trained, where it began and told how far it came.
    fn steps(&self) -> Option<u64> {
        match self.ending {
            Ending::Finished { step } | Ending::Diverged { step } | Ending::Stopped { step } => {
                Some(step.saturating_sub(self.resume_step?))
            }
            Ending::Failed { .. } => None,
        }
    }
}

/// What is to be done, in this order: store, then send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Store the end of an attempt.
    End(EndRow),
    /// Store a state.
    SetState(StateRow),
    /// Store that runs are held back by themselves, or no longer.
    SetPaused { runs: Vec<RunId>, paused: bool },
    /// Store that runs are given up by themselves, or no longer.
    SetDropped { runs: Vec<RunId>, dropped: bool },
    /// Store that a sweep is given up.
    MarkSweep { sweep: SweepId, cancelled: bool },
    /// Store a grant, then send it.
    Grant(Grant),
    /// Answer a joining worker.
    Verdict { key: AttemptKey, verdict: Verdict },
    /// Tell a worker to stop an attempt.
    Kill { worker: String, key: AttemptKey, reason: String },
    /// Tell a worker to leave.
    Drain { worker: String, reason: String },
}

/// A decision that opens an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) key: AttemptKey,
    pub(crate) worker: String,
    pub(crate) incarnation: u64,
    pub(crate) slot: u32,
    pub(crate) device_id: String,
    pub(crate) device_name: String,
    pub(crate) backend: String,
    pub(crate) canary: Option<String>,
}

/// The answer to an attempt that a joining worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Keep,
    /// Its end is known.
    Done,
    /// Stop.
    Kill(&'static str),
}

impl Scheduler {
    /// Takes in an event at a moment of the coordinator's monotonic clock.
    pub(crate) fn on_event(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {
                self.expire(now, &mut actions);
                self.hold_time_limits(now, &mut actions);
            }
            Event::Stood(gap) => self.extend_leases(gap),
            Event::Sweep { id, members, runs, cancelled, policy } => {
                self.add_sweep(now, id.clone(), members, runs, cancelled);
                self.set_policy(&id, policy, &mut actions);
                self.hold_time_limits(now, &mut actions);
            }
            Event::Policy { sweep, policy } => {
                self.set_policy(&sweep, policy, &mut actions);
                self.hold_time_limits(now, &mut actions);
            }
            Event::Drop(runs) => self.drop_runs(&runs, &mut actions),
            Event::Pause { runs, paused } => self.pause_runs(&runs, paused, &mut actions),
            Event::Cancel(sweep) => self.cancel(&sweep, &mut actions),
            Event::Retry(runs) => self.retry(&runs, &mut actions),
            Event::Join(joined) => self.join(now, joined, &mut actions),
            Event::SessionOpened { worker } => {
                self.set_session(&worker, true);
                self.stop_again(&worker, &mut actions);
                self.drain_again(&worker, &mut actions);
            }
            Event::SessionClosed { worker } => self.set_session(&worker, false),
            Event::Beat(beat) => self.beat(now, beat, &mut actions),
            Event::Sent { key, sequence } => self.sent(&key, sequence),
            Event::GrantRefused { key } => self.grant_refused(now, &key),
            Event::Ended(ended) => self.ended(now, ended, &mut actions),
            Event::Checkpoint { key, step } => self.checkpoint(&key, step),
            Event::Kept { run, step } => self.kept(&run, step),
            Event::Drain { worker } => self.drain(&worker, &mut actions),
        }
        self.settle_branches(&mut actions);
        self.place(now, &mut actions);
        actions
    }

    fn cancel(&mut self, sweep: &SweepId, actions: &mut Vec<Action>) {
        let Some(number) = self.sweep_number(sweep) else { return };
        let entry = &mut self.sweeps[number];
        if !entry.cancelled {
            entry.cancelled = true;
            actions.push(Action::MarkSweep { sweep: sweep.clone(), cancelled: true });
        }
        // Runs that another sweep wants may have to wait for that one's fit.
        self.stale = true;
        let members: Vec<usize> = entry.members.iter().map(|&(run, _)| run).collect();
        for index in members {
            if !self.is_wanted(index) {
                self.give_up(index, actions);
            }
        }
    }

    /// Gives up runs by themselves, whatever their sweeps want; a retry takes them up again.
    fn drop_runs(&mut self, runs: &[RunId], actions: &mut Vec<Action>) {
        let open = |id: &RunId| {
            let &index = self.index.get(id)?;
            (!self.runs[index].state.is_ended()).then_some(index)
        };
        let open: Vec<usize> = runs.iter().filter_map(open).collect();
        if open.is_empty() {
            return;
        }
        // Before its attempt is told to stop: whether that is heard before a restart is open.
        let runs = open.iter().map(|&index| self.runs[index].id.clone()).collect();
        actions.push(Action::SetDropped { runs, dropped: true });
        for index in open {
            self.runs[index].dropped = true;
            self.give_up(index, actions);
        }
    }

    /// Stops the attempt at a run, or takes the run from the queue.
    fn give_up(&mut self, index: usize, actions: &mut Vec<Action>) {
        const REASON: &str = "cancelled";
        if self.runs[index].live.is_some() {
            self.stop(index, REASON, actions);
        } else if self.runs[index].state == RunState::Queued {
            self.set_state(index, RunState::Cancelled, Some(REASON.to_owned()));
            actions.push(self.state_row(index));
        }
    }

    /// Holds runs that have not ended back by themselves, or lets them go on. What is trained stops
    /// with a checkpoint; only changes are stored.
    fn pause_runs(&mut self, runs: &[RunId], paused: bool, actions: &mut Vec<Action>) {
        let mut changed = Vec::new();
        for id in runs {
            let Some(&index) = self.index.get(id) else { continue };
            let run = &mut self.runs[index];
            if run.paused != paused && (!paused || !run.state.is_ended()) {
                run.paused = paused;
                changed.push(index);
            }
        }
        if changed.is_empty() {
            return;
        }
        self.stale = true;
        let runs = changed.iter().map(|&index| self.runs[index].id.clone()).collect();
        actions.push(Action::SetPaused { runs, paused });
        for index in changed.into_iter().filter(|_| paused) {
            self.stop(index, PAUSED, actions);
        }
    }

    /// Stops the attempt at a run, with a checkpoint, if one is live and not stopping yet.
    fn stop(&mut self, index: usize, reason: &str, actions: &mut Vec<Action>) {
        let run = &mut self.runs[index];
        let Some(live) = run.live.as_mut().filter(|live| !live.stopping) else { return };
        live.stopping = true;
        actions.push(Action::Kill {
            worker: live.worker.clone(),
            key: AttemptKey { run: run.id.clone(), number: run.attempts },
            reason: reason.to_owned(),
        });
    }

    /// Says again what a worker is to stop: it may have been away, and so may the coordinator, when it
    /// was said first. To stop twice changes nothing.
    fn stop_again(&mut self, worker: &str, actions: &mut Vec<Action>) {
        for index in self.held_by(worker) {
            let paused = self.runs[index].paused;
            if let Some(live) = self.runs[index].live.as_mut()
                && (live.stopping || paused)
            {
                live.stopping = false;
                let reason = if paused { PAUSED } else { "it was to stop before" };
                self.stop(index, reason, actions);
            }
        }
    }

    fn retry(&mut self, runs: &[RunId], actions: &mut Vec<Action>) {
        let runs = self.with_family(runs);
        for id in &runs {
            let Some(&index) = self.index.get(id) else { continue };
            if !matches!(self.runs[index].state, RunState::Failed | RunState::Cancelled) {
                continue;
            }
            self.runs[index].failures = sweep_store::Failures::default();
            self.runs[index].lost_on.clear();
            self.runs[index].ran_out_of = 0;
            if std::mem::take(&mut self.runs[index].dropped) {
                actions.push(Action::SetDropped { runs: vec![id.clone()], dropped: false });
            }
            self.runs[index].not_before = Duration::ZERO;
            self.set_state(index, RunState::Queued, None);
            actions.push(self.state_row(index));
            // Whoever retries a run of a sweep that was given up wants the sweep again.
            for (number, _) in self.runs[index].sweeps.clone() {
                if self.sweeps[number].cancelled && !self.is_wanted(index) {
                    self.sweeps[number].cancelled = false;
                    let sweep = self.sweeps[number].id.clone();
                    actions.push(Action::MarkSweep { sweep, cancelled: false });
                }
            }
        }
    }

    fn ended(&mut self, now: Duration, ended: Ended, actions: &mut Vec<Action>) {
        let Some(index) = self.live_index(&ended.key) else { return };
        self.learn(index, &ended);
        self.learn_memory(index, &ended);
        self.end_attempt(now, index, EndFacts::Reported(ended), actions);
    }

    fn checkpoint(&mut self, key: &AttemptKey, step: u64) {
        let Some(index) = self.live_index(key) else { return };
        let run = &mut self.runs[index];
        run.failures.without_checkpoint = 0;
        run.lost_on.clear();
        let Some(live) = &run.live else { return };
        run.hand_in.committed(step, &live.worker);
        if run.checkpoint.as_ref().is_none_or(|(newest, _)| step >= *newest) {
            run.checkpoint = Some((step, live.worker.clone()));
        }
        if run.config.is_trunk() {
            run.checkpoints.entry(step).or_default().insert(live.worker.clone());
            // A branch may be ready now.
            self.stale = true;
        }
    }

    fn kept(&mut self, run: &RunId, step: u64) {
        let Some(&index) = self.index.get(run) else { return };
        let run = &mut self.runs[index];
        run.hand_in.kept(step);
        if run.config.is_trunk() {
            run.kept.insert(step);
        }
    }

    fn sent(&mut self, key: &AttemptKey, sequence: u64) {
        if let Some(index) = self.live_index(key)
            && let Some(live) = &mut self.runs[index].live
        {
            live.sent_as = Some(sequence);
        }
    }

    fn grant_refused(&mut self, now: Duration, key: &AttemptKey) {
        if let Some(index) = self.live_index(key) {
            self.settle_account(now, index, Some(0));
            self.release(index);
            self.set_live(index, None);
            self.runs[index].attempts -= 1;
            self.set_state(index, RunState::Queued, None);
        }
    }

    fn drain(&mut self, worker: &str, actions: &mut Vec<Action>) {
        if let Some(entry) = self.workers.get_mut(worker)
            && !entry.draining
        {
            entry.draining = true;
            self.measure_rooms();
            let reason = "drained by an operator".to_owned();
            actions.push(Action::Drain { worker: worker.to_owned(), reason });
        }
    }

    /// Says again that a worker is to leave: its life line may have broken before it was heard. To
    /// one that is leaving it changes nothing.
    fn drain_again(&self, worker: &str, actions: &mut Vec<Action>) {
        if self.workers.get(worker).is_some_and(|entry| entry.draining) {
            let reason = "it was to leave before".to_owned();
            actions.push(Action::Drain { worker: worker.to_owned(), reason });
        }
    }
}

/// Who says that an attempt is over.
pub(crate) enum EndFacts {
    /// Its worker.
    Reported(Ended),
    /// Nobody: its worker no longer knows it.
    Lost(&'static str),
    /// Nobody: its worker is gone, or came back without it.
    WorkerLost(&'static str),
}
