//! `sweep curves`: a law of whole loss curves under their learning-rate schedules, and what it
//! forecasts for other schedules of the same model.

mod family;
mod table;

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use sweep_fit::{CurveFit, CurveLaw, CurveOptions, Objective, Warning, fit_curves};
use sweep_spec::{metric::Metric, run::RunRole};

use self::family::{Family, Told};
use crate::{
    analysis::refused,
    console::{Console, Format},
    exit::{Exit, Failure},
    output,
    results::{Asked, StoredArgs},
    source::Filter,
};

/// Arguments of `sweep curves`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id, or `last`; one fit for each model in it
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    sweep: Option<String>,
    /// A table of curves: CSV with a header, JSON lines (.jsonl) or Parquet (.parquet), one row for
    /// each step that is known; a row may have no loss
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "local", arg(conflicts_with = "db"))]
    input: Option<PathBuf>,
    /// Which column is step, rate, loss or curve; a role that is not mapped is the column of its
    /// name; repeats
    #[arg(long = "map", value_name = "ROLE=COLUMN", requires = "input")]
    maps: Vec<String>,
    /// Only rows whose cell is this text; repeats
    #[arg(long = "where", value_name = "COLUMN=VALUE", requires = "input")]
    filters: Vec<Filter>,
    /// annealing (L0 + A S1^-alpha - C S2) or multi-power (a power law for each fall of the rate)
    #[arg(long, value_name = "LAW", default_value = "annealing", value_parser = law)]
    law: CurveLaw,
    /// huber-log, l1-log, huber, mse, mse-log, or asymmetric-log:K
    #[arg(long, value_name = "NAME", default_value = "huber-log")]
    objective: String,
    /// Where Huber's quadratic part ends, on the scale of the residual
    #[arg(long, default_value_t = 1e-3)]
    delta: f64,
    /// Memory of the annealing law, from 0 to below 1; found when absent
    #[arg(long)]
    lambda: Option<f64>,
    /// Keep every K-th loss of a curve
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Forecast this curve instead of fitting it: its name in the table, or the beginning of a run's
    /// id; repeats
    #[arg(long = "predict", value_name = "CURVE")]
    predicted: Vec<String>,
    /// Fit the loss on held-out data instead of that on training batches, which has more points
    #[arg(long, conflicts_with = "input")]
    validation: bool,
    /// Forecast the loss of a run of so many steps, with the schedule and the peak rate of the
    /// model's longest run; repeats
    #[arg(long = "steps", value_name = "STEPS", conflicts_with = "input", value_parser = clap::value_parser!(u64).range(2..=MAX_STEPS))]
    steps: Vec<u64>,
    #[command(flatten)]
    stored: StoredArgs,
}

/// Longest schedule that is summed step by step.
const MAX_STEPS: u64 = 10_000_000;

fn law(text: &str) -> Result<CurveLaw, String> {
    let found = CurveLaw::ALL.into_iter().find(|law| law.name() == text);
    found.ok_or_else(|| "hint: one of annealing, multi-power".to_owned())
}

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    fits: &'a [Fitted],
}

/// The fit of one model's curves.
#[derive(Debug, Serialize)]
pub(crate) struct Fitted {
    /// Which model of a sweep.
    pub(crate) model: Option<String>,
    /// Which loss of a sweep.
    pub(crate) metric: Option<&'static str>,
    pub(crate) law: &'static str,
    #[serde(skip)]
    pub(crate) formula: &'static str,
    pub(crate) objective: Minimised,
    /// In the order of the law.
    #[serde(serialize_with = "by_name")]
    pub(crate) params: Vec<(&'static str, f64)>,
    /// Losses fitted.
    pub(crate) n_points: usize,
    /// Losses before the rate's peak, left out.
    pub(crate) n_warmup: usize,
    pub(crate) curves: Vec<Told>,
    pub(crate) forecasts: Vec<Forecast>,
    /// Curves and schedules that the law gives no loss for, each with the reason.
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<Warning>,
}

/// What was minimised.
#[derive(Debug, Serialize)]
pub(crate) struct Minimised {
    pub(crate) name: &'static str,
    pub(crate) delta: Option<f64>,
    pub(crate) value: f64,
}

/// The loss at the end of a run that was not trained.
#[derive(Debug, Serialize)]
pub(crate) struct Forecast {
    pub(crate) steps: u64,
    pub(crate) loss: f64,
    /// The run whose schedule and peak rate it has.
    pub(crate) like: String,
    /// That rate.
    pub(crate) peak_rate: f64,
}

fn by_name<S: Serializer>(params: &[(&'static str, f64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(params.iter().copied())
}

/// Reads the curves, fits each model's and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 3 and 4 for coordinator and store, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let objective = Objective::from_name(&args.objective, args.delta)
        .map_err(|message| Failure::message(Exit::Usage, message))?;
    if args.lambda.is_some() && args.law != CurveLaw::Annealing {
        let message = "--lambda is a constant of the annealing law; hint: --law annealing";
        return Err(Failure::message(Exit::Usage, message));
    }
    let options = CurveOptions { law: args.law, objective, lambda: args.lambda };
    let families = families(args, console)?;
    let (mut fits, mut refused) = (Vec::new(), Vec::new());
    for family in &families {
        match fit(family, &options, &args.steps) {
            Ok(fitted) => fits.push(fitted),
            Err(failure) => refused.push((family, failure)),
        }
    }
    if fits.is_empty()
        && let Some((_, failure)) = refused.pop()
    {
        return Err(failure);
    }
    for (family, failure) in refused {
        let model = family.model.as_deref().unwrap_or("the curves");
        console.say(format_args!("no fit of {model}: {failure}"))?;
    }
    match console.format {
        Format::Json => console.json(&Document { schema: "sweep.curves/1", fits: &fits })?,
        Format::Table => {
            for fitted in &fits {
                output::curves::print(fitted, console.out)?;
                console.out.flush()?;
                for problem in &fitted.problems {
                    console.say(problem)?;
                }
                for warning in &fitted.warnings {
                    console.say(format_args!("warning[{}]: {}", warning.code, warning.message))?;
                }
            }
        }
        Format::Quiet => {
            for (name, value) in fits.iter().flat_map(|fitted| &fitted.params) {
                writeln!(console.out, "{name} {value}")?;
            }
        }
    }
    Ok(Exit::Done)
}

/// The curves by model, those to be predicted marked; says which runs are not used.
fn families(args: &Args, console: &mut Console<'_>) -> Result<Vec<Family>, Failure> {
    let mut families = if let Some(input) = &args.input {
        let read = table::read(input, &args.maps, &args.filters)?;
        if read.filled > 0 {
            console.say(format_args!(
                "{} of {} steps have no row; their rates lie on the line between their neighbours",
                read.filled, read.steps
            ))?;
        }
        vec![read.family]
    } else {
        let name = args.sweep.as_deref().unwrap_or("last");
        let metric = if args.validation { Metric::ValidationLoss } else { Metric::TrainLoss };
        let results = args.stored.results(name, Asked::complete(&[metric]))?;
        let open = results.runs.iter().filter(|run| !family::is_whole(run)).count();
        if open > 0 {
            console.say(format_args!(
                "{open} of {} runs are left out: they did not finish",
                results.runs.len()
            ))?;
        }
        let other = results.of_role(RunRole::Sensitivity).count();
        if other > 0 {
            console
                .say(format_args!("{other} runs are left out: they have other learning rates"))?;
        }
        family::of_sweep(&results, metric)
    };
    if families.is_empty() {
        let message = "no run has finished; hint: `sweep status` says where they stand";
        return Err(Failure::message(Exit::FitRefused, message));
    }
    for family in &mut families {
        family.thin(usize::try_from(args.every).unwrap_or(usize::MAX));
    }
    for name in &args.predicted {
        let found: usize = families.iter_mut().map(|family| family.predict(name)).sum();
        let (exit, problem) = match found {
            1 => continue,
            0 => (Exit::NoMatch, "names no curve"),
            _ => (Exit::Usage, "names more than one curve"),
        };
        let known = families.iter().flat_map(Family::names).collect::<Vec<_>>().join(", ");
        let message = format!("--predict {name} {problem}; hint: the curves are {known}");
        return Err(Failure::message(exit, message));
    }
    Ok(families)
}

fn fit(family: &Family, options: &CurveOptions, steps: &[u64]) -> Result<Fitted, Failure> {
    let curves = family.fitted();
    let found: CurveFit = fit_curves(&curves, options).map_err(refused)?;
    let mut problems = Vec::new();
    let curves = family.told(&found, &mut problems);
    let mut forecasts = Vec::new();
    for &steps in steps {
        match family.forecast(&found, steps) {
            Ok(forecast) => forecasts.extend(forecast),
            Err(error) => problems.push(format!("no forecast of {steps} steps: {error}")),
        }
    }
    Ok(Fitted {
        model: family.model.clone(),
        metric: family.metric.map(Metric::name),
        law: found.law.name(),
        formula: found.law.formula(),
        objective: Minimised {
            name: found.objective.name(),
            delta: found.objective.delta(),
            value: found.objective_value,
        },
        params: found.params.iter().map(|p| (p.name, p.estimate.value)).collect(),
        n_points: found.points.len(),
        n_warmup: found.n_warmup,
        curves,
        forecasts,
        problems,
        warnings: found.warnings,
    })
}

#[cfg(test)]
mod tests;
