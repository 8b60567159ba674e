//! Scaling laws: observations in, fitted constants with their intervals, proofs and doubts out.
//!
//! Everything is a function of the observations, the options and a seed: no input or output, no
//! clock, and the same bits whatever the number of threads. Each law is one file with its formula
//! and paper; the solver, the intervals and the warnings serve all of them alike.

mod bootstrap;
mod broken;
mod certificate;
mod coupled;
mod design;
mod direct;
mod envelope;
mod error;
mod fit;
mod formula;
mod gadre;
mod isoflop;
mod jet;
mod kaplan;
mod law;
mod line;
mod linear;
mod objective;
mod observation;
mod power;
mod power_floor;
mod profile;
mod projection;
mod ranking;
mod repeat;
mod separable;
mod solver;
mod statistics;
mod warning;

pub use direct::{MAX_REPLICATES, Method, Options, fit};
pub use error::FitError;
pub use fit::{
    Allocation, Certificate, Estimate, Exponents, Fit, FittedPoint, Forecast, HeldOut, Parameter,
};
pub use isoflop::{Budget, Isoflop, Verdict, isoflop};
pub use law::Law;
pub use line::LogLine;
pub use objective::Objective;
pub use observation::Observation;
pub use ranking::{Ranked, rank};
pub use warning::{Warning, WarningCode};
