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
    state::{RunEntry, WorkerEntry},
};

impl Scheduler {
    /// Grants free slots to waiting runs.
    pub(super) fn place(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let free: Vec<(String, u32)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_runs())
            .flat_map(|(id, worker)| {
                let ready = worker.slots.iter().filter(|entry| entry.ready);
                ready.map(|entry| (id.clone(), entry.slot.index))
            })
            .take(GRANTS_MAX)
            .collect();
        if free.is_empty() {
            return;
        }
        if self.stale {
            self.sort_queue();
        }
        for (worker, slot) in free {
            if let Some(index) = self.next_run(now, &worker) {
                let grant = self.grant(index, &worker, slot);
                actions.extend(grant.map(Action::Grant));
            }
        }
    }

    /// The longest waiting run, if it can one that has no checkpoint on another worker. A branch
    /// waits for a worker that has its trunk's checkpoint as long as there may be one: elsewhere it
    /// would train the steps of its trunk again.
    fn next_run(&self, now: Duration, worker: &str) -> Option<usize> {
        let mut second = None;
        for &index in &self.queue {
            let run = &self.runs[index];
            if run.state != RunState::Queued || run.live.is_some() || run.not_before > now {
                continue;
            }
            let elsewhere = match (&run.checkpoint_worker, self.fork(run)) {
                (Some(holder), _) => holder != worker && self.takes_runs(holder),
                (None, Fork::At(holders)) if !holders.contains(worker) => {
                    if self.is_worth_waiting(now, run, holders) {
                        continue;
                    }
                    false
                }
                _ => false,
            };
            if !elsewhere {
                return Some(index);
            }
            second = second.or(Some(index));
        }
        second
    }

    fn takes_runs(&self, worker: &str) -> bool {
        self.workers.get(worker).is_some_and(WorkerEntry::takes_runs)
    }

    fn grant(&mut self, index: usize, worker: &str, slot: u32) -> Option<Grant> {
        let entry = self.workers.get_mut(worker)?;
        let place = entry.slots.iter().find(|one| one.slot.index == slot)?.slot.clone();
        let device = entry.device_of(&place)?.clone();
        let incarnation = entry.incarnation;
        let taken = entry.slot_mut(slot)?;
        (taken.ready, taken.holder) = (false, Some(index));
        let run = &mut self.runs[index];
        run.attempts += 1;
        run.live = Some(Live {
            worker: worker.to_owned(),
            slot: Some(slot),
            device_name: device.name.clone(),
            sent_as: None,
            stopping: false,
            step: 0,
            tokens_per_second: None,
        });
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
        })
    }

    /// Puts the runs that may be granted in order: predicted seconds on the kind of device most
    /// slots have, longest first, then the order of submission.
    fn sort_queue(&mut self) {
        let kind = self.common_kind();
        let open: Vec<bool> =
            self.sweeps.iter().map(|sweep| self.fit_open(&sweep.members)).collect();
        let tails = self.tails(kind.as_deref());
        let mut waiting: Vec<(f64, usize)> = (0..self.runs.len())
            .filter(|&index| self.runs[index].state == RunState::Queued)
            .filter(|&index| self.may_start(index, &open))
            .filter(|&index| !matches!(self.fork(&self.runs[index]), Fork::Waits(_)))
            .map(|index| {
                let tail = tails.get(&index).copied().unwrap_or(0.0);
                (self.length(&self.runs[index], kind.as_deref()) + tail, index)
            })
            .collect();
        waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.queue = waiting.into_iter().map(|(_, index)| index).collect();
        self.stale = false;
    }

    /// Predicted seconds of a run's own steps; FLOPs where nothing is known of the kind, which
    /// order alike.
    pub(super) fn length(&self, run: &RunEntry, kind: Option<&str>) -> f64 {
        kind.and_then(|kind| self.cost.predict_own(kind, &run.config))
            .map_or_else(|| run.config.own_flops(), |predicted| predicted.seconds)
    }

    /// Whether a sweep wants the run now. A check run waits until every run of the fit has ended,
    /// so that the forecast is made before the check is trained.
    fn may_start(&self, index: usize, fit_open: &[bool]) -> bool {
        self.runs[index].sweeps.iter().any(|&(number, role)| {
            !self.sweeps[number].cancelled && (role != RunRole::Check || !fit_open[number])
        })
    }

    fn fit_open(&self, members: &[(usize, RunRole)]) -> bool {
        members.iter().any(|&(run, role)| role == RunRole::Fit && !self.runs[run].state.is_ended())
    }

    /// The kind of device that most slots online have.
    pub(crate) fn common_kind(&self) -> Option<String> {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for worker in self.workers.values().filter(|worker| worker.expires.is_some()) {
            for entry in &worker.slots {
                if let Some(device) = worker.device_of(&entry.slot) {
                    *kinds.entry(&device.name).or_default() += 1;
                }
            }
        }
        let most = kinds.iter().max_by_key(|(_, slots)| **slots);
        most.map(|(kind, _)| (*kind).to_owned())
    }

    /// Refits the cost model on what an attempt took.
    pub(super) fn learn(&mut self, index: usize, ended: &Ended) {
        use sweep_spec::attempt::Ending;
        let step = match ended.ending {
            Ending::Finished { step } | Ending::Diverged { step } | Ending::Stopped { step } => {
                step
            }
            Ending::Failed { .. } => return,
        };
        let steps = step.saturating_sub(ended.resume_step);
        let run = &self.runs[index];
        if let (Some(seconds), Some(live)) = (ended.seconds, &run.live) {
            self.cost.observe_steps(&live.device_name, &run.config, steps, seconds);
            self.stale = true;
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
