//! Workers that leave: a run goes where its predicted end comes before that of the machine, and
//! nothing begins on one that is nearly over. Where nothing else waits, a run that does not fit is
//! begun all the same: it stops with a checkpoint, and goes on elsewhere.

use std::time::Duration;

use super::{
    Scheduler,
    state::{RunEntry, SlotEntry, WorkerEntry},
};

/// A worker leaves a minute before its end, and reading data takes time: with less than this left
/// hardly a step would be trained.
const LEFT_MIN: Duration = Duration::from_mins(2);

/// Of a short life, this share.
const LEFT_SHARE: u32 = 3;

impl WorkerEntry {
    /// Time until its machine is taken away.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        self.leaves.map(|leaves| leaves.saturating_sub(now))
    }

    /// Notes how long the machine stays.
    pub(super) fn set_lifetime(&mut self, now: Duration, lifetime: Option<Duration>) {
        self.leaves = lifetime.map(|left| now.saturating_add(left));
        self.left_min = LEFT_MIN.min(lifetime.unwrap_or_default() / LEFT_SHARE);
    }

    /// Whether its machine is about to be taken away.
    pub(super) fn is_leaving(&self, now: Duration) -> bool {
        self.left(now).is_some_and(|left| left <= self.left_min)
    }
}

impl Scheduler {
    /// Whether a run is predicted to end on a slot before the worker's machine is taken away; one of
    /// unknown length is taken to.
    pub(super) fn fits(
        &self,
        now: Duration,
        run: &RunEntry,
        worker: &WorkerEntry,
        slot: &SlotEntry,
    ) -> bool {
        let Some(left) = worker.left(now) else { return true };
        let kind = worker.device_of(&slot.slot);
        let predicted = kind.and_then(|kind| self.cost.predict_own(&kind.name, &run.config));
        predicted.is_none_or(|own| own.seconds * share_left(run) <= left.as_secs_f64())
    }

    /// Whether it is predicted to on any slot of the worker.
    pub(super) fn fits_somewhere(
        &self,
        now: Duration,
        run: &RunEntry,
        worker: &WorkerEntry,
    ) -> bool {
        worker.slots.iter().any(|slot| self.fits(now, run, worker, slot))
    }
}

/// The share of a run's own steps that its newest checkpoint leaves to be trained.
#[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
fn share_left(run: &RunEntry) -> f64 {
    let first = run.config.first_step();
    let done = run.checkpoint.as_ref().map_or(0, |(step, _)| step.saturating_sub(first));
    1.0 - done as f64 / run.config.own_steps().max(1) as f64
}
