//! CSV: one row per run, its first columns `C,N,D,loss` as in published tables of scaling runs; or
//! one row per point. A value that was not measured is an empty cell.
//!
//! A trunk has a row for its cost and no loss. `own_C` counts what each run trained itself, so its
//! sum counts a trunk once; C and D of a branch are those of its path. Points stand under the run
//! that measured them: those of a branch before its fork under its trunk.

use std::io::{self, Write};

use csv::Writer;
use sweep_spec::metric::Metric;

use super::role;
use crate::results::{RunResult, SweepResults, convention_name};

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A number.
    Real,
    /// A whole number from 0 to 2^64.
    Count,
    /// Text.
    Text,
}

/// Columns of the table of runs.
pub(crate) const RUN_COLUMNS: [(&str, Kind); 32] = [
    ("C", Kind::Real),
    ("N", Kind::Count),
    ("D", Kind::Count),
    ("loss", Kind::Real),
    ("bits_per_byte", Kind::Real),
    ("run", Kind::Text),
    ("role", Kind::Text),
    ("state", Kind::Text),
    ("budget", Kind::Real),
    ("C_6ND", Kind::Real),
    ("N_convention", Kind::Text),
    ("N_total", Kind::Count),
    ("N_non_embedding", Kind::Count),
    ("N_with_head", Kind::Count),
    ("unique_tokens", Kind::Count),
    ("width", Kind::Count),
    ("layers", Kind::Count),
    ("heads", Kind::Count),
    ("sequence", Kind::Count),
    ("vocabulary", Kind::Count),
    ("batch", Kind::Count),
    ("steps", Kind::Count),
    ("seed", Kind::Count),
    ("learning_rate", Kind::Real),
    ("seconds", Kind::Real),
    ("device", Kind::Text),
    ("data", Kind::Text),
    ("reason", Kind::Text),
    ("parent", Kind::Text),
    ("fork_step", Kind::Count),
    ("own_C", Kind::Real),
    ("family", Kind::Text),
];

/// Columns of the table of points.
pub(crate) const POINT_COLUMNS: [(&str, Kind); 4] =
    [("run", Kind::Text), ("metric", Kind::Text), ("step", Kind::Count), ("value", Kind::Real)];

/// Writes the table of runs.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn runs(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Writer::from_writer(out);
    table.write_record(RUN_COLUMNS.map(|(name, _)| name))?;
    for run in &results.runs {
        table.write_record(run_cells(run, results))?;
    }
    table.flush()
}

/// The cells of a run; empty where nothing was measured.
pub(crate) fn run_cells(run: &RunResult, results: &SweepResults) -> [String; RUN_COLUMNS.len()] {
    let config = &run.run.config;
    let shape = &config.shape;
    let counts = run.parameters();
    let convention = results.fit_plan().parameters;
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    [
        config.flops().to_string(),
        counts.under(convention).to_string(),
        config.tokens().to_string(),
        optional(run.loss),
        optional(run.bits_per_byte),
        run.id.clone(),
        role(run.role).to_owned(),
        run.state.name().to_owned(),
        optional(run.budget),
        config.flops_6nd().to_string(),
        convention_name(convention).to_owned(),
        counts.total.to_string(),
        counts.non_embedding.to_string(),
        counts.with_head.to_string(),
        run.run.manifest.train_tokens.to_string(),
        shape.width().to_string(),
        shape.layers().to_string(),
        shape.heads().to_string(),
        shape.rows().to_string(),
        run.run.manifest.vocabulary.to_string(),
        config.batch.to_string(),
        config.steps.to_string(),
        config.seed.to_string(),
        config.optimizer.learning_rate.to_string(),
        optional(run.seconds),
        run.device.clone().unwrap_or_default(),
        config.data.to_string(),
        run.reason.clone().unwrap_or_default(),
        config.parent.as_ref().map_or_else(String::new, |edge| edge.run.to_string()),
        config.parent.as_ref().map_or_else(String::new, |edge| edge.step.to_string()),
        config.own_flops().to_string(),
        shape.family().to_owned(),
    ]
}

/// The table of points, written part by part.
pub(crate) struct Points<W: Write>(Writer<W>);

impl<W: Write> Points<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub(crate) fn begin(out: W) -> io::Result<Self> {
        let mut table = Writer::from_writer(out);
        table.write_record(POINT_COLUMNS.map(|(name, _)| name))?;
        Ok(Self(table))
    }

    /// Writes points of a run's metric.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub(crate) fn part(
        &mut self,
        run: &str,
        metric: Metric,
        points: &[(u64, f64)],
    ) -> io::Result<()> {
        for point in points {
            self.0.write_record(cells(run, metric, *point))?;
        }
        Ok(())
    }

    /// Ends the table.
    ///
    /// # Errors
    /// When the rest of it cannot be written.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes every point of every curve.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn points(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Points::begin(out)?;
    for run in &results.runs {
        for (metric, curve) in results.curves.get(&run.id).into_iter().flatten() {
            table.part(&run.id, *metric, curve)?;
        }
    }
    table.end()
}

fn cells(run: &str, metric: Metric, (step, value): (u64, f64)) -> [String; POINT_COLUMNS.len()] {
    [run.to_owned(), metric.name().to_owned(), step.to_string(), value.to_string()]
}

/// The cells of every point.
pub(crate) fn point_cells(
    results: &SweepResults,
) -> impl Iterator<Item = [String; POINT_COLUMNS.len()]> {
    let curves = |run: &str| results.curves.get(run).into_iter().flatten();
    results.runs.iter().flat_map(move |run| {
        curves(&run.id).flat_map(move |(metric, curve)| {
            curve.iter().map(move |point| cells(&run.id, *metric, *point))
        })
    })
}
