//! `sweep emergence`: whether task metrics of a table jump with scale, and what a task law forecasts.

use std::path::PathBuf;

use serde::Serialize;
use sweep_fit::{
    Observation, Options,
    emergence::{
        self, Axis, ByLength, ChainForecast, Emergence, Scale, Scored, TaskRow, assess, contrast,
    },
};

use crate::{
    analysis::{positive, refused, target::At},
    console::{Console, Format},
    exit::{Exit, Failure},
    output,
    source::{self, Filter, Mapping, Read},
};

/// Arguments of `sweep emergence`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table: CSV with a header, JSON lines (.jsonl) or Parquet (.parquet); a row is a model
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Which column is N, D, C, loss or group (run); metrics are held against each; repeats
    #[arg(long = "map", value_name = "ROLE=COLUMN", required = true)]
    maps: Vec<String>,
    /// Only rows whose cell is this text; repeats
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    filters: Vec<Filter>,
    /// A column of scores, for example the share of exact matches; repeats
    #[arg(long = "metric", value_name = "COLUMN", required = true)]
    metrics: Vec<String>,
    /// A softer score of the same task (log-probability of the right answer, Brier, edit distance)
    #[arg(long, value_name = "COLUMN")]
    soft: Option<String>,
    /// Share of right tokens: exact match is held against its power of --length
    #[arg(long, value_name = "COLUMN", requires = "length")]
    token_accuracy: Option<String>,
    /// Tokens of an answer
    #[arg(long, value_parser = positive, requires = "token_accuracy")]
    length: Option<f64>,
    /// Items behind each score, for binomial intervals and the resolution 1/items
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    items: Option<u64>,
    /// The score of guessing, for example 0.25
    #[arg(long)]
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
    /// What it says together with the soft score, on the first axis.
    pub(crate) contrast: Option<String>,
    pub(crate) forecast: Option<ChainForecast>,
}

/// A metric on an axis, with its sentence.
#[derive(Debug, Serialize)]
pub(crate) struct Assessed {
    #[serde(flatten)]
    pub(crate) found: Emergence,
    pub(crate) sentence: String,
}

/// The document.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    rows: usize,
    metrics: Vec<MetricTold>,
}

/// Reads the table, assesses every metric and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    check(args)?;
    let extras: Vec<String> =
        args.metrics.iter().chain(&args.soft).chain(&args.token_accuracy).cloned().collect();
    let mapping =
        Mapping::beside(&args.maps, extras).map_err(|error| Failure::new(error.exit(), error))?;
    let read = source::read(&args.input, &mapping, &args.filters)
        .map_err(|error| Failure::new(error.exit(), error))?;
    let table = Table { args, read, has_loss: mapping.has_loss() };
    let axes = table.axes()?;
    let mut metrics = Vec::new();
    for column in 0..args.metrics.len() {
        metrics.push(table.metric(column, &axes)?);
    }
    match console.format {
        Format::Json => {
            let rows = table.read.observations.len();
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

/// The table with what was asked of it.
struct Table<'a> {
    args: &'a Args,
    read: Read,
    has_loss: bool,
}

impl Table<'_> {
    /// The axes that are mapped.
    fn axes(&self) -> Result<Vec<Axis>, Failure> {
        let axes: Vec<Axis> = [Axis::Compute, Axis::Parameters, Axis::Tokens, Axis::Loss]
            .into_iter()
            .filter(|axis| {
                self.read.observations.iter().any(|row| self.place(*axis, row).is_some())
            })
            .collect();
        if self.read.observations.is_empty() {
            return Err(refused(sweep_fit::FitError::Empty));
        }
        if axes.is_empty() {
            let message =
                "no axis is mapped; hint: --map C=COLUMN, N=COLUMN, D=COLUMN or loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        Ok(axes)
    }

    fn place(&self, axis: Axis, row: &Observation) -> Option<f64> {
        match axis {
            Axis::Compute => row.compute(),
            Axis::Parameters => row.n,
            Axis::Tokens => row.d,
            Axis::Loss => self.has_loss.then_some(row.loss),
        }
    }

    /// Rows with this column, which counts from the first metric.
    fn rows(&self, column: usize) -> impl Iterator<Item = (usize, &Observation, f64)> {
        let rows = self.read.observations.iter().zip(&self.read.extras).enumerate();
        rows.filter_map(move |(index, (row, extras))| Some((index, row, extras[column]?)))
    }

    fn scored(&self, column: usize, axis: Axis, items: Option<u64>) -> Vec<Scored> {
        let rows = self.rows(column);
        rows.filter_map(|(_, row, score)| Some(Scored { x: self.place(axis, row)?, score, items }))
            .collect()
    }

    fn metric(&self, column: usize, axes: &[Axis]) -> Result<MetricTold, Failure> {
        let name = &self.args.metrics[column];
        let scale = Scale { chance: self.args.chance };
        let mut told = Vec::new();
        for &axis in axes {
            let points = self.scored(column, axis, self.args.items);
            let found = assess(axis, &points, scale).map_err(refused)?;
            told.push(Assessed { sentence: found.sentence(name), found });
        }
        Ok(MetricTold {
            metric: name.clone(),
            contrast: self.contrast(name, &told)?,
            size_beyond_loss_p: self.size_beyond_loss(column, &told),
            by_length: self.by_length(column),
            forecast: self.forecast(column)?,
            axes: told,
        })
    }

    fn soft_column(&self) -> Option<usize> {
        self.args.soft.as_ref().map(|_| self.args.metrics.len())
    }

    fn contrast(&self, name: &str, told: &[Assessed]) -> Result<Option<String>, Failure> {
        let (Some(column), Some(soft), Some(first)) =
            (self.soft_column(), &self.args.soft, told.first())
        else {
            return Ok(None);
        };
        let axis = first.found.axis;
        // A soft score has neither items nor a chance level.
        let points = self.scored(column, axis, None);
        let found = assess(axis, &points, Scale::default()).map_err(refused)?;
        Ok(Some(contrast((name, first.found.verdict), (soft, found.verdict))))
    }

    fn size_beyond_loss(&self, column: usize, told: &[Assessed]) -> Option<f64> {
        let against = told.iter().find(|assessed| assessed.found.axis == Axis::Loss)?;
        let rows: Vec<(f64, f64, f64)> =
            self.rows(column).filter_map(|(_, row, y)| Some((row.loss, row.n?.ln(), y))).collect();
        let points: Vec<Scored> =
            rows.iter().map(|row| Scored { x: row.0, score: row.2, items: None }).collect();
        let residuals = against.found.residuals(&points)?;
        let sizes: Vec<f64> = rows.iter().map(|row| row.1).collect();
        emergence::size_matters(&residuals, &sizes, self.args.seed)
    }

    fn by_length(&self, column: usize) -> Option<ByLength> {
        let length = self.args.length?;
        let token = self.args.metrics.len() + usize::from(self.args.soft.is_some());
        let pairs: Vec<(f64, f64)> = self
            .rows(column)
            .filter_map(|(index, _, score)| Some((self.read.extras[index][token]?, score)))
            .collect();
        emergence::by_length(&pairs, length)
    }

    fn forecast(&self, column: usize) -> Result<Option<ChainForecast>, Failure> {
        let args = self.args;
        let (loss, draws) = match (args.at_loss, args.at) {
            (None, None) => return Ok(None),
            (Some(loss), _) => (loss, Vec::new()),
            (None, Some(at)) => self.loss_at(at)?,
        };
        if !self.has_loss {
            let message = "a forecast needs the loss of each row; hint: --map loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        let soft = self.soft_column();
        let rows: Vec<TaskRow> = self
            .rows(column)
            .map(|(index, row, score)| TaskRow {
                loss: row.loss,
                soft: soft.and_then(|soft| self.read.extras[index][soft]),
                score,
                group: row.group.clone(),
            })
            .collect();
        emergence::chain(&rows, loss, &draws, args.bootstrap, args.seed).map(Some).map_err(refused)
    }

    /// The loss of a run by a separable law over the table, with draws of it.
    fn loss_at(&self, at: At) -> Result<(f64, Vec<f64>), Failure> {
        if !self.has_loss {
            let message = "--at needs the loss of each row; hint: --map loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        let options = Options {
            bootstrap: if self.args.bootstrap > 1 { self.args.bootstrap } else { 0 },
            seed: self.args.seed,
            ..Options::default()
        };
        let fit = sweep_fit::fit(&self.read.observations, &options).map_err(refused)?;
        let sizes = Observation::new(at.n, at.d, 1.0);
        let loss = fit.predict(at.n, at.d).ok_or_else(|| {
            Failure::message(Exit::FitRefused, "the law gives no loss at --at; hint: check N and D")
        })?;
        let draws = fit.replicates.iter().filter_map(|values| fit.law.loss(values, &sizes));
        Ok((loss, draws.filter(|loss| loss.is_finite()).collect()))
    }
}

#[cfg(test)]
mod tests;
