//! Order and place: the longest run first, check runs once the fit's have ended.
//!
//! A branch waits for its trunk's checkpoint; a trunk is as long as the longest chain that starts
//! with it, so that it goes before runs of its own length.
//!
//! Longest processing time first comes within a few thousandths of the best makespan even when the
//! predictions are off by half; after it the largest run is the makespan.

use std::{collections::BTreeMap, time::Duration};

use sweep_spec::{
    attempt::{AttemptKey, RunState, Slot},
    id::SweepId,
    run::RunRole,
};

use super::{
    Action, Ended, GRANTS_MAX, Grant, Live, Scheduler,
    fork::Fork,
    hand_in::HandIn,
    policy::Waiting,
    state::{RunEntry, WorkerEntry},
};

/// A queue of this length is put in order anew whenever the cost model learns: below a millisecond.
const QUEUE_SHORT: usize = 4096;

/// A longer one at most so often: 100,000 runs take some 10 ms, and one more measurement moves
/// few of them.
const RELEARN_EVERY: Duration = Duration::from_secs(2);

/// Predicted lengths, looked up once for each kin.
#[derive(Default)]
pub(super) struct Speeds {
    /// Length of one step by the number of the kin.
    per_step: Vec<Option<f64>>,
}

impl Speeds {
    /// Predicted seconds of a run's own steps.
    pub(super) fn length(
        &mut self,
        scheduler: &Scheduler,
        run: &RunEntry,
        kind: Option<&str>,
    ) -> f64 {
        if self.per_step.len() <= run.kin {
            self.per_step.resize(run.kin + 1, None);
        }
        #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
        let steps = run.config.own_steps() as f64;
        let per_step = *self.per_step[run.kin]
            .get_or_insert_with(|| scheduler.length(run, kind) / steps.max(1.0));
        per_step * steps
    }
}

impl Scheduler {
    /// Grants free slots to waiting runs: every free slot is looked at, until so many are granted.
    pub(super) fn place(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.free_slots(now).next().is_none() {
            return;
        }
        let learnt =
            self.learnt && (self.queue.len() <= QUEUE_SHORT || now >= self.sorted + RELEARN_EVERY);
        if self.stale || learnt {
            self.sort_queue(now);
        }
        let mut search = self.search();
        if !self.has_more(now, &mut search) {
            return;
        }
        let free: Vec<(String, Slot)> =
            self.free_slots(now).map(|(id, slot)| (id.clone(), slot.clone())).collect();
        let (mut granted, mut barren) = (0, None);
        for (worker, slot) in &free {
            // Nothing suits another slot of the device either.
            let place = (worker, &slot.device_id);
            if barren == Some(place) {
                continue;
            }
            if granted == GRANTS_MAX || !self.has_more(now, &mut search) {
                break;
            }
            let Some(waiting) = self.next_run(now, &mut search, worker, slot.index) else {
                barren = Some(place);
                continue;
            };
            let grant = self.grant(now, waiting, worker, slot.index);
            granted += usize::from(grant.is_some());
            actions.extend(grant.map(Action::Grant));
        }
    }

    /// The slots that may be granted now, with their workers.
    fn free_slots(&self, now: Duration) -> impl Iterator<Item = (&String, &Slot)> {
        let takes = move |(id, worker): &(&String, &WorkerEntry)| {
            worker.takes_runs() && !worker.is_leaving(now) && !self.bad_places.holds_worker(now, id)
        };
        self.workers.iter().filter(takes).flat_map(move |(id, worker)| {
            let good = move |device: &str| !self.bad_places.holds(now, id, device);
            let ready = worker.slots.iter().map(|entry| (entry.ready, &entry.slot));
            let free = ready.filter(move |(ready, slot)| *ready && good(&slot.device_id));
            free.map(move |(_, slot)| (id, slot))
        })
    }

    /// Whether a run that waits, and that the worker may take, suits a slot well. One with a checkpoint
    /// on another worker suits that one better, and one that does not end before the worker leaves may
    /// go there only where nothing suits well.
    pub(super) fn suits_well(
        &self,
        now: Duration,
        waiting: Waiting,
        worker: &str,
        slot: u32,
    ) -> bool {
        let run = &self.runs[waiting.index];
        let elsewhere = match (&run.checkpoint, self.fork(run)) {
            (Some((_, holder)), _) => holder != worker && self.could_take(holder, run),
            (None, Fork::Kept(holders)) => {
                let ready = |holder: &String| self.could_take(holder, run);
                !holders.contains(worker) && holders.iter().any(ready)
            }
            _ => false,
        };
        let place = self.workers.get(worker).and_then(|entry| Some((entry, entry.slot(slot)?)));
        let fits = place.is_none_or(|(entry, slot)| self.fits(now, run, entry, slot));
        fits && !elsewhere
    }

    /// Whether a worker takes runs, and has the memory for this one.
    fn could_take(&self, worker: &str, run: &RunEntry) -> bool {
        let worker = self.workers.get(worker);
        worker.is_some_and(|worker| worker.takes_runs() && self.has_room(worker, run))
    }

    fn grant(&mut self, now: Duration, waiting: Waiting, worker: &str, slot: u32) -> Option<Grant> {
        let Waiting { index, sweep, length, .. } = waiting;
        let entry = self.workers.get_mut(worker)?;
        let place = entry.slots.iter().find(|one| one.slot.index == slot)?.slot.clone();
        let device = entry.device_of(&place)?.clone();
        let incarnation = entry.incarnation;
        let taken = entry.slot_mut(slot)?;
        (taken.ready, taken.holder) = (false, Some(index));
        let live = Live {
            worker: worker.to_owned(),
            slot: Some(slot),
            device_name: device.name.clone(),
            device_id: Some(device.id.clone()),
            sent_as: None,
            stopping: false,
            step: 0,
            tokens_per_second: None,
            charge: None,
            granted: now,
            first_step: None,
            length,
        };
        self.set_live(index, Some(live));
        self.charge(sweep, index);
        let run = &mut self.runs[index];
        run.attempts += 1;
        run.state = RunState::Running;
        run.reason = None;
        run.hand_in = HandIn::default();
        Some(Grant {
            key: AttemptKey { run: run.id.clone(), number: run.attempts },
            worker: worker.to_owned(),
            incarnation,
            slot,
            device_id: device.id,
            device_name: device.name,
            backend: device.backend,
            canary: device.canary,
        })
    }

    /// Puts the runs that may be granted in order: predicted seconds on the kind of device most
    /// slots have, longest first, then the order of submission; shared out between sweeps.
    fn sort_queue(&mut self, now: Duration) {
        let kind = self.common_kind();
        let mut speeds = Speeds::default();
        let tails = self.tails(&mut speeds, kind.as_deref());
        let mut waiting = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            if run.state == RunState::Queued
                && !matches!(self.fork(run), Fork::Waits(_))
                && let Some(sweep) = self.charged_to(index)
            {
                let length = speeds.length(self, run, kind.as_deref());
                let chain = length + tails.get(&index).copied().unwrap_or(0.0);
                let flops = self.flops_ahead(index);
                let need = self.need(run);
                waiting.push(Waiting { index, sweep, length, chain, flops, need, turn: 0.0 });
            }
        }
        waiting.sort_unstable_by(|a, b| b.chain.total_cmp(&a.chain).then(a.index.cmp(&b.index)));
        self.share_out(&mut waiting);
        self.queue = waiting;
        (self.queue_head, self.stale, self.learnt, self.sorted) = (0, false, false, now);
    }

    /// Predicted seconds of a run's own steps; FLOPs where nothing is known of the kind, which
    /// order alike.
    fn length(&self, run: &RunEntry, kind: Option<&str>) -> f64 {
        kind.and_then(|kind| self.cost.predict_own(kind, &run.config))
            .map_or_else(|| run.config.own_flops(), |predicted| predicted.seconds)
    }

    /// The kind of device that most slots online have.
    pub(crate) fn common_kind(&self) -> Option<String> {
        self.kind.clone()
    }

    /// Counts the kinds anew, and looks for the largest slots: workers or their devices changed.
    pub(super) fn count_kinds(&mut self) {
        self.measure_rooms();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for worker in self.workers.values().filter(|worker| worker.expires.is_some()) {
            for entry in &worker.slots {
                if let Some(device) = worker.device_of(&entry.slot) {
                    *kinds.entry(&device.name).or_default() += 1;
                }
            }
        }
        let most = kinds.iter().max_by_key(|(_, slots)| **slots);
        let kind = most.map(|(kind, _)| (*kind).to_owned());
        self.learnt |= kind != self.kind;
        self.kind = kind;
    }

    /// Refits the cost model on what an attempt took.
    pub(super) fn learn(&mut self, index: usize, ended: &Ended) {
        let run = &self.runs[index];
        if let (Some(steps), Some(seconds), Some(live)) = (ended.steps(), ended.seconds, &run.live)
        {
            self.cost.observe_steps(&live.device_name, &run.config, steps, seconds);
            self.learnt = true;
        }
    }

    /// Predicted seconds of what is left of a run.
    pub(crate) fn remaining(&self, run: &RunEntry) -> Option<f64> {
        if run.state.is_ended() {
            return Some(0.0);
        }
        let kind = match &run.live {
            Some(live) => live.device_name.clone(),
            None => self.common_kind()?,
        };
        let own = self.cost.predict_own(&kind, &run.config)?.seconds;
        let first = run.config.first_step();
        let step = run.live.as_ref().map_or(0, |live| live.step.min(run.config.steps));
        #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
        let left = 1.0 - step.saturating_sub(first) as f64 / run.config.own_steps().max(1) as f64;
        Some(own * left)
    }

    /// Predicted seconds until a sweep is done: its work spread over the slots, and never less
    /// than its longest run; check runs come after the rest.
    pub(crate) fn remaining_of_sweep(&self, sweep: &SweepId) -> Option<f64> {
        let slots: usize = self
            .workers
            .values()
            .filter(|worker| worker.takes_runs())
            .map(|worker| worker.slots.len())
            .sum();
        let members = self.members(sweep);
        let mut total = 0.0;
        for checks in [false, true] {
            let (mut sum, mut longest) = (0.0, 0.0_f64);
            for (run, role) in &members {
                if (*role == RunRole::Check) == checks {
                    let seconds = self.remaining(run)?;
                    // A branch that waits begins when its trunk is there at the latest.
                    let before = match self.fork(run) {
                        Fork::Waits(trunk) => self.remaining(&self.runs[trunk])?,
                        _ => 0.0,
                    };
                    sum += seconds;
                    longest = longest.max(before + seconds);
                }
            }
            if sum > 0.0 && slots == 0 {
                return None;
            }
            #[expect(clippy::cast_precision_loss, reason = "a number of slots")]
            let spread = sum / slots.max(1) as f64;
            total += spread.max(longest);
        }
        Some(total)
    }
}

impl WorkerEntry {
    /// Online and willing.
    pub(crate) fn takes_runs(&self) -> bool {
        self.session && self.expires.is_some() && !self.draining
    }
}
