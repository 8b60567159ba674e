//! The worker: the daemon of one node, and the entry of its children.
//!
//! The daemon keeps the link to the coordinator, spools points, guards slots, starts and reaps
//! trainer children. Burn is linked into the executable, but the daemon process never enters it:
//! only the children and `bench` call the trainer, in processes of their own. A worker dials out
//! and knows nothing of other workers.
//!
//! ```text
//! coordinator <-> link <-> supervisor <-> slot <-> tether <-pipe-> trainer child
//!                  \-- spool --/
//! ```

pub mod args;
mod bench;
pub mod child;
mod clock;
pub mod config;
mod cores;
mod daemon;
mod devices;
pub mod drain;
mod fake;
#[cfg(test)]
mod fixtures;
mod frame;
mod inventory;
mod link;
mod pipe;
pub mod sample;
mod slot;
mod spool;
mod state;
mod supervisor;
mod tether;
mod trainer;

pub use args::WorkerArgs;
pub use bench::BenchArgs;
pub use config::{Config, ConfigError};
pub use daemon::{WorkerError, run};
pub use drain::{Ended, Shutdown};
pub use fake::{FakeRun, FakeScript};
pub use inventory::DeviceChoice;
pub use link::AccessSource;
pub use state::StateError;
