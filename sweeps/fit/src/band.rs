//! Simultaneous bands: with 95 % confidence the law passes between the limits at every size of a
//! list at once, where an interval holds for one size alone.
//!
//! By the largest studentised deviation (sup-t; Montiel Olea and Plagborg-Moller 2019): the 95 %
//! quantile over the replicates of max_j |ln L_j* - ln L_j| / se_j takes the place of the normal
//! quantile at every j.

use serde::Serialize;

use crate::{
    fit::Fit,
    observation::Observation,
    statistics::{deviation, quantile},
};

/// A band over a list of sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Band {
    /// How many standard errors the band is to either side; 1.96 would hold for one size alone.
    pub critical: f64,
    /// In the order of the list.
    pub points: Vec<BandPoint>,
}

/// The band at one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BandPoint {
    /// The law's loss.
    pub loss: f64,
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
}

impl Fit {
    /// The simultaneous 95 % band of the law's loss over these sizes; `None` without resampling, for
    /// methods that know no loss, and where the law has no loss at one of the sizes.
    #[must_use]
    pub fn band(&self, sizes: &[Observation]) -> Option<Band> {
        if self.replicates.len() < 2 || sizes.is_empty() {
            return None;
        }
        let losses: Vec<f64> =
            sizes.iter().map(|at| self.predict_at(at)).collect::<Option<Vec<f64>>>()?;
        // One row for each replicate with a loss at every size.
        let deviations: Vec<Vec<f64>> = self
            .replicates
            .iter()
            .filter_map(|values| {
                let one = |(at, loss): (&Observation, &f64)| {
                    let off = self.law.loss(values, at)?.ln() - loss.ln();
                    off.is_finite().then_some(off)
                };
                sizes.iter().zip(&losses).map(one).collect()
            })
            .collect();
        let column = |j: usize| deviations.iter().map(|row| row[j]).collect::<Vec<f64>>();
        let errors: Vec<f64> = (0..sizes.len()).map(|j| deviation(&column(j))).collect();
        if deviations.len() < 2 || errors.iter().any(|se| !(se.is_finite() && *se > 0.0)) {
            return None;
        }
        let mut largest: Vec<f64> = deviations
            .iter()
            .map(|row| row.iter().zip(&errors).map(|(d, se)| (d / se).abs()).fold(0.0, f64::max))
            .collect();
        largest.sort_by(f64::total_cmp);
        let critical = quantile(&largest, 0.95);
        let points = losses
            .iter()
            .zip(&errors)
            .map(|(&loss, se)| BandPoint {
                loss,
                low: loss * (-critical * se).exp(),
                high: loss * (critical * se).exp(),
            })
            .collect();
        Some(Band { critical, points })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Intervals, Law, Observation, Options, fit};

    fn table() -> Vec<Observation> {
        (0..36)
            .map(|i| {
                let (n, d) = (1e7 * 3.0_f64.powi(i / 6), 1e9 * 3.0_f64.powi(i % 6));
                let mut row = Observation::new(n, d, 1.0);
                row.loss = 1.69 + 406.4 * n.powf(-0.34) + 410.7 * d.powf(-0.28);
                row.loss *= 1.0 + 2e-3 * f64::from((i * 7) % 11 - 5) / 5.0;
                row
            })
            .collect()
    }

    /// A band over many sizes is wider than over one, and over one about as wide as the interval.
    #[test]
    fn a_band_widens_with_the_sizes_it_holds_for() {
        let options =
            Options { bootstrap: 200, intervals: Intervals::Residual, ..Options::default() };
        let found = fit(&table(), &options).unwrap();
        let sizes: Vec<Observation> = (0..8)
            .map(|i| Observation::new(1e6 * 10.0_f64.powi(i), 1e8 * 10.0_f64.powi(i), 1.0))
            .collect();
        let (all, last) = (found.band(&sizes).unwrap(), found.band(&sizes[7..]).unwrap());
        assert!(all.critical > last.critical && last.critical > 1.5, "{all:?}");
        for (point, at) in all.points.iter().zip(&sizes) {
            assert!(point.low < point.loss && point.loss < point.high);
            assert_eq!(Some(point.loss), found.predict_at(at));
        }
        let forecast = found.forecast(1e13, 1e15).unwrap().ci95.unwrap();
        let width = last.points[0].high - last.points[0].low;
        assert!((0.6..1.6).contains(&(width / (forecast[1] - forecast[0]))));
        assert_eq!(fit(&table(), &Options::default()).unwrap().band(&sizes), None);
        assert_eq!(found.law, Law::Separable);
    }
}
