//! Where to spend: the minimum of a law on a cost surface, with intervals from the replicates.
//!
//! The surface is C = 6 N D, or seconds measured on the devices at hand, seconds = s N^p D^q, whose
//! three constants come from the runs themselves. Curves of equal cost are flat near their minimum,
//! so the sizes within 1 % of the best loss belong to the answer.

use crate::{
    bootstrap::Resampling,
    error::FitError,
    fit::{Estimate, Fit},
    linear::solve_positive,
    observation::Observation,
    statistics::{count, deviation, mean},
};

/// Seconds as a power law of the sizes, seconds = s N^p D^q, by least squares in logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostLaw {
    /// s.
    pub scale: f64,
    /// p, of the parameters.
    pub p: f64,
    /// q, of the tokens.
    pub q: f64,
    /// Standard deviation of ln seconds about it.
    pub scatter: f64,
    /// Runs it was fitted to.
    pub runs: usize,
}

impl CostLaw {
    /// The law through measured runs: observations with their seconds.
    ///
    /// # Errors
    /// [`FitError`] where fewer than four runs, or sizes without spread, leave a constant open.
    pub fn through<'a>(
        runs: impl IntoIterator<Item = (&'a Observation, f64)>,
    ) -> Result<Self, FitError> {
        let rows: Vec<[f64; 3]> = runs
            .into_iter()
            .filter_map(|(row, seconds)| Some([row.n?.ln(), row.tokens()?.ln(), seconds.ln()]))
            .filter(|row| row.iter().all(|v| v.is_finite()))
            .collect();
        if rows.len() < 4 {
            return Err(FitError::TooFew {
                law: String::from("the cost law seconds = s N^p D^q"),
                parameters: 3,
                points: rows.len(),
            });
        }
        let centre: [f64; 3] =
            std::array::from_fn(|i| mean(&rows.iter().map(|row| row[i]).collect::<Vec<f64>>()));
        let (mut matrix, mut right) = ([[0.0; 2]; 2], [0.0; 2]);
        for row in &rows {
            let [x, y, s]: [f64; 3] = std::array::from_fn(|i| row[i] - centre[i]);
            let sizes = [x, y];
            for i in 0..2 {
                right[i] += sizes[i] * s;
                for j in 0..2 {
                    matrix[i][j] += sizes[i] * sizes[j];
                }
            }
        }
        let apart = matrix[0][0] * matrix[1][1] - matrix[0][1] * matrix[1][0];
        let solved = (apart > 1e-9 * matrix[0][0] * matrix[1][1])
            .then(|| solve_positive(&matrix, &right))
            .flatten();
        let Some([p, q]) = solved else {
            return Err(FitError::NothingLeft(String::from(
                "the cost law needs runs whose N and D vary apart; hint: time runs of other tokens \
                 per parameter",
            )));
        };
        if q <= 0.0 {
            return Err(FitError::NothingLeft(format!(
                "the measured seconds do not grow with D (exponent {q:.3}); hint: are they seconds \
                 of training, of one kind of device?"
            )));
        }
        let log_scale = centre[2] - p * centre[0] - q * centre[1];
        let off: Vec<f64> =
            rows.iter().map(|row| row[2] - log_scale - p * row[0] - q * row[1]).collect();
        let squares: f64 = off.iter().map(|v| v * v).sum();
        let scatter = (squares / count(rows.len() - 3)).sqrt();
        Ok(Self { scale: log_scale.exp(), p, q, scatter, runs: rows.len() })
    }

    /// Seconds of a run.
    #[must_use]
    pub fn seconds(&self, n: f64, d: f64) -> f64 {
        (self.scale.ln() + self.p * n.ln() + self.q * d.ln()).exp()
    }

    /// Tokens that these seconds pay for at N.
    #[must_use]
    pub fn tokens(&self, n: f64, seconds: f64) -> f64 {
        ((seconds.ln() - self.scale.ln() - self.p * n.ln()) / self.q).exp()
    }
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surface {
    /// C = 6 N D.
    Flops,
    /// Seconds on the devices that were timed.
    Seconds(CostLaw),
}

impl Surface {
    /// Tokens that a budget pays for at N.
    #[must_use]
    pub fn tokens(&self, n: f64, budget: f64) -> f64 {
        match self {
            Self::Flops => budget / 6.0 / n,
            Self::Seconds(cost) => cost.tokens(n, budget),
        }
    }
}

/// The best split of a budget, or a split at a given ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// The budget, in FLOPs or seconds.
    pub budget: f64,
    /// Parameters.
    pub n: Estimate,
    /// Tokens.
    pub d: Estimate,
    /// Loss.
    pub loss: Estimate,
    /// Sizes whose loss at this budget is within 1 % of the best; absent for a given ratio.
    pub within_1_percent: Option<[f64; 2]>,
}

/// How far the search goes beyond the observed sizes: a factor of e^14 each way, about six decades.
const BEYOND: f64 = 14.0;
/// Points of the coarse search, which finds the valley that the golden section then narrows.
const COARSE: usize = 120;

impl Fit {
    /// The split of a budget with the least loss; `None` for fits that know no loss in N and D, and
    /// where the minimum lies beyond six decades of the observed sizes.
    #[must_use]
    pub fn best_split(&self, surface: &Surface, budget: f64) -> Option<Split> {
        let range = self.size_range()?;
        let best = |values: &[f64]| {
            let loss = |x: f64| {
                let n = x.exp();
                let sizes = Observation::new(n, surface.tokens(n, budget), 1.0);
                self.law.loss(values, &sizes).filter(|loss| loss.is_finite())
            };
            let exact = match surface {
                Surface::Flops => self.law.split(values, budget).map(|(n, _)| n.ln()),
                Surface::Seconds(_) => None,
            };
            let x = exact.or_else(|| lowest(&loss, range))?;
            Some([x, surface.tokens(x.exp(), budget).ln(), loss(x)?.ln()])
        };
        let [n, d, loss] = self.estimates(&best)?;
        let values = self.values();
        let near = |x: f64| {
            let sizes = Observation::new(x.exp(), surface.tokens(x.exp(), budget), 1.0);
            self.law.loss(&values, &sizes).is_some_and(|at| at <= 1.01 * loss.value)
        };
        let edge = |step: f64| {
            // Bisection for the last size within 1 %, up to the limit of the search.
            let (mut inside, mut outside) = (n.value.ln(), n.value.ln() + BEYOND * step);
            if near(outside) {
                return outside.exp();
            }
            for _ in 0..60 {
                let middle = 0.5 * (inside + outside);
                if near(middle) { inside = middle } else { outside = middle }
            }
            inside.exp()
        };
        Some(Split { budget, n, d, loss, within_1_percent: Some([edge(-1.0), edge(1.0)]) })
    }

    /// The split of a budget in FLOPs at given tokens per parameter: N = sqrt(C / (6 r)).
    #[must_use]
    pub fn split_at_ratio(&self, flops: f64, tokens_per_parameter: f64) -> Option<Split> {
        let n = (flops / 6.0 / tokens_per_parameter).sqrt();
        self.split_at(n, n * tokens_per_parameter, flops)
    }

    /// The loss at given sizes, as a split of the FLOPs that they take.
    #[must_use]
    pub fn split_at(&self, n: f64, d: f64, flops: f64) -> Option<Split> {
        let sizes = Observation::new(n, d, 1.0);
        let of = |values: &[f64]| Some([n.ln(), d.ln(), self.law.loss(values, &sizes)?.ln()]);
        self.predict(n, d)?;
        let [_, _, loss] = self.estimates(&of)?;
        let exact = |value: f64| Estimate { value, se: None, ci95: None };
        Some(Split { budget: flops, n: exact(n), d: exact(d), loss, within_1_percent: None })
    }

    /// ln N of the smallest and largest size that was fitted, widened.
    fn size_range(&self) -> Option<[f64; 2]> {
        let sizes = self.points.iter().filter_map(|point| point.observation.n);
        let (low, high) = sizes.fold((f64::INFINITY, 0.0_f64), |(l, h), n| (l.min(n), h.max(n)));
        (high > 0.0).then(|| [low.ln() - BEYOND, high.ln() + BEYOND])
    }

    /// Positive quantities given by their logarithms, with standard errors and 95 % intervals from
    /// the replicates, as those of the parameters.
    fn estimates<const K: usize>(
        &self,
        of: &dyn Fn(&[f64]) -> Option<[f64; K]>,
    ) -> Option<[Estimate; K]> {
        let centre = of(&self.values())?;
        let drawn: Vec<[f64; K]> = self
            .replicates
            .iter()
            .filter_map(|values| of(values))
            .filter(|logs| logs.iter().all(|v| v.is_finite()))
            .collect();
        let resampling = self.resampling.unwrap_or(Resampling::Cases);
        Some(std::array::from_fn(|i| {
            let value = centre[i].exp();
            if drawn.len() < 2 {
                return Estimate { value, se: None, ci95: None };
            }
            let logs: Vec<f64> = drawn.iter().map(|logs| logs[i]).collect();
            let se = deviation(&logs.iter().map(|v| v.exp()).collect::<Vec<f64>>());
            let [low, high] = resampling.interval(logs, centre[i]);
            Estimate { value, se: Some(se), ci95: Some([low.exp(), high.exp()]) }
        }))
    }
}

/// Where a function of one variable is least: a coarse search, then golden sections. `None` where
/// the least value lies at an end of the range.
fn lowest(of: &dyn Fn(f64) -> Option<f64>, [low, high]: [f64; 2]) -> Option<f64> {
    let step = (high - low) / count(COARSE);
    let value = |x: f64| of(x).unwrap_or(f64::INFINITY);
    let place = (0..=COARSE)
        .min_by(|&a, &b| value(low + count(a) * step).total_cmp(&value(low + count(b) * step)))?;
    if place == 0 || place == COARSE {
        return None;
    }
    let ratio = 0.5 * (5_f64.sqrt() - 1.0);
    let (mut a, mut b) = (low + count(place - 1) * step, low + count(place + 1) * step);
    // 1e-9 in ln N is far below what any interval shows.
    while b - a > 1e-9 {
        let (c, d) = (b - ratio * (b - a), a + ratio * (b - a));
        if value(c) < value(d) { b = d } else { a = c }
    }
    Some(0.5 * (a + b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::direct::{Options, fit};

    fn rows() -> Vec<Observation> {
        let mut rows = Vec::new();
        for i in 0..5_i32 {
            for j in 0..5_i32 {
                let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
                let wave = 1.0 + 0.003 * f64::from((7 * i + 3 * j) % 5 - 2);
                let loss = (1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28)) * wave;
                rows.push(Observation::new(n, d, loss));
            }
        }
        rows
    }

    #[test]
    fn seconds_come_back_as_a_power_law() {
        let table = rows();
        let seconds = |row: &Observation| 2e-9 * row.n.unwrap().powf(0.8) * row.d.unwrap();
        let cost = CostLaw::through(table.iter().map(|row| (row, seconds(row)))).unwrap();
        assert!((cost.p - 0.8).abs() < 1e-12 && (cost.q - 1.0).abs() < 1e-12, "{cost:?}");
        assert!((cost.scale / 2e-9 - 1.0).abs() < 1e-9 && cost.scatter < 1e-9);
        let tokens = cost.tokens(1e8, 3600.0);
        assert!((cost.seconds(1e8, tokens) / 3600.0 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn seconds_that_say_nothing_are_refused() {
        let table = rows();
        let few = CostLaw::through(table.iter().take(3).map(|row| (row, 1.0)));
        assert!(matches!(few, Err(FitError::TooFew { .. })));
        let ratio: Vec<Observation> =
            (1..9).map(|i| Observation::new(f64::from(i), 20.0 * f64::from(i), 3.0)).collect();
        assert!(CostLaw::through(ratio.iter().map(|row| (row, row.n.unwrap()))).is_err());
        let constant = CostLaw::through(table.iter().map(|row| (row, 5.0)));
        assert!(constant.unwrap_err().to_string().contains("do not grow"));
    }

    /// On the surface of FLOPs the search must find the closed form; at p = 1, q = 1 seconds are
    /// FLOPs in another unit.
    #[test]
    fn the_search_finds_the_closed_form() {
        let options = Options { bootstrap: 50, ..Options::default() };
        let fit = fit(&rows(), &options).unwrap();
        let exact = fit.best_split(&Surface::Flops, 1e21).unwrap();
        let as_flops = CostLaw { scale: 6e-12, p: 1.0, q: 1.0, scatter: 0.0, runs: 9 };
        let searched = fit.best_split(&Surface::Seconds(as_flops), 1e9).unwrap();
        assert!((searched.n.value / exact.n.value - 1.0).abs() < 1e-4, "{searched:?} {exact:?}");
        assert!((searched.loss.value / exact.loss.value - 1.0).abs() < 1e-9);
        let [low, high] = exact.n.ci95.unwrap();
        assert!(low < exact.n.value && exact.n.value < high);
        let [from, to] = exact.within_1_percent.unwrap();
        assert!(from < exact.n.value && exact.n.value < to);
        let edge = fit.predict(to, 1e21 / 6.0 / to).unwrap();
        assert!((edge / exact.loss.value - 1.01).abs() < 1e-6);
        let forced = fit.split_at_ratio(1e21, 20.0).unwrap();
        assert!((6.0 * forced.n.value * forced.d.value / 1e21 - 1.0).abs() < 1e-12);
        assert!(forced.loss.value >= exact.loss.value && forced.loss.ci95.is_some());
    }

    /// Dearer parameters make the best model smaller.
    #[test]
    fn the_optimum_follows_the_cost() {
        let fit = fit(&rows(), &Options::default()).unwrap();
        let at = |p: f64, scale: f64| {
            let cost = CostLaw { scale, p, q: 1.0, scatter: 0.0, runs: 9 };
            fit.best_split(&Surface::Seconds(cost), 1e9).unwrap().n.value
        };
        assert!(at(1.2, 6e-12 / 1e7_f64.powf(0.2)) < at(1.0, 6e-12));
    }
}
