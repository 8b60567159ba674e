//! What the solver needs to know of a law: its formula over working parameters, the way between
//! these and the named ones, and where to start.
//!
//! Sizes are centred (ln N and ln D less their means), which makes A and B about one during the
//! search; scale-like parameters are logarithms, so that they stay positive.

use crate::{
    jet::{Jet, Scalar},
    law::Law,
    observation::Observation,
};

/// The logarithms of the sizes' geometric means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Centre {
    /// Of N, or of the one variable.
    pub(crate) x: f64,
    /// Of D (and of U).
    pub(crate) y: f64,
}

/// An observation as a formula sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// ln N (or the one variable), centred.
    pub(crate) x: f64,
    /// ln D, centred; 0 for one-variable laws.
    pub(crate) y: f64,
    /// ln U, centred like ln D; equal to it where all tokens are unique.
    pub(crate) u: f64,
    /// The loss.
    pub(crate) loss: f64,
    /// What the residual is against: ln loss or the loss.
    pub(crate) target: f64,
    /// Its weight in the sum; 1 without weighting.
    pub(crate) weight: f64,
    /// Its place in the table, for laws that need more of it than sizes.
    pub(crate) index: usize,
}

impl Point {
    /// The point of an observation under a law; `None` where a size is missing.
    pub(crate) fn of(law: Law, row: &Observation, centre: Centre, log: bool) -> Option<Self> {
        let (x, y) = if law.one_variable() {
            (row.single()?.ln(), 0.0)
        } else {
            (row.n?.ln(), row.tokens()?.ln())
        };
        let u = row.unique.filter(|_| law.needs_unique()).map_or(y, f64::ln);
        let target = if log { row.loss.ln() } else { row.loss };
        let (x, y, u) = (x - centre.x, y - centre.y, u - centre.y);
        Some(Self { x, y, u, loss: row.loss, target, weight: 1.0, index: 0 })
    }
}

/// A law with P parameters.
pub(crate) trait Formula<const P: usize>: Sync {
    /// The loss at a point.
    fn loss<S: Scalar>(&self, theta: &[S; P], point: &Point) -> S;

    /// The loss with its derivatives; a law whose jets cost too much writes its own.
    fn jet(&self, theta: &[f64; P], point: &Point) -> Jet<P> {
        self.loss(&Jet::variables(theta), point)
    }

    /// Whether working parameters lie where the formula means something.
    fn valid(&self, theta: &[f64; P]) -> bool;

    /// The named parameters, in the order of [`Law::parameters`].
    fn natural(&self, theta: &[f64; P], centre: Centre) -> [f64; P];

    /// The inverse of [`Formula::natural`].
    fn working(&self, natural: &[f64; P], centre: Centre) -> [f64; P];

    /// The place of ln E among the working parameters.
    fn floor(&self) -> Option<usize>;

    /// Where to descend from.
    fn starts(&self, points: &[Point], objective: crate::objective::Objective) -> Vec<[f64; P]>;
}

/// The logarithm of a floor that sits on its bound: e to this is zero in f64.
pub(crate) const NO_FLOOR: f64 = -1e3;

/// ln of a non-negative parameter, with 0 as [`NO_FLOOR`].
pub(crate) fn log_or_none(value: f64) -> f64 {
    if value > 0.0 { value.ln() } else { NO_FLOOR }
}

/// The smallest loss of some points.
pub(crate) fn least_loss(points: &[Point]) -> f64 {
    points.iter().map(|p| p.loss).fold(f64::INFINITY, f64::min)
}

/// Calls a block with the formula of a law; each arm has its own number of parameters.
macro_rules! with_formula {
    ($law:expr, $formula:ident => $body:expr) => {
        match $law {
            $crate::law::Law::Separable => {
                let $formula = &$crate::separable::Separable;
                $body
            }
            $crate::law::Law::Coupled => {
                let $formula = &$crate::coupled::Coupled;
                $body
            }
            $crate::law::Law::Kaplan => {
                let $formula = &$crate::kaplan::Kaplan;
                $body
            }
            $crate::law::Law::Gadre => {
                let $formula = &$crate::gadre::Gadre;
                $body
            }
            $crate::law::Law::Repeat => {
                let $formula = &$crate::repeat::Repeat;
                $body
            }
            $crate::law::Law::Bounded => {
                let $formula = &$crate::bounded::Bounded;
                $body
            }
            $crate::law::Law::Broken => {
                let $formula = &$crate::broken::Broken;
                $body
            }
            $crate::law::Law::Broken2 => {
                let $formula = &$crate::broken::Broken2;
                $body
            }
            $crate::law::Law::Broken3 => {
                let $formula = &$crate::broken::Broken3;
                $body
            }
            $crate::law::Law::Power => {
                let $formula = &$crate::power::Power;
                $body
            }
            $crate::law::Law::PowerFloor => {
                let $formula = &$crate::power_floor::PowerFloor;
                $body
            }
        }
    };
}
pub(crate) use with_formula;

impl Law {
    /// The law's loss at the sizes of an observation; `None` where a size it needs is missing or
    /// the number of values is not that of its parameters.
    #[must_use]
    pub fn loss(self, values: &[f64], sizes: &Observation) -> Option<f64> {
        let point = Point::of(self, sizes, Centre::default(), false)?;
        with_formula!(self, formula => evaluate(formula, values, &point))
    }

    /// N and D at which a budget C = 6 N D gives the least loss, all tokens unique; `None` for
    /// one-variable laws. Closed forms, except for the bounded law, whose balance is solved.
    #[must_use]
    pub fn split(self, values: &[f64], flops: f64) -> Option<(f64, f64)> {
        if self == Self::Bounded {
            let n = crate::bounded::best_size(values.try_into().ok()?, flops)?;
            return Some((n, flops / 6.0 / n));
        }
        let (a, log_scale) = match (self, values) {
            (Self::Separable, &[_, a, b, alpha, beta])
            | (Self::Repeat, &[_, a, b, alpha, beta, _, _]) => ridge(a / b, alpha, beta),
            (Self::Coupled, &[_, _, r, alpha, beta, _]) => ridge(r.recip(), alpha, beta),
            (Self::Gadre, &[_, a, b, alpha]) => ridge(a / b, alpha, alpha),
            (Self::Kaplan, &[n_c, d_c, alpha_n, alpha_d]) => {
                // Inside the outer power the law is separable with exponents alpha_N/alpha_D, 1.
                let ratio = alpha_n / alpha_d;
                let (a, _) = ridge(1.0, ratio, 1.0);
                let log_g = (ratio.ln() + ratio * n_c.ln() - d_c.ln()) / (ratio + 1.0);
                (a, log_g)
            }
            _ => return None,
        };
        let n = (log_scale + a * (flops / 6.0).ln()).exp();
        Some((n, flops / 6.0 / n))
    }

    /// The exponent a of N* ~ C^a; `None` for one-variable laws and for the bounded
    /// law, whose optima lie on no power law.
    #[must_use]
    pub fn exponent(self, values: &[f64]) -> Option<f64> {
        match (self, values) {
            (Self::Separable, &[_, _, _, alpha, beta])
            | (Self::Repeat, &[_, _, _, alpha, beta, _, _])
            | (Self::Coupled, &[_, _, _, alpha, beta, _]) => Some(beta / (alpha + beta)),
            (Self::Gadre, &[..]) => Some(0.5),
            (Self::Kaplan, &[_, _, alpha_n, alpha_d]) => Some(alpha_d / (alpha_n + alpha_d)),
            _ => None,
        }
    }
}

/// The exponent a and ln G of N* = G (C/6)^a for A N^-alpha + B D^-beta.
fn ridge(ratio: f64, alpha: f64, beta: f64) -> (f64, f64) {
    let sum = alpha + beta;
    (beta / sum, (alpha / beta * ratio).ln() / sum)
}

fn evaluate<const P: usize, F: Formula<P>>(
    formula: &F,
    values: &[f64],
    point: &Point,
) -> Option<f64> {
    let natural: &[f64; P] = values.try_into().ok()?;
    Some(formula.loss(&formula.working(natural, Centre::default()), point))
}
