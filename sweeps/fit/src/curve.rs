//! Laws of whole loss curves under a learning-rate schedule: fitted to every loss of one or more
//! curves, they predict the curve of another schedule of the same model, data and batch.
//!
//! A constant-rate run with a cooldown and a cosine are described by the same constants, so one or
//! two curves give a whole family. Losses recorded before the rate's first peak (the warm-up) are
//! left out and counted: neither law describes them.

use serde::Serialize;

use crate::{
    annealing::{Annealing, areas},
    direct::check_objective,
    error::FitError,
    fit::{Estimate, Parameter},
    formula::{Centre, Formula, Point},
    multi_power::{Falls, MultiPower, falls},
    objective::Objective,
    profile,
    solver::{Problem, Solution, absolute},
    statistics::mean,
    warning::{Warning, WarningCode},
};

/// Losses of one fit: the multi-power law keeps 64 falls for each.
const MAX_LOSSES: usize = 20_000;
/// lambda is searched where 1 - lambda is between these: memories of 2 to 100,000 steps.
const FORGETTING: [f64; 2] = [1e-5, 0.5];
/// Places of the first search over ln(1 - lambda).
const PLACES: usize = 13;
/// Sections of the second: the bracket shrinks by 1.6 each, to a millionth.
const SECTIONS: usize = 30;

/// A law of loss curves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CurveLaw {
    /// L = L0 + A S1^-alpha - C S2.
    #[default]
    Annealing,
    /// L = L0 + A S^-alpha - B sum (eta_(k-1) - eta_k) G(eta_k^-gamma S_k).
    MultiPower,
}

impl CurveLaw {
    /// Every curve law.
    pub const ALL: [Self; 2] = [Self::Annealing, Self::MultiPower];

    /// Its name in options and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Annealing => "annealing",
            Self::MultiPower => "multi-power",
        }
    }

    /// Its formula, as people write it.
    #[must_use]
    pub const fn formula(self) -> &'static str {
        match self {
            Self::Annealing => {
                "L = L0 + A S1^-alpha - C S2, S1 = sum of rates, S2 = sum of falls with memory lambda"
            }
            Self::MultiPower => {
                "L = L0 + A S^-alpha - B sum_k (eta_(k-1) - eta_k) (1 - (1 + C eta_k^-gamma S_k)^-beta)"
            }
        }
    }

    /// The names of its parameters, in the order of documents.
    #[must_use]
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Annealing => &["L0", "A", "alpha", "C", "lambda"],
            Self::MultiPower => &["L0", "A", "alpha", "B", "C", "beta", "gamma"],
        }
    }
}

/// A training: the rate of each step and the losses recorded on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// How messages name it.
    pub name: String,
    /// Learning rate of steps 1, 2, ...
    pub rates: Vec<f64>,
    /// (steps done, loss in nats); a loss after step s has seen the rates of steps 1..=s.
    pub losses: Vec<(usize, f64)>,
}

impl Curve {
    /// Steps of its warm-up: those before the first largest rate. Losses after as many or fewer steps
    /// are neither fitted nor forecast.
    #[must_use]
    pub fn warmup(&self) -> usize {
        peak(&self.rates)
    }
}

/// Index of the first largest rate.
fn peak(rates: &[f64]) -> usize {
    (0..rates.len()).fold(0, |best, step| if rates[step] > rates[best] { step } else { best })
}

/// What to fit and how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CurveOptions {
    /// The law.
    pub law: CurveLaw,
    /// What is minimised, over all losses of all curves.
    pub objective: Objective,
    /// lambda of the annealing law; found where absent.
    pub lambda: Option<f64>,
}

/// A loss beside its prediction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The curve's place in the list.
    pub curve: usize,
    /// Steps done.
    pub step: usize,
    /// Measured.
    pub loss: f64,
    /// What the law gives.
    pub predicted: f64,
}

/// A fitted curve law.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveFit {
    /// The law.
    pub law: CurveLaw,
    /// What was minimised.
    pub objective: Objective,
    /// The sum at the minimum.
    pub objective_value: f64,
    /// In the order of the law.
    pub params: Vec<Parameter>,
    /// Every loss fitted, beside its prediction.
    pub points: Vec<CurvePoint>,
    /// Losses within a warm-up, left out.
    pub n_warmup: usize,
    /// Doubts.
    pub warnings: Vec<Warning>,
}

impl CurveFit {
    /// The value of a parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<f64> {
        self.params.iter().find(|p| p.name == name).map(|p| p.estimate.value)
    }

    /// The losses that a schedule gives after these steps.
    ///
    /// # Errors
    /// [`FitError::BadCurves`] for a rate below 0 or not finite, for a step beyond the rates or
    /// within the warm-up, and where the law leaves the positive numbers.
    pub fn predict(&self, rates: &[f64], steps: &[usize]) -> Result<Vec<f64>, FitError> {
        few_enough(steps.len())?;
        let curve = Curve {
            name: String::from("schedule"),
            rates: rates.to_vec(),
            losses: steps.iter().map(|&step| (step, 1.0)).collect(),
        };
        let table = Table::new(std::slice::from_ref(&curve))?;
        if table.warmup > 0 {
            let peak = table.curves[0].peak + 1;
            return Err(FitError::NoForecast(format!(
                "a step up to the rate's peak at step {peak} has no forecast"
            )));
        }
        let values: Vec<f64> = self.params.iter().map(|p| p.estimate.value).collect();
        let losses = table.predict(self.law, &values);
        let odd = losses.iter().position(|loss| !(loss.is_finite() && *loss > 0.0));
        match odd {
            None => Ok(losses),
            Some(i) => {
                let (loss, step) = (losses[i], steps[i]);
                Err(FitError::NoForecast(format!("the law gives a loss of {loss} at step {step}")))
            }
        }
    }
}

fn few_enough(found: usize) -> Result<(), FitError> {
    if found <= MAX_LOSSES {
        Ok(())
    } else {
        Err(FitError::TooManyLosses { found, most: MAX_LOSSES })
    }
}

/// Fits a law to every loss of some curves.
///
/// # Errors
/// [`FitError`] for rates, steps or losses that mean nothing, for fewer losses than parameters, and
/// where no curve's rate ever falls.
pub fn fit_curves(curves: &[Curve], options: &CurveOptions) -> Result<CurveFit, FitError> {
    let table = Table::new(curves)?;
    check(&table, options)?;
    let (objective, log) = (options.objective, options.objective.is_log());
    let found = match (options.law, options.lambda) {
        (CurveLaw::Annealing, Some(lambda)) => annealed(&table, objective, lambda),
        (CurveLaw::Annealing, None) => search(&table, objective),
        (CurveLaw::MultiPower, _) => {
            let formula = MultiPower { falls: table.falls() };
            let (centre, points) = table.points(log, |c, step| [c.sums[step].ln(), 0.0]);
            descend(&formula, centre, &points, objective)
        }
    };
    let Some((values, flat)) = found else {
        return Err(FitError::NoCurveMinimum {
            law: options.law.name(),
            points: table.losses.len(),
        });
    };
    let predicted = table.predict(options.law, &values);
    let points: Vec<CurvePoint> = table
        .losses
        .iter()
        .zip(predicted)
        .map(|(l, predicted)| CurvePoint { curve: l.curve, step: l.step, loss: l.loss, predicted })
        .collect();
    let cost = |p: &CurvePoint| objective.cost(objective.residual(p.predicted, p.loss));
    let names = options.law.parameters();
    let params = names.iter().zip(&values);
    Ok(CurveFit {
        law: options.law,
        objective,
        objective_value: points.iter().map(cost).sum(),
        params: params
            .map(|(&name, &value)| Parameter { name, estimate: Estimate::exact(value) })
            .collect(),
        warnings: doubts(&points, names, flat),
        points,
        n_warmup: table.warmup,
    })
}

fn check(table: &Table, options: &CurveOptions) -> Result<(), FitError> {
    check_objective(options.objective)?;
    if let Some(lambda) = options.lambda.filter(|l| !(*l >= 0.0 && *l < 1.0)) {
        let value = lambda.to_string();
        let allowed = "give a number from 0 to below 1";
        return Err(FitError::BadOption { option: "lambda", value, allowed });
    }
    let needed = options.law.parameters().len();
    if table.losses.len() < needed {
        return Err(FitError::TooFew {
            law: format!("the law {}", options.law.name()),
            parameters: needed,
            points: table.losses.len(),
        });
    }
    few_enough(table.losses.len())?;
    if table.losses.iter().any(|loss| table.curves[loss.curve].falls_before(loss.step)) {
        Ok(())
    } else {
        Err(FitError::NoFalls)
    }
}

fn doubts(points: &[CurvePoint], names: &[&str], flat: Vec<profile::Flat>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = flat.into_iter().map(|flat| flat.warning(names)).collect();
    if points.len() < 3 * names.len() {
        let message = format!("{} losses for {} parameters", points.len(), names.len());
        warnings.push(Warning::new(WarningCode::FewObservations, message));
    }
    warnings.sort_by_key(|warning| warning.code);
    warnings
}

/// Constants, in the order of the law, and the flat directions.
type Found = Option<(Vec<f64>, Vec<profile::Flat>)>;

fn descend<const P: usize, F: Formula<P>>(
    formula: &F,
    centre: Centre,
    points: &[Point],
    objective: Objective,
) -> Found {
    let (problem, best) = minimum(formula, points, objective)?;
    let values = formula.natural(&best.theta, centre);
    let flat = profile::flat_directions(&problem, formula, &best, centre);
    values.iter().all(|v| v.is_finite()).then(|| (values.to_vec(), flat))
}

fn minimum<'a, const P: usize, F: Formula<P>>(
    formula: &F,
    points: &'a [Point],
    objective: Objective,
) -> Option<(Problem<'a>, Solution<P>)> {
    let problem = Problem::new(points, objective);
    let found = *problem.best_of(formula, &formula.starts(points, objective)).first()?;
    let is_l1 = objective == Objective::L1Log;
    Some((problem, if is_l1 { absolute(&problem, formula, found) } else { found }))
}

/// The annealing law with lambda found: the profile over ln(1 - lambda) at 13 places, then by
/// golden sections around the lowest.
fn search(table: &Table, objective: Objective) -> Found {
    let value = |log: f64| {
        let (_, points) = table.annealing_points(objective.is_log(), 1.0 - log.exp());
        minimum(&Annealing, &points, objective).map_or(f64::INFINITY, |(_, best)| best.value)
    };
    let [low, high] = FORGETTING.map(f64::ln);
    let step = (high - low) / crate::statistics::count(PLACES - 1);
    let at = |i: usize| low + step * crate::statistics::count(i);
    let values: Vec<f64> = (0..PLACES).map(|i| value(at(i))).collect();
    let best = (0..PLACES).min_by(|&a, &b| values[a].total_cmp(&values[b]))?;
    let (mut left, mut right) = ((at(best) - step).max(low), (at(best) + step).min(high));
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let (mut a, mut b) = (right - golden * (right - left), left + golden * (right - left));
    let (mut at_a, mut at_b) = (value(a), value(b));
    for _ in 0..SECTIONS {
        if at_a <= at_b {
            (right, b, at_b) = (b, a, at_a);
            a = right - golden * (right - left);
            at_a = value(a);
        } else {
            (left, a, at_a) = (a, b, at_b);
            b = left + golden * (right - left);
            at_b = value(b);
        }
    }
    annealed(table, objective, 1.0 - f64::midpoint(left, right).exp())
}

fn annealed(table: &Table, objective: Objective, lambda: f64) -> Found {
    let (centre, points) = table.annealing_points(objective.is_log(), lambda);
    let (mut values, flat) = descend(&Annealing, centre, &points, objective)?;
    values.push(lambda);
    Some((values, flat))
}

/// The schedules with their sums, and the losses after their warm-ups.
struct Table {
    curves: Vec<Summed>,
    losses: Vec<Loss>,
    warmup: usize,
}

struct Summed {
    rates: Vec<f64>,
    /// Sum of the first s rates.
    sums: Vec<f64>,
    /// Index of the first largest rate.
    peak: usize,
    /// Index of the first rate after it that is another than the one before, and above zero.
    first_fall: Option<usize>,
}

struct Loss {
    curve: usize,
    step: usize,
    loss: f64,
}

impl Table {
    fn new(curves: &[Curve]) -> Result<Self, FitError> {
        let complaints: Vec<String> = curves.iter().flat_map(complaints).collect();
        if !complaints.is_empty() {
            return Err(FitError::BadCurves(complaints));
        }
        let mut table = Self { curves: Vec::new(), losses: Vec::new(), warmup: 0 };
        for (number, curve) in curves.iter().enumerate() {
            let summed = Summed::new(&curve.rates);
            for &(step, loss) in &curve.losses {
                if step > summed.peak {
                    table.losses.push(Loss { curve: number, step, loss });
                } else {
                    table.warmup += 1;
                }
            }
            table.curves.push(summed);
        }
        if table.losses.is_empty() && table.warmup == 0 { Err(FitError::Empty) } else { Ok(table) }
    }

    /// Points whose x and y the law reads from a schedule after a step.
    fn points(
        &self,
        log: bool,
        sizes: impl Fn(&Summed, usize) -> [f64; 2],
    ) -> (Centre, Vec<Point>) {
        let read = |l: &Loss| sizes(&self.curves[l.curve], l.step);
        let centre = mean(&self.losses.iter().map(|l| read(l)[0]).collect::<Vec<f64>>());
        let point = |(index, l): (usize, &Loss)| {
            let [x, y] = read(l);
            let target = if log { l.loss.ln() } else { l.loss };
            Point { x: x - centre, y, u: 0.0, loss: l.loss, target, weight: 1.0, index }
        };
        (Centre { x: centre, y: 0.0 }, self.losses.iter().enumerate().map(point).collect())
    }

    fn annealing_points(&self, log: bool, lambda: f64) -> (Centre, Vec<Point>) {
        let areas: Vec<Vec<[f64; 2]>> =
            self.curves.iter().map(|c| areas(&c.rates, c.peak, lambda)).collect();
        let mut places = self.losses.iter().map(|l| areas[l.curve][l.step][1]);
        let (centre, mut points) = self.points(log, |c, step| [c.sums[step].ln(), 0.0]);
        for point in &mut points {
            point.y = places.next().expect("one for each loss");
        }
        (centre, points)
    }

    fn falls(&self) -> Falls {
        let of = |l: &Loss| {
            let c = &self.curves[l.curve];
            falls(&c.rates, &c.sums, c.peak, l.step)
        };
        Falls::new(self.losses.iter().map(of).collect())
    }

    fn predict(&self, law: CurveLaw, values: &[f64]) -> Vec<f64> {
        match (law, values) {
            (CurveLaw::Annealing, &[e, a, alpha, c, lambda]) => {
                let (centre, points) = self.annealing_points(false, lambda);
                evaluate(&Annealing, &[e, a, alpha, c], centre, &points)
            }
            (CurveLaw::MultiPower, values) => {
                let formula = MultiPower { falls: self.falls() };
                let (centre, points) = self.points(false, |c, step| [c.sums[step].ln(), 0.0]);
                let values = values.try_into().expect("seven, by the law's list");
                evaluate(&formula, values, centre, &points)
            }
            (CurveLaw::Annealing, _) => unreachable!("five values, by the law's list"),
        }
    }
}

fn evaluate<const P: usize, F: Formula<P>>(
    formula: &F,
    values: &[f64; P],
    centre: Centre,
    points: &[Point],
) -> Vec<f64> {
    let theta = formula.working(values, centre);
    points.iter().map(|point| formula.loss(&theta, point)).collect()
}

impl Summed {
    /// Whether a loss after this step has seen a change of the rate after its peak; one to zero pays
    /// nothing.
    fn falls_before(&self, step: usize) -> bool {
        self.first_fall.is_some_and(|fall| fall < step)
    }

    fn new(rates: &[f64]) -> Self {
        let mut sums = vec![0.0];
        let peak = peak(rates);
        for (i, rate) in rates.iter().enumerate() {
            sums.push(sums[i] + rate);
        }
        let changed = |k: &usize| rates[*k] != rates[k - 1] && rates[*k] > 0.0;
        let first_fall = (peak + 1..rates.len()).find(changed);
        Self { rates: rates.to_vec(), sums, peak, first_fall }
    }
}

/// What is wrong with a curve.
fn complaints(curve: &Curve) -> Vec<String> {
    let name = &curve.name;
    let rates = curve.rates.iter().enumerate().filter(|(_, r)| !(r.is_finite() && **r >= 0.0));
    let mut found: Vec<String> = rates
        .take(10)
        .map(|(i, rate)| format!("curve `{name}`, step {}: rate is {rate}", i + 1))
        .collect();
    if curve.rates.iter().all(|rate| *rate == 0.0) {
        found.push(format!("curve `{name}`: no rate is above 0"));
    }
    for &(step, loss) in &curve.losses {
        if step == 0 || step > curve.rates.len() {
            let steps = curve.rates.len();
            found
                .push(format!("curve `{name}`: a loss at step {step}, and rates for 1 to {steps}"));
        } else if !(loss.is_finite() && loss > 0.0) {
            found.push(format!("curve `{name}`, step {step}: loss is {loss}"));
        }
    }
    found
}

#[cfg(test)]
mod tests;
