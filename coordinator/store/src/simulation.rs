//! What a simulation needs of the store: to look at all of it at one moment, and one deliberate
//! fault to show that the simulation finds it. Built only with the feature `simulation`.
//!
//! The fault belongs to a thread, as a simulation does.

use std::cell::Cell;

use sweep_spec::{attempt::RunState, id::RunId};

use crate::{point::Mark, record::Outcome};

thread_local! {
    static UNFENCED: Cell<bool> = const { Cell::new(false) };
    static FULL: Cell<bool> = const { Cell::new(false) };
}

/// The deliberate fault of the store: points of an attempt that has ended are taken.
pub fn take_points_of_ended_attempts() {
    UNFENCED.set(true);
}

/// Whether the disk under the store is full: every commit fails and changes nothing.
pub fn fill_disk(full: bool) {
    FULL.set(full);
}

pub(crate) fn is_full() -> bool {
    FULL.get()
}

/// The mark of an attempt as the fault shows it.
pub(crate) fn faulted(mark: Mark) -> Mark {
    Mark { open: mark.open || UNFENCED.get(), ..mark }
}

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLook {
    /// Its id.
    pub id: RunId,
    /// Its state.
    pub state: RunState,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptLook>,
    /// Step and attempt of each checkpoint, in the order of their commits.
    pub checkpoints: Vec<(u64, u32)>,
}

/// An attempt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptLook {
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Step it began after.
    pub resume_step: Option<u64>,
    /// Its last durable batch.
    pub last_seq: u64,
    /// Number of its points.
    pub points: usize,
}
