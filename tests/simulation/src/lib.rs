//! The simulation: the real protocol code of coordinator and workers over a network, disks and
//! clocks that one number decides, with scripted trainers. Whatever is wrong after any of thousands
//! of disasters is wrong again when its number is given again.
//!
//! A seed is the first and only one that its process plays: tokio drops the tasks of a host that
//! crashes in an order that depends on how many tasks the process has spawned before.
//!
//! Beside it `edges` crashes a real coordinator on SQLite and on Postgres at each of its commits.
//!
//! `scenario` draws what there is and what befalls it, `world` plays it with its `operator`,
//! `invariant` watches, `players` plays many seeds on all cores. The crate is empty without its
//! feature `simulate`.

#![cfg(feature = "simulate")]

pub mod command;
mod draw;
mod edges;
mod invariant;
mod network;
mod operator;
mod players;
mod scenario;
mod world;

pub use edges::{Edge, play_edge};
pub use invariant::{Invariant, Violation};
pub use players::play_seeds;
pub use world::{Mutation, Outcome};
