//! `sweep fit`: a scaling law over the runs of a sweep, or over the observations of a table.

use std::{path::PathBuf, str::FromStr};

use serde::Serialize;
use sweep_fit::{Fit, Intervals, Law, Method, Objective, Observation, Options, Weighting};
use sweep_spec::units::parse_number;

use crate::{
    analysis::{Analysis, Basis, Wanted, refused, register},
    console::{Console, Format},
    exit::{Exit, Failure},
    law,
    output::{self, fit_table},
    results::{Asked, StoredArgs, SweepResults},
    source::{self, Filter, Mapping},
};

/// Arguments of `sweep fit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: Origin,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    wanted: Wanted,
    /// Store the forecasts of --at in this file before their runs are trained: one hashed entry a
    /// line, each naming the one before
    #[arg(long, value_name = "FILE", requires = "at", conflicts_with = "fared")]
    preregister: Option<PathBuf>,
    /// Hold the forecasts stored in this file against the losses given here: error, factor of
    /// extrapolation, coverage; fits nothing
    #[arg(long, value_name = "FILE")]
    fared: Option<PathBuf>,
}

/// Where observations come from.
#[derive(Debug, clap::Args)]
pub(crate) struct Origin {
    /// A sweep, by name, id or the beginning of its id, or `last`; what its recipe says of the fit
    /// holds where no option says otherwise
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    sweep: Option<String>,
    /// The table: CSV with a header, JSON lines (.jsonl) or Parquet (.parquet); needs no coordinator
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "local", arg(conflicts_with = "db"))]
    input: Option<PathBuf>,
    /// Which column is N, D, C, loss, unique (tokens), group (run), budget, noise (standard deviation
    /// of the loss over seeds) or seconds; repeats; without any, columns called N, D, C and loss are
    /// what their names say
    #[arg(long = "map", value_name = "ROLE=COLUMN", requires = "input")]
    maps: Vec<String>,
    /// Only rows whose cell is this text; repeats
    #[arg(long = "where", value_name = "COLUMN=VALUE", requires = "input")]
    filters: Vec<Filter>,
    #[command(flatten)]
    stored: StoredArgs,
}

/// Observations with what is known beside them.
pub(crate) struct Gathered {
    /// Observations.
    pub(crate) observations: Vec<Observation>,
    /// GPU-seconds of each; empty where one is missing.
    pub(crate) seconds: Vec<f64>,
    /// What the recipe says of the fit, or the defaults.
    pub(crate) base: Options,
    /// Where they came from.
    pub(crate) origin: String,
    /// The sweep, where they came from one.
    pub(crate) sweep: Option<SweepResults>,
}

impl Gathered {
    /// The same by reference.
    pub(crate) fn basis(&self) -> Basis<'_> {
        Basis {
            observations: &self.observations,
            seconds: &self.seconds,
            origin: &self.origin,
            sweep: self.sweep.as_ref(),
            rehearsal: None,
        }
    }
}

impl Origin {
    /// Reads the table, or asks for the sweep; says which runs give no observation.
    ///
    /// # Errors
    /// [`Failure`] with 2 for usage, 3 and 4 for coordinator and store, 5 for the data.
    pub(crate) fn gather(&self, console: &mut Console<'_>) -> Result<Gathered, Failure> {
        if let Some(input) = &self.input {
            let read = Mapping::new(&self.maps)
                .and_then(|mapping| source::read(input, &mapping, &self.filters))
                .map_err(|error| Failure::new(error.exit(), error))?;
            if self.maps.is_empty() {
                console.say(format_args!("columns by their names: {}", read.roles))?;
            }
            let base = Options { ungrouped_column: read.run_column, ..Options::default() };
            return Ok(Gathered {
                observations: read.observations,
                seconds: read.seconds,
                base,
                origin: input.display().to_string(),
                sweep: None,
            });
        }
        let results = self.results()?;
        for (run, why) in results.left_out() {
            console.say(format_args!("run {} gives no observation: {why}", run.label()))?;
        }
        Ok(Gathered {
            observations: results.observations(),
            seconds: results.seconds(),
            base: law::options(results.fit_plan())?,
            origin: format!("sweep {} ({})", results.name, results.id),
            sweep: Some(results),
        })
    }

    fn results(&self) -> Result<SweepResults, Failure> {
        self.stored.results(self.sweep.as_deref().unwrap_or("last"), Asked::NONE)
    }
}

/// `--law`: one of them, or the one that predicts best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LawChoice {
    /// This one.
    Named(Law),
    /// The least error on the largest compute, held out.
    Best,
}

impl FromStr for LawChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "best" {
            return Ok(Self::Best);
        }
        text.parse().map(Self::Named).map_err(|error: String| format!("{error}, or best"))
    }
}

/// What to fit and how; the part that does not depend on where observations come from.
#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// separable (default), coupled, kaplan, gadre, repeat, bounded, broken, broken-2, broken-3, power,
    /// power-floor, or best: the one with the least error on the largest compute, held out
    #[arg(long, value_name = "LAW")]
    law: Option<LawChoice>,
    /// huber-log (default), l1-log, huber, mse, mse-log, or asymmetric-log:K, where a prediction above
    /// the loss costs K times as much (3 without K); always a sum
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Where Huber's quadratic part ends, on the scale of the residual; 0.001 by default
    #[arg(long)]
    delta: Option<f64>,
    /// Leave out this many observations of highest loss
    #[arg(long, default_value_t = 0, value_name = "K")]
    drop_highest: usize,
    /// direct (a law over all), isoflop (a parabola per budget) or envelope (of curves by group)
    #[arg(long, default_value = "direct", value_parser = method)]
    method: Method,
    /// Resampled fits for standard errors and 95 % intervals; 2000 is enough, none by default
    #[arg(long, value_name = "REPLICATES")]
    bootstrap: Option<usize>,
    /// Seed of the resampling; 0 by default
    #[arg(long)]
    seed: Option<u64>,
    /// Predict this share of highest compute instead of fitting it
    #[arg(long, value_name = "FRACTION")]
    hold_out_top: Option<f64>,
    /// Print the optimum of this many FLOPs; repeats
    #[arg(long = "budget", value_name = "FLOPS", value_parser = flops)]
    budgets: Vec<f64>,
    /// bootstrap (default), residual (holds its coverage with few runs; both need --bootstrap), or
    /// profile, which needs no resampling
    #[arg(long, value_name = "WAY")]
    intervals: Option<Intervals>,
    /// equal (default), or seed-noise: by the inverse variance over seeds, from --map noise=COLUMN or
    /// from sizes trained more than once
    #[arg(long, value_name = "WAY")]
    weights: Option<Weighting>,
    /// Search a grid to certify a kaplan, coupled, repeat or broken law; others are certified anyway
    #[arg(long)]
    certify: bool,
    /// Descend from this many random starts as well
    #[arg(long, default_value_t = 0, value_name = "K")]
    starts: usize,
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "direct" => Ok(Method::Direct),
        "isoflop" => Ok(Method::Isoflop),
        "envelope" => Ok(Method::Envelope),
        _ => Err("hint: one of direct, isoflop, envelope".to_owned()),
    }
}

fn flops(text: &str) -> Result<f64, String> {
    parse_number(text).map_err(|error| error.to_string())
}

impl What {
    /// The options of the library: what was given here, else `base`.
    pub(crate) fn options(&self, base: Options) -> Result<Options, Failure> {
        let name = self.objective.as_deref().unwrap_or(base.objective.name());
        let delta = self.delta.or(base.objective.delta()).unwrap_or(DEFAULT_DELTA);
        let objective = Objective::from_name(name, delta)
            .map_err(|message| Failure::message(Exit::Usage, message))?;
        let bootstrap = match self.method {
            Method::Direct => self.bootstrap.unwrap_or(base.bootstrap),
            // Intervals of a recipe belong to its law.
            Method::Isoflop | Method::Envelope => self.bootstrap.unwrap_or(0),
        };
        let intervals = self.intervals.unwrap_or(base.intervals);
        if intervals == Intervals::Residual && bootstrap == 0 {
            let text = "--intervals residual needs resampled fits; hint: add --bootstrap 2000";
            return Err(Failure::message(Exit::Usage, text.to_owned()));
        }
        Ok(Options {
            law: match self.law {
                Some(LawChoice::Named(law)) => law,
                Some(LawChoice::Best) | None => base.law,
            },
            objective,
            method: self.method,
            drop_highest: self.drop_highest,
            hold_out_top: self.hold_out_top,
            bootstrap,
            seed: self.seed.unwrap_or(base.seed),
            budgets: if self.budgets.is_empty() {
                base.budgets.clone()
            } else {
                self.budgets.clone()
            },
            intervals,
            weighting: self.weights.unwrap_or(base.weighting),
            starts: self.starts,
            certify: self.certify,
            ..base
        })
    }

    /// The options for these observations: `--law best` is settled here, by the ranking.
    ///
    /// # Errors
    /// Exit code 5 where no law can be ranked.
    pub(crate) fn settle(
        &self,
        gathered: &Gathered,
        console: &mut Console<'_>,
    ) -> Result<Options, Failure> {
        let options = self.options(gathered.base.clone())?;
        if self.law != Some(LawChoice::Best) {
            return Ok(options);
        }
        let ranked = sweep_fit::rank(&gathered.observations, &options);
        let best = ranked.into_iter().next().ok_or_else(|| refused(sweep_fit::FitError::Empty))?;
        let held = best.result.map_err(refused)?;
        console.say(format_args!(
            "law {} has the least held-out error, {:.3} % of the loss over {} observations",
            best.law,
            100.0 * held.mean_abs_rel_error,
            held.n
        ))?;
        Ok(Options { law: best.law, ..options })
    }
}

/// Where Huber's quadratic part ends when neither options nor recipe say.
const DEFAULT_DELTA: f64 = 1e-3;

/// A fit with the parts that were asked for beside it, as one document.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    fit: &'a Fit,
    #[serde(flatten)]
    analysis: &'a Analysis,
    /// Hash of the stored forecasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    preregistered: Option<&'a str>,
}

/// Gets the observations, fits and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 3 and 4 for the coordinator, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if let Some(path) = &args.fared {
        return fared(path, &args.from, console);
    }
    let gathered = args.from.gather(console)?;
    let options = args.what.settle(&gathered, console)?;
    let fit = sweep_fit::fit(&gathered.observations, &options).map_err(refused)?;
    let analysis = args.wanted.analyse(&gathered.basis(), &fit, &options)?;
    let hash = match &args.preregister {
        Some(path) => Some(register::append(path, &fit, &analysis.forecasts, unix_seconds())?),
        None => None,
    };
    match console.format {
        Format::Json => {
            let preregistered = hash.as_deref();
            console.json(&Document { fit: &fit, analysis: &analysis, preregistered })?;
        }
        Format::Table => {
            fit_table::print(&fit, console.out)?;
            output::analysis::print(&analysis, console.out)?;
            // Before the warnings on the other stream.
            console.out.flush()?;
            for warning in &fit.warnings {
                console.say(format_args!("warning[{}]: {}", warning.code, warning.message))?;
            }
        }
        Format::Quiet => {
            for parameter in &fit.params {
                writeln!(console.out, "{} {}", parameter.name, parameter.estimate.value)?;
            }
        }
    }
    if let (Some(hash), Some(path)) = (&hash, &args.preregister) {
        console.say(format_args!("stored in {} as {hash}", path.display()))?;
    }
    Ok(Exit::Done)
}

/// Wall time for the date of a stored forecast.
#[expect(clippy::disallowed_methods, reason = "the date of a forecast is what a reader asks for")]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Holds stored forecasts against the losses given.
fn fared(
    path: &std::path::Path,
    from: &Origin,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let entries = register::read(path)?;
    let measured = match &from.input {
        Some(_) => from.gather(console)?.observations,
        // Checks are what forecasts of a sweep are about.
        None => from.results()?.measured(),
    };
    let record = register::fared(&entries, &measured);
    match console.format {
        Format::Json => console.json(&record)?,
        Format::Table => output::analysis::print_record(&record, console.out)?,
        Format::Quiet => {
            for fared in &record.forecasts {
                writeln!(
                    console.out,
                    "{} {:e} {:e}",
                    fared.entry, fared.promise.n, fared.promise.d
                )?;
            }
        }
    }
    Ok(if record.measured == 0 { Exit::NoMatch } else { Exit::Done })
}

#[cfg(test)]
mod tests;
