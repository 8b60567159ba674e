//! The terms of sweeps: which of them may have a run granted now, in what order, and what they
//! have used of their limits.
//!
//! A run of several sweeps is charged to the one that it was granted for; an attempt from before the
//! coordinator's start, to the first that wants it.

use std::{cmp::Reverse, time::Duration};

use sweep_spec::{
    attempt::RunState,
    id::{RunId, SweepId},
    policy::Policy,
    run::RunRole,
};

use super::{Action, Scheduler, fork::Fork, memory::Need, state::RunEntry};

/// Who pays for a live attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    /// The sweep it was granted for.
    pub(super) sweep: usize,
    /// FLOPs that were set aside for it.
    flops: f64,
}

/// What a sweep has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Training FLOPs of ended attempts.
    flops: f64,
    /// FLOPs that live attempts may still take.
    reserved_flops: f64,
    /// Seconds of devices by ended attempts.
    device_seconds: f64,
}

impl Scheduler {
    /// The terms of a sweep; none for one that is not known.
    pub(crate) fn policy(&self, sweep: &SweepId) -> Option<&Policy> {
        self.sweep_number(sweep).map(|number| &self.sweeps[number].policy)
    }

    /// Runs of a sweep that have not ended and are paused by themselves.
    pub(crate) fn paused_of(&self, sweep: &SweepId) -> u32 {
        let members = self.members(sweep).into_iter();
        let paused = members.filter(|(run, _)| run.paused && !run.state.is_ended()).count();
        u32::try_from(paused).unwrap_or(u32::MAX)
    }

    /// Sets the terms of a sweep; one that is paused lets go of its slots.
    pub(super) fn set_policy(&mut self, sweep: &SweepId, policy: Policy, out: &mut Vec<Action>) {
        let Some(number) = self.sweep_number(sweep) else { return };
        self.sweeps[number].policy = policy;
        // Looked at anew: the limit may be another one.
        self.sweeps[number].out_of_time = false;
        self.stale = true;
        if self.sweeps[number].policy.paused {
            self.stop_charged(number, "paused", out);
        }
    }

    /// Stops what is trained for a sweep, with checkpoints.
    fn stop_charged(&mut self, number: usize, reason: &str, actions: &mut Vec<Action>) {
        for (index, _) in self.sweeps[number].members.clone() {
            if self.runs[index].live.as_ref().is_some_and(|live| live.is_charged_to(number)) {
                self.stop(index, reason, actions);
            }
        }
    }

    /// Enforces limits on time, which grow without an event.
    pub(super) fn hold_time_limits(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for number in 0..self.sweeps.len() {
            let Some(limit) = self.sweeps[number].policy.device_seconds_max else { continue };
            if !self.sweeps[number].out_of_time && self.device_seconds(now, number) >= limit {
                self.sweeps[number].out_of_time = true;
                self.stale = true;
                self.stop_charged(number, "the sweep has used its device time", actions);
            }
        }
    }

    fn device_seconds(&self, now: Duration, number: usize) -> f64 {
        let live = self.sweeps[number].members.iter().filter_map(|&(run, _)| {
            let live = self.runs[run].live.as_ref()?;
            live.is_charged_to(number).then(|| now.saturating_sub(live.granted).as_secs_f64())
        });
        self.sweeps[number].used.device_seconds + live.sum::<f64>()
    }

    /// Why nothing of a sweep is granted now, if so.
    pub(super) fn held_back(&self, number: usize) -> Option<String> {
        let sweep = &self.sweeps[number];
        let policy = &sweep.policy;
        if sweep.cancelled {
            return Some("its sweep was cancelled".to_owned());
        }
        if policy.paused {
            return Some("its sweep is paused".to_owned());
        }
        if sweep.out_of_time
            && let Some(limit) = policy.device_seconds_max
        {
            let hours = limit / 3600.0;
            return Some(format!("its sweep has used its {hours} device-hours"));
        }
        match policy.failed_runs_max {
            Some(limit) if sweep.failed > limit as usize => Some(format!(
                "{} runs of its sweep failed, more than the {limit} allowed",
                sweep.failed
            )),
            _ => None,
        }
    }

    /// Whether a sweep would have this run granted now, but for its limit of FLOPs.
    pub(super) fn admits(&self, number: usize, role: RunRole) -> bool {
        let sweep = &self.sweeps[number];
        self.held_back(number).is_none()
            && (role != RunRole::Check || (sweep.fit_open == 0 && !sweep.policy.checks_held))
    }

    /// The sweep that a run is granted for: the one of the highest priority that admits it. None has
    /// one that is paused by itself.
    pub(super) fn charged_to(&self, index: usize) -> Option<usize> {
        if self.runs[index].paused {
            return None;
        }
        let admitting = self.runs[index].sweeps.iter().filter(|(n, role)| self.admits(*n, *role));
        let rank = |number: usize| (self.sweeps[number].policy.priority, Reverse(number));
        admitting.map(|&(number, _)| number).max_by_key(|&number| rank(number))
    }

    /// FLOPs that an attempt at a run takes, should it train every step of its own.
    pub(super) fn flops_ahead(&self, index: usize) -> f64 {
        self.runs[index].config.own_flops()
    }

    /// Whether the limit of FLOPs leaves room for an attempt that may take so many.
    pub(super) fn affords(&self, number: usize, flops: f64) -> bool {
        let sweep = &self.sweeps[number];
        sweep.policy.flops_max.is_none_or(|limit| {
            let used = sweep.used.flops + sweep.used.reserved_flops;
            // A grid whose sum is the limit itself must not fail by rounding.
            used + flops <= limit * (1.0 + 1e-9)
        })
    }

    /// Whether a sweep would have this run granted now.
    pub(super) fn is_afforded(&self, index: usize) -> bool {
        self.charged_to(index).is_some_and(|number| self.affords(number, self.flops_ahead(index)))
    }

    /// Charges a live attempt to a sweep, and sets aside what it may take.
    pub(super) fn charge(&mut self, number: usize, index: usize) {
        let flops = self.flops_ahead(index);
        if let Some(live) = &mut self.runs[index].live {
            live.charge = Some(Charge { sweep: number, flops });
            self.sweeps[number].used.reserved_flops += flops;
        }
    }

    /// Books what a live attempt took; called before it is taken from its run.
    pub(super) fn settle_account(&mut self, now: Duration, index: usize, steps: Option<u64>) {
        let run = &self.runs[index];
        let Some(live) = &run.live else { return };
        let Some(Charge { sweep, flops: reserved }) = live.charge else { return };
        let trained =
            steps.unwrap_or_else(|| live.step.saturating_sub(live.first_step.unwrap_or(0)));
        let seconds = now.saturating_sub(live.granted).as_secs_f64();
        let flops = flops_of(run, trained);
        let used = &mut self.sweeps[sweep].used;
        used.reserved_flops = (used.reserved_flops - reserved).max(0.0);
        used.flops += flops;
        used.device_seconds += seconds;
    }

    /// Books what the attempts at a run took before the start: all of those that ended, and the time
    /// of one that is live.
    pub(crate) fn book(&mut self, run: &RunId, steps: u64, held: Duration) {
        let Some(&index) = self.index.get(run) else { return };
        let sweeps = &self.runs[index].sweeps;
        let wants = |&&(number, _): &&(usize, RunRole)| !self.sweeps[number].cancelled;
        let Some(&(number, _)) = sweeps.iter().find(wants).or_else(|| sweeps.first()) else {
            return;
        };
        let flops = flops_of(&self.runs[index], steps);
        let used = &mut self.sweeps[number].used;
        used.flops += flops;
        used.device_seconds += held.as_secs_f64();
    }

    /// Puts waiting runs, longest first, in the order of their sweeps: a higher priority before a
    /// lower one, and between sweeps of one priority the run whose sweep has had the least: what it
    /// trains now and what stands before it in the queue, in predicted seconds.
    pub(super) fn share_out(&self, waiting: &mut [Waiting]) {
        let first = waiting.first().map(|run| run.sweep);
        if waiting.iter().all(|run| Some(run.sweep) == first) {
            return;
        }
        let mut had = vec![0.0; self.sweeps.len()];
        for live in self.runs.iter().filter_map(|run| run.live.as_ref()) {
            if let Some(charge) = live.charge {
                had[charge.sweep] += live.length;
            }
        }
        for run in waiting.iter_mut() {
            run.turn = had[run.sweep];
            had[run.sweep] += run.length;
        }
        let priority = |run: &Waiting| self.sweeps[run.sweep].policy.priority;
        waiting.sort_by(|a, b| {
            priority(b)
                .cmp(&priority(a))
                .then(a.turn.total_cmp(&b.turn))
                .then(b.chain.total_cmp(&a.chain))
        });
    }

    /// Why nothing more of a sweep will be granted under its terms, with runs that wait and none
    /// that trains. Held checks are not such a reason: a client is about to let them go.
    pub(crate) fn stuck(&self, sweep: &SweepId) -> Option<String> {
        let number = self.sweep_number(sweep)?;
        let members = &self.sweeps[number].members;
        if members.iter().any(|&(run, _)| self.runs[run].live.is_some()) {
            return None;
        }
        let waiting: Vec<(usize, RunRole)> = members
            .iter()
            .copied()
            .filter(|&(run, _)| self.runs[run].state == RunState::Queued)
            // Its trunk waits as well, and decides.
            .filter(|&(run, _)| !matches!(self.fork(&self.runs[run]), Fork::Waits(_)))
            .filter(|&(_, role)| role != RunRole::Check || self.sweeps[number].fit_open == 0)
            .collect();
        let goes_on = |&(run, role): &(usize, RunRole)| {
            let held = role == RunRole::Check && self.sweeps[number].policy.checks_held;
            (held && !self.runs[run].paused) || self.is_afforded(run)
        };
        if waiting.is_empty() || waiting.iter().any(goes_on) {
            return None;
        }
        if let Some(reason) = self.held_back(number) {
            return Some(reason);
        }
        let Some(&(next, _)) = waiting.iter().find(|&&(run, _)| !self.runs[run].paused) else {
            let paused = waiting.len();
            return Some(format!("its {paused} runs that wait are paused by themselves"));
        };
        let ahead = self.flops_ahead(next);
        let left = self.flops_left(number).unwrap_or_default();
        Some(format!(
            "{left:.3e} FLOPs are left of its limit, and its next run may take {ahead:.3e}"
        ))
    }

    /// FLOPs that the limit of a sweep leaves.
    fn flops_left(&self, number: usize) -> Option<f64> {
        let Used { flops, reserved_flops, .. } = self.sweeps[number].used;
        Some(self.sweeps[number].policy.flops_max? - flops - reserved_flops)
    }

    /// Why a waiting run is not granted by its sweeps, in sentences.
    pub(super) fn explain_terms(&self, index: usize) -> Vec<String> {
        let run = &self.runs[index];
        let mut lines = Vec::new();
        if self.is_afforded(index) {
            return lines;
        }
        if run.paused {
            lines.push(format!(
                "It is held back: it is paused by itself; `sweep resume SWEEP --run {}` lets it go on.",
                run.id.short()
            ));
        }
        for &(number, role) in &run.sweeps {
            let sweep = &self.sweeps[number];
            if let Some(reason) = self.held_back(number) {
                let cure = if sweep.policy.paused { "; `sweep resume` lets it go on" } else { "" };
                lines.push(format!("It is held back: {reason}{cure}."));
            } else if role == RunRole::Check && sweep.fit_open > 0 {
                let open = sweep.fit_open;
                lines.push(format!("It is a check run: {open} runs of the fit must end first."));
            } else if role == RunRole::Check && sweep.policy.checks_held {
                lines.push(
                    "It is a check run: its forecast must be written down first; `sweep resume \
                     --checks` lets it go without one."
                        .to_owned(),
                );
            } else if !run.paused && !self.affords(number, self.flops_ahead(index)) {
                lines.push(format!(
                    "Its sweep has {:.3e} FLOPs left of its limit, and it may take {:.3e}.",
                    self.flops_left(number).unwrap_or_default(),
                    self.flops_ahead(index)
                ));
            }
        }
        lines
    }
}

/// Training FLOPs of so many steps of a run.
fn flops_of(run: &RunEntry, steps: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
    let share = steps as f64 / run.config.steps.max(1) as f64;
    run.config.flops() * share
}

/// A run in the queue to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) index: usize,
    /// The sweep it is granted for.
    pub(super) sweep: usize,
    /// Predicted seconds of its own.
    pub(super) length: f64,
    /// Predicted seconds of the longest chain that starts with it.
    pub(super) chain: f64,
    /// FLOPs that an attempt may take.
    pub(super) flops: f64,
    /// Memory that it needs.
    pub(super) need: Need,
    /// What its sweep has had before it.
    pub(super) turn: f64,
}
