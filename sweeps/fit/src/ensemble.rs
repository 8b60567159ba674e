//! A forecast averaged over laws, weighted by how well each predicted the compute it did not see.
//!
//! Weights are inverse to the squared mean error on the held-out top (Bates and Granger 1969, "The
//! combination of forecasts"), never to the quality of the fit. Every law is then fitted to all
//! observations; the interval of the average holds the spread between the laws beside the
//! intervals of each.

use crate::{
    direct::{Options, fit},
    error::FitError,
    fit::Fit,
    law::Law,
    observation::Observation,
    ranking::{HELD_OUT_SHARE, Ranked, rank},
    statistics::{deviation, quantile},
};

/// Errors below this are rounding, and weights by them would be too.
const LEAST_ERROR: f64 = 1e-6;

/// A law of the average.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its share; the shares add up to 1.
    pub weight: f64,
    /// The law over all observations.
    pub fit: Fit,
}

/// The ranking of the laws and their average.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// Every law tried, the smallest held-out error first.
    pub ranking: Vec<Ranked>,
    /// Largest compute held out over the largest fitted: how far the ranking looked ahead.
    pub reach: f64,
    /// The share of the observations of highest compute that was held out.
    pub held_out: f64,
    /// The laws that could be fitted, by weight.
    pub members: Vec<Member>,
}

/// A forecast of the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averaged {
    /// The weighted loss.
    pub loss: f64,
    /// Least and largest loss among the laws.
    pub range: [f64; 2],
    /// 95 % interval from the spread between the laws and, where they were resampled, within them.
    pub ci95: [f64; 2],
}

/// Ranks the laws and fits each that can be ranked to all observations.
///
/// # Errors
/// [`FitError`] of the first law where none can be ranked.
pub fn ensemble(observations: &[Observation], options: &Options) -> Result<Ensemble, FitError> {
    let held_out = options.hold_out_top.unwrap_or(HELD_OUT_SHARE);
    let ranking = rank(observations, options);
    let scored: Vec<(Law, f64)> = ranking
        .iter()
        .filter_map(|ranked| Some((ranked.law, ranked.result.as_ref().ok()?.mean_abs_rel_error)))
        .collect();
    if scored.is_empty() {
        let refused = ranking.into_iter().find_map(|ranked| ranked.result.err());
        return Err(refused.unwrap_or(FitError::Empty));
    }
    let mut members = Vec::new();
    for (law, error) in scored {
        let options = Options { law, hold_out_top: None, budgets: Vec::new(), ..options.clone() };
        // A law may predict the top from the rest and still find no minimum over all: it then has
        // no part in the average, and the ranking shows it.
        if let Ok(fit) = fit(observations, &options) {
            members.push(Member { weight: error.max(LEAST_ERROR).powi(-2), fit });
        }
    }
    let total: f64 = members.iter().map(|member| member.weight).sum();
    for member in &mut members {
        member.weight /= total;
    }
    Ok(Ensemble { ranking, reach: reach(observations, held_out), held_out, members })
}

/// Largest scale held out over the largest kept, the threshold being that of a held-out top.
fn reach(observations: &[Observation], share: f64) -> f64 {
    let mut scales: Vec<f64> =
        observations.iter().filter_map(|row| row.compute().or_else(|| row.single())).collect();
    scales.sort_by(f64::total_cmp);
    let Some(&largest) = scales.last() else { return 1.0 };
    let threshold = quantile(&scales, 1.0 - share) * (1.0 + 1e-9);
    let kept = scales.iter().copied().filter(|scale| *scale <= threshold).fold(0.0, f64::max);
    if kept > 0.0 { largest / kept } else { 1.0 }
}

impl Ensemble {
    /// The averaged loss at the sizes of an observation; `None` where no law takes them.
    #[must_use]
    pub fn forecast(&self, sizes: &Observation) -> Option<Averaged> {
        let parts: Vec<(f64, f64, f64)> = self
            .members
            .iter()
            .filter_map(|member| {
                let loss = member.fit.predict_at(sizes).filter(|loss| loss.is_finite())?;
                let law = member.fit.law;
                let drawn: Vec<f64> = member
                    .fit
                    .replicates
                    .iter()
                    .filter_map(|values| law.loss(values, sizes))
                    .filter(|loss| loss.is_finite())
                    .collect();
                let se = if drawn.len() > 1 { deviation(&drawn) } else { 0.0 };
                Some((member.weight, loss, se))
            })
            .collect();
        let total: f64 = parts.iter().map(|part| part.0).sum();
        if parts.is_empty() || total <= 0.0 {
            return None;
        }
        let loss = parts.iter().map(|(weight, loss, _)| weight * loss).sum::<f64>() / total;
        let spread =
            |(weight, part, se): &(f64, f64, f64)| weight * (se * se + (part - loss).powi(2));
        let variance = parts.iter().map(spread).sum::<f64>() / total;
        let half = 1.96 * variance.sqrt();
        let least = parts.iter().map(|part| part.1).fold(f64::INFINITY, f64::min);
        let most = parts.iter().map(|part| part.1).fold(0.0, f64::max);
        Some(Averaged { loss, range: [least, most], ci95: [loss - half, loss + half] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<Observation> {
        let mut rows = Vec::new();
        for i in 0..5_i32 {
            for j in 0..5_i32 {
                let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
                rows.push(Observation::new(
                    n,
                    d,
                    1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28),
                ));
            }
        }
        rows
    }

    /// The law that made the data leads, takes nearly all of the weight, and its forecast is the
    /// truth.
    #[test]
    fn the_true_law_carries_the_average() {
        let found = ensemble(&table(), &Options::default()).unwrap();
        assert!(found.ranking[0].result.is_ok());
        let share: f64 = found
            .members
            .iter()
            .filter(|m| matches!(m.fit.law, Law::Separable | Law::Coupled))
            .map(|m| m.weight)
            .sum();
        assert!(share > 0.99, "{share}");
        assert!((found.members.iter().map(|m| m.weight).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(found.reach > 2.0, "{}", found.reach);
        let (n, d) = (1e9_f64, 1e11_f64);
        let truth = 1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28);
        let forecast = found.forecast(&Observation::new(n, d, 1.0)).unwrap();
        assert!((forecast.loss / truth - 1.0).abs() < 1e-4, "{forecast:?} {truth}");
        assert!(forecast.range[0] <= forecast.loss && forecast.loss <= forecast.range[1]);
    }

    #[test]
    fn a_table_that_no_law_can_rank_is_refused() {
        let rows = vec![Observation::new(1e6, 1e7, 3.0), Observation::new(2e6, 1e7, 2.9)];
        assert!(matches!(ensemble(&rows, &Options::default()), Err(FitError::TooFew { .. })));
    }
}
