//! Progress of a sweep as lines of JSON, one for each message of the coordinator.

use std::io::{self, Write};

use serde::Serialize;
use sweep_proto::{convert, v1};

/// Version of a line.
const SCHEMA: &str = "sweep.progress/1";

/// A message: all runs in the first, then those that changed.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    sweep: &'a str,
    done: bool,
    queued: u32,
    running: u32,
    finished: u32,
    diverged: u32,
    failed: u32,
    cancelled: u32,
    tokens_per_second: f64,
    remaining_seconds: Option<f64>,
    workers_online: u32,
    slots: u32,
    held_back: Option<&'a str>,
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    role: Option<&'static str>,
    state: Option<&'static str>,
    attempt: u32,
    step: u64,
    steps: u64,
    tokens_per_second: Option<f64>,
    loss: Option<f64>,
    validation_loss: Option<f64>,
    remaining_seconds: Option<f64>,
    reason: Option<&'a str>,
}

/// Writes a message as a line.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn json_line(
    sweep: &str,
    message: &v1::SweepProgress,
    out: &mut dyn Write,
) -> io::Result<()> {
    let counts = message.counts.unwrap_or_default();
    let line = Line {
        schema: SCHEMA,
        sweep,
        done: message.done,
        queued: counts.queued,
        running: counts.running,
        finished: counts.finished,
        diverged: counts.diverged,
        failed: counts.failed,
        cancelled: counts.cancelled,
        tokens_per_second: message.tokens_per_second,
        remaining_seconds: message.remaining_seconds,
        workers_online: message.workers_online,
        slots: message.slots,
        held_back: message.held_back.as_deref(),
        runs: message.runs.iter().map(run).collect(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)?;
    // A reader acts on each line.
    out.flush()
}

fn run(run: &v1::RunProgress) -> Run<'_> {
    Run {
        run: &run.run_id,
        role: convert::role("role", run.role).ok().map(crate::export::role),
        state: convert::run_state("state", run.state).ok().map(|state| state.name()),
        attempt: run.attempt,
        step: run.step,
        steps: run.steps,
        tokens_per_second: run.tokens_per_second,
        loss: run.latest_loss,
        validation_loss: run.final_validation_loss,
        remaining_seconds: run.remaining_seconds,
        reason: run.reason.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let message = v1::SweepProgress {
            counts: Some(v1::RunCounts { running: 1, ..v1::RunCounts::default() }),
            runs: vec![v1::RunProgress {
                run_id: "ab".to_owned(),
                state: v1::RunState::Running.into(),
                step: 7,
                latest_loss: Some(f64::NAN),
                ..v1::RunProgress::default()
            }],
            ..v1::SweepProgress::default()
        };
        let mut out = Vec::new();
        json_line("s", &message, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["schema"], &line["running"]), (&SCHEMA.into(), &1.into()));
        assert_eq!(
            (&line["runs"][0]["state"], &line["runs"][0]["step"]),
            (&"running".into(), &7.into())
        );
        // No number where there is none.
        assert!(line["runs"][0]["loss"].is_null() && line["remaining_seconds"].is_null());
    }
}
