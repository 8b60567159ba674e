//! A long curve as a few buckets for a drawing. Exports and fits use the complete curve.

use sweep_spec::metric::Point;

/// Neighbouring points of a curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Step of the first point.
    pub first_step: u64,
    /// Step of the last point.
    pub last_step: u64,
    /// Number of points.
    pub points: u32,
    /// Of these, NaN or infinite.
    pub not_finite: u32,
    /// Smallest finite value.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// The value at the last step.
    pub last: f64,
}

/// At most `buckets_max` buckets of as equal a number of points as can be, in step order. No spike
/// and no end is lost: each bucket keeps its extremes and its last value.
#[must_use]
pub fn downsample(points: &[Point], buckets_max: usize) -> Vec<Bucket> {
    let buckets = buckets_max.min(points.len());
    (0..buckets)
        .map(|index| {
            let start = index * points.len() / buckets;
            let end = (index + 1) * points.len() / buckets;
            bucket(&points[start..end])
        })
        .collect()
}

fn bucket(points: &[Point]) -> Bucket {
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let finite = || points.iter().map(|point| point.value).filter(|value| value.is_finite());
    let size = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Bucket {
        first_step: first.step,
        last_step: last.step,
        points: size(points.len()),
        not_finite: size(points.len() - finite().count()),
        min: finite().reduce(f64::min),
        max: finite().reduce(f64::max),
        last: last.value,
    }
}

#[cfg(test)]
mod tests {
    use sweep_spec::metric::Metric;

    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        (0..)
            .zip(values)
            .map(|(step, &value)| Point { metric: Metric::TrainLoss, step, value })
            .collect()
    }

    #[test]
    fn buckets_keep_extremes_ends_and_counts() {
        let mut values: Vec<f64> = (0..10_007).map(|step| 5.0 - f64::from(step) * 1e-4).collect();
        values[5000] = 99.0;
        values[10_006] = f64::NAN;
        let buckets = downsample(&points(&values), 1000);
        assert_eq!(buckets.len(), 1000);
        assert_eq!(buckets.iter().map(|bucket| bucket.points).sum::<u32>(), 10_007);
        assert_eq!(buckets.iter().filter_map(|bucket| bucket.max).fold(0.0, f64::max), 99.0);
        let last = &buckets[999];
        assert!(last.last.is_nan() && last.not_finite == 1 && last.last_step == 10_006);
        assert!(buckets.windows(2).all(|pair| pair[0].last_step < pair[1].first_step));
    }

    #[test]
    fn a_short_curve_keeps_every_point() {
        let buckets = downsample(&points(&[3.0, f64::INFINITY, 1.0]), 1000);
        assert_eq!(buckets.len(), 3);
        assert_eq!((buckets[1].min, buckets[1].not_finite), (None, 1));
        assert!(downsample(&[], 10).is_empty());
    }
}
