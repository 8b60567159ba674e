//! Leases: who is alive, what it holds, and what the end of an attempt makes of its run.
//!
//! A lease is counted from when a heartbeat arrived, the worker counts from when it sent it: the
//! worker stops first. Leases only limit waste; safety comes from the attempt number in the store.

use std::time::Duration;

use sweep_spec::attempt::{AttemptKey, Ending, FailureCause, RunState};
use sweep_store::{EndRow, Outcome};

use super::{
    Action, Beat, EndFacts, Ended, Held, Joined, LEASE, Scheduler, Verdict, rules,
    state::{SlotEntry, WorkerEntry},
};

/// Wait before the second attempt; doubled with each failure.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Longest wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

impl Scheduler {
    /// Ends what silent workers held.
    pub(super) fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let silent: Vec<String> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.expires.is_some_and(|expires| expires <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in silent {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.expires = None;
                worker.session = false;
                worker.slots.iter_mut().for_each(|slot| slot.ready = false);
            }
            for index in self.held_by(&id) {
                self.end_attempt(
                    now,
                    index,
                    EndFacts::WorkerLost("its worker fell silent"),
                    actions,
                );
            }
            self.count_kinds();
        }
    }

    /// Gives every worker the time back in which nobody listened to it.
    pub(super) fn extend_leases(&mut self, gap: Duration) {
        for expires in self.workers.values_mut().filter_map(|worker| worker.expires.as_mut()) {
            *expires += gap;
        }
    }

    /// Whether another process of the same identity is alive: the state folder of a worker was
    /// copied while it ran, or with its machine. Each of the two would end what the other holds.
    pub(crate) fn is_clone(&self, joined: &Joined) -> bool {
        let known = self.workers.get(&joined.worker);
        known.is_some_and(|known| {
            known.expires.is_some()
                && known.incarnation == joined.incarnation
                && !known.start_id.is_empty()
                && !joined.start_id.is_empty()
                && known.start_id != joined.start_id
        })
    }

    pub(super) fn join(&mut self, now: Duration, joined: Joined, actions: &mut Vec<Action>) {
        let Joined { worker: id, host, incarnation, start_id, devices, slots, held, lifetime } =
            joined;
        let slots =
            slots.into_iter().map(|slot| SlotEntry { slot, ready: false, holder: None }).collect();
        let before = self.workers.get(&id).filter(|one| one.is_process(incarnation, &start_id));
        let mut entry = WorkerEntry::expected(now, incarnation);
        (entry.host, entry.start_id) = (host, start_id);
        (entry.devices, entry.slots) = (devices, slots);
        entry.set_lifetime(now, lifetime);
        entry.draining = before.is_some_and(|before| before.draining);
        let lives_on = before.is_some();
        self.workers.insert(id.clone(), entry);
        self.joined = now;
        self.count_kinds();
        let mut kept = Vec::new();
        for one in held {
            let verdict = self.judge(&id, &one);
            if verdict == Verdict::Keep
                && let Some(index) = self.live_index(&one.key)
            {
                kept.push(index);
                self.keep(&id, index, one.slot);
            }
            actions.push(Action::Verdict { key: one.key, verdict });
        }
        for index in self.held_by(&id) {
            if !kept.contains(&index) {
                // A process that lives on was not taken by the run: the grant was lost on its way.
                let facts = if lives_on {
                    EndFacts::Lost("its worker came back without it")
                } else {
                    EndFacts::WorkerLost("its worker started anew without it")
                };
                self.end_attempt(now, index, facts, actions);
            }
        }
    }

    fn judge(&self, worker: &str, held: &Held) -> Verdict {
        let Some(status) = held.status else { return Verdict::Kill("it was never granted") };
        if status.ended && status.reported {
            return Verdict::Done;
        }
        let Some(index) = self.live_index(&held.key) else {
            return Verdict::Kill("its lease ran out, or a later attempt owns the run");
        };
        let live = self.runs[index].live.as_ref();
        if live.is_none_or(|live| live.worker != worker) {
            return Verdict::Kill("another worker holds it");
        }
        // One that has ended may still report: its points are worth having.
        if held.slot.is_some() && !self.is_wanted(index) {
            return Verdict::Kill("cancelled");
        }
        Verdict::Keep
    }

    fn keep(&mut self, worker: &str, index: usize, slot: Option<u32>) {
        let entry = slot.and_then(|slot| self.workers.get_mut(worker)?.slot_mut(slot));
        let free = entry.filter(|entry| entry.holder.is_none());
        let slot = free.map(|entry| {
            entry.holder = Some(index);
            entry.slot.index
        });
        if let Some(live) = &mut self.runs[index].live {
            live.slot = slot;
            live.sent_as = Some(0);
        }
    }

    pub(super) fn beat(&mut self, now: Duration, beat: Beat, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&beat.worker) else { return };
        // A worker whose leases ran out has to join again; so has an earlier incarnation.
        if worker.expires.is_none() || worker.incarnation != beat.incarnation {
            return;
        }
        worker.expires = Some(now + LEASE);
        worker.last_beat = Some(now);
        let leaves = beat.draining && !worker.draining;
        worker.draining |= beat.draining;
        if !beat.devices.is_empty() {
            worker.devices.clone_from(&beat.devices);
        }
        if leaves || !beat.devices.is_empty() {
            self.count_kinds();
        }
        for running in &beat.running {
            if let Some(index) = self.live_index(&running.key)
                && let Some(live) = &mut self.runs[index].live
                && live.worker == beat.worker
            {
                live.step = running.step;
                if running.step > 0 {
                    live.first_step.get_or_insert(running.step);
                }
                live.tokens_per_second = running.tokens_per_second;
            }
        }
        for key in &beat.ended {
            if let Some(index) = self.live_index(key)
                && self.runs[index].live.as_ref().is_some_and(|live| live.worker == beat.worker)
            {
                self.release(index);
            }
        }
        self.end_unknown(now, &beat, actions);
        let Some(worker) = self.workers.get_mut(&beat.worker) else { return };
        for entry in &mut worker.slots {
            entry.ready = entry.holder.is_none() && beat.free_slots.contains(&entry.slot.index);
        }
    }

    /// Ends what the worker must know of and does not name.
    fn end_unknown(&mut self, now: Duration, beat: &Beat, actions: &mut Vec<Action>) {
        let named = |key: &AttemptKey| {
            beat.ended.contains(key) || beat.running.iter().any(|running| running.key == *key)
        };
        for index in self.held_by(&beat.worker) {
            let run = &self.runs[index];
            let key = AttemptKey { run: run.id.clone(), number: run.attempts };
            let arrived = run
                .live
                .as_ref()
                .and_then(|live| live.sent_as)
                .is_some_and(|sequence| sequence <= beat.received);
            if arrived && !named(&key) {
                let facts = EndFacts::Lost("its worker no longer knows it");
                self.end_attempt(now, index, facts, actions);
            }
        }
    }

    /// Ends a live attempt and decides what becomes of its run.
    pub(super) fn end_attempt(
        &mut self,
        now: Duration,
        index: usize,
        facts: EndFacts,
        actions: &mut Vec<Action>,
    ) {
        let worker = self.runs[index].live.as_ref().map(|live| live.worker.clone());
        if let (EndFacts::WorkerLost(_), Some(worker)) = (&facts, worker) {
            self.runs[index].lost_on.insert(worker);
        }
        if facts.blames_device() {
            self.blame_device(now, index);
        }
        self.settle_account(now, index, facts.steps());
        self.release(index);
        self.runs[index].hand_in.ended(now, matches!(facts, EndFacts::Reported(_)));
        let key =
            AttemptKey { run: self.runs[index].id.clone(), number: self.runs[index].attempts };
        let stopping = self.set_live(index, None).is_some_and(|live| live.stopping);
        let mut row = end_row(key, facts);
        let (state, reason) = self.verdict_of(now, index, &row);
        if stopping && row.outcome == Outcome::Stopped && state == RunState::Cancelled {
            row.outcome = Outcome::Cancelled;
        }
        self.set_state(index, state, reason);
        row.state = state;
        row.state_reason.clone_from(&self.runs[index].reason);
        row.failures = self.runs[index].failures;
        actions.push(Action::End(row));
    }

    /// Whether a trunk has to go on beyond the step that an attempt ended at.
    fn is_extended(&self, index: usize, row: &EndRow) -> bool {
        let config = &self.runs[index].config;
        config.is_trunk() && row.end_step.is_some_and(|step| step < config.steps)
    }

    /// What an end makes of a run; counts its failures.
    fn verdict_of(
        &mut self,
        now: Duration,
        index: usize,
        row: &EndRow,
    ) -> (RunState, Option<String>) {
        let reason = row.reason.clone();
        match row.outcome {
            // A larger D was asked for while it was trained to the end of its grant.
            Outcome::Finished if self.is_extended(index, row) && self.is_wanted(index) => {
                return (RunState::Queued, None);
            }
            Outcome::Finished => return (RunState::Finished, None),
            Outcome::Diverged => return (RunState::Diverged, reason),
            _ => {}
        }
        if !self.is_wanted(index) {
            return (RunState::Cancelled, Some("cancelled".to_owned()));
        }
        let run = &mut self.runs[index];
        let cause = row.failures;
        run.failures.program += cause.program;
        run.failures.infrastructure += cause.infrastructure;
        run.failures.without_checkpoint += cause.without_checkpoint;
        let total = run.failures.program + run.failures.infrastructure;
        if cause.program + cause.infrastructure > 0 {
            let doubled = BACK_OFF * 2_u32.saturating_pow(total.saturating_sub(1).min(6));
            run.not_before = now + doubled.min(BACK_OFF_MAX);
        }
        let rule = if row.state == RunState::Failed {
            Some("no attempt can work".to_owned())
        } else {
            rules::given_up(run.failures, &run.lost_on)
        };
        match rule {
            Some(rule) => {
                (RunState::Failed, Some(format!("{}; {rule}", reason.unwrap_or_default())))
            }
            None => (RunState::Queued, reason),
        }
    }
}

impl WorkerEntry {
    /// Whether it is this process. Of one from before the coordinator's start, and of an earlier
    /// version, no more than the incarnation is known.
    fn is_process(&self, incarnation: u64, start_id: &str) -> bool {
        let is_unknown = self.start_id.is_empty() || start_id.is_empty();
        self.incarnation == incarnation && (is_unknown || self.start_id == start_id)
    }
}

impl EndFacts {
    /// Steps trained, where the worker told.
    fn steps(&self) -> Option<u64> {
        let Self::Reported(ended) = self else { return None };
        ended.steps()
    }

    /// Whether the machine failed the run while the worker lived.
    fn blames_device(&self) -> bool {
        let Self::Reported(ended) = self else { return false };
        matches!(ended.ending, Ending::Failed { cause: FailureCause::Infrastructure, .. })
    }
}

/// The row of an end. Its failures are those of this attempt alone until the run's are known, and
/// its state is `Failed` when no other attempt can work.
fn end_row(key: AttemptKey, facts: EndFacts) -> EndRow {
    let empty = EndRow {
        key,
        outcome: Outcome::Lost,
        reason: None,
        end_step: None,
        resume_step: None,
        seconds: None,
        peak_memory_bytes: None,
        points_thinned: 0,
        state: RunState::Queued,
        state_reason: None,
        failures: sweep_store::Failures::default(),
        unix_ms: 0,
    };
    match facts {
        EndFacts::Lost(reason) | EndFacts::WorkerLost(reason) => {
            let mut row = EndRow { reason: Some(reason.to_owned()), ..empty };
            row.failures.infrastructure = 1;
            row
        }
        EndFacts::Reported(ended) => reported_row(empty, ended),
    }
}

fn reported_row(empty: EndRow, ended: Ended) -> EndRow {
    let mut row = EndRow {
        resume_step: ended.resume_step,
        seconds: ended.seconds,
        peak_memory_bytes: ended.peak_memory_bytes,
        points_thinned: ended.points_thinned,
        ..empty
    };
    match ended.ending {
        Ending::Finished { step } => {
            (row.outcome, row.end_step) = (Outcome::Finished, Some(step));
        }
        Ending::Diverged { step } => {
            (row.outcome, row.end_step) = (Outcome::Diverged, Some(step));
            row.reason = Some(format!("the loss is not finite at step {step}"));
        }
        Ending::Stopped { step } => {
            (row.outcome, row.end_step) = (Outcome::Stopped, Some(step));
            row.reason = Some(format!("stopped at step {step}"));
        }
        Ending::Failed { cause, reason } => {
            (row.outcome, row.reason) = (Outcome::Failed, Some(reason));
            // A daemon that was killed is a worker that was lost, and what could not be fetched was
            // never begun: no attempt at progress failed.
            let tried = !matches!(cause, FailureCause::Daemon | FailureCause::Fetch);
            row.failures.without_checkpoint = u32::from(tried);
            match cause {
                FailureCause::Program | FailureCause::Memory => row.failures.program = 1,
                FailureCause::Infrastructure | FailureCause::Daemon | FailureCause::Fetch => {
                    row.failures.infrastructure = 1;
                }
                FailureCause::Configuration => row.state = RunState::Failed,
            }
        }
    }
    row
}
