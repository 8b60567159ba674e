//! An attempt at a run: its key, how it ends, and where that leaves the run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// One try at a run. The number (1, 2, ...) is the fencing token: a write under a lower number
/// than the run's current one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The run.
    pub run: RunId,
    /// From 1 upwards.
    pub number: u32,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} attempt {}", self.run.short(), self.number)
    }
}

/// Whose fault a failure is; the number of attempts depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureCause {
    /// The trainer or the run.
    Program,
    /// Machine, device or disk.
    Infrastructure,
    /// The daemon ended under it, by a kill or a loss of power most likely: that speaks against
    /// neither run nor device.
    Daemon,
    /// The memory of the device, or of the machine, did not suffice: more of it may.
    Memory,
    /// What the attempt was to go on from could not be fetched, so it never began: that speaks
    /// against neither run nor device.
    Fetch,
    /// No attempt anywhere can work.
    Configuration,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// All steps done.
    Finished {
        /// The last step.
        step: u64,
    },
    /// The loss is no longer finite; the curve up to there is data.
    Diverged {
        /// The step at which it was seen.
        step: u64,
    },
    /// Stopped on request, with a checkpoint; not a failure.
    Stopped {
        /// Steps done.
        step: u64,
    },
    /// Nothing to keep but the points already sent.
    Failed {
        /// Whose fault.
        cause: FailureCause,
        /// One line for people.
        reason: String,
    },
}

macro_rules! run_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Where a run stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum RunState {
            $($(#[$doc])* $variant,)*
        }

        impl RunState {
            /// Every state.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the database and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

run_states! {
    /// Waits for a slot.
    Queued = "queued";
    /// Has a live attempt.
    Running = "running";
    /// All steps are trained.
    Finished = "finished";
    /// Its loss is no longer finite; not tried again.
    Diverged = "diverged";
    /// Its attempts are used up, or it cannot be trained.
    Failed = "failed";
    /// No sweep wants it any more.
    Cancelled = "cancelled";
}

impl RunState {
    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }

    /// Whether nothing more happens to the run by itself.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A device as its worker describes it, also one that is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Stable name: `cpu`, `vulkan:PCI_BUS_ID`.
    pub id: String,
    /// Name of the card or processor: the kind of device in the cost model.
    pub name: String,
    /// `cpu`, `vulkan` or `cuda`.
    pub backend: String,
    /// Memory, where it is known.
    pub memory_bytes: Option<u64>,
    /// Driven by software on the CPU.
    pub software: bool,
    /// Why it takes no runs; `None` for a device in use.
    pub refused: Option<String>,
    /// What its last canary found, once one has passed.
    pub canary: Option<String>,
}

/// How the reason begins why a device is refused that computes wrongly.
pub const CANARY_REFUSED: &str = "canary refused";

/// Whether a device that is refused for this reason computes wrongly, so that what it trained before
/// is suspect.
#[must_use]
pub fn computes_wrongly(refused: &str) -> bool {
    refused.starts_with(CANARY_REFUSED)
}

/// A place on a device where one run at a time is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Unique within its worker.
    pub index: u32,
    /// The device it is on.
    pub device_id: String,
}
