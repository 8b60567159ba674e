//! `sweep fit`: a scaling law over the runs of a sweep, or over the observations of a table.

use std::path::PathBuf;

use sweep_fit::{FitError, Law, Method, Objective, Observation, Options};
use sweep_spec::units::parse_number;

use crate::{
    client::{AccessArgs, block_on, select_sweep},
    console::{Console, Format},
    exit::{Exit, Failure},
    law,
    output::fit_table,
    results,
    source::{self, Filter, Mapping},
};

/// Arguments of `sweep fit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep, by name, id or the beginning of its id, or `last`; what its recipe says of the fit
    /// holds where no option says otherwise
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    sweep: Option<String>,
    /// The table: CSV with a header, or JSON lines; needs no coordinator
    #[arg(long, value_name = "FILE", requires = "maps")]
    input: Option<PathBuf>,
    /// Which column is N, D, C, loss, unique (tokens), group (run) or budget; repeats
    #[arg(long = "map", value_name = "ROLE=COLUMN", requires = "input")]
    maps: Vec<String>,
    /// Only rows whose cell is this text; repeats
    #[arg(long = "where", value_name = "COLUMN=VALUE", requires = "input")]
    filters: Vec<Filter>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    what: What,
}

/// What to fit and how; the part that does not depend on where observations come from.
#[derive(Debug, clap::Args)]
pub(crate) struct What {
    /// separable (default), coupled, kaplan, gadre, repeat, broken, power or power-floor
    #[arg(long, value_name = "LAW")]
    law: Option<Law>,
    /// huber-log (default), l1-log, huber, mse or mse-log; always a sum
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
        Ok(Options {
            law: self.law.unwrap_or(base.law),
            objective,
            method: self.method,
            drop_highest: self.drop_highest,
            hold_out_top: self.hold_out_top,
            bootstrap,
            seed: self.seed.unwrap_or(base.seed),
            budgets: if self.budgets.is_empty() { base.budgets } else { self.budgets.clone() },
            ungrouped_column: base.ungrouped_column,
        })
    }
}

/// Where Huber's quadratic part ends when neither options nor recipe say.
const DEFAULT_DELTA: f64 = 1e-3;

/// Gets the observations, fits and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 3 and 4 for the coordinator, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let (observations, base) = match (&args.input, &args.sweep) {
        (Some(input), _) => {
            let read = Mapping::new(&args.maps)
                .and_then(|mapping| source::read(input, &mapping, &args.filters))
                .map_err(|error| Failure::new(error.exit(), error))?;
            let ungrouped_column = read.run_column;
            (read.observations, Options { ungrouped_column, ..Options::default() })
        }
        (None, sweep) => of_sweep(sweep.as_deref().unwrap_or("last"), &args.access, console)?,
    };
    fit_and_print(&observations, &args.what.options(base)?, console)
}

/// The observations of a sweep and the options of its recipe; says which runs give none.
fn of_sweep(
    name: &str,
    access: &AccessArgs,
    console: &mut Console<'_>,
) -> Result<(Vec<Observation>, Options), Failure> {
    let results = block_on(async {
        let mut control = access.connect().await?;
        let sweep = select_sweep(&mut control, name).await?;
        results::fetch(&mut control, &sweep, &[]).await
    })?;
    for (run, why) in results.left_out() {
        console.say(format_args!("run {} gives no observation: {why}", run.label()))?;
    }
    Ok((results.observations(), law::options(results.fit_plan())?))
}

/// Fits observations, wherever they came from, and prints the result.
///
/// # Errors
/// [`Failure`] with 2 for usage and 5 for the data.
pub(crate) fn fit_and_print(
    observations: &[Observation],
    options: &Options,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let fit = sweep_fit::fit(observations, options).map_err(|error: FitError| {
        let exit = if error.is_usage() { Exit::Usage } else { Exit::FitRefused };
        Failure::new(exit, error)
    })?;
    match console.format {
        Format::Json => console.json(&fit)?,
        Format::Table => {
            fit_table::print(&fit, console.out)?;
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
    Ok(Exit::Done)
}
