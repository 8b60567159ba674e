//! The simulation: the real protocol code of coordinator and workers over a network, disks and
//! clocks that one number decides, with scripted trainers. Whatever is wrong after any of thousands
//! of disasters is wrong again when its number is given again.
//!
//! One clock is not simulated: h2 forgets a stream that it reset after a second of the system's time,
//! so a seed that takes longer than that to play, on a machine busy with much else, may end otherwise.
//!
//! `scenario` draws what there is and what befalls it, `world` plays it with its `operator`,
//! `invariant` watches. The crate is empty without its feature `simulate`.

#![cfg(feature = "simulate")]

pub mod command;
mod draw;
mod invariant;
mod network;
mod operator;
mod scenario;
mod world;

pub use invariant::{Invariant, Violation};
pub use world::{Mutation, Outcome, play};
