//! Scaling laws: observations in, fitted constants with their intervals, proofs and doubts out.
//!
//! Everything is a function of the observations, the options and a seed: no input or output, no
//! clock, and the same bits whatever the number of threads. Each law is one file with its formula
//! and paper; the solver, the intervals and the warnings serve all of them alike.

mod allocation;
mod annealing;
mod band;
mod bootstrap;
mod bounded;
mod broken;
mod calibration;
mod certificate;
mod comparison;
mod coupled;
mod curve;
mod design;
mod direct;
pub mod emergence;
mod ensemble;
mod envelope;
mod error;
mod fit;
mod formula;
mod frontier;
mod gadre;
mod interval;
mod isoflop;
mod jet;
mod kaplan;
mod law;
mod line;
mod linear;
mod multi_power;
mod objective;
mod observation;
mod power;
mod power_floor;
mod profile;
mod projection;
mod ranking;
mod repeat;
mod scatter;
mod sensitivity;
mod separable;
mod solver;
mod statistics;
mod suggest;
mod warning;
mod weighting;

pub use allocation::{CostLaw, Split, Surface};
pub use band::{Band, BandPoint};
pub use bootstrap::Resampling;
pub use calibration::{Bin, Calibration, calibration};
pub use comparison::{Comparison, Disagreement, Way, compare};
pub use curve::{Curve, CurveFit, CurveLaw, CurveOptions, CurvePoint, fit_curves};
pub use direct::{MAX_OBSERVATIONS, MAX_REPLICATES, MAX_STARTS, Method, Options, fit};
pub use ensemble::{Averaged, Ensemble, Member, ensemble};
pub use envelope::{Envelope, EnvelopeStep, envelope};
pub use error::FitError;
pub use fit::{
    Allocation, Certificate, Direction, Estimate, Exponents, Fit, FittedPoint, Forecast, HeldOut,
    NextRun, Parameter,
};
pub use frontier::frontier;
pub use interval::Intervals;
pub use isoflop::{Budget, Isoflop, Verdict, isoflop};
pub use law::Law;
pub use line::LogLine;
pub use objective::Objective;
pub use observation::Observation;
pub use ranking::{Ranked, rank};
pub use sensitivity::{Sensitivity, Variant, sensitivity};
pub use suggest::{Aim, Candidate, Spend, Suggestion, suggest};
pub use warning::{Warning, WarningCode};
pub use weighting::Weighting;
