//! Minimisation over all parameters at once: Newton steps with exact second derivatives, damped
//! towards the reweighted Gauss-Newton matrix.
//!
//! The Hessian of a Huber sum sees only the residuals inside delta and may be indefinite; the
//! matrix of iteratively reweighted least squares majorises it and knows the flat ridges. Their
//! sum H + lambda G is Newton near a minimum and a safe descent far from it (the idea of
//! Levenberg 1944, with G in place of the identity). Steps end on the predicted decrease and the
//! step itself, never on a small gain of the objective.

use std::array::from_fn;

use sweep_spec::random::{Purpose, Stream};

use crate::{
    formula::{Formula, NO_FLOOR, Point, least_loss},
    linear::{Matrix, solve, solve_positive},
    objective::{Objective, Rho},
};

/// Newton steps of one descent: four times what the slowest table here takes.
const STEPS: usize = 400;

/// The sum to minimise.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(crate) points: &'a [Point],
    /// Multiplicity of each point, on top of its weight; `None` for one each.
    pub(crate) weights: Option<&'a [f64]>,
    pub(crate) rho: Rho,
    pub(crate) log: bool,
}

/// Where a descent ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Solution<const P: usize> {
    pub(crate) theta: [f64; P],
    /// The smooth cost there.
    pub(crate) value: f64,
    /// Parameters not held fixed.
    pub(crate) free: [bool; P],
}

/// The sum with its derivatives.
pub(crate) struct Expansion<const P: usize> {
    pub(crate) value: f64,
    pub(crate) gradient: [f64; P],
    pub(crate) hessian: Matrix<P>,
    /// Gauss-Newton matrix under the weights of iteratively reweighted least squares.
    pub(crate) majorant: Matrix<P>,
}

impl<'a> Problem<'a> {
    /// The smooth problem of an objective.
    pub(crate) fn new(points: &'a [Point], objective: Objective) -> Self {
        let rho = match objective {
            Objective::HuberLog { delta } | Objective::Huber { delta } => Rho::Huber(delta),
            // The first of the deltas that shrink towards the absolute value.
            Objective::L1Log => Rho::Huber(1e-3),
            Objective::Mse | Objective::MseLog => Rho::Square,
            Objective::AsymmetricLog { delta, over } => Rho::Asymmetric { delta, over },
        };
        Self { points, weights: None, rho, log: objective.is_log() }
    }

    fn weighted(&self) -> impl Iterator<Item = (&'a Point, f64)> {
        let weights = self.weights;
        self.points
            .iter()
            .enumerate()
            .map(move |(i, point)| (point, point.weight * weights.map_or(1.0, |w| w[i])))
            .filter(|&(_, weight)| weight != 0.0)
    }

    /// The residual of a point.
    pub(crate) fn residual<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        theta: &[f64; P],
        point: &Point,
    ) -> f64 {
        let loss = formula.loss(theta, point);
        (if self.log { loss.ln() } else { loss }) - point.target
    }

    /// The sum alone; infinite where the parameters mean nothing.
    pub(crate) fn value<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        theta: &[f64; P],
    ) -> f64 {
        if !formula.valid(theta) || theta.iter().any(|t| !t.is_finite() || t.abs() > 2e3) {
            return f64::INFINITY;
        }
        let mut sum = 0.0;
        for (point, weight) in self.weighted() {
            let loss = formula.loss(theta, point);
            let fitted = if self.log { loss.ln() } else { loss };
            sum += weight * self.rho.cost(fitted - point.target);
        }
        if sum.is_finite() { sum } else { f64::INFINITY }
    }

    /// The sum with gradient, Hessian and majorant.
    pub(crate) fn expand<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        theta: &[f64; P],
    ) -> Expansion<P> {
        let mut sum = Expansion {
            value: 0.0,
            gradient: [0.0; P],
            hessian: [[0.0; P]; P],
            majorant: [[0.0; P]; P],
        };
        for (point, weight) in self.weighted() {
            let jet = formula.jet(theta, point);
            // In logarithms: first derivative 1/m, second -1/m^2.
            let (fitted, first, second) = if self.log {
                let inverse = jet.value.recip();
                (jet.value.ln(), inverse, -inverse * inverse)
            } else {
                (jet.value, 1.0, 0.0)
            };
            let r = fitted - point.target;
            let slope = weight * self.rho.slope(r);
            let outer = weight * self.rho.weight(r) * first * first;
            let bend = weight * self.rho.curvature(r) * first * first + slope * second;
            sum.value += weight * self.rho.cost(r);
            for i in 0..P {
                sum.gradient[i] += slope * first * jet.gradient[i];
                let (bent, outer) = (bend * jet.gradient[i], outer * jet.gradient[i]);
                // The upper triangle; the lower is its mirror.
                for j in i..P {
                    sum.hessian[i][j] += bent * jet.gradient[j] + slope * first * jet.hessian[i][j];
                    sum.majorant[i][j] += outer * jet.gradient[j];
                }
            }
        }
        for i in 0..P {
            for j in 0..i {
                sum.hessian[i][j] = sum.hessian[j][i];
                sum.majorant[i][j] = sum.majorant[j][i];
            }
        }
        sum
    }

    /// Descends from `start` over the `free` parameters.
    pub(crate) fn descend<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        start: [f64; P],
        free: [bool; P],
        steps: usize,
    ) -> Solution<P> {
        let mut at = Solution { theta: start, value: self.value(formula, &start), free };
        if !at.value.is_finite() {
            return at;
        }
        let mut damping = 1e-2;
        for _ in 0..steps {
            let here = self.expand(formula, &at.theta);
            let Some((next, last)) = self.step(formula, &at, &here, &mut damping) else { break };
            at = next;
            if last {
                break;
            }
        }
        at
    }

    /// One accepted step and whether it is the last; `None` where nothing descends any more.
    fn step<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        at: &Solution<P>,
        here: &Expansion<P>,
        damping: &mut f64,
    ) -> Option<(Solution<P>, bool)> {
        // Each failure multiplies the damping by 6: from the least damping to a step of nothing.
        for _ in 0..40 {
            let Some(step) = direction(here, &at.free, *damping) else {
                *damping = (*damping * 6.0).max(1e-6);
                continue;
            };
            let theta: [f64; P] = from_fn(|i| at.theta[i] + step[i]);
            let value = self.value(formula, &theta);
            let predicted = predicted_decrease(here, &step);
            // Where the model promises less than the roundings of the sum, the step is taken on
            // trust: it only sharpens the parameters.
            let settled = predicted.abs() <= 1e-15 * at.value;
            let trusted = settled && value <= at.value * (1.0 + 1e-12);
            if value < at.value || trusted {
                *damping = if *damping < 1e-10 { 0.0 } else { *damping / 8.0 };
                return Some((Solution { theta, value, ..*at }, settled));
            }
            if settled {
                return None;
            }
            *damping = (*damping * 6.0).max(1e-6);
        }
        None
    }

    /// Descends from each start a little, then from the most promising ones to the end; the best
    /// comes first. A floor that runs away to zero is held there.
    pub(crate) fn best_of<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        starts: &[[f64; P]],
    ) -> Vec<Solution<P>> {
        use rayon::prelude::*;
        let sorted = |mut list: Vec<Solution<P>>| {
            list.retain(|s| s.value.is_finite());
            list.sort_by(|a, b| a.value.total_cmp(&b.value));
            list
        };
        let short = |start: &[f64; P]| self.descend(formula, *start, [true; P], SHORT);
        let mut begun = sorted(starts.par_iter().map(short).collect());
        begun.truncate(KEPT);
        sorted(begun.par_iter().map(|s| self.finish(formula, s.theta)).collect())
    }

    /// The lowest minimum below `best` that descents from random starts about it reach, if any: each
    /// working parameter is moved by a normal draw of [`SCATTER`], logarithms and exponents alike.
    pub(crate) fn scattered<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        best: &Solution<P>,
        starts: usize,
        seed: u64,
    ) -> Option<Solution<P>> {
        use rayon::prelude::*;
        let numbers = 0..u64::try_from(starts).expect("below the limit of starts");
        let mut found: Vec<Solution<P>> = numbers
            .into_par_iter()
            .map(|number| {
                let mut draws = Stream::new(seed, Purpose::Resampling, STARTS + number);
                let mut theta = best.theta;
                // Half of the draws give a negative exponent; one in a million all of 64.
                for _ in 0..64 {
                    theta = from_fn(|i| best.theta[i] + SCATTER * draws.normal());
                    if formula.valid(&theta) {
                        break;
                    }
                }
                if let Some(floor) = formula.floor().filter(|&floor| !best.free[floor]) {
                    theta[floor] = least_loss(self.points).ln() - SCATTER * draws.uniform();
                }
                self.unless_known(formula, theta, best)
            })
            .filter_map(|found| found.filter(|s| s.value < best.value * (1.0 - 1e-9)))
            .collect();
        found.sort_by(|a, b| a.value.total_cmp(&b.value));
        found.first().copied()
    }

    /// A descent that ends early where it has come to `best`, or where after [`BLOCKS`] blocks it is
    /// still at more than twice its value.
    fn unless_known<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        start: [f64; P],
        best: &Solution<P>,
    ) -> Option<Solution<P>> {
        let mut theta = start;
        for _ in 0..BLOCKS {
            let at = self.descend(formula, theta, [true; P], BLOCK);
            theta = at.theta;
            let level = (at.value / best.value - 1.0).abs() < 1e-4;
            // A twentieth of a logarithm or exponent apart, and as high: the same valley.
            let near = |i: usize| !best.free[i] || (theta[i] - best.theta[i]).abs() < 0.05;
            if level && (0..P).all(near) {
                return None;
            }
            if !at.value.is_finite() {
                return None;
            }
        }
        (self.value(formula, &theta) < 2.0 * best.value).then(|| self.finish(formula, theta))
    }

    /// A full descent, with the floor held at zero where it runs there.
    pub(crate) fn finish<const P: usize, F: Formula<P>>(
        &self,
        formula: &F,
        start: [f64; P],
    ) -> Solution<P> {
        let mut free = [true; P];
        let mut start = start;
        if let Some(floor) = formula.floor() {
            free[floor] = start[floor] > NO_FLOOR;
        }
        let found = self.descend(formula, start, free, STEPS);
        let Some(floor) = formula.floor().filter(|&floor| free[floor]) else { return found };
        // Below 1e-8 of the least loss a floor is no floor but a descent towards none.
        if found.theta[floor] > least_loss(self.points).ln() - 18.0 {
            return found;
        }
        start = found.theta;
        start[floor] = NO_FLOOR;
        free[floor] = false;
        let without = self.descend(formula, start, free, STEPS);
        if without.value <= found.value * (1.0 + 1e-9) { without } else { found }
    }

    /// The same problem with another cost.
    pub(crate) fn with(self, rho: Rho) -> Self {
        Self { rho, ..self }
    }
}

/// How far random starts lie from the best: a factor of four in scales, and exponents of -1 to 2.
const SCATTER: f64 = 1.4;
/// Newton steps of a random start before it is looked at.
const BLOCK: usize = 8;
/// How often it is looked at: Newton's method needs 20 to 40 steps from such a start.
const BLOCKS: usize = 10;
/// The first stream of random starts, beyond those of replicates.
const STARTS: u64 = 1 << 32;
/// Steps of the first, short descents.
const SHORT: usize = 15;
/// Short descents that are carried to the end.
const KEPT: usize = 14;

fn direction<const P: usize>(
    here: &Expansion<P>,
    free: &[bool; P],
    damping: f64,
) -> Option<[f64; P]> {
    // Scaled by the majorant's diagonal, so that one threshold fits every parameter.
    let scale: [f64; P] = from_fn(|i| {
        let d = here.majorant[i][i];
        if d > 0.0 { d.sqrt().recip() } else { 1.0 }
    });
    let matrix: Matrix<P> = from_fn(|i| {
        from_fn(|j| {
            if !free[i] || !free[j] {
                return f64::from(u8::from(i == j));
            }
            let ridge = if i == j { 1e-4 * damping } else { 0.0 };
            scale[i] * scale[j] * (here.hessian[i][j] + damping * here.majorant[i][j]) + ridge
        })
    });
    let right: [f64; P] = from_fn(|i| if free[i] { -here.gradient[i] * scale[i] } else { 0.0 });
    let step = solve_positive(&matrix, &right)?;
    let step: [f64; P] = from_fn(|i| step[i] * scale[i]);
    // Logarithms and exponents: beyond e^4 in one step the expansion is not believed.
    let longest = step.iter().fold(0.0_f64, |a, s| a.max(s.abs()));
    let shrink = if longest > 4.0 { 4.0 / longest } else { 1.0 };
    Some(step.map(|s| s * shrink))
}

fn predicted_decrease<const P: usize>(here: &Expansion<P>, step: &[f64; P]) -> f64 {
    let mut sum = 0.0;
    for i in 0..P {
        let bend: f64 = (0..P).map(|j| here.hessian[i][j] * step[j]).sum();
        sum -= step[i] * (here.gradient[i] + 0.5 * bend);
    }
    sum
}

/// The minimum of sum |r|: delta shrinks to 1e-8, then the P residuals nearest zero are solved as
/// equations, because the minimum is such a vertex.
pub(crate) fn absolute<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    from: Solution<P>,
) -> Solution<P> {
    let mut at = from;
    let mut delta = 1e-3;
    while delta > 1e-8 {
        delta *= 0.25;
        at = problem.with(Rho::Huber(delta)).descend(formula, at.theta, at.free, STEPS);
    }
    let total = |theta: &[f64; P]| {
        let cost = problem.with(Rho::Huber(1e-300));
        // Huber with a vanishing delta, over delta, is the absolute value.
        cost.value(formula, theta) * 1e300
    };
    at.value = total(&at.theta);
    if let Some(theta) = vertex(problem, formula, &at) {
        let value = total(&theta);
        if value <= at.value * (1.0 + 1e-9) {
            return Solution { theta, value, ..at };
        }
    }
    at
}

/// Solves the P smallest residuals for zero, by Newton on P equations.
fn vertex<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    at: &Solution<P>,
) -> Option<[f64; P]> {
    if at.free.iter().any(|free| !free) {
        return None;
    }
    let residual = |theta: &[f64; P], point: &Point| {
        let loss = formula.loss(theta, point);
        (if problem.log { loss.ln() } else { loss }) - point.target
    };
    let mut nearest: Vec<&Point> = problem.weighted().map(|(point, _)| point).collect();
    nearest.sort_by(|a, b| residual(&at.theta, a).abs().total_cmp(&residual(&at.theta, b).abs()));
    let chosen: &[&Point] = nearest.get(..P)?;
    let mut theta = at.theta;
    // Newton doubles its digits: from 1e-8 three rounds reach the rounding.
    for _ in 0..6 {
        let jets: [_; P] = from_fn(|i| formula.jet(&theta, chosen[i]));
        let slope = |i: usize| if problem.log { jets[i].value.recip() } else { 1.0 };
        let matrix: Matrix<P> = from_fn(|i| jets[i].gradient.map(|g| g * slope(i)));
        let right: [f64; P] = from_fn(|i| -residual(&theta, chosen[i]));
        let step = solve(&matrix, &right)?;
        theta = from_fn(|i| theta[i] + step[i]);
    }
    formula.valid(&theta).then_some(theta)
}
