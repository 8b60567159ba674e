//! The observations of least loss for their compute: what a power law L(C) is fitted to (Kaplan et
//! al. 2020, arXiv 2001.08361, section 6; Hoffmann et al. 2022, arXiv 2203.15556, figure A5).

use crate::observation::Observation;

/// Compute that is larger by less counts as equal: a budget is met up to whole steps, and exact FLOPs
/// differ from 6 N D by about as much. Else a poor run of a budget would be on the frontier for an
/// ulp less of compute.
const EQUAL: f64 = 1.25;

/// The observations whose loss none of less or equal compute reaches, in the order of compute, each
/// with C as its one variable. One without a compute has no place on it.
#[must_use]
pub fn frontier(observations: &[Observation]) -> Vec<Observation> {
    let of_compute = |row: &Observation| Some((row.compute()?, row.clone()));
    let mut rows: Vec<(f64, Observation)> = observations.iter().filter_map(of_compute).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.loss.total_cmp(&b.1.loss)));
    // The least loss up to each place.
    let least: Vec<f64> = rows
        .iter()
        .scan(f64::INFINITY, |least, row| {
            *least = least.min(row.1.loss);
            Some(*least)
        })
        .collect();
    let best = |place: usize| {
        let (compute, row) = &rows[place];
        let reach = rows.partition_point(|other| other.0 <= EQUAL * compute);
        let before = place.checked_sub(1).map_or(f64::INFINITY, |before| least[before]);
        row.loss < before && row.loss <= least[reach - 1]
    };
    (0..rows.len())
        .filter(|place| best(*place))
        .map(|place| {
            let (compute, row) = &rows[place];
            Observation { n: None, d: None, flops: Some(*compute), ..row.clone() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Law, Options, fit};

    #[test]
    fn only_what_nothing_cheaper_beats_is_on_it() {
        let row = |n: f64, d: f64, loss: f64| Observation::new(n, d, loss);
        let rows = [
            row(2.0, 1.0, 4.0),
            row(1.0, 1.0, 5.0),
            row(1.0, 2.0, 3.9),
            row(3.0, 1.0, 3.9),
            row(5.0, 5.0, 2.0),
            // A poor run of the last one's budget, which it misses by a little.
            row(4.0, 6.2, 2.5),
            Observation { n: None, d: None, loss: 1.0, ..Observation::default() },
        ];
        let found: Vec<_> = frontier(&rows).iter().map(|row| (row.single(), row.loss)).collect();
        assert_eq!(found, [(Some(6.0), 5.0), (Some(12.0), 3.9), (Some(150.0), 2.0)]);
    }

    /// Runs at their best split on L = 1.7 + 60 C^-0.15, others above it.
    #[test]
    fn its_power_law_has_the_constants_of_the_surface() {
        let mut rows = Vec::new();
        for i in 0..10 {
            let c = 1e15 * 4_f64.powi(i);
            for factor in [0.5_f64, 1.0, 2.0] {
                let n = factor * (c / 120.0).sqrt();
                let loss = (1.7 + 60.0 * c.powf(-0.15)) * (1.0 + 0.02 * factor.ln().powi(2));
                rows.push(Observation::new(n, c / (6.0 * n), loss));
            }
        }
        let best = frontier(&rows);
        assert_eq!(best.len(), 10);
        let options = Options { law: Law::PowerFloor, ..Options::default() };
        let found = fit(&best, &options).unwrap();
        for (name, truth) in [("E", 1.7), ("alpha", 0.15)] {
            let value = found.param(name).unwrap();
            assert!((value / truth - 1.0).abs() < 1e-3, "{name} {value}");
        }
    }
}
