//! Order and place: the longest run first, check runs once the fit's have ended.
//!
//! A branch waits for its trunk's checkpoint; a trunk is as long as the longest chain that starts
//! with it, so that it goes before runs of its own length.
//!
//! Longest processing time first comes within a few thousandths of the best makespan even when the
//! predictions are off by half; after it the largest run is the makespan.

use std::{collections::BTreeMap, time::Duration};

use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::SweepId,
    run::RunRole,
};

use super::{
    Action, Ended, GRANTS_MAX, Grant, Live, Scheduler,
    fork::Fork,
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

/// Runs that are looked at for a better one, at the beginning of the queue and again behind it.
/// With 256 grants it is some 30,000 looks of less than a microsecond.
const LOOKS_MAX: usize = 64;

/// How well a run suits a slot.
enum Suits {
    Well,
    /// It may go there where nothing suits well.
    Badly,
    Not,
}

impl Scheduler {
    /// Grants free slots to waiting runs.
    pub(super) fn place(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let free: Vec<(String, u32)> = self
            .workers
            .iter()
            .filter(|(id, worker)| {
                worker.takes_runs()
                    && !worker.is_leaving(now)
                    && !self.bad_places.holds_worker(now, id)
            })
            .flat_map(|(id, worker)| {
                let good = |device: &str| !self.bad_places.holds(now, id, device);
                let ready = worker
                    .slots
                    .iter()
                    .filter(move |entry| entry.ready && good(&entry.slot.device_id));
                ready.map(|entry| (id.clone(), entry.slot.index))
            })
            .take(GRANTS_MAX)
            .collect();
        if free.is_empty() {
            return;
        }
        let learnt =
            self.learnt && (self.queue.len() <= QUEUE_SHORT || now >= self.sorted + RELEARN_EVERY);
        if self.stale || learnt {
            self.sort_queue(now);
        }
        for (worker, slot) in free {
            if let Some(waiting) = self.next_run(now, &worker, slot) {
                let grant = self.grant(now, waiting, &worker, slot);
                actions.extend(grant.map(Action::Grant));
            }
        }
    }

    /// The longest waiting run, if it can one that suits the slot well. Once there is one that may
    /// go there, a better one is looked for in a part of the queue only: at its beginning, and then
    /// at places that are spread evenly over the rest, down to the shortest runs at its end.
    fn next_run(&mut self, now: Duration, worker: &str, slot: u32) -> Option<Waiting> {
        while let Some(&Waiting { index, .. }) = self.queue.get(self.queue_head)
            && (self.runs[index].state != RunState::Queued || self.runs[index].live.is_some())
        {
            self.queue_head += 1;
        }
        let room = self.workers.get(worker)?.room(slot)?;
        let (mut place, mut stride) = (self.queue_head, 1);
        let (mut second, mut looks) = (None, 0);
        while let Some(&waiting) = self.queue.get(place) {
            // First of all: it is told from the queue alone, which may be long.
            let suits = if self.rooms.admit(room, waiting.need) {
                self.suits(now, waiting, worker, slot)
            } else {
                Suits::Not
            };
            match suits {
                Suits::Well => return Some(waiting),
                Suits::Badly => second = second.or(Some(waiting)),
                Suits::Not => {}
            }
            if second.is_some() {
                looks += 1;
                if looks == LOOKS_MAX {
                    stride = (self.queue.len() - place).div_ceil(LOOKS_MAX);
                }
            }
            place += stride;
        }
        second
    }

    /// How well a run in the queue suits a slot. One with a checkpoint on another worker suits that
    /// one better. A branch waits for a worker that has its trunk's checkpoint as long as there may
    /// be one: elsewhere it would train the steps of its trunk again. One that does not end before
    /// the worker leaves suits badly.
    fn suits(&self, now: Duration, waiting: Waiting, worker: &str, slot: u32) -> Suits {
        let run = &self.runs[waiting.index];
        let waits = run.state == RunState::Queued && run.live.is_none() && run.not_before <= now;
        if !waits || !self.affords(waiting.sweep, waiting.flops) {
            return Suits::Not;
        }
        let elsewhere = match (&run.checkpoint, self.fork(run)) {
            (Some((_, holder)), _) => holder != worker && self.could_take(holder, run),
            (None, Fork::At(holders)) if !holders.contains(worker) => {
                if self.is_worth_waiting(now, run, holders) {
                    return Suits::Not;
                }
                false
            }
            (None, Fork::Kept(holders)) => {
                let ready = |holder: &String| self.could_take(holder, run);
                !holders.contains(worker) && holders.iter().any(ready)
            }
            _ => false,
        };
        let place = self.workers.get(worker).and_then(|entry| Some((entry, entry.slot(slot)?)));
        let fits = place.is_none_or(|(entry, slot)| self.fits(now, run, entry, slot));
        if fits && !elsewhere { Suits::Well } else { Suits::Badly }
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
