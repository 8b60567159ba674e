//! What a simulation needs of the store: to look at all of it at one moment, and one deliberate
//! fault to show that the simulation finds it. Built only with the feature `simulation`.
//!
//! The fault belongs to a thread, as a simulation does.

use std::{
    cell::Cell,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

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

/// Variable of the environment that names a commit of a database at which the process ends as a
/// machine does: `before:17`, or `after:17`, when nobody has heard of it yet.
pub const CRASH_VARIABLE: &str = "SWEEP_CRASH_AT";

/// Where this process ends.
static CRASH: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
    let text = std::env::var(CRASH_VARIABLE).ok()?;
    let (side, number) = text.split_once(':')?;
    Some((side.to_owned(), number.parse().ok()?))
});

/// Commits that have begun.
static COMMITS: AtomicU64 = AtomicU64::new(0);

/// A commit that is under way.
pub(crate) struct Edge(u64);

impl Edge {
    pub(crate) fn begin() -> Self {
        let edge = Self(COMMITS.fetch_add(1, Ordering::SeqCst) + 1);
        edge.crash("before");
        edge
    }

    pub(crate) fn end(self) {
        self.crash("after");
    }

    fn crash(&self, here: &str) {
        if CRASH.as_ref().is_some_and(|(side, number)| side == here && *number == self.0) {
            std::process::abort();
        }
    }
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
    /// Wall time when it began.
    pub started_unix_ms: i64,
    /// Wall time when it ended.
    pub ended_unix_ms: Option<i64>,
}
