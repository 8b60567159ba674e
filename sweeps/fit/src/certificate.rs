//! The certificate of a minimum: the profile over the nonlinear parameters is searched on a whole
//! grid, every local minimum of it is descended from, and the best lies inside.
//!
//! It proves the minimum to the resolution of the grid: a valley narrower than one step could
//! hide. Separable, Gadre and power-floor laws start from such grids anyway, and a power law is
//! convex under log objectives; Kaplan, coupled, repeat and one-break laws are searched on demand.
//! The bounded law and those with more breaks have too many nonlinear parameters for a grid.
//!
//! Beside the proof stand the flattest directions of the minimum, from the eigenvectors of the
//! Gauss-Newton matrix in the named parameters (scale-like ones as logarithms) with unit diagonal,
//! and for each the one affordable run that would shrink it most.

use std::array::from_fn;

use rayon::prelude::*;

use crate::{
    fit::{Certificate, Direction, Fit, NextRun},
    formula::{Centre, Formula, Point},
    law::Law,
    linear::{Matrix, eigen, unit_diagonal},
    objective::Objective,
    observation::Observation,
    profile,
    projection::{GADRE, HIGH, LOW, POWER_FLOOR, line_step, resolution},
    solver::{Problem, Solution},
    statistics::count,
    warning::{Warning, WarningCode},
};

/// Newton steps of a node's inner minimum, warm from its neighbour.
const NODE_STEPS: usize = 20;
/// Local minima of a grid that are descended from.
const POLISHED: usize = 24;
/// Directions shown: the flattest, and the one beside it.
const DIRECTIONS: usize = 2;
/// Directions rounder than this are no ridge: the interval is at most three times what the
/// parameter would have alone.
const FLAT: f64 = 0.1;
/// Places along each size of a run that would help.
const PLACES: usize = 25;
/// How far beyond the sizes trained such a run may lie, in ln: threefold.
const BEYOND: f64 = 1.1;

/// The points of a problem without their centre, in which the named parameters' logarithms are the
/// working parameters.
pub(crate) fn uncentred(points: &[Point], centre: Centre) -> Vec<Point> {
    points
        .iter()
        .map(|p| Point { x: p.x + centre.x, y: p.y + centre.y, u: p.u + centre.y, ..*p })
        .collect()
}

/// One nonlinear parameter of a grid.
struct Axis {
    parameter: usize,
    values: Vec<f64>,
}

impl Axis {
    fn new(parameter: usize, low: f64, high: f64, places: usize) -> Self {
        let step = (high - low) / count(places - 1);
        Self { parameter, values: (0..places).map(|i| low + step * count(i)).collect() }
    }

    fn step(&self) -> f64 {
        self.values[1] - self.values[0]
    }

    fn holds(&self, value: f64) -> bool {
        value > self.values[0] && value < self.values[self.values.len() - 1]
    }
}

/// The nonlinear parameters of a law that is searched on demand, in working coordinates.
fn axes(law: Law, points: &[Point]) -> Option<Vec<Axis>> {
    let exponents = |first: usize, low: f64, high: f64, places: usize| {
        [Axis::new(first, low, high, places), Axis::new(first + 1, low, high, places)]
    };
    match law {
        Law::Kaplan => Some(exponents(2, LOW, 1.0, 24).into()),
        Law::Coupled => {
            let mut axes = Vec::from(exponents(3, LOW, 2.0, 12));
            // k from 0.1 to 5.
            axes.push(Axis::new(5, -2.3, 1.6, 8));
            Some(axes)
        }
        Law::Repeat => {
            let mut axes = Vec::from(exponents(3, LOW, HIGH, 8));
            // Saturations from 1 to 400 repeats.
            axes.extend([Axis::new(5, 0.0, 6.0, 6), Axis::new(6, 0.0, 6.0, 6)]);
            Some(axes)
        }
        Law::Broken => {
            let ends = points
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.x), h.max(p.x)));
            // Widths from 0.05 to 4.5 in ln x.
            Some(vec![Axis::new(4, ends.0, ends.1, 24), Axis::new(5, -3.0, 1.5, 8)])
        }
        _ => None,
    }
}

/// What a search proved: its step, and whether the best lies inside.
struct Proof {
    inside: bool,
    resolution: f64,
}

/// What is proved of the best of all descents, where that is much; on demand the law's grid is
/// searched, and `best` becomes a lower minimum where there is one.
pub(crate) fn certify<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &mut Solution<P>,
    asked: &Asked<'_>,
) -> Option<Certificate> {
    let held = |value: f64, [low, high]: [f64; 2]| value > low && value < high;
    let proof = match asked.law {
        // The exponents are the last two parameters, and all valleys of their grid the starts.
        Law::Separable => Some(Proof {
            inside: best.theta[P - 2..].iter().all(|&exponent| held(exponent, [LOW, HIGH])),
            resolution: resolution(),
        }),
        Law::Gadre | Law::PowerFloor => {
            let range = if asked.law == Law::Gadre { GADRE } else { POWER_FLOOR };
            let alpha = best.theta[P - 1];
            Some(Proof { inside: held(alpha, range), resolution: line_step(alpha, range) })
        }
        // Convex in ln A and alpha: any minimum is the least.
        Law::Power if asked.objective.is_log() => Some(Proof { inside: true, resolution: 0.0 }),
        law if asked.on_demand => axes(law, problem.points).map(|axes| {
            search(problem, formula, best, &axes);
            let inside = axes.iter().all(|axis| axis.holds(best.theta[axis.parameter]));
            Proof { inside, resolution: axes[0].step() }
        }),
        _ => None,
    }?;
    let bound = best.free.iter().any(|free| !free);
    let shape = (!bound).then(|| Shape::of(problem, formula, best, asked.centre)).flatten();
    Some(Certificate {
        global: proof.inside,
        resolution: proof.resolution,
        condition_number: shape.as_ref().and_then(Shape::condition),
        directions: shape.map_or_else(Vec::new, |shape| shape.directions(formula, asked)),
    })
}

/// What a certificate is asked of.
pub(crate) struct Asked<'a> {
    pub(crate) law: Law,
    pub(crate) objective: Objective,
    pub(crate) centre: Centre,
    pub(crate) rows: &'a [Observation],
    /// Search a grid where the starts are none.
    pub(crate) on_demand: bool,
}

/// Minimises over the rest at every node, then descends from every local minimum of the grid; takes
/// what is lower than `best`.
fn search<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &mut Solution<P>,
    axes: &[Axis],
) {
    let inner: usize = axes[1..].iter().map(|axis| axis.values.len()).product();
    let lines = 0..axes[0].values.len();
    let from = *best;
    // Each value of the first axis is walked for itself, so threads do not change a bit.
    let nodes: Vec<Solution<P>> = lines
        .into_par_iter()
        .flat_map_iter(|line| {
            let mut last = from;
            (0..inner).map(move |rest| {
                let place = place(axes, line * inner + rest);
                last = node(problem, formula, axes, &place, [last.theta, from.theta]);
                last
            })
        })
        .collect();
    let mut valleys: Vec<&Solution<P>> = (0..nodes.len())
        .filter(|&i| {
            nodes[i].value.is_finite()
                && neighbours(axes, i).all(|j| nodes[j].value >= nodes[i].value)
        })
        .map(|i| &nodes[i])
        .collect();
    valleys.sort_by(|a, b| a.value.total_cmp(&b.value));
    valleys.truncate(POLISHED);
    let polished: Vec<Solution<P>> =
        valleys.par_iter().map(|valley| problem.finish(formula, valley.theta)).collect();
    for found in polished {
        // Below a relative 1e-9 it is the same minimum.
        if found.value < best.value * (1.0 - 1e-9) {
            *best = found;
        }
    }
}

/// The node's place along each axis; the last runs fastest.
fn place(axes: &[Axis], mut node: usize) -> Vec<usize> {
    let mut place = vec![0; axes.len()];
    for (axis, place) in axes.iter().zip(&mut place).rev() {
        *place = node % axis.values.len();
        node /= axis.values.len();
    }
    place
}

/// The nodes one step away along one axis.
fn neighbours(axes: &[Axis], node: usize) -> impl Iterator<Item = usize> {
    let place = place(axes, node);
    let mut stride = 1;
    let mut found = Vec::with_capacity(2 * axes.len());
    for (axis, at) in axes.iter().zip(place).rev() {
        if at > 0 {
            found.push(node - stride);
        }
        if at + 1 < axis.values.len() {
            found.push(node + stride);
        }
        stride *= axis.values.len();
    }
    found.into_iter()
}

/// The minimum over the rest with the axes held, from the better of two starts.
fn node<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    axes: &[Axis],
    place: &[usize],
    starts: [[f64; P]; 2],
) -> Solution<P> {
    let mut free = [true; P];
    let held = starts.map(|mut theta| {
        for (axis, &at) in axes.iter().zip(place) {
            theta[axis.parameter] = axis.values[at];
            free[axis.parameter] = false;
        }
        theta
    });
    let [a, b] = held.map(|theta| problem.descend(formula, theta, free, NODE_STEPS));
    if a.value <= b.value { a } else { b }
}

/// The Gauss-Newton matrix at a minimum with unit diagonal, and its eigenvectors.
struct Shape<const P: usize> {
    theta: [f64; P],
    /// Whether a named parameter is taken by its logarithm.
    logs: [bool; P],
    /// Square roots of the matrix's diagonal.
    scale: [f64; P],
    values: [f64; P],
    /// Row k belongs to value k.
    vectors: Matrix<P>,
    /// What one more sound observation weighs.
    weight: f64,
}

impl<const P: usize> Shape<P> {
    fn of<F: Formula<P>>(
        problem: &Problem<'_>,
        formula: &F,
        best: &Solution<P>,
        centre: Centre,
    ) -> Option<Self> {
        let natural = formula.natural(&best.theta, centre);
        let theta = formula.working(&natural, Centre::default());
        let points = uncentred(problem.points, centre);
        let problem = Problem { points: &points, ..*problem };
        let here = problem.expand(formula, &theta);
        let scaled = unit_diagonal(&here.majorant)?;
        let (values, vectors) = eigen(&scaled);
        let weight =
            points.iter().map(|p| problem.rho.weight(problem.residual(formula, &theta, p)));
        let logs = profile::logs(formula, &natural);
        Some(Self {
            theta,
            logs,
            scale: from_fn(|i| here.majorant[i][i].sqrt()),
            values,
            vectors,
            weight: weight.sum::<f64>() / count(points.len()),
        })
    }

    fn condition(&self) -> Option<f64> {
        let ratio = self.values[P - 1] / self.values[0];
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    fn directions<F: Formula<P>>(&self, formula: &F, asked: &Asked<'_>) -> Vec<Direction> {
        let candidates = candidates(asked);
        (0..P.min(DIRECTIONS))
            .filter(|&k| self.values[k] > 0.0 && self.values[k] < FLAT)
            .map(|k| {
                let moved: [f64; P] = from_fn(|i| self.vectors[k][i] / self.scale[i]);
                let longest =
                    moved.iter().fold(0.0_f64, |a, m| if m.abs() > a.abs() { *m } else { a });
                let names = asked.law.parameters().iter().zip(self.logs);
                let along = names
                    .zip(moved)
                    .map(|((name, log), m)| {
                        (format!("{}{name}", if log { "ln " } else { "" }), m / longest)
                    })
                    .collect();
                Direction {
                    eigenvalue: self.values[k],
                    along,
                    run: self.best_run(k, formula, asked, &candidates),
                }
            })
            .collect()
    }

    /// The candidate after which the standard error along a direction is least.
    fn best_run<F: Formula<P>>(
        &self,
        k: usize,
        formula: &F,
        asked: &Asked<'_>,
        candidates: &[Observation],
    ) -> Option<NextRun> {
        let log = asked.objective.is_log();
        let shrinks = |sizes: &Observation| {
            let point = Point::of(asked.law, sizes, Centre::default(), false)?;
            let jet = formula.jet(&self.theta, &point);
            let slope = if log { jet.value.recip() } else { 1.0 };
            let along: [f64; P] = from_fn(|j| {
                (0..P).map(|i| self.vectors[j][i] * slope * jet.gradient[i] / self.scale[i]).sum()
            });
            // The rank-one update of the inverse (Sherman and Morrison 1950).
            let spread: f64 = (0..P).map(|j| along[j] * along[j] / self.values[j]).sum();
            let share = self.weight * along[k] * along[k] / self.values[k];
            Some((1.0 - share / (1.0 + self.weight * spread)).max(0.0).sqrt())
        };
        candidates
            .iter()
            .filter_map(|sizes| Some((sizes, shrinks(sizes).filter(|s| s.is_finite())?)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(sizes, shrinks_to)| NextRun {
                n: sizes.n,
                d: sizes.d,
                flops: sizes.compute(),
                shrinks_to,
            })
    }
}

/// Sizes within threefold of those trained that cost no more than the dearest run so far.
fn candidates(asked: &Asked<'_>) -> Vec<Observation> {
    let rows = asked.rows;
    let ends = |pick: &dyn Fn(&Observation) -> Option<f64>| {
        let logs = rows.iter().filter_map(pick).map(f64::ln);
        logs.fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], x| [l.min(x), h.max(x)])
    };
    let places = |[low, high]: [f64; 2]| {
        let step = (high - low) / count(PLACES - 1);
        (0..PLACES).map(move |i| (low + step * count(i)).exp())
    };
    if asked.law.one_variable() {
        let [low, high] = ends(&Observation::single);
        let mapped = rows[0].clone();
        let with = |x: f64| Observation {
            n: mapped.n.map(|_| x),
            d: mapped.d.map(|_| x),
            flops: mapped.flops.map(|_| x),
            ..Observation::default()
        };
        return places([low - BEYOND, high]).map(with).collect();
    }
    let widened = |[low, high]: [f64; 2]| [low - BEYOND, high + BEYOND];
    let tokens = widened(ends(&Observation::tokens));
    let affordable = rows.iter().filter_map(Observation::compute).fold(0.0, f64::max);
    places(widened(ends(&|row| row.n)))
        .flat_map(|n| places(tokens).map(move |d| Observation::new(n, d, 1.0)))
        .filter(|sizes| sizes.compute().is_some_and(|c| c <= affordable * (1.0 + 1e-9)))
        .collect()
}

/// Warns where nothing was proved though it was tried.
pub(crate) fn doubts(fit: &mut Fit) {
    if fit.certificate.as_ref().is_some_and(|certificate| !certificate.global) {
        fit.warnings.push(Warning::new(
            WarningCode::NotCertified,
            "the least profile lies on or beyond the edge of the exponents searched; hint: widen the \
             spread of N and D, or choose another law",
        ));
    }
}

#[cfg(test)]
mod tests;
