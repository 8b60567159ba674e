//! Profile intervals: one parameter is moved, the rest are minimised over, and the objective kept
//! within the 95 % threshold of the noise estimate. On ridges this is the honest answer.
//!
//! The threshold is that of a likelihood ratio for an M-estimator (Ronchetti 1982): a rise of
//! chi^2/2 times the mean square of the slope over the mean curvature.

use std::array::from_fn;

use crate::{
    certificate::uncentred,
    formula::{Centre, Formula},
    law::Law,
    linear::{Matrix, solve_positive},
    solver::{Expansion, Problem, Solution},
    statistics::count,
    warning::{Warning, WarningCode},
};

/// Half the 95 % quantile of chi squared with one degree of freedom.
const HALF_CHI_SQUARED: f64 = 1.920_729;
/// A profile interval that spans this factor is called flat.
const SPAN: f64 = 10.0;
/// Newton steps of one constrained minimum, warm from its neighbour.
const STEPS: usize = 60;
/// Bisections of an end: to about 3 % of the factor.
const HALVINGS: usize = 5;

/// A parameter whose interval is too wide to mean anything alone.
pub(crate) struct Flat {
    parameter: usize,
    value: f64,
    /// Ends as factors of the value; `None` where there is none within the span.
    low: Option<f64>,
    high: Option<f64>,
}

impl Flat {
    pub(crate) fn warning(&self, law: Law) -> Warning {
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
                law.parameters()[self.parameter],
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
            let loss = formula.loss(&theta, point);
            let r = if problem.log { loss.ln() } else { loss } - point.target;
            squares += problem.rho.slope(r).powi(2);
            inside += problem.rho.curvature(r);
            weights += problem.rho.weight(r);
        }
        // With hardly a residual inside delta its share is no estimate; the weights' mean is.
        let curvature = if inside > count(2 * P) { inside } else { weights } / count(n);
        let rise = HALF_CHI_SQUARED * squares / count(n - P) / curvature;
        // A logarithm answers a change of the named value by its relative size.
        let logs = from_fn(|i| {
            let mut doubled = natural;
            doubled[i] *= 2.0;
            let moved = formula.working(&doubled, Centre::default())[i];
            (moved - theta[i] - std::f64::consts::LN_2).abs() < 1e-9
        });
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
        let high = self.end(i, 1.0, span);
        let low = self.end(i, -1.0, span);
        let width = high.unwrap_or(span) - low.unwrap_or(-span);
        (high.is_none() || low.is_none() || width >= span).then(|| Flat {
            parameter: i,
            value: self.natural[i],
            low: low.map(f64::exp),
            high: high.map(f64::exp),
        })
    }

    /// The logarithm of the factor at which the profile leaves the threshold on one side; `None`
    /// where it stays within up to `span`.
    fn end(&self, i: usize, side: f64, span: f64) -> Option<f64> {
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
        for _ in 0..HALVINGS {
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
