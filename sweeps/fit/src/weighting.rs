//! Weights by seed noise: an observation counts by the inverse of its variance over seeds, so that
//! small noisy runs do not outvote large quiet ones.
//!
//! The noise is the table's own column where it has one. Else it is read from sizes that were
//! trained more than once: their pooled variances on a line of ln variance against ln C, which the
//! other observations take from their compute. Weights have mean 1, so delta and the objective keep
//! their scale.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    error::FitError,
    law::Law,
    observation::Observation,
    statistics::{count, mean},
};

/// How observations are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// All alike.
    #[default]
    Equal,
    /// By the inverse variance over seeds.
    SeedNoise,
}

impl Weighting {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Equal, Self::SeedNoise];

    /// Its name in options and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::SeedNoise => "seed-noise",
        }
    }
}

impl FromStr for Weighting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|way| way.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no weighting; hint: one of {names}")
        })
    }
}

/// Repeated sizes that a trend of the noise needs: a line through fewer has no scatter to judge.
const SIZES: usize = 3;
/// No observation outweighs the mean by more than this, whatever the noise claims: a noise of
/// nothing would make one run the whole fit.
const LARGEST: f64 = 100.0;

/// The weights of some rows, with mean 1. Variances are relative for log objectives and in nats
/// squared for raw ones.
///
/// # Errors
/// [`FitError::NoSeedNoise`] where neither a noise column nor repeated sizes tell the noise.
pub(crate) fn weights(
    law: Law,
    rows: &[Observation],
    weighting: Weighting,
    log: bool,
) -> Result<Vec<f64>, FitError> {
    if weighting == Weighting::Equal {
        return Ok(vec![1.0; rows.len()]);
    }
    let given = rows.iter().filter(|row| row.noise.is_some()).count();
    let variances = match given {
        0 => from_repeats(law, rows, log)?,
        _ if given == rows.len() => rows
            .iter()
            .map(|row| row.noise.map(|noise| scaled(noise, row.loss, log).powi(2)))
            .collect::<Option<Vec<f64>>>()
            .expect("every row has its noise"),
        _ => return Err(FitError::NoSeedNoise { given, rows: rows.len(), repeated: 0 }),
    };
    let mut weights: Vec<f64> = variances.iter().map(|variance| variance.recip()).collect();
    let centre = mean(&weights);
    for weight in &mut weights {
        *weight = (*weight / centre).min(LARGEST);
    }
    let centre = mean(&weights);
    Ok(weights.into_iter().map(|weight| weight / centre).collect())
}

fn scaled(noise: f64, loss: f64, log: bool) -> f64 {
    if log { noise / loss } else { noise }
}

/// A size that was trained more than once.
pub(crate) struct Repeated {
    /// Trainings less one.
    pub(crate) degrees: usize,
    /// Sum of squared deviations of loss over mean loss, from 1.
    pub(crate) squares: f64,
    /// The mean loss.
    pub(crate) loss: f64,
    /// ln of its compute, or of the one variable.
    log_scale: f64,
}

/// The sizes that were trained more than once with different losses.
pub(crate) fn repeated(law: Law, rows: &[Observation]) -> Vec<Repeated> {
    let mut seen: BTreeMap<(u64, u64, u64), Vec<&Observation>> = BTreeMap::new();
    for row in rows {
        // The same sizes over other unique tokens are another training.
        let unique = row.unique.map_or(0, f64::to_bits);
        let key = if law.one_variable() {
            row.single().map(|x| (x.to_bits(), 0, unique))
        } else {
            row.n.zip(row.tokens()).map(|(n, d)| (n.to_bits(), d.to_bits(), unique))
        };
        if let Some(key) = key {
            seen.entry(key).or_default().push(row);
        }
    }
    seen.values()
        .filter(|rows| rows.iter().any(|row| row.loss != rows[0].loss))
        .filter_map(|rows| {
            let loss = mean(&rows.iter().map(|row| row.loss).collect::<Vec<f64>>());
            let squares = rows.iter().map(|row| (row.loss / loss - 1.0).powi(2)).sum();
            let log_scale = rows[0].scale(Some(law))?.ln();
            Some(Repeated { degrees: rows.len() - 1, squares, loss, log_scale })
        })
        .collect()
}

fn from_repeats(law: Law, rows: &[Observation], log: bool) -> Result<Vec<f64>, FitError> {
    let repeated = repeated(law, rows);
    if repeated.len() < SIZES {
        return Err(FitError::NoSeedNoise { given: 0, rows: rows.len(), repeated: repeated.len() });
    }
    // Weighted by degrees of freedom, to which the precision of a log variance is proportional. Its
    // mean is off by a constant that depends on them alone (-1.27 at one), which the line's slope
    // does not see where they are alike, and weights of mean 1 never.
    let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for size in &repeated {
        let degrees = count(size.degrees);
        let unit = if log { 1.0 } else { size.loss * size.loss };
        let variance = (unit * size.squares / degrees).ln();
        w += degrees;
        x += degrees * size.log_scale;
        y += degrees * variance;
        xx += degrees * size.log_scale * size.log_scale;
        xy += degrees * size.log_scale * variance;
    }
    let (x0, y0) = (x / w, y / w);
    let spread = xx / w - x0 * x0;
    let slope = if spread > 1e-12 { (xy / w - x0 * y0) / spread } else { 0.0 };
    rows.iter()
        .map(|row| {
            let log_scale = row.scale(Some(law))?.ln();
            Some((y0 + slope * (log_scale - x0)).exp())
        })
        .collect::<Option<Vec<f64>>>()
        .ok_or(FitError::NoSeedNoise { given: 0, rows: rows.len(), repeated: repeated.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: f64, loss: f64, noise: Option<f64>) -> Observation {
        Observation { noise, ..Observation::new(n, 1e9, loss) }
    }

    #[test]
    fn a_noise_column_weighs_by_its_inverse_square() {
        let rows = [row(1e6, 4.0, Some(0.04)), row(1e7, 2.0, Some(0.01))];
        let of = |log| weights(Law::Separable, &rows, Weighting::SeedNoise, log).unwrap();
        let (log, raw) = (of(true), of(false));
        assert!((log[1] / log[0] - 4.0).abs() < 1e-12 && (raw[1] / raw[0] - 16.0).abs() < 1e-12);
        assert!((log.iter().sum::<f64>() - 2.0).abs() < 1e-12);
        let equal = weights(Law::Separable, &rows, Weighting::Equal, true).unwrap();
        assert_eq!(equal, [1.0, 1.0]);
    }

    /// Noise that halves with each decade of N: weights rise fourfold.
    #[test]
    fn repeated_sizes_give_a_trend() {
        let mut rows = Vec::new();
        for decade in 0..4 {
            let (n, noise) = (10.0_f64.powi(6 + decade), 0.01 * 0.5_f64.powi(decade));
            rows.extend([row(n, 3.0 * (1.0 + noise), None), row(n, 3.0 * (1.0 - noise), None)]);
        }
        rows.push(row(1e10, 3.0, None));
        let found = weights(Law::Separable, &rows, Weighting::SeedNoise, true).unwrap();
        for pair in [(2, 0), (4, 2), (8, 6)] {
            assert!((found[pair.0] / found[pair.1] - 4.0).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        for way in Weighting::ALL {
            assert_eq!(way.name().parse(), Ok(way));
        }
        assert!("inverse".parse::<Weighting>().unwrap_err().contains("seed-noise"));
    }

    #[test]
    fn noise_that_nothing_tells_is_refused() {
        let rows = [row(1e6, 4.0, Some(0.1)), row(1e7, 3.0, None)];
        let refused = |rows: &[Observation]| {
            weights(Law::Separable, rows, Weighting::SeedNoise, true).unwrap_err().to_string()
        };
        assert!(refused(&rows).contains("1 of 2"), "{}", refused(&rows));
        let rows = [row(1e6, 4.0, None), row(1e6, 4.1, None), row(1e7, 3.0, None)];
        assert!(refused(&rows).contains("1 size"), "{}", refused(&rows));
    }
}
