//! Why a run stands where it stands, in sentences.

use std::{collections::BTreeMap, time::Duration};

use sweep_spec::{attempt::RunState, id::RunId};

use super::{Scheduler, fork::Fork, state::RunEntry};

impl Scheduler {
    /// Sentences about a run, the decisive one first.
    pub(crate) fn explain(&self, now: Duration, id: &RunId) -> Option<Vec<String>> {
        let &index = self.index.get(id)?;
        let run = &self.runs[index];
        let reason = run.reason.clone().unwrap_or_else(|| "no reason is kept".to_owned());
        let mut lines = match run.state {
            RunState::Queued => self.explain_waiting(now, index, run),
            RunState::Running => vec![explain_running(run)],
            RunState::Finished => vec!["It is finished and is never trained again.".to_owned()],
            RunState::Diverged => {
                vec![format!("It diverged: {reason}. Its curve is kept as data.")]
            }
            RunState::Failed => {
                vec![format!("It failed: {reason}. `sweep retry` gives it a fresh budget.")]
            }
            RunState::Cancelled => vec![
                "It was cancelled. Submitting its sweep again, or `sweep retry`, queues it."
                    .to_owned(),
            ],
        };
        let failures = run.failures;
        if failures.program + failures.infrastructure > 0 {
            lines.push(format!(
                "Failures so far: {} of the program or for want of memory, {} of machines, {} in a row \
                 without a newer checkpoint.",
                failures.program, failures.infrastructure, failures.without_checkpoint
            ));
        }
        Some(lines)
    }

    /// Runs that wait, by what they wait for; every reason is there.
    pub(crate) fn waiting_for(&self, now: Duration) -> BTreeMap<&'static str, u64> {
        let reasons = ["slot", "trunk", "terms", "pause", "back-off", "memory", "hand-in"];
        let mut waiting = BTreeMap::from(reasons.map(|reason| (reason, 0)));
        for (index, run) in self.runs.iter().enumerate() {
            if run.state != RunState::Queued || run.live.is_some() {
                continue;
            }
            let reason = if run.paused {
                "pause"
            } else if matches!(self.fork(run), Fork::Waits(_)) {
                "trunk"
            } else if !self.is_afforded(index) {
                "terms"
            } else if run.not_before > now {
                "back-off"
            } else if self.waits_for_memory(run) {
                "memory"
            } else if self.hands_in(now, run).is_some() {
                "hand-in"
            } else {
                "slot"
            };
            *waiting.entry(reason).or_default() += 1;
        }
        waiting
    }

    /// Attempts that live, by what they do; every kind is there.
    pub(crate) fn live_attempts(&self) -> BTreeMap<&'static str, u64> {
        let mut attempts = BTreeMap::from(["train", "stop", "report"].map(|does| (does, 0)));
        for live in self.runs.iter().filter_map(|run| run.live.as_ref()) {
            let does = match (live.slot, live.stopping) {
                (None, _) => "report",
                (Some(_), true) => "stop",
                (Some(_), false) => "train",
            };
            *attempts.entry(does).or_default() += 1;
        }
        attempts
    }

    fn explain_waiting(&self, now: Duration, index: usize, run: &RunEntry) -> Vec<String> {
        let online = self.workers.values().filter(|worker| worker.takes_runs()).count();
        let mut lines = Vec::new();
        if run.not_before > now {
            let wait = (run.not_before - now).as_secs() + 1;
            lines.push(format!("It waits {wait} s more after a failure."));
        }
        lines.extend(self.explain_fork(now, run));
        lines.extend(self.explain_hand_in(now, run));
        let terms = self.explain_terms(index);
        let held_back = !terms.is_empty();
        lines.extend(terms);
        if online == 0 {
            lines.push("No worker is online; hint: start one with `sweep worker`.".to_owned());
        } else if !held_back
            && !self.waits_for_memory(run)
            && let Some(ahead) = self.queue.iter().position(|other| other.index == index)
        {
            let longer = self.queue[..ahead]
                .iter()
                .filter(|other| self.runs[other.index].state == RunState::Queued)
                .count();
            lines.push(format!("Every slot is busy; {longer} runs are ahead of it."));
        }
        lines.extend(self.explain_memory(run));
        for (id, worker) in self.workers.iter().filter(|(_, worker)| worker.takes_runs()) {
            if let Some(left) = worker.left(now).filter(|_| !self.fits_somewhere(now, run, worker))
            {
                lines.push(format!(
                    "Worker {id} leaves in {} min, which is before the run would end there.",
                    left.as_secs() / 60
                ));
            }
        }
        lines.extend(self.bad_places.explain(now));
        if lines.is_empty() {
            lines.push("It waits for its turn.".to_owned());
        }
        lines
    }
}

fn explain_running(run: &RunEntry) -> String {
    match &run.live {
        Some(live) => format!(
            "Attempt {} is at step {} of {} on worker {} ({}){}.",
            run.attempts,
            live.step,
            run.config.steps,
            live.worker,
            live.device_name,
            match (live.stopping, run.paused) {
                (true, true) => ", and stops with a checkpoint: it is paused",
                (true, false) => ", and stops with a checkpoint",
                (false, _) => "",
            }
        ),
        None => "It is about to start.".to_owned(),
    }
}
