//! What is minimised: a sum over observations, never a mean, so that stopping rules do not depend
//! on the number of observations.
//!
//! The residual r is ln L^ - ln L for the log objectives and L^ - L otherwise. `Huber` is
//! r^2/2 up to |r| = delta and delta (|r| - delta/2) beyond (Huber 1964); `L1` is |r|; `Mse` is
//! r^2, a sum in spite of its usual name.

use std::fmt;

/// An objective; `delta` is on the scale of its residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Huber on log losses: the default, with delta 1e-3.
    HuberLog {
        /// Where the quadratic part ends.
        delta: f64,
    },
    /// Absolute log residuals.
    L1Log,
    /// Huber on raw losses.
    Huber {
        /// Where the quadratic part ends.
        delta: f64,
    },
    /// Squared raw residuals.
    Mse,
    /// Squared log residuals.
    MseLog,
}

/// The default delta, that of Hoffmann et al. 2022.
pub(crate) const DEFAULT_DELTA: f64 = 1e-3;

impl Default for Objective {
    fn default() -> Self {
        Self::HuberLog { delta: DEFAULT_DELTA }
    }
}

impl Objective {
    /// The names, in the order of the help text.
    pub const NAMES: [&'static str; 5] = ["huber-log", "l1-log", "huber", "mse", "mse-log"];

    /// The objective of this name; `delta` is used where it has one.
    ///
    /// # Errors
    /// An unknown name, with those that exist.
    pub fn from_name(name: &str, delta: f64) -> Result<Self, String> {
        match name {
            "huber-log" => Ok(Self::HuberLog { delta }),
            "l1-log" => Ok(Self::L1Log),
            "huber" => Ok(Self::Huber { delta }),
            "mse" => Ok(Self::Mse),
            "mse-log" => Ok(Self::MseLog),
            _ => Err(format!(
                "`{name}` is not an objective; hint: one of {}",
                Self::NAMES.join(", ")
            )),
        }
    }

    /// Its name in options and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HuberLog { .. } => "huber-log",
            Self::L1Log => "l1-log",
            Self::Huber { .. } => "huber",
            Self::Mse => "mse",
            Self::MseLog => "mse-log",
        }
    }

    /// Where its quadratic part ends, for the Huber objectives.
    #[must_use]
    pub const fn delta(self) -> Option<f64> {
        match self {
            Self::HuberLog { delta } | Self::Huber { delta } => Some(delta),
            Self::L1Log | Self::Mse | Self::MseLog => None,
        }
    }

    /// Whether residuals are differences of logarithms.
    #[must_use]
    pub const fn is_log(self) -> bool {
        matches!(self, Self::HuberLog { .. } | Self::L1Log | Self::MseLog)
    }

    /// The residual of a prediction.
    #[must_use]
    pub fn residual(self, predicted: f64, loss: f64) -> f64 {
        if self.is_log() { predicted.ln() - loss.ln() } else { predicted - loss }
    }

    /// The cost of one residual.
    #[must_use]
    pub fn cost(self, residual: f64) -> f64 {
        match self {
            Self::L1Log => residual.abs(),
            Self::Mse | Self::MseLog => residual * residual,
            Self::HuberLog { delta } | Self::Huber { delta } => Rho::Huber(delta).cost(residual),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delta() {
            Some(delta) => write!(f, "{} (delta {delta})", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// The smooth cost that the solver sees, half squares inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rho {
    /// r^2/2.
    Square,
    /// Huber with this delta.
    Huber(f64),
}

impl Rho {
    pub(crate) fn cost(self, r: f64) -> f64 {
        match self {
            Self::Huber(delta) if r.abs() > delta => delta * (r.abs() - delta / 2.0),
            _ => r * r / 2.0,
        }
    }

    /// The derivative of the cost.
    pub(crate) fn slope(self, r: f64) -> f64 {
        match self {
            Self::Huber(delta) => r.clamp(-delta, delta),
            Self::Square => r,
        }
    }

    /// The second derivative, 0 or 1.
    pub(crate) fn curvature(self, r: f64) -> f64 {
        match self {
            Self::Huber(delta) if r.abs() > delta => 0.0,
            _ => 1.0,
        }
    }

    /// The weight of iteratively reweighted least squares: slope over residual.
    pub(crate) fn weight(self, r: f64) -> f64 {
        match self {
            Self::Huber(delta) if r.abs() > delta => delta / r.abs(),
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_the_stated_ones() {
        let huber = Objective::HuberLog { delta: 0.5 };
        assert_eq!(huber.cost(0.5), 0.125);
        assert_eq!(huber.cost(-2.0), 0.5 * 1.75);
        assert_eq!(Objective::Mse.cost(3.0), 9.0);
        assert_eq!(Objective::L1Log.cost(-3.0), 3.0);
    }

    #[test]
    fn names_round_trip() {
        for name in Objective::NAMES {
            assert_eq!(Objective::from_name(name, 1e-3).map(Objective::name), Ok(name));
        }
        assert!(Objective::from_name("r2", 1e-3).unwrap_err().contains("mse-log"));
    }
}
