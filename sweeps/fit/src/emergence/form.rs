//! The five curves of a metric, over a coordinate u in -1 .. 1, by least squares.
//!
//! | form | y | parameters |
//! |---|---|---|
//! | line | p0 + p1 u | 2 |
//! | power | e^(p0 + p1 u), a power law of x where u is its logarithm; with a minus for scores below 0 | 2 |
//! | sigmoid | c + (1 - c) s(p0 + p1 u), c the chance level | 2 |
//! | sigmoid, scores below 0 | p2 (1 - s(p0 + p1 u)): up to 0, as the logarithm of a probability goes | 3 |
//! | sigmoid-floor | p0 + (p1 - p0) s(e^p3 (u - p2)) | 4 |
//! | broken | p0 + p1 e^(-p2 v) (1 + e^(v/f))^(-p3 f), v = u - p4, f = e^p5 (Caballero 2022, one break) | 6 |
//!
//! s is the logistic function. Derivatives are exact; the descent is Levenberg's and Marquardt's,
//! from several starts.

use serde::Serialize;

use super::slope::Slope;
use crate::{
    jet::Scalar,
    linear::solve_positive,
    statistics::{count, mean},
};

/// The curves by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormKind {
    /// A straight line.
    Line,
    /// A power law.
    Power,
    /// A sigmoid from chance to one, or from a free floor to zero.
    Sigmoid,
    /// A sigmoid whose two levels are free.
    SigmoidFloor,
    /// A power law with one break.
    Broken,
}

impl FormKind {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Power => "power",
            Self::Sigmoid => "sigmoid",
            Self::SigmoidFloor => "sigmoid-floor",
            Self::Broken => "broken",
        }
    }

    /// Whether it can change its slope sharply.
    pub(crate) const fn bends(self) -> bool {
        !matches!(self, Self::Line | Self::Power)
    }
}

/// A fitted curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FittedForm {
    /// Which.
    pub kind: FormKind,
    /// Its parameters, in the scaled coordinate.
    pub params: Vec<f64>,
    /// Sum of squared residuals.
    pub squares: f64,
    /// Akaike's criterion with the correction for few observations; absent where there are too few.
    pub aicc: Option<f64>,
    /// Mean error on the scores farthest along the axis, fitted without them.
    pub held_out_error: Option<f64>,
    #[serde(skip)]
    ends: Ends,
}

/// Between what a metric's scores can lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ends {
    /// Between chance and one.
    Chance(f64),
    /// Below zero, which is perfect.
    BelowZero,
}

impl Ends {
    /// Of scores whose chance level is known or not; scores below zero have none.
    pub(crate) fn of(y: &[f64], chance: Option<f64>) -> Self {
        let below = y.iter().all(|y| *y <= 0.0) && y.iter().any(|y| *y < 0.0);
        if below { Self::BelowZero } else { Self::Chance(chance.unwrap_or(0.0)) }
    }

    fn sign(self) -> f64 {
        if self == Self::BelowZero { -1.0 } else { 1.0 }
    }
}

impl FittedForm {
    /// The curve at a scaled coordinate.
    pub(crate) fn value(&self, u: f64) -> f64 {
        fn at<const P: usize>(form: &impl Form<P>, params: &[f64], u: f64) -> f64 {
            let theta: [f64; P] = params.try_into().expect("as many as the form has");
            form.value(&theta, u)
        }
        match self.kind {
            FormKind::Line => at(&Line, &self.params, u),
            FormKind::Power => at(&Power { sign: self.ends.sign() }, &self.params, u),
            FormKind::Sigmoid => match self.ends {
                Ends::Chance(chance) => at(&Sigmoid { chance }, &self.params, u),
                Ends::BelowZero => at(&SigmoidToZero, &self.params, u),
            },
            FormKind::SigmoidFloor => at(&SigmoidFloor, &self.params, u),
            FormKind::Broken => at(&Broken, &self.params, u),
        }
    }
}

/// A curve with P parameters.
pub(crate) trait Form<const P: usize> {
    fn value<S: Scalar>(&self, theta: &[S; P], u: f64) -> S;

    /// Where to descend from.
    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; P]>;

    /// Whether parameters mean something.
    fn valid(&self, _: &[f64; P]) -> bool {
        true
    }
}

/// Every form that the scores can carry.
pub(crate) fn fit_all(u: &[f64], y: &[f64], ends: Ends) -> Vec<FittedForm> {
    let found = [
        one(FormKind::Line, &Line, u, y, ends),
        one(FormKind::Power, &Power { sign: ends.sign() }, u, y, ends),
        match ends {
            Ends::Chance(chance) => one(FormKind::Sigmoid, &Sigmoid { chance }, u, y, ends),
            Ends::BelowZero => one(FormKind::Sigmoid, &SigmoidToZero, u, y, ends),
        },
        one(FormKind::SigmoidFloor, &SigmoidFloor, u, y, ends),
        one(FormKind::Broken, &Broken, u, y, ends),
    ];
    found.into_iter().flatten().collect()
}

fn one<const P: usize>(
    kind: FormKind,
    form: &impl Form<P>,
    u: &[f64],
    y: &[f64],
    ends: Ends,
) -> Option<FittedForm> {
    let (theta, squares) = fit(form, u, y)?;
    let aicc = aicc(squares, y, P);
    Some(FittedForm { kind, params: theta.to_vec(), squares, aicc, held_out_error: None, ends })
}

/// Least squares from the form's own starts; `None` with fewer scores than parameters.
pub(crate) fn fit<const P: usize>(
    form: &impl Form<P>,
    u: &[f64],
    y: &[f64],
) -> Option<([f64; P], f64)> {
    if y.len() <= P {
        return None;
    }
    let starts = form.starts(u, y);
    starts
        .into_iter()
        .filter_map(|start| descend(form, u, y, start))
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// n ln(S/n) + 2k + 2k(k+1)/(n-k-1), k counting the variance (Hurvich and Tsai 1989).
fn aicc(squares: f64, y: &[f64], parameters: usize) -> Option<f64> {
    let (n, k) = (count(y.len()), count(parameters + 1));
    if n - k - 1.0 <= 0.0 {
        return None;
    }
    let centre = mean(y);
    let total: f64 = y.iter().map(|v| (v - centre).powi(2)).sum();
    // A curve through every score would have minus infinity: below a millionth of the scatter all
    // fits are perfect.
    let floor = (1e-12 * total).max(f64::MIN_POSITIVE);
    Some(n * (squares.max(floor) / n).ln() + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0))
}

fn squares<const P: usize>(form: &impl Form<P>, u: &[f64], y: &[f64], theta: &[f64; P]) -> f64 {
    u.iter().zip(y).map(|(u, y)| (form.value(theta, *u) - y).powi(2)).sum()
}

/// Levenberg-Marquardt.
pub(crate) fn descend<const P: usize>(
    form: &impl Form<P>,
    u: &[f64],
    y: &[f64],
    start: [f64; P],
) -> Option<([f64; P], f64)> {
    let mut theta = start;
    let mut best = squares(form, u, y, &theta);
    let mut damping = 1e-3;
    if !best.is_finite() {
        return None;
    }
    for _ in 0..300 {
        let (mut matrix, mut right) = ([[0.0; P]; P], [0.0; P]);
        for (u, y) in u.iter().zip(y) {
            let value = form.value(&Slope::variables(&theta), *u);
            let off = y - value.value;
            for i in 0..P {
                right[i] += value.gradient[i] * off;
                for (cell, slope) in matrix[i].iter_mut().zip(value.gradient) {
                    *cell += value.gradient[i] * slope;
                }
            }
        }
        let mut improved = false;
        while damping < 1e12 {
            let mut damped = matrix;
            for (i, row) in damped.iter_mut().enumerate() {
                // A parameter that moves nothing here still needs a pivot.
                row[i] += damping * row[i].max(1e-12);
            }
            let step = solve_positive(&damped, &right);
            let next: Option<[f64; P]> =
                step.map(|step| std::array::from_fn(|i| theta[i] + step[i]));
            let tried = next.filter(|next| form.valid(next)).map(|next| {
                let at = squares(form, u, y, &next);
                (next, at)
            });
            if let Some((next, at)) = tried.filter(|(_, at)| *at < best) {
                let gained = best - at;
                (theta, best) = (next, at);
                damping = (damping * 0.2).max(1e-12);
                // A billionth of the squares moves no criterion.
                improved = gained > 1e-9 * best;
                break;
            }
            damping *= 5.0;
        }
        if !improved {
            break;
        }
    }
    Some((theta, best))
}

/// The least-squares line of y against u as (level at 0, slope).
fn straight(u: &[f64], y: &[f64]) -> (f64, f64) {
    let (u0, y0) = (mean(u), mean(y));
    let uu: f64 = u.iter().map(|u| (u - u0).powi(2)).sum();
    let uy: f64 = u.iter().zip(y).map(|(u, y)| (u - u0) * (y - y0)).sum();
    let slope = if uu > 0.0 { uy / uu } else { 0.0 };
    (y0 - slope * u0, slope)
}

/// p0 + p1 u.
pub(crate) struct Line;

impl Form<2> for Line {
    fn value<S: Scalar>(&self, theta: &[S; 2], u: f64) -> S {
        theta[0] + theta[1] * u
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 2]> {
        let (level, slope) = straight(u, y);
        vec![[level, slope]]
    }
}

/// Its values have one sign.
struct Power {
    sign: f64,
}

impl Form<2> for Power {
    fn value<S: Scalar>(&self, theta: &[S; 2], u: f64) -> S {
        (theta[0] + theta[1] * u).exp() * self.sign
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 2]> {
        let most = y.iter().map(|y| y * self.sign).fold(0.0, f64::max);
        let least = (1e-3 * most).max(1e-12);
        let logs: Vec<f64> = y.iter().map(|y| (y * self.sign).max(least).ln()).collect();
        let (level, slope) = straight(u, &logs);
        let steep = most.max(1e-12).ln() - 3.0;
        vec![[level, slope], [level, 0.0], [steep, 3.0 * self.sign]]
    }

    fn valid(&self, theta: &[f64; 2]) -> bool {
        theta.iter().all(|v| v.abs() < 300.0)
    }
}

/// The logistic function without overflow.
fn logistic<S: Scalar>(z: S) -> S {
    if z.value() >= 0.0 {
        ((-z).exp() + 1.0).recip()
    } else {
        let e = z.exp();
        e * (e + 1.0).recip()
    }
}

struct Sigmoid {
    chance: f64,
}

impl Form<2> for Sigmoid {
    fn value<S: Scalar>(&self, theta: &[S; 2], u: f64) -> S {
        logistic(theta[0] + theta[1] * u) * (1.0 - self.chance) + self.chance
    }

    fn starts(&self, _: &[f64], _: &[f64]) -> Vec<[f64; 2]> {
        let middles = [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0];
        let steep = [-3.0, 1.5, 4.0, 10.0];
        middles.iter().flat_map(|m| steep.map(|k| [-k * m, k])).collect()
    }

    fn valid(&self, theta: &[f64; 2]) -> bool {
        theta.iter().all(|v| v.abs() < 500.0)
    }
}

/// p2 (1 - s(p0 + p1 u)).
struct SigmoidToZero;

impl Form<3> for SigmoidToZero {
    fn value<S: Scalar>(&self, theta: &[S; 3], u: f64) -> S {
        theta[2] * logistic(-(theta[0] + theta[1] * u))
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 3]> {
        let floor = y.iter().copied().fold(f64::INFINITY, f64::min);
        let unit = Sigmoid { chance: 0.0 };
        unit.starts(u, y).into_iter().map(|[level, slope]| [level, slope, floor]).collect()
    }

    fn valid(&self, theta: &[f64; 3]) -> bool {
        theta[0].abs().max(theta[1].abs()) < 500.0 && theta[2].abs() < 1e6
    }
}

/// p0 + (p1 - p0) s(e^p3 (u - p2)).
pub(crate) struct SigmoidFloor;

impl Form<4> for SigmoidFloor {
    fn value<S: Scalar>(&self, theta: &[S; 4], u: f64) -> S {
        let [low, high, middle, steep] = *theta;
        let z = steep.exp() * (-middle + u);
        low + (high - low) * logistic(z)
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 4]> {
        let (low, high) =
            y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(*y), h.max(*y)));
        let (_, slope) = straight(u, y);
        let (low, high) = if slope < 0.0 { (high, low) } else { (low, high) };
        let middles = [-0.75, -0.4, 0.0, 0.4, 0.75];
        middles.iter().flat_map(|m| [0.7, 1.6, 2.7].map(|k| [low, high, *m, k])).collect()
    }

    fn valid(&self, theta: &[f64; 4]) -> bool {
        // Levels far beyond the scores make a line of the sigmoid, steepness a step.
        theta[2].abs() < 20.0
            && (-3.0..5.0).contains(&theta[3])
            && theta[0].abs().max(theta[1].abs()) < 1e6
    }
}

/// ln of the sharpness: from a kink within a fiftieth of the range to a bend over all of it.
const SHARPNESS: std::ops::RangeInclusive<f64> = -4.0..=0.7;

fn broken<S: Scalar>(linear: [S; 2], slopes: [S; 2], v: S, log_f: S) -> S {
    let f = log_f.exp();
    let z = v * (-log_f).exp();
    // ln(1 + e^z), by the larger of the two.
    let soft = (z + -z).log_add_exp(z);
    let inner = -(slopes[0] * v) - slopes[1] * f * soft;
    linear[0] + linear[1] * inner.exp()
}

struct Broken;

impl Form<6> for Broken {
    fn value<S: Scalar>(&self, theta: &[S; 6], u: f64) -> S {
        let [a, b, c0, c1, at, log_f] = *theta;
        broken([a, b], [c0, c1], -at + u, log_f)
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 6]> {
        let mut starts: Vec<([f64; 6], f64)> = Vec::new();
        for at in (-4..=4).map(|i| 0.2 * f64::from(i)) {
            for start in starts_at(u, y, at) {
                let [a, b, c0, c1, log_f] = start;
                let theta = [a, b, c0, c1, at, log_f];
                starts.push((theta, squares(self, u, y, &theta)));
            }
        }
        best_starts(starts, 8)
    }

    fn valid(&self, theta: &[f64; 6]) -> bool {
        valid_broken([theta[2], theta[3]], theta[5]) && theta[4].abs() <= 1.0
    }
}

/// The broken form with its break held at a place: for the profile of the knee.
pub(crate) struct BrokenAt {
    /// The place.
    pub(crate) at: f64,
    /// Parameters to start from beside the form's own.
    pub(crate) warm: [f64; 5],
}

impl Form<5> for BrokenAt {
    fn value<S: Scalar>(&self, theta: &[S; 5], u: f64) -> S {
        let [a, b, c0, c1, log_f] = *theta;
        broken([a, b], [c0, c1], c0 + -c0 + (u - self.at), log_f)
    }

    fn starts(&self, u: &[f64], y: &[f64]) -> Vec<[f64; 5]> {
        let starts = starts_at(u, y, self.at);
        let scored = starts.into_iter().map(|s| (s, squares(self, u, y, &s))).collect();
        let mut starts = best_starts(scored, 2);
        starts.push(self.warm);
        starts
    }

    fn valid(&self, theta: &[f64; 5]) -> bool {
        valid_broken([theta[2], theta[3]], theta[4])
    }
}

fn valid_broken(slopes: [f64; 2], log_f: f64) -> bool {
    slopes.iter().all(|slope| slope.abs() < 60.0) && SHARPNESS.contains(&log_f)
}

/// Starts with a break at `at`: slopes and sharpness from a grid, level and scale by least squares.
fn starts_at(u: &[f64], y: &[f64], at: f64) -> Vec<[f64; 5]> {
    let mut starts = Vec::new();
    for c0 in [-2.0, -0.3, 0.3, 2.0] {
        for c1 in [-6.0, -1.5, 1.5, 6.0] {
            for log_f in [-3.0, -1.2] {
                let shape: Vec<f64> =
                    u.iter().map(|u| broken([0.0, 1.0], [c0, c1], u - at, log_f)).collect();
                if shape.iter().all(|v| v.is_finite()) {
                    let (level, scale) = straight(&shape, y);
                    starts.push([level, scale, c0, c1, log_f]);
                }
            }
        }
    }
    starts
}

/// The few starts that are nearest to the scores.
fn best_starts<const P: usize>(mut starts: Vec<([f64; P], f64)>, kept: usize) -> Vec<[f64; P]> {
    starts.sort_by(|a, b| a.1.total_cmp(&b.1));
    starts.truncate(kept);
    starts.into_iter().map(|(start, _)| start).collect()
}
