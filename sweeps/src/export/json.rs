//! JSON lines: one object per run, or per curve.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::role;
use crate::results::{RunResult, SweepResults};

/// One run as an object.
pub(crate) fn run(run: &RunResult) -> Value {
    let config = &run.run.config;
    let counts = run.parameters();
    json!({
        "run": run.id,
        "role": role(run.role),
        "state": run.state.name(),
        "reason": run.reason,
        "N_total": counts.total,
        "N_non_embedding": counts.non_embedding,
        "N_with_head": counts.with_head,
        "D": config.tokens(),
        "C": config.flops(),
        "C_6ND": config.flops_6nd(),
        "own_C": config.own_flops(),
        "parent": config.parent,
        "budget": run.budget,
        "steps": config.steps,
        "seed": config.seed,
        "learning_rate": config.optimizer.learning_rate,
        "shape": config.shape,
        "loss": run.loss,
        "bits_per_byte": run.bits_per_byte,
        "seconds": run.seconds,
        "attempts": run.attempts,
        "device": run.device,
        "peak_memory_bytes": run.peak_memory_bytes,
    })
}

/// One line per run.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn runs(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    results.runs.iter().try_for_each(|result| writeln!(out, "{}", run(result)))
}

/// One line per curve. A loss that is not finite is `null` with its step, as JSON has no NaN.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn points(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    for run in &results.runs {
        for (metric, curve) in results.curves.get(&run.id).into_iter().flatten() {
            let (steps, values): (Vec<u64>, Vec<f64>) = curve.iter().copied().unzip();
            let line = json!({
                "run": run.id, "metric": metric.name(), "unit": metric.unit(), "steps": steps,
                "values": values,
            });
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
