//! Why a fit was refused. A refusal is about the data or the combination of options; nothing is
//! dropped or repaired on the way.

use crate::law::Law;

/// A refused fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// Nothing to fit.
    #[error("there are no observations; hint: check --where and the table")]
    Empty,
    /// Fewer observations than the law has parameters.
    #[error(
        "{law} has {parameters} parameters and there are {points} observations; hint: train more \
         runs or choose a law with fewer parameters"
    )]
    TooFew {
        /// What was to be fitted.
        law: String,
        /// Its parameters.
        parameters: usize,
        /// The observations that are left after dropping and holding out.
        points: usize,
    },
    /// More observations than memory is promised for.
    #[error(
        "{rows} observations are more than {limit}; hint: keep every tenth checkpoint, or one in a \
         thousand: a law has a dozen constants at most"
    )]
    TooMany {
        /// Observations given.
        rows: usize,
        /// The most that are taken.
        limit: usize,
    },
    /// Rows with a value that no law can use.
    #[error("{}; hint: every N, D, C, U, noise and loss must be a finite number above 0", .0.join("; "))]
    BadRows(Vec<String>),
    /// A column that the law needs is not there.
    #[error("the law {law} needs {needed}; hint: map it with --map")]
    MissingAxis {
        /// The law or method.
        law: String,
        /// The columns in words.
        needed: &'static str,
    },
    /// One value only where the law needs a spread.
    #[error(
        "all observations have the same {axis} ({value}); hint: a law in {axis} needs at least two values"
    )]
    NoSpread {
        /// N, D, C, x or loss.
        axis: &'static str,
        /// The one value.
        value: f64,
    },
    /// An option outside its range.
    #[error("{option} is {value}; hint: {allowed}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Weights by seed noise, and nothing that tells the noise.
    #[error(
        "weights by seed noise: {given} of {rows} observations have a noise and {repeated} sizes \
         were trained more than once; hint: map a noise column for every row, or train 3 or more \
         sizes under several seeds"
    )]
    NoSeedNoise {
        /// Observations with a noise of their own.
        given: usize,
        /// Observations.
        rows: usize,
        /// Sizes trained more than once.
        repeated: usize,
    },
    /// More asked of an option than the data has.
    #[error("{0}")]
    NothingLeft(String),
    /// No start led to finite constants.
    #[error(
        "no start of the {law} law led to a finite minimum over {points} observations; hint: look at \
         the spread of N, D and loss"
    )]
    NoMinimum {
        /// The law.
        law: Law,
        /// Observations.
        points: usize,
    },
    /// No start led to finite constants of a curve law.
    #[error(
        "no start of the {law} law led to a finite minimum over {points} losses; hint: look at the \
         spread of the rates and the losses"
    )]
    NoCurveMinimum {
        /// The law.
        law: &'static str,
        /// Losses fitted.
        points: usize,
    },
    /// Rates or losses of a curve that no law can use, by curve and step.
    #[error("{}; hint: a rate is a number not below 0, a loss a number above 0, and both have a step", .0.join("; "))]
    BadCurves(Vec<String>),
    /// No loss lies after a fall of its curve's rate.
    #[error(
        "no curve has a loss after a fall of its rate, so what a fall gains is unknown; hint: add a curve \
         that cools down"
    )]
    NoFalls,
    /// More losses of curves than are held at once.
    #[error(
        "{found} losses of curves are more than {most}; hint: keep some of each, as --every 10 does"
    )]
    TooManyLosses {
        /// How many.
        found: usize,
        /// How many at most.
        most: usize,
    },
    /// A schedule that a law of curves says nothing of.
    #[error("{0}; hint: forecast schedules like those that were fitted, after their warm-up")]
    NoForecast(String),
    /// Bins of confidence that no predictions give.
    #[error("calibration: {0}; hint: bins hold a count, those right, and a mean confidence")]
    Calibration(String),
    /// Budgets or curves that give no optimum.
    #[error("{0}")]
    NoOptimum(String),
}

impl FitError {
    /// Whether the options are at fault rather than the data.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::BadOption { .. } | Self::MissingAxis { .. })
    }
}
