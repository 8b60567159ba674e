//! `fit`: from observations and options to a fit, in the order of the contract: row checks, the
//! highest dropped, the top held out, then the method.

use crate::{
    bootstrap::{self, Resampled},
    certificate, design,
    envelope::envelope,
    error::FitError,
    fit::{Allocation, Certificate, Estimate, Exponents, Fit, FittedPoint, HeldOut, Parameter},
    formula::{Centre, Formula, Point, with_formula},
    isoflop,
    law::Law,
    objective::Objective,
    observation::{Observation, check_rows},
    profile,
    projection::valleys_searched,
    solver::{Problem, Solution, absolute},
    statistics::{count, mean, quantile},
    warning::{Warning, WarningCode},
};

/// Resampled fits of one call: interval ends settle near 2000.
pub const MAX_REPLICATES: usize = 20_000;

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
    /// How.
    pub method: Method,
    /// How many observations of highest loss to leave out.
    pub drop_highest: usize,
    /// The share of observations of highest compute to predict instead of fitting.
    pub hold_out_top: Option<f64>,
    /// Resampled fits; 0 for no intervals.
    pub bootstrap: usize,
    /// Seed of the resampling.
    pub seed: u64,
    /// Budgets in FLOPs whose optimum is wanted.
    pub budgets: Vec<f64>,
    /// A column names the runs, but was not mapped as the group.
    pub ungrouped_column: Option<String>,
}

/// The rows of a fit after dropping and holding out.
pub(crate) struct Table {
    pub(crate) fitted: Vec<Observation>,
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
        Method::Envelope => envelope(&table)?,
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

fn check_options(options: &Options) -> Result<(), FitError> {
    let bad = |option, value: String, allowed| Err(FitError::BadOption { option, value, allowed });
    if let Some(delta) = options.objective.delta().filter(|d| !(d.is_finite() && *d > 0.0)) {
        return bad("--delta", delta.to_string(), "give a number above 0");
    }
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
    if let Some(budget) = options.budgets.iter().find(|c| !(c.is_finite() && **c > 0.0)) {
        return bad("--budget", budget.to_string(), "give a number of FLOPs above 0");
    }
    Ok(())
}

fn prepare(observations: &[Observation], options: &Options) -> Result<Table, FitError> {
    if observations.is_empty() {
        return Err(FitError::Empty);
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
        fitted.into_iter().partition(|row| scale(row) <= threshold);
    if held.is_empty() {
        return Err(FitError::NothingLeft(format!(
            "--hold-out-top {share} holds nothing out of {} observations; hint: give a larger share",
            fitted.len()
        )));
    }
    Ok(Table { fitted, held, dropped })
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
    if law == Some(Law::Repeat) && observations.iter().any(|row| row.unique.is_none()) {
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
) -> Result<Vec<Observation>, FitError> {
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
    /// Place of a floor that sits on its bound.
    pub(crate) floor_at_zero: bool,
}

fn direct(table: &Table, options: &Options) -> Result<Fit, FitError> {
    let law = options.law;
    refuse_degenerate(table, options)?;
    let found = with_formula!(law, formula => run(formula, &table.fitted, options))?;
    let Found { values, certificate, resampled, flat, floor_at_zero } = found;
    let points = predictions(law, &values, table)?;
    let objective_value = points
        .iter()
        .filter(|p| !p.held_out)
        .map(|p| {
            options.objective.cost(options.objective.residual(p.predicted, p.observation.loss))
        })
        .sum();
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
        replicates: resampled.map(|r| r.replicates).unwrap_or_default(),
        isoflop: None,
    };
    if floor_at_zero {
        fit.warnings.push(Warning::new(
            WarningCode::FloorAtZero,
            "E is 0: the data shows no floor; hint: fit over a wider range, or pin a known floor",
        ));
    }
    fit.warnings.extend(flat.into_iter().map(|flat| flat.warning(law)));
    certificate::doubts(&mut fit);
    design::doubts(&mut fit, table, options);
    Ok(fit)
}

/// Tables over which a law means nothing, whatever its constants.
fn refuse_degenerate(table: &Table, options: &Options) -> Result<(), FitError> {
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

/// The centre of some rows under a law.
fn centre_of(law: Law, rows: &[Observation], log: bool) -> (Centre, Vec<Point>) {
    let absolute: Vec<Point> =
        rows.iter().filter_map(|row| Point::of(law, row, Centre::default(), log)).collect();
    let middle = |pick: fn(&Point) -> f64| mean(&absolute.iter().map(pick).collect::<Vec<f64>>());
    let centre = Centre { x: middle(|p| p.x), y: middle(|p| p.y) };
    let points = rows.iter().filter_map(|row| Point::of(law, row, centre, log)).collect();
    (centre, points)
}

/// The part of a fit that knows the number of parameters.
fn run<const P: usize, F: Formula<P>>(
    formula: &F,
    rows: &[Observation],
    options: &Options,
) -> Result<Found, FitError> {
    let law = options.law;
    let (centre, points) = centre_of(law, rows, options.objective.is_log());
    let problem = Problem::new(&points, options.objective);
    let starts = formula.starts(&points, options.objective);
    let solutions = problem.best_of(formula, &starts);
    let Some(&smooth) = solutions.first() else {
        return Err(FitError::NoMinimum { law, points: rows.len() });
    };
    let is_l1 = options.objective == Objective::L1Log;
    let best = if is_l1 { absolute(&problem, formula, smooth) } else { smooth };
    let values = formula.natural(&best.theta, centre);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(FitError::NoMinimum { law, points: rows.len() });
    }
    let certificate =
        valleys_searched(law).then(|| certificate::certify(&problem, formula, &smooth, centre));
    let resampled = (options.bootstrap > 0).then(|| {
        let task = bootstrap::Task { problem, is_l1, centre, seed: options.seed };
        bootstrap::resample(&task, formula, &best, rows, options.bootstrap)
    });
    let flat = profile::flat_directions(&problem, formula, &smooth, centre);
    let floor_at_zero = formula.floor().is_some_and(|floor| !best.free[floor]);
    Ok(Found { values: values.to_vec(), certificate, resampled, flat, floor_at_zero })
}

/// The constants of a law over some rows, from a warm start: for results without outliers.
pub(crate) fn refit(rows: &[Observation], fit: &Fit) -> Option<Vec<f64>> {
    fn from<const P: usize, F: Formula<P>>(
        formula: &F,
        rows: &[Observation],
        fit: &Fit,
    ) -> Option<Vec<f64>> {
        let (centre, points) = centre_of(fit.law, rows, fit.objective.is_log());
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
    with_formula!(fit.law, formula => from(formula, rows, fit))
}

fn predictions(law: Law, values: &[f64], table: &Table) -> Result<Vec<FittedPoint>, FitError> {
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
