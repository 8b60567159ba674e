//! The worker: the daemon of one node, and the entry of its children.
//!
//! The daemon keeps the link to the coordinator, spools points, guards slots, starts and reaps
//! trainer children. Burn is linked into the executable, but the daemon process never enters it:
//! only the children and `bench` call the trainer, in processes of their own. A worker dials out
//! and knows nothing of other workers. Without the feature `train` only the daemon is built, with
//! scripted trainers, so that it is tested without compiling Burn.
//!
//! ```text
//! coordinator <-> link <-> supervisor <-> slot <-> tether <-pipe-> trainer child
//!          | \-- spool --/
//!          \-- transfer <-> the coordinator's artifacts
//! ```

#![cfg_attr(
    not(feature = "train"),
    expect(dead_code, reason = "some of it is only called by the commands around the daemon")
)]

#[cfg(feature = "train")]
pub mod args;
#[cfg(feature = "train")]
mod bench;
mod checkpoints;
#[cfg(feature = "train")]
pub mod child;
mod clock;
pub mod config;
mod cores;
mod daemon;
#[cfg(feature = "train")]
mod devices;
mod disk;
pub mod drain;
mod fake;
#[cfg(any(test, feature = "simulation"))]
mod fixtures;
mod frame;
mod inventory;
mod launch;
mod lifetime;
mod link;
mod log;
mod memory;
mod outbox;
mod pauses;
mod pipe;
#[cfg(feature = "train")]
pub mod sample;
#[cfg(feature = "simulation")]
pub mod simulation;
mod slot;
mod spool;
mod state;
mod supervisor;
mod tether;
#[cfg(feature = "train")]
mod trainer;
mod transfer;

#[cfg(feature = "train")]
pub use args::WorkerArgs;
#[cfg(feature = "train")]
pub use bench::BenchArgs;
pub use config::{Config, ConfigError};
pub use daemon::{WorkerError, run};
pub use drain::{Ended, Shutdown};
pub use fake::{FakeRun, FakeScript};
pub use inventory::DeviceChoice;
pub use link::AccessSource;
pub use state::StateError;
