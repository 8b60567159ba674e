//! What the scores themselves say: their noise, their resolution, how steep they rise, what
//! per-token accuracy implies, and whether size matters beyond loss.

use serde::Serialize;
use sweep_spec::random::{Purpose, Stream};

use super::{Axis, Scored};
use crate::statistics::{count, mean, median};

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a share of right answers (Wilson 1927): sound at 0 and 1, where the usual
/// one has no width.
#[must_use]
pub fn wilson(share: f64, items: u64) -> [f64; 2] {
    #[expect(clippy::cast_precision_loss, reason = "a number of items")]
    let n = items as f64;
    let z2 = Z * Z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half =
        Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// What the item counts say of all scores.
pub(super) struct Noise {
    pub(super) resolution: Option<f64>,
    pub(super) above_from: Option<f64>,
    pub(super) at_chance: usize,
    /// Median half-width of the scores' intervals.
    pub(super) half_width: Option<f64>,
}

impl Noise {
    pub(super) fn of(axis: Axis, points: &[Scored], chance: Option<f64>) -> Self {
        let mut sorted: Vec<&Scored> = points.iter().collect();
        sorted.sort_by(|a, b| axis.coordinate(a.x).total_cmp(&axis.coordinate(b.x)));
        let interval = |point: &Scored| {
            let items = point.items.filter(|_| (0.0..=1.0).contains(&point.score))?;
            Some(wilson(point.score, items))
        };
        let halves: Vec<f64> = sorted
            .iter()
            .filter_map(|point| interval(point).map(|[low, high]| 0.5 * (high - low)))
            .collect();
        let holds = |point: &Scored| {
            let [low, high] = interval(point)?;
            Some((low..=high).contains(&chance?))
        };
        let above = |point: &Scored| Some(interval(point)?[0] > chance?);
        let first =
            sorted.iter().rposition(|point| above(point) != Some(true)).map_or(0, |i| i + 1);
        let items = points.iter().filter_map(|point| point.items).min();
        #[expect(clippy::cast_precision_loss, reason = "a number of items")]
        let resolution = items.map(|items| 1.0 / items.max(1) as f64);
        Self {
            resolution,
            above_from: sorted.get(first).map(|point| point.x),
            at_chance: sorted.iter().filter(|point| holds(point) == Some(true)).count(),
            half_width: (!halves.is_empty()).then(|| median(halves)),
        }
    }
}

/// How a metric rises (BIG-bench, Srivastava et al. 2022, appendix B): I over the root of the mean,
/// or of the median, of the squared steps, I = sign(argmax - argmin) (max - min).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Steepness {
    /// Large where the scores rise evenly.
    pub linearity: f64,
    /// Large where few steps make the rise; absent where most steps are nothing.
    pub breakthroughness: Option<f64>,
}

/// Of scores in the order of scale; `None` where they are all equal.
pub(super) fn steepness(y: &[f64]) -> Option<Steepness> {
    let place = |greater: fn(f64, f64) -> bool| {
        (1..y.len()).fold(0, |best, i| if greater(y[i], y[best]) { i } else { best })
    };
    let (top, bottom) = (place(|a, b| a > b), place(|a, b| a < b));
    let rise = y[top] - y[bottom];
    if rise <= 0.0 {
        return None;
    }
    let signed = if top > bottom { rise } else { -rise };
    let squares: Vec<f64> = y.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).collect();
    let middle = median(squares.clone());
    Some(Steepness {
        linearity: signed / mean(&squares).sqrt(),
        breakthroughness: (middle > 0.0).then(|| signed / middle.sqrt()),
    })
}

/// An exact-match score beside what per-token accuracy implies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByLength {
    /// Tokens of an answer.
    pub length: f64,
    /// p^length for each score.
    pub predicted: Vec<f64>,
    /// Root mean squared difference from the scores.
    pub rmse: f64,
    /// Share of the scores' variance that it explains; negative where a constant does better.
    pub explained: f64,
    /// The length that explains the scores best, for comparison.
    pub best_length: f64,
}

/// Holds exact match against p^length (Schaeffer et al. 2023): pairs of per-token accuracy and
/// exact match. `None` without spread among the scores.
#[must_use]
pub fn by_length(pairs: &[(f64, f64)], length: f64) -> Option<ByLength> {
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    let centre = mean(&scores);
    let total: f64 = scores.iter().map(|score| (score - centre).powi(2)).sum();
    if pairs.is_empty() || total <= 0.0 {
        return None;
    }
    let squares = |length: f64| -> f64 {
        pairs.iter().map(|(token, score)| (token.powf(length) - score).powi(2)).sum()
    };
    // Lengths from 1 to 1000 in steps of 1 %.
    let best_length = (0..=690)
        .map(|i| (0.01 * f64::from(i)).exp())
        .min_by(|a, b| squares(*a).total_cmp(&squares(*b)))?;
    Some(ByLength {
        length,
        predicted: pairs.iter().map(|(token, _)| token.powf(length)).collect(),
        rmse: (squares(length) / count(pairs.len())).sqrt(),
        explained: 1.0 - squares(length) / total,
        best_length,
    })
}

/// Permutations of the test; the smallest p it can give is 1 in 2001.
const PERMUTATIONS: u64 = 2000;

/// Whether what a curve against loss leaves over depends on size: the p-value of a permutation test
/// on the correlation of residuals with ln N. Du et al. 2024 (2403.15796) find that it does not.
///
/// `residuals` and `log_sizes` are in the same order; a small p says that size matters beyond loss.
#[must_use]
pub fn size_matters(residuals: &[f64], log_sizes: &[f64], seed: u64) -> Option<f64> {
    let n = residuals.len().min(log_sizes.len());
    if n < 5 {
        return None;
    }
    let (r0, s0) = (mean(&residuals[..n]), mean(&log_sizes[..n]));
    let r: Vec<f64> = residuals[..n].iter().map(|r| r - r0).collect();
    let s: Vec<f64> = log_sizes[..n].iter().map(|s| s - s0).collect();
    if r.iter().all(|v| *v == 0.0) || s.iter().all(|v| v.abs() < 1e-12) {
        return None;
    }
    let product = |order: &[usize]| -> f64 {
        order.iter().zip(&s).map(|(i, s)| r[*i] * s).sum::<f64>().abs()
    };
    let mut order: Vec<usize> = (0..n).collect();
    let seen = product(&order) * (1.0 - 1e-12);
    let mut draws = Stream::new(seed, Purpose::Resampling, 0);
    let as_great = (0..PERMUTATIONS)
        .filter(|_| {
            for last in (1..n).rev() {
                let bound = u64::try_from(last + 1).expect("a count of scores");
                order.swap(last, usize::try_from(draws.below(bound)).expect("below n"));
            }
            product(&order) >= seen
        })
        .count();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    Some((count(as_great) + 1.0) / (PERMUTATIONS as f64 + 1.0))
}
