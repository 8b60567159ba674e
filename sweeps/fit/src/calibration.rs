//! Calibration: is a predictor right as often as it is confident?
//!
//! The expected calibration error (Naeini et al. 2015; Guo et al. 2017, 1706.04599) is the mean over
//! predictions of the distance, bin by bin, between the share that is right and the mean confidence:
//! ECE = sum_b n_b / n |right_b / n_b - confidence_b|. Chance alone makes it positive: of few
//! predictions, the share that is right is off even where the confidence is deserved. So it comes
//! with what a perfectly calibrated predictor would show on the same bins, and with an interval
//! from which that bias is removed.
//!
//! The interval is the basic bootstrap of Davison and Hinkley 1997, section 5.2: replicates draw the
//! counts of the bins and, in each, the number that is right; the quantiles of their error are
//! mirrored at the measured one, so a bias that the replicates add once more is taken off. The mean
//! confidence of a bin is taken as it is. The interval is cut at 0; where it begins there, the data
//! are those of a calibrated predictor.

use serde::Serialize;
use sweep_spec::random::{Purpose, Stream};

use crate::{
    error::FitError,
    statistics::{count, interval_95, mean},
};

/// Above this variance a binomial draw is a rounded normal one: its quantiles are then off by less
/// than a tenth of its standard deviation.
const NORMAL_VARIANCE: f64 = 30.0;

/// Predictions of like confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// How many.
    pub count: u64,
    /// How many of them are right.
    pub right: u64,
    /// Their mean confidence, 0 to 1; absent where there are none.
    pub confidence: Option<f64>,
}

/// How well confidence is deserved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The bins, in the order of confidence.
    pub bins: Vec<Bin>,
    /// Predictions.
    pub n: u64,
    /// Share that is right.
    pub accuracy: f64,
    /// Mean confidence; above the accuracy, the predictor thinks too well of itself.
    pub confidence: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// 95 % interval of it, with the bias of few predictions taken off; absent without replicates.
    pub ece_ci95: Option<[f64; 2]>,
    /// What the error of a perfectly calibrated predictor would be on these bins, by chance.
    pub ece_by_chance: Option<f64>,
}

/// Computes the calibration of binned predictions with `replicates` bootstrap draws.
///
/// # Errors
/// [`FitError`] without predictions, and for bins that no predictions can give.
pub fn calibration(bins: &[Bin], replicates: usize, seed: u64) -> Result<Calibration, FitError> {
    check(bins)?;
    let filled: Vec<(f64, f64, f64)> = bins
        .iter()
        .filter_map(|bin| Some((number(bin.count), number(bin.right), bin.confidence?)))
        .filter(|(count, ..)| *count > 0.0)
        .collect();
    let n: f64 = filled.iter().map(|(count, ..)| count).sum();
    let ece = error(&filled, n);
    let mut draws = Stream::new(seed, Purpose::Resampling, 0);
    let (mut errors, mut chance) = (Vec::with_capacity(replicates), Vec::with_capacity(replicates));
    for _ in 0..replicates {
        errors.push(error(&redrawn(&filled, n, &mut draws), n));
        let calibrated: Vec<(f64, f64, f64)> = filled
            .iter()
            .map(|&(count, _, confidence)| {
                (count, binomial(count, confidence, &mut draws), confidence)
            })
            .collect();
        chance.push(error(&calibrated, n));
    }
    let interval = || {
        let [low, high] = interval_95(errors);
        [(2.0 * ece - high).max(0.0), (2.0 * ece - low).max(0.0)]
    };
    Ok(Calibration {
        bins: bins.to_vec(),
        n: bins.iter().map(|bin| bin.count).sum(),
        accuracy: filled.iter().map(|(_, right, _)| right).sum::<f64>() / n,
        confidence: filled.iter().map(|(count, _, mean)| count * mean).sum::<f64>() / n,
        ece,
        ece_by_chance: (replicates > 0).then(|| mean(&chance)),
        ece_ci95: (replicates > 1).then(interval),
    })
}

fn check(bins: &[Bin]) -> Result<(), FitError> {
    if bins.iter().all(|bin| bin.count == 0) {
        return Err(FitError::Calibration("there are no predictions".to_owned()));
    }
    for (place, bin) in bins.iter().enumerate() {
        let confident = bin.confidence.is_some_and(|value| (0.0..=1.0 + 1e-9).contains(&value));
        if bin.right > bin.count || (bin.count > 0 && !confident) {
            return Err(FitError::Calibration(format!(
                "bin {place} has {} right of {} at confidence {:?}",
                bin.right, bin.count, bin.confidence
            )));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of predictions, far below 2^52")]
const fn number(n: u64) -> f64 {
    n as f64
}

/// Sum over bins of (count, right, confidence).
fn error(bins: &[(f64, f64, f64)], n: f64) -> f64 {
    bins.iter().map(|(count, right, confidence)| (right - count * confidence).abs()).sum::<f64>()
        / n
}

/// Counts drawn anew with the shares of the bins (a multinomial draw, one binomial after the
/// other), and in each the number that is right.
fn redrawn(bins: &[(f64, f64, f64)], n: f64, draws: &mut Stream) -> Vec<(f64, f64, f64)> {
    let (mut left, mut share_left) = (n, n);
    bins.iter()
        .map(|&(count, right, confidence)| {
            let drawn = binomial(left, (count / share_left).min(1.0), draws);
            left -= drawn;
            share_left -= count;
            (drawn, binomial(drawn, right / count, draws), confidence)
        })
        .collect()
}

/// The number of successes among `n` trials.
fn binomial(n: f64, share: f64, draws: &mut Stream) -> f64 {
    let share = share.clamp(0.0, 1.0);
    let variance = n * share * (1.0 - share);
    if variance == 0.0 {
        return (n * share).round();
    }
    if variance > NORMAL_VARIANCE {
        return (n * share + variance.sqrt() * draws.normal()).round().clamp(0.0, n);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let trials = n as usize;
    count((0..trials).filter(|_| draws.uniform() < share).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predictions with confidence c uniform in (0, 1), right with probability `right`(c).
    fn predict(n: usize, seed: u64, right: impl Fn(f64) -> f64) -> (Vec<Bin>, f64) {
        let mut draws = Stream::new(seed, Purpose::Resampling, 99);
        let mut bins = vec![(0_u64, 0_u64, 0.0); 10];
        let mut brier = 0.0;
        for _ in 0..n {
            let confidence = draws.uniform();
            let hit = draws.uniform() < right(confidence);
            let bin = &mut bins[(confidence * 10.0) as usize];
            (bin.0, bin.1, bin.2) = (bin.0 + 1, bin.1 + u64::from(hit), bin.2 + confidence);
            brier += (confidence - f64::from(u8::from(hit))).powi(2);
        }
        let bins = bins
            .into_iter()
            .map(|(count, right, sum)| {
                let confidence = (count > 0).then(|| sum / count as f64);
                Bin { count, right, confidence }
            })
            .collect();
        (bins, brier / n as f64)
    }

    /// Right with probability c^2 at confidence c: the error is the mean of c - c^2 = 1/6, the
    /// Brier score the mean of c^2 (1 - c)^2 + c^2 (1 - c^2) = 2/3 - 1/2 = 1/6 as well.
    #[test]
    fn an_overconfident_predictor_has_the_error_of_its_closed_form() {
        let (bins, brier) = predict(40_000, 1, |c| c * c);
        let found = calibration(&bins, 0, 0).expect("predictions");
        assert!((found.ece - 1.0 / 6.0).abs() < 0.008, "{}", found.ece);
        assert!((brier - 1.0 / 6.0).abs() < 0.004, "{brier}");
        assert!((found.confidence - 0.5).abs() < 0.01 && (found.accuracy - 1.0 / 3.0).abs() < 0.01);
        assert_eq!((found.ece_ci95, found.ece_by_chance), (None, None));
    }

    /// Right with probability c: the error is 0 but for chance, the Brier score the mean of
    /// c (1 - c) = 1/6.
    #[test]
    fn a_calibrated_predictor_shows_what_chance_makes() {
        let (bins, brier) = predict(4000, 2, |c| c);
        let found = calibration(&bins, 400, 0).expect("predictions");
        let chance = found.ece_by_chance.expect("replicates");
        assert!((brier - 1.0 / 6.0).abs() < 0.012, "{brier}");
        // Of 400 in each bin: the mean over bins of sqrt(2/pi) sqrt(c (1 - c) / 400) is 0.0157.
        assert!((chance - 0.0157).abs() < 0.002, "{chance}");
        assert!(found.ece < 0.03, "{}", found.ece);
        assert_eq!(found.ece_ci95.expect("replicates")[0], 0.0);
    }

    /// The interval covers the true error about as often as it says; 300 trials at 95 % have a
    /// standard deviation of 1.3 %, and the basic bootstrap is known to be a little too narrow.
    #[test]
    fn the_interval_covers_the_truth() {
        let trials = 300;
        let covered = (0..trials)
            .filter(|&trial| {
                let (bins, _) = predict(1000, 1000 + trial, |c| c * c);
                let found = calibration(&bins, 300, trial).expect("predictions");
                let [low, high] = found.ece_ci95.expect("replicates");
                (low..=high).contains(&(1.0 / 6.0))
            })
            .count();
        let share = covered as f64 / trials as f64;
        assert!((0.90..=0.99).contains(&share), "{share}");
    }

    #[test]
    fn the_same_bins_give_the_same_bits() {
        let (bins, _) = predict(500, 3, |c| c * c);
        assert_eq!(calibration(&bins, 50, 7), calibration(&bins, 50, 7));
        assert_ne!(calibration(&bins, 50, 7), calibration(&bins, 50, 8));
    }

    #[test]
    fn bins_that_cannot_be_are_refused() {
        let empty = Bin { count: 0, right: 0, confidence: None };
        assert!(calibration(&[empty], 10, 0).is_err());
        let more = Bin { count: 1, right: 2, confidence: Some(0.5) };
        assert!(calibration(&[more], 10, 0).is_err());
        let blind = Bin { count: 1, right: 1, confidence: None };
        assert!(calibration(&[blind], 10, 0).is_err());
    }
}
