//! Curves as they come from a store: complete, or gathered into buckets for a drawing; and the curve
//! along the path of a branch, which begins with its trunk's.

use std::ops::Deref;

use sweep_plot::input::CurvePoint;
use sweep_proto::v1;
use sweep_spec::{metric::Metric, run::RunConfig};

use super::{RunResult, SweepResults};
use crate::exit::Failure;

/// Buckets of all curves of a metric together: those of a hundred runs, which is as many as a
/// drawing holds. More runs share them.
const BUCKETS_ALL: usize = 100_000;
/// Buckets of one curve, the most that a coordinator gives.
const BUCKETS_MOST: usize = 1000;
/// Fewer make a curve look broken where it is drawn over a logarithm.
const BUCKETS_LEAST: usize = 100;

/// Which curves a command needs, which are the bulk of a sweep, and whether the attempts too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Of these metrics.
    pub(crate) metrics: &'a [Metric],
    /// Gathered into buckets instead of complete.
    gathered: bool,
    /// Also every attempt at a run.
    pub(crate) with_attempts: bool,
}

impl<'a> Asked<'a> {
    /// None.
    pub(crate) const NONE: Self = Self { metrics: &[], gathered: false, with_attempts: false };

    /// With every point, for fits and exports.
    pub(crate) const fn complete(metrics: &'a [Metric]) -> Self {
        Self { metrics, gathered: false, with_attempts: false }
    }

    /// As few buckets as drawings need. Their last values are those of the complete curve.
    pub(crate) const fn drawn(metrics: &'a [Metric]) -> Self {
        Self { metrics, gathered: true, with_attempts: false }
    }

    /// The same with the attempts.
    pub(crate) const fn and_attempts(self) -> Self {
        Self { with_attempts: true, ..self }
    }

    /// The buckets of a curve in a sweep of so many runs; absent for complete curves.
    pub(crate) fn buckets(&self, runs: usize) -> Option<usize> {
        let shared = BUCKETS_ALL / runs.max(1);
        self.gathered.then(|| shared.clamp(BUCKETS_LEAST, BUCKETS_MOST))
    }
}

/// Takes the parts of complete curves as they come: run, metric, steps with values.
pub(crate) type PartSink<'a> = dyn FnMut(&str, Metric, &[(u64, f64)]) -> Result<(), Failure> + 'a;

/// A curve: steps and values; where it was gathered, of each bucket the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    points: Vec<(u64, f64)>,
    /// What each value stands for; empty for a complete curve.
    gathered: Vec<Gathered>,
}

/// The points of a bucket beside the last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gathered {
    first_step: u64,
    points: u32,
    /// Least and largest of its finite values, where they differ.
    spread: Option<[f64; 2]>,
}

impl Deref for Curve {
    type Target = [(u64, f64)];

    fn deref(&self) -> &[(u64, f64)] {
        &self.points
    }
}

impl From<Vec<(u64, f64)>> for Curve {
    fn from(points: Vec<(u64, f64)>) -> Self {
        Self { points, gathered: Vec::new() }
    }
}

impl Curve {
    /// Adds the next part of it: points, or buckets.
    pub(crate) fn extend(&mut self, part: v1::Curve) {
        self.points.extend(part.steps.into_iter().zip(part.values));
        for bucket in part.buckets {
            self.push(&bucket);
        }
    }

    /// Adds a bucket.
    pub(crate) fn push(&mut self, bucket: &v1::Bucket) {
        self.points.push((bucket.last_step, bucket.last));
        self.gathered.push(Gathered {
            first_step: bucket.first_step,
            points: bucket.points,
            spread: bucket.min.zip(bucket.max).map(|(l, h)| [l, h]).filter(|[l, h]| l < h),
        });
    }

    /// What the value at a place stands for.
    fn at(&self, place: usize) -> Gathered {
        let alone = || Gathered { first_step: self.points[place].0, points: 1, spread: None };
        self.gathered.get(place).copied().unwrap_or_else(alone)
    }

    /// The step of its first point.
    fn begun(&self) -> Option<u64> {
        (!self.points.is_empty()).then(|| self.at(0).first_step)
    }

    /// Its values with what they stand for.
    fn values(&self) -> impl Iterator<Item = (u64, f64, Gathered)> {
        self.points.iter().enumerate().map(|(place, &(step, value))| (step, value, self.at(place)))
    }
}

impl SweepResults {
    /// The curve along the path of a run: of a branch its trunk's up to where it began itself, then
    /// its own. Nothing before it has points of its own.
    fn path(&self, run: &RunResult, metric: Metric) -> Curve {
        let curve = |id: &str| self.curves.get(id).and_then(|curves| curves.get(&metric));
        let Some(own) = curve(&run.id) else { return Curve::default() };
        let trunk = run.run.config.parent.as_ref().and_then(|edge| curve(edge.run.as_str()));
        // Without its trunk's checkpoint it trained steps before the fork again: its own count.
        let curves = self.curves.get(&run.id).into_iter().flat_map(|curves| curves.values());
        let begun = curves.filter_map(Curve::begun).min();
        joined(trunk, own, run.run.config.first_step(), begun.unwrap_or(0))
    }

    /// The curve along the path of a run as figures take it.
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub(super) fn drawn(&self, run: &RunResult, metric: Metric) -> Vec<CurvePoint> {
        let config: &RunConfig = &run.run.config;
        let seconds = self.path(run, Metric::Seconds);
        let per_step = config.tokens_per_step() as f64;
        let flops_per_token = config.shape.flops_per_token();
        let path = self.path(run, metric);
        path.values()
            .map(|(step, loss, Gathered { points, spread, .. })| {
                let tokens = step as f64 * per_step;
                CurvePoint {
                    step: step as f64,
                    tokens,
                    flops: tokens * flops_per_token,
                    seconds: between(&seconds, step),
                    loss,
                    points,
                    spread,
                }
            })
            .collect()
    }
}

/// The value of a curve at a step, on a straight line between its neighbours; `None` beyond the
/// ends of the curve.
#[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
fn between(curve: &[(u64, f64)], step: u64) -> Option<f64> {
    let place = curve.partition_point(|(at, _)| *at < step);
    let &(after, high) = curve.get(place)?;
    if after == step {
        return Some(high);
    }
    let &(before, low) = curve.get(place.checked_sub(1)?)?;
    let share = (step - before) as f64 / (after - before) as f64;
    Some(low + share * (high - low))
}

/// A trunk's points up to the fork and before the first step of its branch's own, then these. A
/// bucket that reaches beyond is left out whole.
fn joined(trunk: Option<&Curve>, own: &Curve, fork: u64, begun: u64) -> Curve {
    let before = trunk.into_iter().flat_map(Curve::values);
    let before = before.filter(|(step, ..)| *step <= fork && *step < begun);
    let mut path = Curve::default();
    for (step, value, gathered) in before.chain(own.values()) {
        path.points.push((step, value));
        path.gathered.push(gathered);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_trunk_up_to_the_fork_and_then_the_branch() {
        let curve = |points: &[(u64, f64)]| Curve::from(points.to_vec());
        let trunk = curve(&[(10, 5.0), (20, 4.0), (30, 3.5), (40, 3.0)]);
        let own = curve(&[(32, 3.4), (36, 2.9)]);
        let path = joined(Some(&trunk), &own, 30, 32);
        assert_eq!(*path, [(10, 5.0), (20, 4.0), (30, 3.5), (32, 3.4), (36, 2.9)]);
        // It trained steps before the fork again: a curve has one value per step.
        let again = curve(&[(21, 3.9), (30, 3.5), (36, 2.9)]);
        let path = joined(Some(&trunk), &again, 30, 21);
        assert_eq!(*path, [(10, 5.0), (20, 4.0), (21, 3.9), (30, 3.5), (36, 2.9)]);
        assert_eq!(*joined(None, &own, 0, 32), *own);
    }

    fn bucket(first_step: u64, last_step: u64, [min, max, last]: [f64; 3]) -> v1::Bucket {
        let points = u32::try_from(last_step + 1 - first_step).unwrap();
        let (min, max) = (Some(min), Some(max));
        v1::Bucket { first_step, last_step, points, not_finite: 0, min, max, last }
    }

    #[test]
    fn buckets_keep_their_extremes_and_none_of_a_trunk_reaches_beyond_the_fork() {
        let mut trunk = Curve::default();
        trunk.push(&bucket(1, 10, [4.0, 6.0, 4.5]));
        trunk.push(&bucket(11, 20, [3.0, 5.0, 3.5]));
        let mut own = Curve::default();
        own.push(&bucket(16, 16, [3.4, 3.4, 3.4]));
        own.push(&bucket(17, 18, [2.9, 3.1, f64::NAN]));
        assert_eq!(own.begun(), Some(16));
        let path = joined(Some(&trunk), &own, 15, 16);
        let found: Vec<_> = path
            .values()
            .map(|(step, _, gathered)| (step, gathered.points, gathered.spread))
            .collect();
        assert_eq!(found, [(10, 10, Some([4.0, 6.0])), (16, 1, None), (18, 2, Some([2.9, 3.1]))]);
    }

    #[test]
    fn many_runs_share_the_buckets_of_a_hundred() {
        let buckets = |runs| Asked::drawn(&[Metric::TrainLoss]).buckets(runs);
        let found = [0, 100, 400, 10_000].map(buckets);
        assert_eq!(found, [Some(1000), Some(1000), Some(250), Some(100)]);
        assert_eq!(Asked::complete(&[Metric::TrainLoss]).buckets(1), None);
    }

    #[test]
    fn a_value_between_two_points_lies_on_their_line() {
        let seconds = [(10, 1.0), (20, 2.0), (40, 6.0)];
        assert_eq!(between(&seconds, 20), Some(2.0));
        assert_eq!(between(&seconds, 25), Some(3.0));
        assert_eq!(between(&seconds, 9), None);
        assert_eq!(between(&seconds, 41), None);
        assert_eq!(between(&[], 1), None);
    }
}
