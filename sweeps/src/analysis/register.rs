//! Forecasts that are written down before a run: a file of JSON lines, one entry a line, each with
//! the hash of its content and of the entry before it. A later change of any entry, its order or
//! its date therefore shows. Later measurements are held against them: error, factor of
//! extrapolation, coverage.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sweep_fit::{Fit, Observation};

use super::Forecasted;
use crate::exit::{Exit, Failure};

/// Version of an entry.
const SCHEMA: &str = "sweep.preregistered/1";
/// Measured sizes within this share of the forecast's are the same run: tokens round to steps.
const SAME: f64 = 0.01;
/// Largest file that is read: thousands of entries.
const MAX_BYTES: u64 = 64 << 20;

/// What was forecast of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promise {
    #[serde(rename = "N")]
    pub(crate) n: f64,
    #[serde(rename = "D")]
    pub(crate) d: f64,
    pub(crate) loss: f64,
    pub(crate) ci95: Option<[f64; 2]>,
    pub(crate) run95: Option<[f64; 2]>,
    pub(crate) times_largest: f64,
}

/// Everything that the hash covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    schema: String,
    /// Place in the file, from 1.
    number: u64,
    /// Hash of the entry before.
    previous: Option<String>,
    /// Wall time when it was written.
    written_unix_s: u64,
    law: String,
    objective: String,
    constants: Vec<(String, f64)>,
    /// Observations that were fitted, and their hash.
    n_points: usize,
    observations: String,
    forecasts: Vec<Promise>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    content: Content,
    hash: String,
}

fn hash_of(content: &Content) -> String {
    sweep_spec::hash::content_hash(SCHEMA, content).to_hex().to_string()
}

fn hash_of_data(fit: &Fit) -> String {
    let rows: Vec<_> = fit
        .points
        .iter()
        .filter(|point| !point.held_out)
        .map(|point| &point.observation)
        .map(|row| (row.n, row.d, row.flops, row.unique, row.loss))
        .collect();
    sweep_spec::hash::content_hash("sweep.observations/1", &rows).to_hex().to_string()
}

/// Reads a register and checks every hash.
///
/// # Errors
/// Exit code 2 for a file that does not read, with the line of an entry that was changed.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    let shown = path.display();
    let refuse = |message: String| Failure::message(Exit::Usage, message);
    let bytes = fs::metadata(path).map(|facts| facts.len());
    if bytes.is_ok_and(|bytes| bytes > MAX_BYTES) {
        return Err(refuse(format!(
            "{shown} is larger than a register can be; hint: give its file"
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| {
        let hint = "hint: `sweep fit --preregister FILE` writes one";
        refuse(format!("cannot read the register {shown}: {error}; {hint}"))
    })?;
    let mut entries: Vec<Entry> = Vec::new();
    for (line, text) in (1_usize..).zip(text.lines()) {
        let entry: Entry = serde_json::from_str(text).map_err(|error| {
            refuse(format!("{shown}: line {line}: {error}; hint: is it a register of forecasts?"))
        })?;
        let changed = |what: &str| {
            refuse(format!(
                "{shown}: line {line}: {what}; hint: the register was edited after it was written, \
                 so it proves nothing"
            ))
        };
        if entry.hash != hash_of(&entry.content) {
            return Err(changed("the hash is not that of the entry"));
        }
        if entry.content.previous != entries.last().map(|last| last.hash.clone())
            || usize::try_from(entry.content.number) != Ok(line)
        {
            return Err(changed("the entry does not follow the one before it"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Appends the forecasts of a fit; returns the entry's hash.
///
/// # Errors
/// Exit code 2 where there is nothing to forecast or the register does not read, 1 where it cannot
/// be written.
pub(crate) fn append(
    path: &Path,
    fit: &Fit,
    forecasts: &[Forecasted],
    written_unix_s: u64,
) -> Result<String, Failure> {
    if forecasts.is_empty() {
        let message = "--preregister has no forecast to store; hint: add --at N=..,D=..";
        return Err(Failure::message(Exit::Usage, message));
    }
    let entries = if path.exists() { read(path)? } else { Vec::new() };
    let content = Content {
        schema: SCHEMA.to_owned(),
        number: u64::try_from(entries.len() + 1).unwrap_or(u64::MAX),
        previous: entries.last().map(|last| last.hash.clone()),
        written_unix_s,
        law: fit.law_name().to_owned(),
        objective: fit.objective.to_string(),
        constants: fit.params.iter().map(|p| (p.name.to_owned(), p.estimate.value)).collect(),
        n_points: fit.n_points,
        observations: hash_of_data(fit),
        forecasts: forecasts
            .iter()
            .map(|forecast| Promise {
                n: forecast.n,
                d: forecast.d,
                loss: forecast.loss,
                ci95: forecast.ci95,
                run95: forecast.run95,
                times_largest: forecast.times_largest,
            })
            .collect(),
    };
    let hash = hash_of(&content);
    let entry = Entry { content, hash: hash.clone() };
    write(path, &entry).map_err(|error| {
        let shown = path.display();
        let hint = "hint: check the folder, its permissions and the free space";
        Failure::message(
            Exit::Failed,
            format!("cannot write the register {shown}: {error}; {hint}"),
        )
    })?;
    Ok(hash)
}

/// One whole line, durable before it is reported.
fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&line)?;
    file.sync_all()
}

/// How one forecast fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Fared {
    /// The entry's place in the register.
    pub(crate) entry: u64,
    /// Its law.
    pub(crate) law: String,
    #[serde(flatten)]
    pub(crate) promise: Promise,
    /// Mean measured loss of runs of these sizes; absent while none is there.
    pub(crate) measured: Option<f64>,
    /// Runs of these sizes.
    pub(crate) runs: usize,
    /// forecast/measured - 1.
    pub(crate) error: Option<f64>,
    /// Whether the interval for a new run held every measured loss.
    pub(crate) covered: Option<bool>,
}

/// How all forecasts fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Record {
    schema: &'static str,
    pub(crate) forecasts: Vec<Fared>,
    pub(crate) measured: usize,
    pub(crate) mean_abs_error: Option<f64>,
    pub(crate) max_abs_error: Option<f64>,
    /// Geometric mean of the factors of extrapolation of measured forecasts.
    pub(crate) mean_extrapolation: Option<f64>,
    /// Intervals that held, of those that were given; nominally 95 %.
    pub(crate) covered: Option<[usize; 2]>,
}

/// Holds measurements against the register.
pub(crate) fn fared(entries: &[Entry], measured: &[Observation]) -> Record {
    let near = |a: f64, b: f64| (a / b - 1.0).abs() <= SAME;
    let mut forecasts = Vec::new();
    for Entry { content, .. } in entries {
        for promise in &content.forecasts {
            let losses: Vec<f64> = measured
                .iter()
                .filter(|row| {
                    row.n.is_some_and(|n| near(n, promise.n))
                        && row.tokens().is_some_and(|d| near(d, promise.d))
                })
                .map(|row| row.loss)
                .collect();
            let runs = losses.len();
            #[expect(clippy::cast_precision_loss, reason = "a number of runs")]
            let mean = (runs > 0).then(|| losses.iter().sum::<f64>() / runs as f64);
            let within = |[low, high]: [f64; 2]| losses.iter().all(|l| (low..=high).contains(l));
            forecasts.push(Fared {
                entry: content.number,
                law: content.law.clone(),
                promise: promise.clone(),
                measured: mean,
                runs,
                error: mean.map(|loss| promise.loss / loss - 1.0),
                covered: promise.run95.filter(|_| runs > 0).map(within),
            });
        }
    }
    summary(forecasts)
}

fn summary(forecasts: Vec<Fared>) -> Record {
    let errors: Vec<f64> = forecasts.iter().filter_map(|f| f.error.map(f64::abs)).collect();
    let reach: Vec<f64> = forecasts
        .iter()
        .filter(|f| f.error.is_some())
        .map(|f| f.promise.times_largest.ln())
        .collect();
    let judged: Vec<bool> = forecasts.iter().filter_map(|f| f.covered).collect();
    #[expect(clippy::cast_precision_loss, reason = "a number of forecasts")]
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Record {
        schema: "sweep.fared/1",
        measured: errors.len(),
        mean_abs_error: mean(&errors),
        max_abs_error: errors.iter().copied().reduce(f64::max),
        mean_extrapolation: mean(&reach).map(f64::exp),
        covered: (!judged.is_empty())
            .then(|| [judged.iter().filter(|held| **held).count(), judged.len()]),
        forecasts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Fit {
        let mut rows = Vec::new();
        for i in 0..4_i32 {
            for j in 0..5_i32 {
                let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
                rows.push(Observation::new(
                    n,
                    d,
                    1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28),
                ));
            }
        }
        sweep_fit::fit(&rows, &sweep_fit::Options::default()).unwrap()
    }

    fn forecast(n: f64, loss: f64) -> Forecasted {
        Forecasted {
            n,
            d: 2e10,
            loss,
            ci95: None,
            run95: Some([0.99 * loss, 1.01 * loss]),
            band95: None,
            times_largest: 12.0,
            averaged: None,
        }
    }

    #[test]
    fn forecasts_are_kept_and_held_against_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.jsonl");
        let first =
            append(&path, &fit(), &[forecast(1e9, 2.5), forecast(2e9, 2.4)], 1_000).unwrap();
        let second = append(&path, &fit(), &[forecast(4e9, 2.3)], 2_000).unwrap();
        let entries = read(&path).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].content.previous.as_deref(), Some(first.as_str()));
        assert_eq!(entries[1].hash, second);
        let measured =
            [Observation::new(1.001e9, 2e10, 2.51), Observation::new(4e9, 1.999e10, 2.0)];
        let record = fared(&entries, &measured);
        assert_eq!((record.forecasts.len(), record.measured), (3, 2));
        assert_eq!(record.covered, Some([1, 2]));
        assert!((record.max_abs_error.unwrap() - 0.15).abs() < 1e-12);
        assert!((record.mean_extrapolation.unwrap() - 12.0).abs() < 1e-9);
        assert_eq!(record.forecasts[1].measured, None);
    }

    #[test]
    fn an_edited_register_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("register.jsonl");
        for n in [1e9, 2e9] {
            append(&path, &fit(), &[forecast(n, 2.5)], 7).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let refusal = |text: String| {
            fs::write(&path, text).unwrap();
            read(&path).unwrap_err().to_string()
        };
        let nudged = refusal(text.replacen("\"loss\":2.5", "\"loss\":2.4", 1));
        assert!(nudged.contains("line 1: the hash is not"), "{nudged}");
        let cut = refusal(format!("{}\n", lines[1]));
        assert!(cut.contains("line 1: the entry does not follow"), "{cut}");
        let swapped = refusal(format!("{}\n{}\n", lines[1], lines[0]));
        assert!(swapped.contains("line 1"), "{swapped}");
        assert!(refusal("hello\n".to_owned()).contains("line 1"));
    }

    #[test]
    fn nothing_to_forecast_is_usage() {
        let folder = tempfile::tempdir().unwrap();
        let failure = append(&folder.path().join("r.jsonl"), &fit(), &[], 0).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
