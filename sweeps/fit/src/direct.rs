//! `fit`: from observations and options to a fit, in the order of the contract: row checks, the
//! highest dropped, the top held out, then the method.

use std::borrow::Cow;

use crate::{
    bootstrap::{self, Resampled},
    certificate, design, envelope,
    error::FitError,
    fit::{Allocation, Certificate, Estimate, Exponents, Fit, FittedPoint, HeldOut, Parameter},
    formula::{Centre, Formula, Point, with_formula},
    interval::Intervals,
    isoflop,
    law::Law,
    objective::Objective,
    observation::{Observation, check_rows},
    profile,
    solver::{Problem, Solution, absolute},
    statistics::{count, mean, quantile},
    warning::{Warning, WarningCode},
    weighting::{Weighting, weights},
};

/// Resampled fits of one call: interval ends settle near 2000.
pub const MAX_REPLICATES: usize = 20_000;

/// Observations of one fit: a million take about half a gigabyte and some minutes. A law has a
/// dozen constants at most, and a thousandth of the rows says as much about them.
pub const MAX_OBSERVATIONS: usize = 500_000;

/// Random starts of one call: minutes on a long table.
pub const MAX_STARTS: usize = 100_000;

/// How compute-optimal sizes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// A law over all observations (approach 3 of Hoffmann et al. 2022).
    #[default]
    Direct,
    /// A parabola for each budget (approach 2).
    Isoflop,
    /// The lower envelope of curves (approach 1).
    Envelope,
}

/// What to fit and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The law, under the direct method.
    pub law: Law,
    /// What is minimised, under the direct method.
    pub objective: Objective,
    /// How observations are weighted, under the direct method.
    pub weighting: Weighting,
    /// How.
    pub method: Method,
    /// How many observations of highest loss to leave out.
    pub drop_highest: usize,
    /// The share of observations of highest compute to predict instead of fitting.
    pub hold_out_top: Option<f64>,
    /// Resampled fits; 0 for no intervals.
    pub bootstrap: usize,
    /// How intervals are made.
    pub intervals: Intervals,
    /// Seed of the resampling.
    pub seed: u64,
    /// Budgets in FLOPs whose optimum is wanted.
    pub budgets: Vec<f64>,
    /// Descents from this many random starts on top of the law's own: the brute force that the grid
    /// of starts replaces, to check it by.
    pub starts: usize,
    /// Search a grid for the certificate of a law whose starts are none (Kaplan, coupled, repeat,
    /// broken): up to a few seconds.
    pub certify: bool,
    /// A column names the runs, but was not mapped as the group.
    pub ungrouped_column: Option<String>,
}

/// The rows of a fit after dropping and holding out.
///
/// Rows are borrowed where all are fitted: a long table is the largest thing in memory.
pub(crate) struct Table<'a> {
    pub(crate) fitted: Cow<'a, [Observation]>,
    pub(crate) held: Vec<Observation>,
    pub(crate) dropped: usize,
}

/// Fits a law, or runs a method, over observations.
///
/// # Errors
/// [`FitError`] where the data or the options allow no fit.
pub fn fit(observations: &[Observation], options: &Options) -> Result<Fit, FitError> {
    check_options(options)?;
    let table = prepare(observations, options)?;
    let mut fit = match options.method {
        Method::Direct => direct(&table, options)?,
        Method::Isoflop => isoflop::fit(&table)?,
        Method::Envelope => envelope::fit(&table)?,
    };
    fit.n_dropped = table.dropped;
    fit.optimum =
        options.budgets.iter().filter_map(|&c| fit.optimum(c)).collect::<Vec<Allocation>>();
    if fit.optimum.len() < options.budgets.len() {
        return Err(FitError::BadOption {
            option: "--budget",
            value: format!("{:?}", options.budgets),
            allowed: "a law of one variable has no split of a budget into N and D",
        });
    }
    design::extrapolation(&mut fit.warnings, &table, &options.budgets);
    fit.warnings.sort_by_key(|warning| warning.code);
    Ok(fit)
}

/// Refuses an objective whose numbers mean nothing.
pub(crate) fn check_objective(objective: Objective) -> Result<(), FitError> {
    let given =
        [("--delta", objective.delta()), ("the multiple of an overestimate", objective.over())];
    for (option, value) in given {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            let value = value.to_string();
            return Err(FitError::BadOption { option, value, allowed: "give a number above 0" });
        }
    }
    Ok(())
}

fn check_options(options: &Options) -> Result<(), FitError> {
    let bad = |option, value: String, allowed| Err(FitError::BadOption { option, value, allowed });
    check_objective(options.objective)?;
    if let Some(share) = options.hold_out_top.filter(|q| !(*q > 0.0 && *q < 1.0)) {
        return bad("--hold-out-top", share.to_string(), "give a share between 0 and 1");
    }
    if options.bootstrap > MAX_REPLICATES || options.bootstrap == 1 {
        let value = options.bootstrap.to_string();
        return bad("--bootstrap", value, "give 2 to 20000 replicates; 2000 is enough");
    }
    if options.bootstrap > 0 && options.method != Method::Direct {
        let value = options.bootstrap.to_string();
        return bad("--bootstrap", value, "intervals need --method direct");
    }
    if options.hold_out_top.is_some() && options.method != Method::Direct {
        return bad(
            "--hold-out-top",
            String::from("given"),
            "only --method direct predicts losses",
        );
    }
    if options.starts > MAX_STARTS {
        return bad("--starts", options.starts.to_string(), "give at most 100000 starts");
    }
    if let Some(budget) = options.budgets.iter().find(|c| !(c.is_finite() && **c > 0.0)) {
        return bad("--budget", budget.to_string(), "give a number of FLOPs above 0");
    }
    Ok(())
}

fn prepare<'a>(observations: &'a [Observation], options: &Options) -> Result<Table<'a>, FitError> {
    if observations.is_empty() {
        return Err(FitError::Empty);
    }
    if observations.len() > MAX_OBSERVATIONS {
        return Err(FitError::TooMany { rows: observations.len(), limit: MAX_OBSERVATIONS });
    }
    check_rows(observations)?;
    let law = (options.method == Method::Direct).then_some(options.law);
    check_axes(observations, law, options.method)?;
    let fitted = without_highest(observations, options.drop_highest)?;
    let dropped = options.drop_highest;
    let Some(share) = options.hold_out_top else {
        return Ok(Table { fitted, held: Vec::new(), dropped });
    };
    let scale = |row: &Observation| row.scale(law).expect("the axes were checked");
    let mut scales: Vec<f64> = fitted.iter().map(scale).collect();
    scales.sort_by(f64::total_cmp);
    // Budgets tie up to rounding: what is at the threshold within 1e-9 is kept.
    let threshold = quantile(&scales, 1.0 - share) * (1.0 + 1e-9);
    let (fitted, held): (Vec<_>, Vec<_>) =
        fitted.into_owned().into_iter().partition(|row| scale(row) <= threshold);
    if held.is_empty() {
        return Err(FitError::NothingLeft(format!(
            "--hold-out-top {share} holds nothing out of {} observations; hint: give a larger share",
            fitted.len()
        )));
    }
    Ok(Table { fitted: fitted.into(), held, dropped })
}

fn check_axes(
    observations: &[Observation],
    law: Option<Law>,
    method: Method,
) -> Result<(), FitError> {
    let missing = |needed| {
        let law =
            law.map_or(if method == Method::Isoflop { "isoflop" } else { "envelope" }, Law::name);
        Err(FitError::MissingAxis { law: law.to_owned(), needed })
    };
    if law.is_some_and(Law::one_variable) {
        if observations.iter().any(|row| row.single().is_none()) {
            return missing("exactly one of N, D and C");
        }
        return Ok(());
    }
    if observations.iter().any(|row| row.n.is_none() || row.tokens().is_none()) {
        return missing("N, and D or C");
    }
    if law.is_some_and(Law::needs_unique) && observations.iter().any(|row| row.unique.is_none()) {
        return missing("the unique tokens U (unique=COLUMN)");
    }
    if method == Method::Envelope && observations.iter().any(|row| row.group.is_none()) {
        return missing("the curve of each observation (group=COLUMN)");
    }
    Ok(())
}

fn without_highest(
    observations: &[Observation],
    drop: usize,
) -> Result<Cow<'_, [Observation]>, FitError> {
    if drop == 0 {
        return Ok(observations.into());
    }
    if drop >= observations.len() {
        return Err(FitError::NothingLeft(format!(
            "--drop-highest {drop} leaves nothing of {} observations; hint: drop fewer",
            observations.len()
        )));
    }
    let mut order: Vec<usize> = (0..observations.len()).collect();
    order.sort_by(|&a, &b| observations[a].loss.total_cmp(&observations[b].loss));
    order.truncate(observations.len() - drop);
    order.sort_unstable();
    Ok(order.into_iter().map(|i| observations[i].clone()).collect())
}

/// What the generic part of a fit found, with parameters as plain lists.
pub(crate) struct Found {
    pub(crate) values: Vec<f64>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) resampled: Option<Resampled>,
    pub(crate) flat: Vec<profile::Flat>,
    /// Profile intervals of the parameters and of the exponent a, where they were asked for.
    pub(crate) profiled: Option<Profiled>,
    /// Place of a floor that sits on its bound.
    pub(crate) floor_at_zero: bool,
}

/// Profile intervals.
pub(crate) struct Profiled {
    params: Vec<Option<[f64; 2]>>,
    exponent: Option<[f64; 2]>,
}

impl Profiled {
    fn of<const P: usize, F: Formula<P>>(
        problem: &Problem<'_>,
        formula: &F,
        best: &Solution<P>,
        centre: Centre,
        law: Law,
    ) -> Self {
        let shortages = match law {
            Law::Separable | Law::Repeat | Law::Coupled => Some([3, 4]),
            Law::Kaplan => Some([2, 3]),
            _ => None,
        };
        Self {
            params: profile::intervals(problem, formula, best, centre),
            exponent: shortages
                .and_then(|of| profile::exponent_interval(problem, formula, best, centre, of)),
        }
    }

    /// Puts the intervals in place of those of resampling.
    fn apply(&self, params: &mut [Parameter], exponents: Option<&mut Exponents>) {
        for (parameter, interval) in params.iter_mut().zip(&self.params) {
            parameter.estimate.ci95 = *interval;
        }
        if let Some(exponents) = exponents {
            exponents.a.ci95 = self.exponent;
            exponents.b.ci95 = self.exponent.map(|[low, high]| [1.0 - high, 1.0 - low]);
        }
    }
}

fn direct(table: &Table<'_>, options: &Options) -> Result<Fit, FitError> {
    let law = options.law;
    refuse_degenerate(table, options)?;
    let found = with_formula!(law, formula => run(formula, &table.fitted, options))?;
    let Found { values, certificate, resampled, flat, profiled, floor_at_zero } = found;
    let points = predictions(law, &values, table)?;
    let weights = weights(law, &table.fitted, options.weighting, options.objective.is_log())?;
    let cost = |(p, weight): (&FittedPoint, f64)| {
        weight * options.objective.cost(options.objective.residual(p.predicted, p.observation.loss))
    };
    let objective_value = points.iter().filter(|p| !p.held_out).zip(weights).map(cost).sum();
    let held_out = held_out(&points);
    let mut fit = Fit {
        method: Method::Direct,
        law,
        objective: options.objective,
        objective_value,
        params: parameters(law, &values, resampled.as_ref()),
        exponents: exponents(law, &values, resampled.as_ref()),
        optimum: Vec::new(),
        held_out,
        certificate,
        warnings: Vec::new(),
        n_points: table.fitted.len(),
        n_dropped: table.dropped,
        points,
        resampling: resampled.as_ref().map(|r| r.of),
        replicates: resampled.map(|r| r.replicates).unwrap_or_default(),
        isoflop: None,
    };
    if let Some(profiled) = profiled {
        profiled.apply(&mut fit.params, fit.exponents.as_mut());
    }
    if floor_at_zero {
        fit.warnings.push(Warning::new(
            WarningCode::FloorAtZero,
            "E is 0: the data shows no floor; hint: fit over a wider range, or pin a known floor",
        ));
    }
    fit.warnings.extend(flat.into_iter().map(|flat| flat.warning(law.parameters())));
    certificate::doubts(&mut fit);
    design::doubts(&mut fit, table, options);
    Ok(fit)
}

/// Tables over which a law means nothing, whatever its constants.
fn refuse_degenerate(table: &Table<'_>, options: &Options) -> Result<(), FitError> {
    let (law, rows) = (options.law, &table.fitted);
    let needed = law.parameters().len();
    if rows.len() < needed {
        return Err(FitError::TooFew {
            law: format!("the law {law}"),
            parameters: needed,
            points: rows.len(),
        });
    }
    let same = |pick: &dyn Fn(&Observation) -> Option<f64>| {
        let first = rows.first().and_then(pick)?;
        let near = |v: f64| (v - first).abs() <= 1e-12 * first.abs();
        rows.iter().all(|row| pick(row).is_some_and(near)).then_some(first)
    };
    type Axis<'a> = (&'static str, &'a dyn Fn(&Observation) -> Option<f64>);
    let axes: Vec<Axis<'_>> = if law.one_variable() {
        vec![("x", &Observation::single), ("loss", &|row| Some(row.loss))]
    } else {
        vec![("N", &|row| row.n), ("D", &Observation::tokens), ("loss", &|row| Some(row.loss))]
    };
    for (axis, pick) in axes {
        if let Some(value) = same(pick) {
            return Err(FitError::NoSpread { axis, value });
        }
    }
    Ok(())
}

/// The centre of some rows under a law, and the rows as points with their weights.
fn centre_of(
    law: Law,
    rows: &[Observation],
    log: bool,
    weighting: Weighting,
) -> Result<(Centre, Vec<Point>), FitError> {
    let absolute: Vec<Point> =
        rows.iter().filter_map(|row| Point::of(law, row, Centre::default(), log)).collect();
    let middle = |pick: fn(&Point) -> f64| mean(&absolute.iter().map(pick).collect::<Vec<f64>>());
    let centre = Centre { x: middle(|p| p.x), y: middle(|p| p.y) };
    let mut points: Vec<Point> =
        rows.iter().filter_map(|row| Point::of(law, row, centre, log)).collect();
    let weights = weights(law, rows, weighting, log)?;
    for (index, (point, weight)) in points.iter_mut().zip(weights).enumerate() {
        (point.index, point.weight) = (index, weight);
    }
    Ok((centre, points))
}

/// The part of a fit that knows the number of parameters.
fn run<const P: usize, F: Formula<P>>(
    formula: &F,
    rows: &[Observation],
    options: &Options,
) -> Result<Found, FitError> {
    let law = options.law;
    let (centre, points) = centre_of(law, rows, options.objective.is_log(), options.weighting)?;
    let problem = Problem::new(&points, options.objective);
    let starts = formula.starts(&points, options.objective);
    let solutions = problem.best_of(formula, &starts);
    let Some(&(mut smooth)) = solutions.first() else {
        return Err(FitError::NoMinimum { law, points: rows.len() });
    };
    if let Some(lower) = problem.scattered(formula, &smooth, options.starts, options.seed) {
        smooth = lower;
    }
    let asked = certificate::Asked {
        law,
        objective: options.objective,
        centre,
        rows,
        on_demand: options.certify,
    };
    let certificate = certificate::certify(&problem, formula, &mut smooth, &asked);
    let is_l1 = options.objective == Objective::L1Log;
    let best = if is_l1 { absolute(&problem, formula, smooth) } else { smooth };
    let values = formula.natural(&best.theta, centre);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(FitError::NoMinimum { law, points: rows.len() });
    }
    let resampled = (options.bootstrap > 0).then(|| {
        let task = bootstrap::Task {
            problem,
            is_l1,
            centre,
            seed: options.seed,
            intervals: options.intervals,
        };
        bootstrap::resample(&task, formula, &best, rows, options.bootstrap)
    });
    let profiled = (options.intervals == Intervals::Profile)
        .then(|| Profiled::of(&problem, formula, &smooth, centre, law));
    let flat = profile::flat_directions(&problem, formula, &smooth, centre);
    let floor_at_zero = formula.floor().is_some_and(|floor| !best.free[floor]);
    Ok(Found { values: values.to_vec(), certificate, resampled, flat, profiled, floor_at_zero })
}

/// The constants of a law over some rows, from a warm start: for results without outliers.
pub(crate) fn refit(rows: &[Observation], fit: &Fit, options: &Options) -> Option<Vec<f64>> {
    fn from<const P: usize, F: Formula<P>>(
        formula: &F,
        rows: &[Observation],
        fit: &Fit,
        options: &Options,
    ) -> Option<Vec<f64>> {
        let (centre, points) =
            centre_of(fit.law, rows, fit.objective.is_log(), options.weighting).ok()?;
        let problem = Problem::new(&points, fit.objective);
        let values: [f64; P] = fit.values().try_into().ok()?;
        let found: Solution<P> = problem.finish(formula, formula.working(&values, centre));
        let best = if fit.objective == Objective::L1Log {
            absolute(&problem, formula, found)
        } else {
            found
        };
        Some(formula.natural(&best.theta, centre).to_vec())
    }
    with_formula!(fit.law, formula => from(formula, rows, fit, options))
}

fn predictions(law: Law, values: &[f64], table: &Table<'_>) -> Result<Vec<FittedPoint>, FitError> {
    let rows = table.fitted.iter().map(|row| (row, false));
    rows.chain(table.held.iter().map(|row| (row, true)))
        .map(|(row, held_out)| {
            let predicted = law
                .loss(values, row)
                .filter(|loss| loss.is_finite() && *loss > 0.0)
                .ok_or(FitError::NoMinimum { law, points: table.fitted.len() })?;
            let log_residual = predicted.ln() - row.loss.ln();
            Ok(FittedPoint { observation: row.clone(), predicted, log_residual, held_out })
        })
        .collect()
}

fn held_out(points: &[FittedPoint]) -> Option<HeldOut> {
    let errors: Vec<f64> = points
        .iter()
        .filter(|p| p.held_out)
        .map(|p| (p.predicted / p.observation.loss - 1.0).abs())
        .collect();
    (!errors.is_empty()).then(|| HeldOut {
        n: errors.len(),
        mean_abs_rel_error: errors.iter().sum::<f64>() / count(errors.len()),
        max_abs_rel_error: errors.iter().copied().fold(0.0, f64::max),
    })
}

fn parameters(law: Law, values: &[f64], resampled: Option<&Resampled>) -> Vec<Parameter> {
    law.parameters()
        .iter()
        .zip(values)
        .enumerate()
        .map(|(i, (&name, &value))| {
            let estimate = resampled.map_or(Estimate::exact(value), |r| {
                r.estimate(value, |drawn| drawn.get(i).copied())
            });
            Parameter { name, estimate }
        })
        .collect()
}

fn exponents(law: Law, values: &[f64], resampled: Option<&Resampled>) -> Option<Exponents> {
    let a = law.exponent(values)?;
    let estimate = |value: f64, of: fn(f64) -> f64| {
        resampled.map_or(Estimate::exact(value), |r| {
            r.estimate(value, |drawn| law.exponent(drawn).map(of))
        })
    };
    Some(Exponents { a: estimate(a, |a| a), b: estimate(1.0 - a, |a| 1.0 - a) })
}

#[cfg(test)]
mod tests;
