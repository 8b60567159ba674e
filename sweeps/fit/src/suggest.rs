//! Which runs to train next: those that lower the variance of a forecast most for what they cost.
//!
//! The law is linearised at its fitted constants, ln L ~ g' theta with g its gradient, so a set of
//! runs has the information sum g g' / sigma^2 and a forecast the variance g_t' M^-1 g_t
//! (c-optimality), while ln det M measures what is known of all constants together (D-optimality);
//! see Pukelsheim 2006, "Optimal Design of Experiments". Runs are taken one by one: twice over, by
//! gain and by gain per second, and the better set is kept, since either rule alone can be
//! arbitrarily bad under a budget (Khuller, Moss and Naor 1999).

use crate::{
    error::FitError,
    fit::Fit,
    formula::{Centre, Formula, Point, with_formula},
    jet::Jet,
    law::Law,
    observation::Observation,
    statistics::count,
};

/// What the next runs are for.
#[derive(Clone, Debug, PartialEq)]
pub enum Aim {
    /// A forecast at these sizes.
    Forecast {
        /// Parameters.
        n: f64,
        /// Tokens.
        d: f64,
    },
    /// All constants of the law.
    Constants,
}

/// A run that could be trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Parameters.
    pub n: f64,
    /// Tokens.
    pub d: f64,
    /// What it costs, in whatever unit the budget has.
    pub cost: f64,
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spend {
    /// In the unit of the candidates' costs.
    pub budget: f64,
    /// Runs at most.
    pub runs: usize,
}

/// Runs, and what they promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// The runs, in the order in which they help.
    pub runs: Vec<Candidate>,
    /// What they cost together.
    pub cost: f64,
    /// Standard error of the aim before: of ln L at the target, or the geometric mean of those of
    /// the constants.
    pub before: f64,
    /// The same after them, if they scatter like the runs so far.
    pub after: f64,
}

/// Information that is added to every direction, as a share of the largest: a table that leaves a
/// direction open then gives a large variance, not an infinite one.
const RIDGE: f64 = 1e-10;

/// Chooses the next runs among the candidates.
///
/// # Errors
/// [`FitError`] where no candidate can be paid for, or the fit has no law in N and D.
pub fn suggest(
    fit: &Fit,
    aim: &Aim,
    candidates: &[Candidate],
    spend: Spend,
) -> Result<Suggestion, FitError> {
    let law = fit.law;
    let values = fit.values();
    let slope = |n: f64, d: f64| {
        gradient(law, &values, &Observation::new(n, d, 1.0)).ok_or_else(|| {
            FitError::NothingLeft(format!(
                "the law {law} has no gradient at N {n:.3e}, D {d:.3e}; hint: suggest needs a law in \
                 N and D under --method direct"
            ))
        })
    };
    let target = match *aim {
        Aim::Forecast { n, d } => Some(slope(n, d)?),
        Aim::Constants => None,
    };
    let noise = noise(fit);
    let mut slopes = Vec::new();
    for candidate in candidates.iter().filter(|run| run.cost <= spend.budget) {
        slopes.push((*candidate, slope(candidate.n, candidate.d)?));
    }
    if slopes.is_empty() || spend.runs == 0 {
        return Err(FitError::NothingLeft(format!(
            "no candidate costs at most {:.3e}; hint: raise the budget, or allow smaller runs",
            spend.budget
        )));
    }
    let used: Vec<Vec<f64>> = fit
        .points
        .iter()
        .filter(|point| !point.held_out)
        .filter_map(|point| gradient(law, &values, &point.observation))
        .collect();
    let start = Known::of(&used, noise, target)?;
    let by_gain = greedy(&start, &slopes, spend, noise, |gain, _| gain);
    let per_cost = greedy(&start, &slopes, spend, noise, |gain, cost| gain / cost);
    let (known, runs) = if by_gain.0.error() < per_cost.0.error() { by_gain } else { per_cost };
    let cost = runs.iter().map(|run: &Candidate| run.cost).sum();
    Ok(Suggestion { runs, cost, before: start.error(), after: known.error() })
}

/// The gradient of ln L in the working parameters of a law (logarithms of what is positive).
fn gradient(law: Law, values: &[f64], sizes: &Observation) -> Option<Vec<f64>> {
    fn of<const P: usize, F: Formula<P>>(
        formula: &F,
        values: &[f64],
        point: &Point,
    ) -> Option<Vec<f64>> {
        let natural: &[f64; P] = values.try_into().ok()?;
        let theta = formula.working(natural, Centre::default());
        let loss = formula.loss(&Jet::variables(&theta), point);
        let slopes: Vec<f64> = loss.gradient.iter().map(|g| g / loss.value).collect();
        slopes.iter().all(|g| g.is_finite()).then_some(slopes)
    }
    let point = Point::of(law, sizes, Centre::default(), false)?;
    with_formula!(law, formula => of(formula, values, &point))
}

/// Variance of ln L about the law, by the residuals of the fit: the median's square where a few
/// stand out, never below a thousandth of a percent.
fn noise(fit: &Fit) -> f64 {
    let used: Vec<f64> =
        fit.points.iter().filter(|p| !p.held_out).map(|p| p.log_residual.abs()).collect();
    let freedom =
        count(used.len().saturating_sub(fit.params.len()).max(1)) / count(used.len().max(1));
    let sigma = 1.4826 * crate::statistics::median(used);
    (sigma * sigma / freedom).max(1e-10)
}

/// The inverse of the information so far, in parameters scaled to one.
#[derive(Clone)]
struct Known {
    inverse: Vec<Vec<f64>>,
    target: Option<Vec<f64>>,
    scale: Vec<f64>,
    log_det: f64,
}

impl Known {
    fn of(slopes: &[Vec<f64>], noise: f64, target: Option<Vec<f64>>) -> Result<Self, FitError> {
        let size = slopes.first().map_or(0, Vec::len);
        let root = |i: usize| slopes.iter().map(|g| g[i] * g[i]).sum::<f64>().sqrt();
        // A parameter that moves nothing (a floor on its bound) stays as it is.
        let scale: Vec<f64> =
            (0..size).map(root).map(|root| if root > 0.0 { root.recip() } else { 1.0 }).collect();
        let mut inverse = vec![vec![0.0; size]; size];
        let weakest = RIDGE / noise;
        for (i, row) in inverse.iter_mut().enumerate() {
            row[i] = weakest.recip();
        }
        let target = target.map(|slope| scaled(&slope, &scale));
        let log_det = -weakest.ln() * count(size);
        let mut known = Self { inverse, target, scale, log_det };
        for slope in slopes {
            let slope = scaled(slope, &known.scale);
            known.add(&slope, noise);
        }
        if known.inverse.iter().flatten().any(|v| !v.is_finite()) {
            return Err(FitError::NothingLeft(String::from(
                "the runs so far tell nothing of the law's constants; hint: fit a law with fewer",
            )));
        }
        Ok(known)
    }

    /// M^-1 g.
    fn solved(&self, slope: &[f64]) -> Vec<f64> {
        self.inverse.iter().map(|row| dot(row, slope)).collect()
    }

    /// Takes in a run (Sherman and Morrison 1950).
    fn add(&mut self, slope: &[f64], noise: f64) {
        let solved = self.solved(slope);
        let whole = noise + dot(slope, &solved);
        for (i, row) in self.inverse.iter_mut().enumerate() {
            for (j, cell) in row.iter_mut().enumerate() {
                *cell -= solved[i] * solved[j] / whole;
            }
        }
        self.log_det -= (whole / noise).ln();
    }

    /// How much a run would lower the aim's variance, or ln det.
    fn gain(&self, slope: &[f64], noise: f64) -> f64 {
        let solved = self.solved(slope);
        let own = dot(slope, &solved).max(0.0);
        self.target.as_ref().map_or_else(
            || (own / noise).ln_1p(),
            |target| dot(target, &solved).powi(2) / (noise + own),
        )
    }

    /// Standard error of the aim.
    fn error(&self) -> f64 {
        self.target.as_ref().map_or_else(
            || (0.5 * self.log_det / count(self.inverse.len().max(1))).exp(),
            |target| dot(target, &self.solved(target)).max(0.0).sqrt(),
        )
    }
}

fn scaled(slope: &[f64], scale: &[f64]) -> Vec<f64> {
    slope.iter().zip(scale).map(|(g, s)| g * s).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Takes runs one by one by the greatest score while the budget lasts; a run may be taken more
/// than once, under another seed.
fn greedy(
    start: &Known,
    candidates: &[(Candidate, Vec<f64>)],
    spend: Spend,
    noise: f64,
    score: fn(f64, f64) -> f64,
) -> (Known, Vec<Candidate>) {
    let mut known = start.clone();
    let (mut left, mut runs) = (spend.budget, Vec::new());
    let slopes: Vec<(Candidate, Vec<f64>)> =
        candidates.iter().map(|(run, slope)| (*run, scaled(slope, &start.scale))).collect();
    while runs.len() < spend.runs {
        let best = slopes
            .iter()
            .filter(|(run, _)| run.cost <= left)
            .map(|(run, slope)| (run, slope, score(known.gain(slope, noise), run.cost)))
            .max_by(|a, b| a.2.total_cmp(&b.2));
        let Some((run, slope, gain)) = best else { break };
        if gain <= 0.0 {
            break;
        }
        known.add(slope, noise);
        left -= run.cost;
        runs.push(*run);
    }
    (known, runs)
}

#[cfg(test)]
mod tests;
