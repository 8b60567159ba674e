//! CSV: one row per run, its first columns `C,N,D,loss` as in published tables of scaling runs; or
//! one row per point. A value that was not measured is an empty cell.
//!
//! A trunk has a row for its cost and no loss. `own_C` counts what each run trained itself, so its
//! sum counts a trunk once; C and D of a branch are those of its path. Points stand under the run
//! that measured them: those of a branch before its fork under its trunk.

use std::io::{self, Write};

use csv::Writer;

use super::role;
use crate::results::{RunResult, SweepResults, convention_name};

/// Columns of the table of runs.
const RUN_COLUMNS: [&str; 31] = [
    "C",
    "N",
    "D",
    "loss",
    "bits_per_byte",
    "run",
    "role",
    "state",
    "budget",
    "C_6ND",
    "N_convention",
    "N_total",
    "N_non_embedding",
    "N_with_head",
    "unique_tokens",
    "width",
    "layers",
    "heads",
    "sequence",
    "vocabulary",
    "batch",
    "steps",
    "seed",
    "learning_rate",
    "seconds",
    "device",
    "data",
    "reason",
    "parent",
    "fork_step",
    "own_C",
];

/// Writes the table of runs.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn runs(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Writer::from_writer(out);
    table.write_record(RUN_COLUMNS)?;
    for run in &results.runs {
        table.write_record(row(run, results))?;
    }
    table.flush()
}

fn row(run: &RunResult, results: &SweepResults) -> [String; RUN_COLUMNS.len()] {
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
    ]
}

/// Writes every point of every curve.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn points(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Writer::from_writer(out);
    table.write_record(["run", "metric", "step", "value"])?;
    for run in &results.runs {
        for (metric, curve) in results.curves.get(&run.id).into_iter().flatten() {
            for (step, value) in curve {
                let cells = [&run.id, metric.name(), &step.to_string(), &value.to_string()];
                table.write_record(cells)?;
            }
        }
    }
    table.flush()
}
