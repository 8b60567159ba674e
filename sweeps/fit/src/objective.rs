//! What is minimised: a sum over observations, never a mean, so that stopping rules do not depend
//! on the number of observations.
//!
//! The residual r is ln L^ - ln L for the log objectives and L^ - L otherwise. `Huber` is
//! r^2/2 up to |r| = delta and delta (|r| - delta/2) beyond (Huber 1964); `L1` is |r|; `Mse` is
//! r^2, a sum in spite of its usual name. The asymmetric objective is Huber's on log losses with
//! every overestimate multiplied: runs that were trained badly lie above the law, so a law that
//! passes below them is nearer to what a good run reaches (an expectile of Newey and Powell 1987
//! within delta, a quantile of Koenker and Bassett 1978 beyond).

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
    /// Huber on log losses, where a prediction above the loss costs a multiple.
    AsymmetricLog {
        /// Where the quadratic part ends.
        delta: f64,
        /// The multiple, 1 for none.
        over: f64,
    },
}

/// What an overestimate costs by default: the law then passes where a quarter of the losses lie
/// below it.
const DEFAULT_OVER: f64 = 3.0;

/// The default delta, that of Hoffmann et al. 2022.
pub(crate) const DEFAULT_DELTA: f64 = 1e-3;

impl Default for Objective {
    fn default() -> Self {
        Self::HuberLog { delta: DEFAULT_DELTA }
    }
}

impl Objective {
    /// The names, in the order of the help text.
    pub const NAMES: [&'static str; 6] =
        ["huber-log", "l1-log", "huber", "mse", "mse-log", "asymmetric-log"];

    /// The objective of this name; `delta` is used where it has one. `asymmetric-log:5` makes an
    /// overestimate cost 5 times as much instead of 3.
    ///
    /// # Errors
    /// An unknown name, with those that exist, or a multiple that is not above 0.
    pub fn from_name(name: &str, delta: f64) -> Result<Self, String> {
        match name {
            "huber-log" => Ok(Self::HuberLog { delta }),
            "l1-log" => Ok(Self::L1Log),
            "huber" => Ok(Self::Huber { delta }),
            "mse" => Ok(Self::Mse),
            "mse-log" => Ok(Self::MseLog),
            "asymmetric-log" => Ok(Self::AsymmetricLog { delta, over: DEFAULT_OVER }),
            _ => match name.strip_prefix("asymmetric-log:").map(str::parse::<f64>) {
                Some(Ok(over)) if over.is_finite() && over > 0.0 => {
                    Ok(Self::AsymmetricLog { delta, over })
                }
                Some(_) => Err(format!(
                    "`{name}` has no multiple above 0; hint: asymmetric-log:3 makes an overestimate \
                     cost three times as much"
                )),
                None => Err(format!(
                    "`{name}` is not an objective; hint: one of {}",
                    Self::NAMES.join(", ")
                )),
            },
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
            Self::AsymmetricLog { .. } => "asymmetric-log",
        }
    }

    /// What an overestimate costs as a multiple, for the asymmetric objective.
    #[must_use]
    pub const fn over(self) -> Option<f64> {
        match self {
            Self::AsymmetricLog { over, .. } => Some(over),
            _ => None,
        }
    }

    /// Where its quadratic part ends, for the Huber objectives.
    #[must_use]
    pub const fn delta(self) -> Option<f64> {
        match self {
            Self::HuberLog { delta }
            | Self::Huber { delta }
            | Self::AsymmetricLog { delta, .. } => Some(delta),
            Self::L1Log | Self::Mse | Self::MseLog => None,
        }
    }

    /// Whether residuals are differences of logarithms.
    #[must_use]
    pub const fn is_log(self) -> bool {
        !matches!(self, Self::Huber { .. } | Self::Mse)
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
            Self::AsymmetricLog { delta, over } => Rho::Asymmetric { delta, over }.cost(residual),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.delta(), self.over()) {
            (Some(delta), Some(over)) => {
                write!(f, "{} (delta {delta}, overestimates {over}-fold)", self.name())
            }
            (Some(delta), None) => write!(f, "{} (delta {delta})", self.name()),
            (None, _) => f.write_str(self.name()),
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
    /// Huber with this delta, multiplied by `over` where the residual is above 0.
    Asymmetric {
        /// Where the quadratic part ends.
        delta: f64,
        /// The multiple.
        over: f64,
    },
}

impl Rho {
    /// The multiple of Huber's cost at a residual and its delta, infinite for squares.
    fn parts(self, r: f64) -> (f64, f64) {
        match self {
            Self::Square => (1.0, f64::INFINITY),
            Self::Huber(delta) => (1.0, delta),
            Self::Asymmetric { delta, over } => (if r > 0.0 { over } else { 1.0 }, delta),
        }
    }

    pub(crate) fn cost(self, r: f64) -> f64 {
        match self.parts(r) {
            (multiple, delta) if r.abs() > delta => multiple * delta * (r.abs() - delta / 2.0),
            (multiple, _) => multiple * (r * r / 2.0),
        }
    }

    /// The derivative of the cost.
    pub(crate) fn slope(self, r: f64) -> f64 {
        let (multiple, delta) = self.parts(r);
        multiple * r.clamp(-delta, delta)
    }

    /// The second derivative: 0 beyond delta, else 1 or the multiple.
    pub(crate) fn curvature(self, r: f64) -> f64 {
        match self.parts(r) {
            (_, delta) if r.abs() > delta => 0.0,
            (multiple, _) => multiple,
        }
    }

    /// The weight of iteratively reweighted least squares: slope over residual.
    pub(crate) fn weight(self, r: f64) -> f64 {
        match self.parts(r) {
            (multiple, delta) if r.abs() > delta => multiple * (delta / r.abs()),
            (multiple, _) => multiple,
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
        let asymmetric = Objective::AsymmetricLog { delta: 0.5, over: 4.0 };
        assert_eq!(asymmetric.cost(-2.0), huber.cost(2.0));
        assert_eq!(asymmetric.cost(2.0), 4.0 * huber.cost(2.0));
    }

    /// Slopes against differences of the cost; weights are slopes over residuals.
    #[test]
    fn slopes_and_weights_belong_to_the_costs() {
        let asymmetric = Rho::Asymmetric { delta: 0.5, over: 3.0 };
        for rho in [Rho::Square, Rho::Huber(0.5), asymmetric] {
            for r in [-1.3, -0.2, 0.3, 0.9] {
                let slope = (rho.cost(r + 1e-6) - rho.cost(r - 1e-6)) / 2e-6;
                assert!((rho.slope(r) - slope).abs() < 1e-8, "{rho:?} {r}");
                assert!((rho.weight(r) - rho.slope(r) / r).abs() < 1e-15, "{rho:?} {r}");
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for name in Objective::NAMES {
            assert_eq!(Objective::from_name(name, 1e-3).map(Objective::name), Ok(name));
        }
        assert!(Objective::from_name("r2", 1e-3).unwrap_err().contains("mse-log"));
        let five = Objective::from_name("asymmetric-log:5", 1e-3);
        assert_eq!(five, Ok(Objective::AsymmetricLog { delta: 1e-3, over: 5.0 }));
        for bad in ["asymmetric-log:0", "asymmetric-log:x", "asymmetric-log:"] {
            assert!(Objective::from_name(bad, 1e-3).unwrap_err().contains("above 0"), "{bad}");
        }
    }
}
