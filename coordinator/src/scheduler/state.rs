//! What the scheduler knows, and the small steps by which it changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState, Slot},
    cost::CostModel,
    id::{RunId, SweepId},
    plan::training_memory_bytes,
    policy::Policy,
    run::{RunConfig, RunRole},
};
use sweep_store::{Failures, SavedRun, StateRow};

use super::{
    Action, LEASE,
    hand_in::HandIn,
    memory::Rooms,
    policy::{Charge, Used, Waiting},
    rules::BadPlaces,
};

/// The scheduler. Indices into `runs` and `sweeps` never change: nothing is ever removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scheduler {
    pub(super) runs: Vec<RunEntry>,
    pub(super) index: HashMap<RunId, usize>,
    /// The runs that fork from a trunk.
    pub(super) branches: Vec<usize>,
    pub(super) sweeps: Vec<SweepEntry>,
    pub(super) workers: BTreeMap<String, WorkerEntry>,
    pub(super) cost: CostModel,
    /// Devices and workers that fail runs.
    pub(super) bad_places: BadPlaces,
    /// Runs with a live attempt by the worker that holds it.
    held: BTreeMap<String, BTreeSet<usize>>,
    /// The kind of device that most slots online have.
    pub(super) kind: Option<String>,
    /// The most memory that a slot of a worker has which is there.
    pub(super) rooms: Rooms,
    /// Bytes that runs were trained to the end with on a processor, the least, by their kin.
    pub(super) peaks: HashMap<usize, u64>,
    /// When a worker joined last.
    pub(super) joined: Duration,
    /// Runs that wait, with the sweep each is granted for; made again when `stale`. Some may no
    /// longer wait.
    pub(super) queue: Vec<Waiting>,
    /// Nothing before this place of the queue waits any more.
    pub(super) queue_head: usize,
    /// A run may be missing in the queue.
    pub(super) stale: bool,
    /// A trunk may have ended without the checkpoint that a branch waits for.
    pub(super) unsettled: bool,
    /// The cost model knows more than the queue's order.
    pub(super) learnt: bool,
    /// When the queue was made.
    pub(super) sorted: Duration,
    /// The coordinator keeps checkpoints: workers hand theirs in.
    pub(super) keeps_checkpoints: bool,
    /// Numbers of the shapes with their batches, for [`RunEntry::kin`].
    kins: HashMap<String, usize>,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct RunEntry {
    pub(crate) id: RunId,
    pub(crate) config: RunConfig,
    pub(crate) state: RunState,
    pub(crate) attempts: u32,
    pub(crate) failures: Failures,
    pub(crate) reason: Option<String>,
    /// Step of the newest committed checkpoint, and the worker that holds it.
    pub(super) checkpoint: Option<(u64, String)>,
    /// Of a trunk: its committed steps with the workers that wrote their checkpoints.
    pub(super) checkpoints: BTreeMap<u64, BTreeSet<String>>,
    /// Of a trunk: the steps whose checkpoints the coordinator keeps.
    pub(super) kept: BTreeSet<u64>,
    pub(crate) live: Option<Live>,
    /// Workers lost under it since its last checkpoint.
    pub(super) lost_on: BTreeSet<String>,
    /// Given up by itself, whatever its sweeps want.
    pub(super) dropped: bool,
    /// Held back by itself until it is resumed, whatever its sweeps want.
    pub(crate) paused: bool,
    /// No grant before this moment: back-off after a failure.
    pub(crate) not_before: Duration,
    /// Runs of one number have one shape and batch, and so one speed and one need of memory.
    pub(super) kin: usize,
    /// Estimated bytes while it trains.
    pub(super) memory_bytes: u64,
    /// Bytes of the largest slot whose memory did not suffice for it; 0 where none is known.
    pub(super) ran_out_of: u64,
    /// The sweeps it belongs to, and what it is for in each.
    pub(super) sweeps: Vec<(usize, RunRole)>,
    /// Its newest checkpoint, on its way to the coordinator.
    pub(super) hand_in: HandIn,
}

/// A live attempt.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) worker: String,
    /// The slot it holds; `None` once it has ended on the worker and only its report is missing.
    pub(crate) slot: Option<u32>,
    pub(crate) device_name: String,
    /// Its device; not known of an attempt from before the coordinator's start.
    pub(super) device_id: Option<String>,
    /// The directive that carried the grant; 0 for one that the worker named itself.
    pub(crate) sent_as: Option<u64>,
    /// A kill is under way.
    pub(crate) stopping: bool,
    pub(crate) step: u64,
    pub(crate) tokens_per_second: Option<f64>,
    /// Who pays for it; nobody for an attempt that no sweep wants any more.
    pub(super) charge: Option<Charge>,
    /// When it was granted.
    pub(super) granted: Duration,
    /// The first step that a heartbeat named.
    pub(super) first_step: Option<u64>,
    /// Predicted seconds when it was granted.
    pub(super) length: f64,
}

impl Live {
    /// Whether a sweep pays for it.
    pub(super) fn is_charged_to(&self, sweep: usize) -> bool {
        self.charge.is_some_and(|charge| charge.sweep == sweep)
    }
}

/// A sweep.
#[derive(Clone, Debug)]
pub(crate) struct SweepEntry {
    pub(crate) id: SweepId,
    pub(crate) cancelled: bool,
    pub(crate) members: Vec<(usize, RunRole)>,
    /// Its terms.
    pub(super) policy: Policy,
    pub(super) used: Used,
    /// It has used the device time of its terms.
    pub(super) out_of_time: bool,
    /// Members of the fit that have not ended.
    pub(super) fit_open: usize,
    /// Members that have failed.
    pub(super) failed: usize,
}

impl SweepEntry {
    fn new(id: SweepId, cancelled: bool) -> Self {
        Self {
            id,
            cancelled,
            members: Vec::new(),
            policy: Policy::default(),
            used: Used::default(),
            out_of_time: false,
            fit_open: 0,
            failed: 0,
        }
    }
}

/// A worker that is known since the start.
#[derive(Clone, Debug)]
pub(crate) struct WorkerEntry {
    pub(crate) host: String,
    pub(crate) incarnation: u64,
    /// The start of its process; empty where it is not known.
    pub(super) start_id: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) slots: Vec<SlotEntry>,
    /// Its leases end at this moment unless it beats; `None` once they have.
    pub(crate) expires: Option<Duration>,
    pub(crate) last_beat: Option<Duration>,
    /// Its life line is open.
    pub(crate) session: bool,
    pub(crate) draining: bool,
    /// When its machine is taken away, where that is known.
    pub(super) leaves: Option<Duration>,
    /// With less time left it takes no more runs.
    pub(super) left_min: Duration,
}

/// A slot of a worker.
#[derive(Clone, Debug)]
pub(crate) struct SlotEntry {
    pub(crate) slot: Slot,
    /// The worker said that it can take a run, and none was granted since.
    pub(crate) ready: bool,
    /// The run whose attempt holds it.
    pub(crate) holder: Option<usize>,
}

/// A worker as lists show it.
pub(crate) type WorkerView = WorkerEntry;

impl WorkerEntry {
    pub(super) fn expected(now: Duration, incarnation: u64) -> Self {
        Self {
            host: String::new(),
            incarnation,
            start_id: String::new(),
            devices: Vec::new(),
            slots: Vec::new(),
            expires: Some(now + LEASE),
            last_beat: None,
            session: false,
            draining: false,
            leaves: None,
            left_min: Duration::ZERO,
        }
    }

    pub(super) fn slot(&self, index: u32) -> Option<&SlotEntry> {
        self.slots.iter().find(|entry| entry.slot.index == index)
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> Option<&mut SlotEntry> {
        self.slots.iter_mut().find(|entry| entry.slot.index == index)
    }

    pub(crate) fn device_of(&self, slot: &Slot) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == slot.device_id)
    }
}

impl Scheduler {
    /// One that starts with this cost model.
    pub(crate) fn new(cost: CostModel) -> Self {
        Self { cost, ..Self::default() }
    }

    pub(crate) fn cost(&self) -> &CostModel {
        &self.cost
    }

    pub(crate) fn run(&self, id: &RunId) -> Option<&RunEntry> {
        self.index.get(id).map(|&index| &self.runs[index])
    }

    /// The worker that holds a live attempt.
    pub(crate) fn worker_of(&self, key: &AttemptKey) -> Option<String> {
        let live = self.runs[self.live_index(key)?].live.as_ref()?;
        Some(live.worker.clone())
    }

    /// The run of an index that a slot names as its holder.
    pub(crate) fn run_at(&self, index: usize) -> &RunEntry {
        &self.runs[index]
    }

    pub(crate) fn workers(&self) -> &BTreeMap<String, WorkerEntry> {
        &self.workers
    }

    /// The runs of a sweep with what they are for.
    pub(crate) fn members(&self, id: &SweepId) -> Vec<(&RunEntry, RunRole)> {
        let Some(number) = self.sweep_number(id) else { return Vec::new() };
        let members = self.sweeps[number].members.iter();
        members.map(|&(run, role)| (&self.runs[run], role)).collect()
    }

    pub(super) fn add_sweep(
        &mut self,
        now: Duration,
        id: SweepId,
        members: Vec<(RunId, RunRole)>,
        runs: Vec<SavedRun>,
        cancelled: bool,
    ) {
        self.runs.reserve(runs.len());
        self.index.reserve(runs.len());
        for run in runs {
            self.add_run(now, run);
        }
        let number = self.sweep_number(&id).unwrap_or_else(|| {
            self.sweeps.push(SweepEntry::new(id, cancelled));
            self.sweeps.len() - 1
        });
        self.sweeps[number].cancelled = cancelled;
        for (run, role) in members {
            let Some(&index) = self.index.get(&run) else { continue };
            if self.runs[index].sweeps.iter().all(|(other, _)| *other != number) {
                self.runs[index].sweeps.push((number, role));
                self.sweeps[number].members.push((index, role));
            }
            // A run that was to be stopped is wanted again: it stops, and goes on as queued.
            let live = self.runs[index].live.as_ref();
            if !cancelled && live.is_some_and(|live| live.charge.is_none()) {
                self.charge(number, index);
            }
        }
        self.sweeps[number].fit_open = self.count_fit_open(number);
        let failed = |&&(run, _): &&(usize, RunRole)| self.runs[run].state == RunState::Failed;
        self.sweeps[number].failed = self.sweeps[number].members.iter().filter(failed).count();
        self.stale = true;
        self.unsettled = true;
    }

    fn count_fit_open(&self, number: usize) -> usize {
        let open = |&&(run, role): &&(usize, RunRole)| {
            role == RunRole::Fit && !self.runs[run].state.is_ended()
        };
        self.sweeps[number].members.iter().filter(open).count()
    }

    /// Adds a run as the store has it. Of a known one only what a submission can change is taken:
    /// that a cancelled run waits again, and that a trunk ends later.
    fn add_run(&mut self, now: Duration, saved: SavedRun) {
        if let Some(&index) = self.index.get(&saved.id) {
            let run = &mut self.runs[index];
            let extended = saved.config.steps > run.config.steps;
            if run.config.is_trunk() {
                run.config = saved.config;
            }
            run.dropped = false;
            let waits_again =
                run.state == RunState::Cancelled || (extended && run.state == RunState::Finished);
            if run.live.is_none() && waits_again {
                run.failures = saved.failures;
                self.set_state(index, saved.state, None);
            }
            return;
        }
        let live = saved.live.map(|live| {
            // Whoever held it has one full term to come back.
            self.workers
                .entry(live.worker.clone())
                .or_insert_with(|| WorkerEntry::expected(now, live.incarnation));
            Live {
                worker: live.worker,
                slot: None,
                device_name: live.device_name,
                device_id: None,
                sent_as: None,
                stopping: false,
                step: 0,
                tokens_per_second: None,
                charge: None,
                granted: now,
                first_step: None,
                length: 0.0,
            }
        });
        let index = self.runs.len();
        self.index.insert(saved.id.clone(), index);
        if saved.config.parent.is_some() {
            self.branches.push(index);
        }
        let kin = self.kin_of(&saved.config);
        let memory_bytes = training_memory_bytes(&saved.config);
        self.runs.push(RunEntry {
            id: saved.id,
            config: saved.config,
            state: saved.state,
            attempts: saved.attempts,
            failures: saved.failures,
            reason: saved.reason,
            checkpoint: saved.checkpoint,
            checkpoints: holders(saved.checkpoints),
            kept: saved.kept.into_iter().collect(),
            live: None,
            lost_on: BTreeSet::new(),
            dropped: saved.dropped,
            paused: saved.paused,
            not_before: Duration::ZERO,
            kin,
            memory_bytes,
            ran_out_of: 0,
            sweeps: Vec::new(),
            hand_in: HandIn::default(),
        });
        self.set_live(index, live);
    }

    /// The number of a run's shape and batch.
    fn kin_of(&mut self, config: &RunConfig) -> usize {
        // The runs of a sweep come by shape, and its text takes longer than all else of a run.
        let alike = |last: &&RunEntry| {
            last.config.batch == config.batch && last.config.shape == config.shape
        };
        if let Some(last) = self.runs.last().filter(alike) {
            return last.kin;
        }
        let next = self.kins.len();
        *self.kins.entry(format!("{:?} {}", config.shape, config.batch)).or_insert(next)
    }

    /// Sets or takes the live attempt of a run; gives the one before.
    pub(super) fn set_live(&mut self, index: usize, live: Option<Live>) -> Option<Live> {
        if let Some(live) = &live {
            self.held.entry(live.worker.clone()).or_default().insert(index);
        }
        let before = std::mem::replace(&mut self.runs[index].live, live);
        if let Some(before) = &before
            && self.runs[index].live.as_ref().is_none_or(|live| live.worker != before.worker)
            && let Some(held) = self.held.get_mut(&before.worker)
        {
            held.remove(&index);
            if held.is_empty() {
                self.held.remove(&before.worker);
            }
        }
        before
    }

    /// Runs whose live attempt belongs to a worker.
    pub(super) fn held_by(&self, worker: &str) -> Vec<usize> {
        self.held.get(worker).map(|held| held.iter().copied().collect()).unwrap_or_default()
    }

    /// The run of a live attempt with this very number.
    pub(super) fn live_index(&self, key: &AttemptKey) -> Option<usize> {
        let &index = self.index.get(&key.run)?;
        let run = &self.runs[index];
        (run.live.is_some() && run.attempts == key.number).then_some(index)
    }

    /// The place of a sweep by its id.
    pub(super) fn sweep_number(&self, id: &SweepId) -> Option<usize> {
        self.sweeps.iter().position(|entry| entry.id == *id)
    }

    /// Whether a sweep that is not given up contains the run.
    pub(super) fn is_wanted(&self, index: usize) -> bool {
        let run = &self.runs[index];
        !run.dropped && run.sweeps.iter().any(|&(number, _)| !self.sweeps[number].cancelled)
    }

    pub(super) fn set_state(&mut self, index: usize, state: RunState, reason: Option<String>) {
        let run = &mut self.runs[index];
        let (was_open, is_open) = (!run.state.is_ended(), !state.is_ended());
        let (had_failed, has_failed) = (run.state == RunState::Failed, state == RunState::Failed);
        run.state = state;
        run.reason = reason;
        let is_trunk = run.config.is_trunk();
        self.unsettled |= is_trunk;
        // One that leaves the queue is passed over; only one that enters it must be put in place,
        // and branches may enter it when their trunk ends.
        self.stale |= is_trunk || state == RunState::Queued;
        if was_open == is_open && had_failed == has_failed {
            return;
        }
        for (number, role) in self.runs[index].sweeps.clone() {
            let sweep = &mut self.sweeps[number];
            sweep.failed = sweep.failed + usize::from(has_failed) - usize::from(had_failed);
            // A limit on failed runs may hold from now on.
            self.stale |= has_failed != had_failed && sweep.policy.failed_runs_max.is_some();
            if role == RunRole::Fit && was_open != is_open {
                let open = &mut self.sweeps[number].fit_open;
                *open = if is_open { *open + 1 } else { open.saturating_sub(1) };
                // Check runs wait for the last of the fit.
                self.stale |= *open == 0;
            }
        }
    }

    pub(super) fn state_row(&self, index: usize) -> Action {
        let run = &self.runs[index];
        Action::SetState(StateRow {
            run: run.id.clone(),
            state: run.state,
            reason: run.reason.clone(),
            failures: run.failures,
        })
    }

    /// Takes the slot from a run's live attempt; it is granted again once its worker says it can.
    pub(super) fn release(&mut self, index: usize) {
        let Some(live) = &mut self.runs[index].live else { return };
        let Some(slot) = live.slot.take() else { return };
        if let Some(entry) = self.workers.get_mut(&live.worker).and_then(|w| w.slot_mut(slot))
            && entry.holder == Some(index)
        {
            entry.holder = None;
            entry.ready = false;
        }
    }

    /// Notes that a worker's life line is open, or broke.
    pub(crate) fn set_session(&mut self, worker: &str, open: bool) {
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.session = open;
            if !open {
                // What was free may be taken when it is back.
                entry.slots.iter_mut().for_each(|slot| slot.ready = false);
            }
        }
    }
}

/// Workers by step, from pairs.
fn holders(pairs: Vec<(u64, String)>) -> BTreeMap<u64, BTreeSet<String>> {
    let mut holders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (step, worker) in pairs {
        holders.entry(step).or_default().insert(worker);
    }
    holders
}
