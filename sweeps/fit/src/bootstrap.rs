//! Intervals by resampling.
//!
//! - Cases (Efron 1979): observations are drawn with replacement; percentile interval. Few of them
//!   make few distinct resamples, and the interval is too narrow below about 25.
//! - Residuals: the fitted values plus draws of the scatter (see [`crate::scatter`]).
//! - Clusters (wild cluster bootstrap, Cameron, Gelbach and Miller 2008): the fitted values plus
//!   the jackknifed residuals of whole runs with Rademacher signs.
//!
//! In the last two each replicate's scatter is multiplied by sqrt(nu/chi^2_nu), since the noise is
//! itself only known from nu degrees of freedom: for a linear law the percentiles are then exactly
//! those of Student's t. Their percentiles are corrected for the bias of the replicates (BC of
//! Efron 1987). Each replicate draws from a stream of its own, so the result does not depend on the
//! number of threads.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sweep_spec::random::{Purpose, Stream};

use crate::{
    fit::Estimate,
    formula::{Centre, Formula, Point},
    interval::{Intervals, corrected_95},
    observation::Observation,
    scatter::Scatter,
    solver::{Problem, Solution, absolute},
    statistics::{count, deviation, interval_95},
};

/// Fewer degrees of freedom than this do not tell the shape of the noise: it is taken as normal.
const SHAPE: usize = 24;
/// From here on chi squared is drawn by the transformation of Wilson and Hilferty 1931, whose
/// quantiles are then good to 1e-3.
const MANY: usize = 30;

/// What is refitted.
pub(crate) struct Task<'a> {
    pub(crate) problem: Problem<'a>,
    /// The objective is the absolute value.
    pub(crate) is_l1: bool,
    pub(crate) centre: Centre,
    pub(crate) seed: u64,
    pub(crate) intervals: Intervals,
}

/// What was resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling {
    /// Observations, with replacement.
    Cases,
    /// Their scatter about the law.
    Residuals,
    /// The signs of whole runs' residuals.
    Clusters,
}

impl Resampling {
    /// The 95 % interval of a number from its replicates.
    pub(crate) fn interval(self, drawn: Vec<f64>, value: f64) -> [f64; 2] {
        match self {
            Self::Cases => interval_95(drawn),
            Self::Residuals | Self::Clusters => corrected_95(drawn, value),
        }
    }

    /// A function of the parameters with its standard error and interval.
    pub(crate) fn estimate(
        self,
        replicates: &[Vec<f64>],
        value: f64,
        of: impl Fn(&[f64]) -> Option<f64>,
    ) -> Estimate {
        let drawn: Vec<f64> =
            replicates.iter().filter_map(|values| of(values)).filter(|v| v.is_finite()).collect();
        if drawn.len() < 2 {
            return Estimate::exact(value);
        }
        let se = deviation(&drawn);
        Estimate { value, se: Some(se), ci95: Some(self.interval(drawn, value)) }
    }
}

/// The refitted parameters.
pub(crate) struct Resampled {
    pub(crate) replicates: Vec<Vec<f64>>,
    pub(crate) of: Resampling,
}

impl Resampled {
    /// A function of the parameters with its standard error and interval.
    pub(crate) fn estimate(&self, value: f64, of: impl Fn(&[f64]) -> Option<f64>) -> Estimate {
        self.of.estimate(&self.replicates, value, of)
    }
}

/// How a replicate is made.
enum Plan {
    Cases,
    Residuals(Scatter),
    Clusters {
        fitted: Vec<f64>,
        residuals: Vec<f64>,
        of_row: Vec<usize>,
        clusters: usize,
        degrees: usize,
    },
}

/// Refits `replicates` resamples, each warm from the full fit: on published tables none of 300
/// missed its global minimum.
pub(crate) fn resample<const P: usize, F: Formula<P>>(
    task: &Task<'_>,
    formula: &F,
    best: &Solution<P>,
    rows: &[Observation],
    replicates: usize,
) -> Resampled {
    let plan = Plan::of(task, formula, best, rows);
    let refit = |problem: &Problem<'_>| {
        let found = problem.finish(formula, best.theta);
        let found = if task.is_l1 { absolute(problem, formula, found) } else { found };
        formula.natural(&found.theta, task.centre).to_vec()
    };
    let numbers = 0..u64::try_from(replicates).expect("below the limit of replicates");
    let replicates = numbers
        .into_par_iter()
        .map(|number| {
            let mut draws = Stream::new(task.seed, Purpose::Resampling, number);
            match plan.targets(&mut draws, task.problem.points) {
                None => {
                    let weights = cases(&mut draws, rows.len());
                    refit(&Problem { weights: Some(&weights), ..task.problem })
                }
                Some(targets) => {
                    let moved = |(point, target): (&Point, f64)| {
                        let loss = if task.problem.log { target.exp() } else { target };
                        Point { target, loss, ..*point }
                    };
                    let points: Vec<Point> =
                        task.problem.points.iter().zip(targets).map(moved).collect();
                    refit(&Problem { points: &points, ..task.problem })
                }
            }
        })
        .collect();
    let of = match plan {
        Plan::Cases => Resampling::Cases,
        Plan::Residuals(_) => Resampling::Residuals,
        Plan::Clusters { .. } => Resampling::Clusters,
    };
    Resampled { replicates, of }
}

impl Plan {
    fn of<const P: usize, F: Formula<P>>(
        task: &Task<'_>,
        formula: &F,
        best: &Solution<P>,
        rows: &[Observation],
    ) -> Self {
        let scatter = || Scatter::of(&task.problem, formula, best);
        match (clusters(rows), task.intervals) {
            (None, Intervals::Residual) => Self::Residuals(scatter()),
            (None, _) => Self::Cases,
            (Some((of_row, clusters)), _) => {
                let scatter = scatter();
                let weights: Vec<f64> = task.problem.points.iter().map(|p| p.weight).collect();
                let residuals = scatter.of_clusters(&of_row, clusters, &weights);
                // Jackknifed residuals go with Student's t of one less than the clusters (Hansen 2022).
                let degrees = clusters.saturating_sub(1).max(1);
                Self::Clusters { fitted: scatter.fitted, residuals, of_row, clusters, degrees }
            }
        }
    }

    /// What the points of a replicate measured; `None` for cases.
    fn targets(&self, draws: &mut Stream, points: &[Point]) -> Option<Vec<f64>> {
        match self {
            Self::Cases => None,
            Self::Residuals(scatter) => {
                let scale = scale(draws, scatter.degrees);
                let n = u64::try_from(points.len()).expect("a count of rows");
                let mut noise = |point: &Point| {
                    if scatter.degrees < SHAPE {
                        draws.normal() * scatter.sigma / point.weight.sqrt()
                    } else {
                        let other = usize::try_from(draws.below(n)).expect("below n");
                        // Another's residual at this one's precision.
                        scatter.full[other] * (points[other].weight / point.weight).sqrt()
                    }
                };
                let fitted = scatter.fitted.iter().zip(points);
                Some(fitted.map(|(fitted, point)| fitted + scale * noise(point)).collect())
            }
            Self::Clusters { fitted, residuals, of_row, clusters, degrees } => {
                let scale = scale(draws, *degrees);
                let signs: Vec<f64> = (0..*clusters)
                    .map(|_| if draws.below(2) == 0 { scale } else { -scale })
                    .collect();
                let rows = fitted.iter().zip(residuals).zip(of_row);
                Some(rows.map(|((fitted, r), &cluster)| fitted + signs[cluster] * r).collect())
            }
        }
    }
}

/// A draw of sqrt(nu/chi^2_nu).
fn scale(draws: &mut Stream, degrees: usize) -> f64 {
    let nu = count(degrees);
    let share = if degrees < MANY {
        (0..degrees).map(|_| draws.normal().powi(2)).sum::<f64>() / nu
    } else {
        let part = 2.0 / (9.0 * nu);
        (1.0 - part + draws.normal() * part.sqrt()).powi(3)
    };
    share.sqrt().recip()
}

/// The cluster of each row and how many there are; `None` where the rows bear no group.
fn clusters(rows: &[Observation]) -> Option<(Vec<usize>, usize)> {
    let mut numbers = BTreeMap::new();
    let mut of_row = Vec::with_capacity(rows.len());
    for row in rows {
        let next = numbers.len();
        of_row.push(*numbers.entry(row.group.as_deref()?).or_insert(next));
    }
    Some((of_row, numbers.len()))
}

/// How often each of `n` cases is drawn in `n` draws with replacement.
fn cases(draws: &mut Stream, n: usize) -> Vec<f64> {
    let mut weights = vec![0.0; n];
    let bound = u64::try_from(n).expect("a count of rows");
    for _ in 0..n {
        weights[usize::try_from(draws.below(bound)).expect("below n")] += 1.0;
    }
    weights
}
