//! Intervals by resampling.
//!
//! Without groups: case bootstrap (Efron 1979), percentile interval. With groups: wild cluster
//! bootstrap (Cameron, Gelbach and Miller 2008): the fitted values plus residuals whose sign flips
//! run by run, interval by Student's t. Each replicate draws from a stream of its own, so the
//! result does not depend on the number of threads.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sweep_spec::random::{Purpose, Stream};

use crate::{
    fit::Estimate,
    formula::{Centre, Formula, Point},
    observation::Observation,
    solver::{Problem, Solution, absolute},
    statistics::{deviation, interval_95, student_975},
};

/// What is refitted.
pub(crate) struct Task<'a> {
    pub(crate) problem: Problem<'a>,
    /// The objective is the absolute value.
    pub(crate) is_l1: bool,
    pub(crate) centre: Centre,
    pub(crate) seed: u64,
}

/// The refitted parameters.
pub(crate) struct Resampled {
    pub(crate) replicates: Vec<Vec<f64>>,
    /// Clusters, where the signs of whole runs were flipped.
    clusters: Option<usize>,
}

impl Resampled {
    /// A function of the parameters with its standard error and interval.
    pub(crate) fn estimate(&self, value: f64, of: impl Fn(&[f64]) -> Option<f64>) -> Estimate {
        let drawn: Vec<f64> = self
            .replicates
            .iter()
            .filter_map(|replicate| of(replicate))
            .filter(|v| v.is_finite())
            .collect();
        if drawn.len() < 2 {
            return Estimate::exact(value);
        }
        let se = deviation(&drawn);
        let ci95 = match self.clusters {
            None => interval_95(drawn),
            Some(clusters) => {
                let half = student_975(clusters.saturating_sub(1)) * se;
                [value - half, value + half]
            }
        };
        Estimate { value, se: Some(se), ci95: Some(ci95) }
    }
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
    let clusters = clusters(rows);
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
            match &clusters {
                None => {
                    let weights = cases(&mut draws, rows.len());
                    refit(&Problem { weights: Some(&weights), ..task.problem })
                }
                Some((of_row, count)) => {
                    let signs: Vec<f64> =
                        (0..*count).map(|_| if draws.below(2) == 0 { 1.0 } else { -1.0 }).collect();
                    let points = flipped(&task.problem, formula, best, of_row, &signs);
                    refit(&Problem { points: &points, ..task.problem })
                }
            }
        })
        .collect();
    Resampled { replicates, clusters: clusters.map(|(_, count)| count) }
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

fn flipped<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    of_row: &[usize],
    signs: &[f64],
) -> Vec<Point> {
    let one = |(point, &cluster): (&Point, &usize)| {
        let loss = formula.loss(&best.theta, point);
        let fitted = if problem.log { loss.ln() } else { loss };
        let target = fitted + signs[cluster] * (point.target - fitted);
        let loss = if problem.log { target.exp() } else { target };
        Point { target, loss, ..*point }
    };
    problem.points.iter().zip(of_row).map(one).collect()
}
