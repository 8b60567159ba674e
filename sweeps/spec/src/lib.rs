//! The domain of a scaling-law sweep: quantities, identities, the recipe and its grid, exact
//! parameter and FLOP counts, metrics and counter-based random numbers.
//!
//! No input or output, no clock, no global state, no async, and no other crate of this project:
//! whatever is decided here is decided alike on the command line, in the coordinator and in a
//! trainer.

pub mod attempt;
pub mod checkpoint;
pub mod cost;
pub mod data;
pub mod diffusion;
pub mod grid;
pub mod hash;
pub mod horizon;
pub mod id;
pub mod metric;
pub mod plan;
pub mod policy;
pub mod random;
pub mod recipe;
pub mod run;
pub mod shape;
pub mod task;
pub mod training;
pub mod units;
