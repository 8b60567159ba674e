//! Text of the same draws from a model of every size, for the report. Each is written by `sweep
//! sample` in a process of its own: whatever a device does there, the report is still made.

use std::{ffi::OsString, process::Command};

use serde::{Deserialize, Serialize};
use sweep_spec::{attempt::RunState, data::DataSource, units::si};

use crate::results::{RunResult, SweepResults};

/// Sizes shown: a reader compares a handful.
const SIZES: usize = 6;

/// Bytes of a text, about: three lines of a page.
const TEXT_BYTES: f64 = 240.0;

/// Below 1, so that a small model's rare slips do not derail a text at once.
const TEMPERATURE: f64 = 0.8;

/// One text.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SampleText {
    /// Short name of the run.
    pub(crate) run: String,
    /// Parameters, tokens and loss, in words.
    pub(crate) size: String,
    /// What it wrote from the beginning of a document.
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Reply {
    texts: Vec<String>,
}

/// How the texts were drawn, for the page.
pub(crate) fn how() -> String {
    format!(
        "About {TEXT_BYTES} bytes from the beginning of a document at temperature {TEMPERATURE}, seed 0: the \
         same draws for every model, so that only the model differs."
    )
}

/// Texts of the largest runs by size; for each that could not be written, the reason. `place` are
/// options of `sweep sample` that say where checkpoints are.
pub(crate) fn collect(
    results: &SweepResults,
    place: &[OsString],
) -> (Vec<SampleText>, Vec<String>) {
    let (mut texts, mut failed) = (Vec::new(), Vec::new());
    // A light client has no trainer to write with.
    if cfg!(not(feature = "local")) {
        return (texts, failed);
    }
    for run in chosen(results) {
        match write(run, place) {
            Ok(text) => texts.push(text),
            Err(reason) => failed.push(format!("no sample of run {}: {reason}", run.label())),
        }
    }
    (texts, failed)
}

/// The finished run with most data of each size, where tokens are text.
fn chosen(results: &SweepResults) -> Vec<&RunResult> {
    let mut chosen: Vec<&RunResult> = Vec::new();
    for run in results.at_own_rate().filter(|run| run.state == RunState::Finished && is_text(run)) {
        let size = |run: &RunResult| run.parameters().total;
        match chosen.iter_mut().find(|other| size(other) == size(run)) {
            Some(kept) if kept.run.config.tokens() < run.run.config.tokens() => *kept = run,
            Some(_) => {}
            None => chosen.push(run),
        }
    }
    chosen.sort_by_key(|run| run.parameters().total);
    let last = chosen.len().saturating_sub(1);
    // Spread over the sizes, the smallest and the largest always among them.
    let kept =
        |place: usize| last < SIZES || (0..SIZES).any(|share| share * last / (SIZES - 1) == place);
    chosen.into_iter().enumerate().filter(|(place, _)| kept(*place)).map(|(_, run)| run).collect()
}

fn is_text(run: &RunResult) -> bool {
    matches!(&run.run.source, DataSource::Text { .. })
}

/// Tokens that make about [`TEXT_BYTES`].
fn tokens(bytes_per_token: Option<f64>) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least one, at most the bytes"
    )]
    let tokens = (TEXT_BYTES / bytes_per_token.unwrap_or(1.0)).ceil().clamp(1.0, TEXT_BYTES) as u32;
    tokens
}

fn write(run: &RunResult, place: &[OsString]) -> Result<SampleText, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--json", "sample", &run.id, "--seed", "0"]);
    let tokens = tokens(run.run.manifest.bytes_per_token).to_string();
    command.args(["--tokens", &tokens, "--temperature", &TEMPERATURE.to_string()]);
    command.args(place);
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(reason.trim().trim_start_matches("error: ").to_owned());
    }
    let reply: Reply = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let size = format!(
        "N = {}, D = {}{}",
        si(run.parameters().total as f64),
        si(run.run.config.tokens() as f64),
        run.usable_loss().map_or_else(String::new, |loss| format!(", loss {loss:.3} nats/token"))
    );
    let text = reply.texts.into_iter().next().ok_or("it wrote nothing")?;
    Ok(SampleText { run: run.label(), size, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_one_length_under_every_tokenizer() {
        assert_eq!([None, Some(1.0), Some(4.0), Some(1e9)].map(tokens), [240, 240, 60, 1]);
    }
}
