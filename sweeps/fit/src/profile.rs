//! Profile intervals: one parameter is moved, the rest are minimised over, and the objective kept
//! within the 95 % threshold of the noise estimate. On ridges this is the honest answer.
//!
//! The threshold is that of a likelihood ratio for an M-estimator (Ronchetti 1982): a rise of
//! chi^2/2 times the mean square of the slope over the mean curvature. Intervals, as opposed to the
//! warning of flat directions, take the square of Student's t in place of chi^2, and with few
//! degrees of freedom both means from the normal distribution of the scatter's sigma, since a robust
//! fit passes exactly through as many observations as it has parameters.

use std::array::from_fn;

use crate::{
    certificate::uncentred,
    formula::{Centre, Formula, Point},
    jet::Scalar,
    linear::{Matrix, solve_positive},
    objective::{Objective, Rho},
    scatter::Scatter,
    solver::{Expansion, Problem, Solution},
    statistics::{count, student_975},
    warning::{Warning, WarningCode},
};

/// Half the 95 % quantile of chi squared with one degree of freedom.
const HALF_CHI_SQUARED: f64 = 1.920_729;
/// A profile interval that spans this factor is called flat.
const SPAN: f64 = 10.0;
/// Newton steps of one constrained minimum, warm from its neighbour.
const STEPS: usize = 60;
/// Bisections of a flat direction's end: to about 3 % of the factor.
const HALVINGS: usize = 5;
/// Bisections of an interval's end: to about a thousandth of its width.
const FINE_HALVINGS: usize = 10;
/// An end farther away than this factor is none: E may go down to nothing.
const REACH: f64 = 1e6;
/// Degrees of freedom below which the noise is taken as normal, as in resampling.
const SHAPE: usize = 24;
/// Residuals inside delta that tell its share to about a quarter.
const MANY: f64 = 16.0;

/// A parameter whose interval is too wide to mean anything alone.
pub(crate) struct Flat {
    parameter: usize,
    value: f64,
    /// Ends as factors of the value; `None` where there is none within the span.
    low: Option<f64>,
    high: Option<f64>,
}

impl Flat {
    /// The doubt in words; `names` are those of the parameters.
    pub(crate) fn warning(&self, names: &[&str]) -> Warning {
        let end = |factor: Option<f64>| {
            factor.map_or_else(
                || format!("beyond a factor of {SPAN}"),
                |factor| format!("{:.4e}", factor * self.value),
            )
        };
        Warning::new(
            WarningCode::FlatDirection,
            format!(
                "the 95 % profile interval of {} ({:.4e}) runs from {} to {}; hint: quote \
                 the law's predictions, not this constant",
                names[self.parameter],
                self.value,
                end(self.low),
                end(self.high),
            ),
        )
    }
}

/// The parameters whose profile interval spans a factor of ten or has no end.
pub(crate) fn flat_directions<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    centre: Centre,
) -> Vec<Flat> {
    let points = uncentred(problem.points, centre);
    let walk = Walk::new(Problem { points: &points, ..*problem }, formula, best, centre);
    let Some(walk) = walk else { return Vec::new() };
    (0..P).filter(|&i| best.free[i]).filter_map(|i| walk.flat(i)).collect()
}

/// Which working parameters, without a centre, are the logarithms of the named ones: those that
/// answer a change by its relative size.
pub(crate) fn logs<const P: usize, F: Formula<P>>(formula: &F, natural: &[f64; P]) -> [bool; P] {
    let theta = formula.working(natural, Centre::default());
    from_fn(|i| {
        let mut doubled = *natural;
        doubled[i] *= 2.0;
        let moved = formula.working(&doubled, Centre::default())[i];
        (moved - theta[i] - std::f64::consts::LN_2).abs() < 1e-9
    })
}

/// The 95 % profile interval of every parameter, in the law's order; `None` where it is held on its
/// bound or an end is not found within a factor of [`REACH`].
pub(crate) fn intervals<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    centre: Centre,
) -> Vec<Option<[f64; 2]>> {
    let points = uncentred(problem.points, centre);
    let walk = Walk::new(Problem { points: &points, ..*problem }, formula, best, centre);
    let Some(mut walk) = walk else { return vec![None; P] };
    walk.rise = student_rise(problem, formula, best);
    (0..P).map(|i| if best.free[i] { walk.interval(i) } else { None }).collect()
}

/// The 95 % profile interval of the exponent a of N* ~ C^a, for a law whose exponents of the two
/// shortages stand at `shortages` (N's, D's): their ratio takes the place of the second.
pub(crate) fn exponent_interval<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    centre: Centre,
    shortages: [usize; 2],
) -> Option<[f64; 2]> {
    let ratio = Ratio { inner: formula, of: shortages };
    let mut moved = *best;
    moved.theta[shortages[1]] = (best.theta[shortages[1]] / best.theta[shortages[0]]).ln();
    let points = uncentred(problem.points, centre);
    let walk = Walk::new(Problem { points: &points, ..*problem }, &ratio, &moved, centre);
    let mut walk = walk?;
    walk.rise = student_rise(problem, formula, best);
    walk.interval(shortages[1]).map(|ends| ends.map(|ratio| ratio / (1.0 + ratio)))
}

/// The rise that Student's t allows.
fn student_rise<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
) -> f64 {
    let scatter = Scatter::of(problem, formula, best);
    let n = problem.points.len();
    let (squares, curvature) = if scatter.degrees < SHAPE {
        normal_means(problem.rho, scatter.sigma)
    } else {
        let (mut squares, mut inside) = (0.0, 0.0);
        for (r, point) in scatter.full.iter().zip(problem.points) {
            // Measured less fitted, at the precision of weight 1.
            let r = -r * point.weight.sqrt();
            squares += problem.rho.slope(r).powi(2);
            inside += problem.rho.curvature(r);
        }
        // With hardly a residual inside delta its share is no estimate; the normal one is.
        if inside > MANY {
            (squares / count(n), inside / count(n))
        } else {
            normal_means(problem.rho, scatter.sigma)
        }
    };
    0.5 * student_975(scatter.degrees).powi(2) * squares / curvature
}

/// The means of the squared slope and of the curvature over normal residuals, by the trapezoid rule
/// over 8 deviations: its error falls faster than any power of the step.
fn normal_means(rho: Rho, sigma: f64) -> (f64, f64) {
    const STEPS: u32 = 2000;
    let (mut squares, mut curvature, mut total) = (0.0, 0.0, 0.0);
    for i in 0..=STEPS {
        let z = 16.0 * f64::from(i) / f64::from(STEPS) - 8.0;
        let (weight, r) = ((-0.5 * z * z).exp(), z * sigma);
        squares += weight * rho.slope(r).powi(2);
        // By parts: the mean of the second derivative is that of the slope times z over sigma.
        curvature += weight * rho.slope(r) * z / sigma;
        total += weight;
    }
    (squares / total, curvature / total)
}

/// A law with the ratio of two exponents in place of the second of them, as a logarithm.
struct Ratio<'a, F> {
    inner: &'a F,
    of: [usize; 2],
}

impl<const P: usize, F: Formula<P>> Formula<P> for Ratio<'_, F> {
    fn loss<S: Scalar>(&self, theta: &[S; P], point: &Point) -> S {
        let mut inner = *theta;
        inner[self.of[1]] = inner[self.of[0]] * theta[self.of[1]].exp();
        self.inner.loss(&inner, point)
    }

    fn valid(&self, theta: &[f64; P]) -> bool {
        let mut inner = *theta;
        inner[self.of[1]] = inner[self.of[0]] * theta[self.of[1]].exp();
        self.inner.valid(&inner)
    }

    fn natural(&self, theta: &[f64; P], centre: Centre) -> [f64; P] {
        let mut inner = *theta;
        let ratio = theta[self.of[1]].exp();
        inner[self.of[1]] = inner[self.of[0]] * ratio;
        let mut natural = self.inner.natural(&inner, centre);
        natural[self.of[1]] = ratio;
        natural
    }

    fn working(&self, natural: &[f64; P], centre: Centre) -> [f64; P] {
        let mut inner = *natural;
        let ratio = natural[self.of[1]];
        inner[self.of[1]] = inner[self.of[0]] * ratio;
        let mut theta = self.inner.working(&inner, centre);
        theta[self.of[1]] = ratio.ln();
        theta
    }

    fn floor(&self) -> Option<usize> {
        self.inner.floor()
    }

    fn starts(&self, _: &[Point], _: Objective) -> Vec<[f64; P]> {
        Vec::new()
    }
}

struct Walk<'a, const P: usize, F> {
    problem: Problem<'a>,
    formula: &'a F,
    at: Solution<P>,
    /// How far the objective may rise.
    rise: f64,
    /// Half-widths of the intervals by the quadratic, infinite where it has none.
    half: [f64; P],
    natural: [f64; P],
    /// Whether the working parameter is the logarithm of the named one.
    logs: [bool; P],
}

impl<'a, const P: usize, F: Formula<P>> Walk<'a, P, F> {
    fn new(
        problem: Problem<'a>,
        formula: &'a F,
        best: &Solution<P>,
        centre: Centre,
    ) -> Option<Self> {
        let natural = formula.natural(&best.theta, centre);
        let theta = formula.working(&natural, Centre::default());
        let at = Solution { theta, value: problem.value(formula, &theta), free: best.free };
        let n = problem.points.len();
        if n <= P || !at.value.is_finite() {
            return None;
        }
        let (mut squares, mut inside, mut weights) = (0.0, 0.0, 0.0);
        for point in problem.points {
            let r = problem.residual(formula, &theta, point);
            squares += problem.rho.slope(r).powi(2);
            inside += problem.rho.curvature(r);
            weights += problem.rho.weight(r);
        }
        // With hardly a residual inside delta its share is no estimate; the weights' mean is.
        let curvature = if inside > count(2 * P) { inside } else { weights } / count(n);
        let rise = HALF_CHI_SQUARED * squares / count(n - P) / curvature;
        let logs = logs(formula, &natural);
        let here = problem.expand(formula, &theta);
        let half = from_fn(|i| {
            let width = (2.0 * rise * inverse_diagonal(&here, &best.free, i)).sqrt();
            if logs[i] { width } else { width / theta[i].abs() }
        });
        Some(Self { problem, formula, at, rise, half, natural, logs })
    }

    fn flat(&self, i: usize) -> Option<Flat> {
        let span = SPAN.ln();
        // The quadratic is off by a factor of two at most where it says narrow.
        if self.half[i] < 0.2 * span {
            return None;
        }
        let high = self.end(i, 1.0, span, HALVINGS);
        let low = self.end(i, -1.0, span, HALVINGS);
        let width = high.unwrap_or(span) - low.unwrap_or(-span);
        (high.is_none() || low.is_none() || width >= span).then(|| Flat {
            parameter: i,
            value: self.natural[i],
            low: low.map(f64::exp),
            high: high.map(f64::exp),
        })
    }

    fn interval(&self, i: usize) -> Option<[f64; 2]> {
        let reach = REACH.ln();
        let ends =
            [self.end(i, -1.0, reach, FINE_HALVINGS)?, self.end(i, 1.0, reach, FINE_HALVINGS)?];
        let mut ends = ends.map(|end| self.natural[i] * end.exp());
        // A negative value is farther from zero at the larger factor.
        ends.sort_by(f64::total_cmp);
        Some(ends)
    }

    /// The logarithm of the factor at which the profile leaves the threshold on one side; `None`
    /// where it stays within up to `span`.
    fn end(&self, i: usize, side: f64, span: f64, halvings: usize) -> Option<f64> {
        let limit = self.at.value + self.rise;
        let mut inside = (0.0, self.at);
        let mut step = self.half[i].min(span) / 2.0;
        let outside = loop {
            let distance = (inside.0 + step).min(span);
            let there = self.held(i, side * distance, &inside.1);
            if there.value > limit {
                break distance;
            }
            if distance >= span {
                return None;
            }
            inside = (distance, there);
            step *= 2.0;
        };
        let (mut near, mut far) = (inside.0, outside);
        for _ in 0..halvings {
            let middle = f64::midpoint(near, far);
            let there = self.held(i, side * middle, &inside.1);
            if there.value > limit {
                far = middle;
            } else {
                near = middle;
                inside.1 = there;
            }
        }
        Some(side * f64::midpoint(near, far))
    }

    /// The minimum with parameter `i` held at its value times e^`shift`, warm from `near`.
    fn held(&self, i: usize, shift: f64, near: &Solution<P>) -> Solution<P> {
        let held = |theta: &mut [f64; P]| {
            theta[i] = if self.logs[i] {
                self.at.theta[i] + shift
            } else {
                self.at.theta[i] * shift.exp()
            };
        };
        let mut free = near.free;
        free[i] = false;
        let mut start = near.theta;
        held(&mut start);
        // Along the ridge the other parameters follow: a Newton step at the old place tells how.
        let mut followed = near.theta;
        let here = self.problem.expand(self.formula, &near.theta);
        if let Some(column) = inverse_column(&here, &near.free, i) {
            let move_by = start[i] - near.theta[i];
            followed = from_fn(|j| near.theta[j] + column[j] / column[i] * move_by);
        }
        held(&mut followed);
        let along = self.problem.value(self.formula, &followed);
        if along < self.problem.value(self.formula, &start) {
            start = followed;
        }
        let mut found = self.problem.descend(self.formula, start, free, STEPS);
        found.free = near.free;
        found
    }
}

fn inverse_column<const P: usize>(
    here: &Expansion<P>,
    free: &[bool; P],
    i: usize,
) -> Option<[f64; P]> {
    let scale: [f64; P] = from_fn(|j| {
        let d = here.majorant[j][j];
        if d > 0.0 { d.sqrt().recip() } else { 1.0 }
    });
    let matrix: Matrix<P> = from_fn(|j| {
        from_fn(|k| match (free[j] && free[k], j == k) {
            (true, _) => scale[j] * scale[k] * here.hessian[j][k],
            (false, true) => 1.0,
            (false, false) => 0.0,
        })
    });
    let right: [f64; P] = from_fn(|j| if j == i { scale[i] } else { 0.0 });
    let column = solve_positive(&matrix, &right)?;
    (column[i] > 0.0).then(|| from_fn(|j| column[j] * scale[j]))
}

fn inverse_diagonal<const P: usize>(here: &Expansion<P>, free: &[bool; P], i: usize) -> f64 {
    inverse_column(here, free, i).map_or(f64::INFINITY, |column| column[i])
}
