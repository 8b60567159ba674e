//! The coordinator: it takes in sweeps, grants their runs to workers, and stores what comes back.
//!
//! [`run`] is its entry; the caller owns the listener and the moment of shutdown. Inside, `actor`
//! is one bounded inbox around `scheduler`, a value without clock or database; `ingest` writes
//! points in groups; `grpc` is thin; `rehearsal` plays the scheduler alone, for benchmarks. It never
//! trains, never dials a worker, and never starts a command that a client named.

mod actor;
mod args;
mod artifact;
mod auth;
mod authority;
mod clients;
mod clock;
mod config;
mod connection;
mod door;
mod error;
mod grpc;
mod ingest;
mod limits;
mod metrics;
mod quota;
mod reach;
pub mod rehearsal;
mod role;
mod scheduler;
mod serve;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use args::{CoordinatorArgs, main};
pub use authority::AuthorityError;
pub use config::Config;
pub use error::CoordinatorError;
pub use limits::Limits;
pub use serve::{Coordinator, bind, run};
