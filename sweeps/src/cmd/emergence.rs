//! `sweep emergence`: whether the task metrics of a sweep or of a table jump with scale, and what a
//! task law forecasts.

mod scores;

use std::path::PathBuf;

use serde::Serialize;
use sweep_fit::emergence::{ByLength, ChainForecast, Emergence};
use sweep_spec::metric::Metric;

use self::scores::Scores;
use crate::{
    analysis::{positive, target::At},
    console::{Console, Format},
    exit::{Exit, Failure},
    output,
    results::{Asked, StoredArgs},
    source::{self, Filter, Mapping},
};

/// Arguments of `sweep emergence`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A sweep with tasks, by name, id or the beginning of its id, or `last`: exact match and
    /// log-probability of the answer of every task
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    sweep: Option<String>,
    /// A table: CSV with a header, JSON lines (.jsonl) or Parquet (.parquet); a row is a model
    #[arg(long, value_name = "FILE", requires_all = ["maps", "metrics"])]
    #[cfg_attr(feature = "local", arg(conflicts_with = "db"))]
    input: Option<PathBuf>,
    /// Which column is N, D, C, loss or group (run); metrics are held against each; repeats
    #[arg(long = "map", value_name = "ROLE=COLUMN", requires = "input")]
    maps: Vec<String>,
    /// Only rows whose cell is this text; repeats
    #[arg(long = "where", value_name = "COLUMN=VALUE", requires = "input")]
    filters: Vec<Filter>,
    /// A column of scores, for example the share of exact matches; repeats
    #[arg(long = "metric", value_name = "COLUMN", requires = "input")]
    metrics: Vec<String>,
    /// A softer score of the same task (log-probability of the right answer, Brier, edit distance)
    #[arg(long, value_name = "COLUMN", requires = "input")]
    soft: Option<String>,
    /// Share of right tokens: exact match is held against its power of --length
    #[arg(long, value_name = "COLUMN", requires_all = ["length", "input"])]
    token_accuracy: Option<String>,
    /// Tokens of an answer
    #[arg(long, value_parser = positive, requires = "token_accuracy")]
    length: Option<f64>,
    /// Items behind each score, for binomial intervals and the resolution 1/items
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), requires = "input")]
    items: Option<u64>,
    /// The score of guessing, for example 0.25
    #[arg(long, requires = "input")]
    chance: Option<f64>,
    /// Forecast each metric at this loss, through the soft score where there is one
    #[arg(long, value_name = "LOSS", value_parser = positive, conflicts_with = "at")]
    at_loss: Option<f64>,
    /// Forecast each metric at these sizes: the loss by a separable law, then as --at-loss
    #[arg(long, value_name = "N=..,D=..")]
    at: Option<At>,
    /// Resampled refits that carry the errors of a forecast
    #[arg(long, default_value_t = 500, value_name = "REPLICATES")]
    bootstrap: usize,
    /// Seed of the resampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    stored: StoredArgs,
}

/// A metric on every axis.
#[derive(Debug, Serialize)]
pub(crate) struct MetricTold {
    pub(crate) metric: String,
    pub(crate) axes: Vec<Assessed>,
    /// p-value of the permutation test that what the curve against loss leaves over does not depend
    /// on N; absent without N or loss.
    pub(crate) size_beyond_loss_p: Option<f64>,
    pub(crate) by_length: Option<ByLength>,
    pub(crate) forecast: Option<ChainForecast>,
}

/// A metric on an axis, with its sentence.
#[derive(Debug, Serialize)]
pub(crate) struct Assessed {
    #[serde(flatten)]
    pub(crate) found: Emergence,
    pub(crate) sentence: String,
    /// What it says together with the soft score.
    pub(crate) contrast: Option<String>,
}

/// The document.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    rows: usize,
    metrics: Vec<MetricTold>,
}

/// Reads the scores, assesses every metric and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 3 and 4 for coordinator and store, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    check(args)?;
    let scores = match &args.input {
        Some(input) => vec![of_table(args, input)?],
        None => of_sweep(args)?,
    };
    let (mut metrics, mut skipped) = (Vec::new(), Vec::new());
    for one in &scores {
        metrics.extend(one.told(&mut skipped)?);
    }
    if metrics.is_empty() {
        let message = format!("{}; hint: more finished runs, of more sizes", skipped.join("; "));
        return Err(Failure::message(Exit::FitRefused, message));
    }
    for reason in skipped {
        console.say(format_args!("left out: {reason}"))?;
    }
    match console.format {
        Format::Json => {
            let rows = scores.iter().map(Scores::len).max().unwrap_or(0);
            console.json(&Document { schema: "sweep.emergence/1", rows, metrics })?;
        }
        Format::Table => {
            for metric in &metrics {
                output::emergence::print(metric, console.out)?;
            }
        }
        Format::Quiet => {
            for metric in &metrics {
                for axis in &metric.axes {
                    let verdict = axis.found.verdict.words();
                    writeln!(
                        console.out,
                        "{} {} {verdict}",
                        metric.metric,
                        axis.found.axis.name()
                    )?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn of_table<'a>(args: &'a Args, input: &std::path::Path) -> Result<Scores<'a>, Failure> {
    let extras: Vec<String> =
        args.metrics.iter().chain(&args.soft).chain(&args.token_accuracy).cloned().collect();
    let refused = |error: source::SourceError| Failure::new(error.exit(), error);
    let mapping = Mapping::beside(&args.maps, extras).map_err(refused)?;
    let read = source::read(input, &mapping, &args.filters).map_err(refused)?;
    Ok(Scores::of_table(args, read, mapping.has_loss()))
}

fn of_sweep(args: &Args) -> Result<Vec<Scores<'_>>, Failure> {
    let results =
        args.stored.results(args.sweep.as_deref().unwrap_or("last"), Asked::drawn(Metric::ALL))?;
    let scores = Scores::of_sweep(args, &results);
    if scores.is_empty() {
        let message = format!(
            "the recipe of {} has no task; hint: [[task]], as in sweeps/recipes/emergence.toml",
            results.name
        );
        return Err(Failure::message(Exit::NoMatch, message));
    }
    Ok(scores)
}

fn check(args: &Args) -> Result<(), Failure> {
    let usage = |message: &str| Err(Failure::message(Exit::Usage, message));
    if args.chance.is_some_and(|chance| !(0.0..1.0).contains(&chance)) {
        return usage("--chance is no share; hint: 0.25 for four choices");
    }
    if args.bootstrap > sweep_fit::MAX_REPLICATES {
        return usage("--bootstrap is more than 20000; hint: 500 is enough");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
