//! Checkpoints on their way in: a run whose attempt has ended waits until the coordinator keeps its
//! newest checkpoint, before it goes to another worker.
//!
//! A worker tells of the end of an attempt before it has handed in the last checkpoint, and only the
//! last attempt at a run may add files to it: a grant elsewhere in between would begin after an
//! earlier checkpoint, and shut the newest one out. What is on its way is known since the
//! coordinator's start, as far as it was committed since.

use std::time::Duration;

use super::{Scheduler, state::RunEntry};

/// A worker that leaves hands in for so long at most.
const HAND_IN_MAX: Duration = Duration::from_mins(5);

/// The newest checkpoint of the last attempt at a run, while it is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct HandIn {
    /// Its step, and the worker that has it.
    awaited: Option<(u64, String)>,
    /// Until when a run that waits for a slot waits for it.
    until: Duration,
}

impl HandIn {
    /// The attempt, which a worker holds, committed a checkpoint.
    pub(super) fn committed(&mut self, step: u64, worker: &str) {
        self.awaited = Some((step, worker.to_owned()));
    }

    /// The coordinator keeps a checkpoint.
    pub(super) fn kept(&mut self, step: u64) {
        self.awaited.take_if(|(awaited, _)| *awaited <= step);
    }

    /// The attempt ended. One that its worker did not tell of may add nothing any more.
    pub(super) fn ended(&mut self, now: Duration, reported: bool) {
        if reported {
            self.until = now + HAND_IN_MAX;
        } else {
            self.awaited = None;
        }
    }
}

impl Scheduler {
    /// Takes in whether the coordinator keeps checkpoints.
    pub(crate) fn set_keeps_checkpoints(&mut self, keeps: bool) {
        self.keeps_checkpoints = keeps;
    }

    /// The step of the last attempt's newest checkpoint and the worker that is about to hand it in,
    /// of a run that waits: only that worker may go on with the run now.
    pub(super) fn hands_in<'a>(
        &self,
        now: Duration,
        run: &'a RunEntry,
    ) -> Option<(u64, &'a String)> {
        let HandIn { awaited, until } = &run.hand_in;
        let (step, worker) = awaited.as_ref().filter(|_| self.keeps_checkpoints && now < *until)?;
        let lives = self.workers.get(worker).is_some_and(|entry| entry.expires.is_some());
        lives.then_some((*step, worker))
    }

    /// What a run waits for that goes to no other worker yet.
    pub(super) fn explain_hand_in(&self, now: Duration, run: &RunEntry) -> Option<String> {
        let (step, worker) = self.hands_in(now, run)?;
        let left = run.hand_in.until.saturating_sub(now).as_secs() + 1;
        Some(format!(
            "Worker {worker} hands in its checkpoint at step {step}: for {left} s more at most it \
             goes to no other worker without it."
        ))
    }
}
