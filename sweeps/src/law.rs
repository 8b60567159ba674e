//! The fit that a recipe asks for, over the results of its sweep.

use sweep_fit::{Fit, FitError, Intervals, Law, Method, Objective, Observation, Options};
use sweep_plot::input::{FrontierInput, PlotInput};
use sweep_spec::recipe::FitPlan;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    results::SweepResults,
};

/// The recipe's fit in the words of `sweep-fit`.
///
/// # Errors
/// Exit code 2 for a name that `sweep-fit` does not know.
pub(crate) fn options(plan: &FitPlan) -> Result<Options, Failure> {
    let usage = |message: String| Failure::message(Exit::Usage, message);
    Ok(Options {
        law: plan.law.name().parse::<Law>().map_err(usage)?,
        objective: Objective::from_name(plan.objective.name(), plan.delta).map_err(usage)?,
        bootstrap: plan.bootstrap as usize,
        seed: plan.seed,
        budgets: plan.budgets.clone(),
        ..Options::default()
    })
}

/// Fits the law of the recipe.
///
/// # Errors
/// Exit code 5 where the observations allow no fit.
pub(crate) fn fit(results: &SweepResults) -> Result<Fit, Failure> {
    sweep_fit::fit(&results.observations(), &options(results.fit_plan())?).or_exit(Exit::FitRefused)
}

/// The isoFLOP fit, where the runs stand on budgets; `None` where they do not or it is refused:
/// the law is what was asked for, and a figure says what it lacks.
pub(crate) fn isoflop(results: &SweepResults) -> Option<Result<Fit, FitError>> {
    let observations = results.observations();
    observations.iter().any(|observation| observation.budget.is_some()).then(|| {
        let options = Options {
            method: Method::Isoflop,
            budgets: results.fit_plan().budgets.clone(),
            ..Options::default()
        };
        sweep_fit::fit(&observations, &options)
    })
}

/// Share of the observations, those of highest compute, that a rehearsal holds out.
const HELD_OUT: f64 = 0.2;

/// The same fit without the observations of highest compute, as a rehearsal of its forecast; `None`
/// where what is left allows none.
pub(crate) fn rehearsal(observations: &[Observation], options: &Options) -> Option<Fit> {
    let options = Options {
        hold_out_top: Some(HELD_OUT),
        bootstrap: 0,
        intervals: Intervals::default(),
        budgets: Vec::new(),
        ..options.clone()
    };
    sweep_fit::fit(observations, &options).ok()
}

/// Power laws of C = 6 N D alone, with and without a floor, over the observations of least loss for
/// their compute.
fn frontier(observations: &[Observation], options: &Options) -> FrontierInput {
    // The axis of the figure: exact FLOPs would shift small models against large ones.
    let rows: Vec<Observation> =
        observations.iter().map(|row| Observation { flops: None, ..row.clone() }).collect();
    let best = sweep_fit::frontier(&rows);
    let fitted = |law: Law| {
        let objective = options.objective;
        sweep_fit::fit(&best, &Options { law, objective, ..Options::default() }).ok()
    };
    FrontierInput { without_floor: fitted(Law::Power), with_floor: fitted(Law::PowerFloor) }
}

/// The law that tells repeats apart, where some observations repeat their data.
fn repeats(observations: &[Observation], options: &Options) -> Option<Fit> {
    let repeated = |row: &Observation| {
        row.tokens().zip(row.unique).is_some_and(|(d, unique)| d > unique * (1.0 + 1e-9))
    };
    if !observations.iter().any(repeated) {
        return None;
    }
    let objective = options.objective;
    sweep_fit::fit(observations, &Options { law: Law::Repeat, objective, ..Options::default() })
        .ok()
}

/// What the figures and the report need, with the fits that can be made.
pub(crate) fn plot_input(results: &SweepResults) -> (PlotInput, Result<Fit, Failure>) {
    let fit = fit(results);
    let mut input = results.plot_input();
    input.isoflop = isoflop(results).and_then(Result::ok);
    if let Ok(options) = options(results.fit_plan()) {
        let observations = results.observations();
        input.rehearsal = fit.is_ok().then(|| rehearsal(&observations, &options)).flatten();
        input.frontier = frontier(&observations, &options);
        input.repeat_law = repeats(&observations, &options);
    }
    let bootstrap = results.fit_plan().bootstrap;
    input.interval = (bootstrap > 0).then(|| format!("{bootstrap} case bootstraps, 95 %"));
    input.fit = fit.as_ref().ok().cloned();
    (input, fit)
}
