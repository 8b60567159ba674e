//! Task laws in two steps (OLMo ladder, Bhagia et al. 2024, 2412.04403; Gadre et al. 2024): loss to
//! a soft score by a line, the soft score to accuracy by a sigmoid whose levels are free. The errors
//! of the loss forecast and of both steps are carried through by resampling runs together.

use std::collections::BTreeMap;

use serde::Serialize;
use sweep_spec::random::{Purpose, Stream};

use super::form::{Form, Line, SigmoidFloor, descend, fit};
use crate::{
    error::FitError,
    fit::Estimate,
    statistics::{count, deviation, interval_95},
};

/// One model's loss and scores.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    /// Its loss.
    pub loss: f64,
    /// The soft score (log-probability of the right answer, Brier, edit distance); the loss takes
    /// its place where there is none.
    pub soft: Option<f64>,
    /// The accuracy.
    pub score: f64,
    /// Its run; checkpoints of one run are resampled together.
    pub group: Option<String>,
}

/// A fitted step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What it takes and gives.
    pub of: &'static str,
    /// Line: level and slope. Sigmoid: floor, ceiling, middle, ln steepness; in the centred and
    /// scaled coordinate.
    pub params: Vec<f64>,
    /// Root mean squared error over the rows.
    pub rmse: f64,
}

/// Both steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskChain {
    /// The steps in order; one where there is no soft score.
    pub steps: Vec<Step>,
    /// Rows.
    pub n: usize,
    /// Units that are resampled.
    pub units: usize,
}

/// A score that is forecast through the chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChainForecast {
    /// The loss it starts from.
    pub loss: f64,
    /// The soft score; absent where there is none.
    pub soft: Option<f64>,
    /// The accuracy, with the errors of the loss and of both steps.
    pub score: Estimate,
    /// Its interval if only the loss and the first step were uncertain.
    pub first_step_ci95: Option<[f64; 2]>,
    /// Its interval if only the second step were uncertain; absent with one step.
    pub second_step_ci95: Option<[f64; 2]>,
    /// The chain.
    pub chain: TaskChain,
}

/// Where a coordinate is centred and how it is scaled.
#[derive(Clone, Copy)]
struct Window {
    centre: f64,
    half: f64,
}

impl Window {
    fn of(values: &[f64]) -> Self {
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        Self { centre: 0.5 * (low + high), half: (0.5 * (high - low)).max(1e-12) }
    }

    fn place(self, value: f64) -> f64 {
        (value - self.centre) / self.half
    }
}

/// The two steps with their windows.
struct Steps {
    loss: Window,
    soft: Window,
    line: Option<[f64; 2]>,
    sigmoid: [f64; 4],
}

impl Steps {
    /// The soft score, or the loss where it stands for it.
    fn soft(&self, loss: f64) -> f64 {
        self.line.map_or(loss, |line| Line.value(&line, self.loss.place(loss)))
    }

    fn score(&self, soft: f64) -> f64 {
        SigmoidFloor.value(&self.sigmoid, self.soft.place(soft))
    }
}

/// Forecasts the accuracy at a loss. `losses` are draws of that loss (from a fit's replicates), or
/// empty where it is known; `resamples` is how many refits carry the errors, 0 for none.
///
/// # Errors
/// [`FitError`] below six rows, for numbers that are none, and where no sigmoid can be fitted.
pub fn chain(
    rows: &[TaskRow],
    loss: f64,
    losses: &[f64],
    resamples: usize,
    seed: u64,
) -> Result<ChainForecast, FitError> {
    check(rows, loss)?;
    let indices: Vec<usize> = (0..rows.len()).collect();
    let windows = windows(rows);
    let none = || FitError::NothingLeft(String::from("no sigmoid could be fitted to the scores"));
    let steps = fit_steps(rows, &indices, windows, None).ok_or_else(none)?;
    let units = units(rows);
    let mut drawn = Drawn::default();
    for number in 0..resamples {
        let picked = resample(&units, seed, number);
        let Some(again) = fit_steps(rows, &picked, windows, Some(&steps)) else { continue };
        let at = losses.get(number % losses.len().max(1)).copied().unwrap_or(loss);
        drawn.whole.push(again.score(again.soft(at)));
        drawn.first.push(steps.score(again.soft(at)));
        drawn.second.push(again.score(steps.soft(loss)));
    }
    let soft = steps.soft(loss);
    let value = steps.score(soft);
    let two = steps.line.is_some();
    let interval = |drawn: &[f64]| (drawn.len() > 1).then(|| interval_95(drawn.to_vec()));
    Ok(ChainForecast {
        loss,
        soft: two.then_some(soft),
        score: Estimate {
            value,
            se: (drawn.whole.len() > 1).then(|| deviation(&drawn.whole)),
            ci95: interval(&drawn.whole),
        },
        first_step_ci95: interval(&drawn.first).filter(|_| two || !losses.is_empty()),
        second_step_ci95: interval(&drawn.second).filter(|_| two || !losses.is_empty()),
        chain: TaskChain { steps: told(rows, &steps), n: rows.len(), units: units.len() },
    })
}

#[derive(Default)]
struct Drawn {
    whole: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

fn check(rows: &[TaskRow], loss: f64) -> Result<(), FitError> {
    if rows.len() < 6 {
        return Err(FitError::TooFew {
            law: String::from("the task law"),
            parameters: 6,
            points: rows.len(),
        });
    }
    let finite = |row: &TaskRow| {
        row.loss.is_finite() && row.score.is_finite() && row.soft.is_none_or(f64::is_finite)
    };
    if !loss.is_finite() || !rows.iter().all(finite) {
        return Err(FitError::BadRows(vec![String::from("a loss or a score is no number")]));
    }
    let soft = rows.iter().filter(|row| row.soft.is_some()).count();
    if soft > 0 && soft < rows.len() {
        return Err(FitError::NothingLeft(format!(
            "{soft} of {} rows have a soft score; hint: leave the others out with --where",
            rows.len()
        )));
    }
    Ok(())
}

/// The windows of loss and soft score over all rows, the same for every resample.
fn windows(rows: &[TaskRow]) -> [Window; 2] {
    let loss: Vec<f64> = rows.iter().map(|row| row.loss).collect();
    let soft: Vec<f64> = rows.iter().map(|row| row.soft.unwrap_or(row.loss)).collect();
    [Window::of(&loss), Window::of(&soft)]
}

fn fit_steps(
    rows: &[TaskRow],
    picked: &[usize],
    [loss, soft]: [Window; 2],
    warm: Option<&Steps>,
) -> Option<Steps> {
    let of = |pick: &dyn Fn(&TaskRow) -> f64| -> Vec<f64> {
        picked.iter().map(|i| pick(&rows[*i])).collect()
    };
    let two = rows.iter().all(|row| row.soft.is_some());
    let softs = of(&|row| row.soft.unwrap_or(row.loss));
    let line = if two {
        let u = of(&|row| loss.place(row.loss));
        Some(fit(&Line, &u, &softs)?.0)
    } else {
        None
    };
    let (u, y) = (of(&|row| soft.place(row.soft.unwrap_or(row.loss))), of(&|row| row.score));
    let sigmoid = match warm {
        Some(steps) => descend(&SigmoidFloor, &u, &y, steps.sigmoid)?.0,
        None => fit(&SigmoidFloor, &u, &y)?.0,
    };
    Some(Steps { loss, soft, line, sigmoid })
}

/// Rows by run, or one by one where any has none.
fn units(rows: &[TaskRow]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(group) = row.group.as_deref() else {
            return (0..rows.len()).map(|i| vec![i]).collect();
        };
        groups.entry(group).or_default().push(index);
    }
    groups.into_values().collect()
}

fn resample(units: &[Vec<usize>], seed: u64, number: usize) -> Vec<usize> {
    let stream = u64::try_from(number).expect("a number of resamples");
    let mut draws = Stream::new(seed, Purpose::Resampling, stream);
    let bound = u64::try_from(units.len()).expect("a number of runs");
    (0..units.len())
        .flat_map(|_| units[usize::try_from(draws.below(bound)).expect("below it")].clone())
        .collect()
}

fn told(rows: &[TaskRow], steps: &Steps) -> Vec<Step> {
    let rmse = |off: &dyn Fn(&TaskRow) -> f64| {
        (rows.iter().map(|row| off(row).powi(2)).sum::<f64>() / count(rows.len())).sqrt()
    };
    let mut told = Vec::new();
    if let Some(line) = steps.line {
        let off = |row: &TaskRow| steps.soft(row.loss) - row.soft.unwrap_or(f64::NAN);
        told.push(Step { of: "loss to soft score", params: line.to_vec(), rmse: rmse(&off) });
    }
    let of = if steps.line.is_some() { "soft score to accuracy" } else { "loss to accuracy" };
    let off = |row: &TaskRow| steps.score(row.soft.unwrap_or(row.loss)) - row.score;
    told.push(Step { of, params: steps.sigmoid.to_vec(), rmse: rmse(&off) });
    told
}
