//! How 95 % intervals are made, and the percentiles they are read from.

use std::str::FromStr;

use crate::statistics::{count, normal_cdf, normal_quantile, quantile};

/// The way to an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intervals {
    /// Case bootstrap without groups, wild cluster bootstrap with them. Needs resampled fits.
    #[default]
    Bootstrap,
    /// Residual bootstrap without groups, wild cluster bootstrap with them: holds its coverage
    /// down to a handful of runs. Needs resampled fits, and gives no interval without.
    Residual,
    /// Profile of the objective: each parameter is moved and the rest minimised over. Needs none.
    Profile,
}

impl Intervals {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Bootstrap, Self::Residual, Self::Profile];

    /// Its name in options and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Residual => "residual",
            Self::Profile => "profile",
        }
    }
}

impl FromStr for Intervals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|way| way.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no way to an interval; hint: one of {names}")
        })
    }
}

/// The normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

/// The 2.5 and 97.5 % quantiles of replicates, corrected for their median bias against the value
/// that they resample (BC: Efron 1987, section 2).
pub(crate) fn corrected_95(mut drawn: Vec<f64>, value: f64) -> [f64; 2] {
    drawn.sort_by(f64::total_cmp);
    let below = drawn.partition_point(|v| *v < value);
    let not_above = drawn.partition_point(|v| *v <= value);
    // Ties count half; never all or none, which has no quantile.
    let share = (0.5 * count(below + not_above)).clamp(0.5, count(drawn.len()) - 0.5);
    let bias = normal_quantile(share / count(drawn.len()));
    [-Z, Z].map(|z| quantile(&drawn, normal_cdf(2.0 * bias + z)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unbiased_replicates_keep_their_quantiles() {
        let drawn: Vec<f64> = (0..1001).map(f64::from).collect();
        let [low, high] = corrected_95(drawn.clone(), 500.0);
        assert!((low - 25.0).abs() < 0.5 && (high - 975.0).abs() < 0.5, "{low} {high}");
        // Replicates mostly below the value: the interval moves up.
        let [low, high] = corrected_95(drawn, 700.0);
        assert!(low > 150.0 && high > 995.0, "{low} {high}");
    }

    #[test]
    fn names_round_trip() {
        for way in Intervals::ALL {
            assert_eq!(way.name().parse(), Ok(way));
        }
        assert!("bca".parse::<Intervals>().unwrap_err().contains("residual"));
    }
}
