//! Forecasts of check runs: made from the other runs before the checks are trained, written down
//! with a hash, and then held against what was measured.

use serde::Serialize;
use sweep_fit::Fit;
use sweep_spec::{run::RunRole, units::si};

use crate::results::{RunResult, SweepResults};

/// Version of the forecast file.
const FORECAST_SCHEMA: &str = "sweep.forecast/1";

/// A check run: what was forecast, and what was measured once it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CheckForecast {
    /// The run.
    pub(crate) run: String,
    /// Parameters under the convention of the fit.
    #[serde(rename = "N")]
    pub(crate) n: f64,
    /// Training tokens.
    #[serde(rename = "D")]
    pub(crate) d: f64,
    /// Exact FLOPs over those of the largest run of the fit.
    pub(crate) times_largest: f64,
    /// The loss that the law gives.
    pub(crate) forecast: f64,
    /// 95 % interval of the law's loss.
    pub(crate) ci95: Option<[f64; 2]>,
    /// 95 % interval of the loss of a new run.
    pub(crate) run95: Option<[f64; 2]>,
}

/// The forecasts of a sweep as they are written down before the checks are trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ForecastFile {
    /// Version of this JSON.
    pub(crate) schema: &'static str,
    /// The sweep.
    pub(crate) sweep: String,
    /// Observations that the law was fitted to.
    pub(crate) observations: usize,
    /// Hash of the law's constants and the forecasts, so that a later change shows.
    pub(crate) hash: String,
    /// The law.
    pub(crate) law: &'static str,
    /// Its constants.
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// One per check run.
    pub(crate) checks: Vec<CheckForecast>,
}

/// Forecasts every check run of a sweep. Nothing of a check run enters but its sizes.
pub(crate) fn forecast(results: &SweepResults, fit: &Fit) -> ForecastFile {
    let largest = results
        .of_role(RunRole::Fit)
        .map(|run| run.run.config.flops())
        .fold(f64::MIN_POSITIVE, f64::max);
    let checks: Vec<CheckForecast> = results
        .of_role(RunRole::Check)
        .filter_map(|run| check(run, results, fit, largest))
        .collect();
    let constants: Vec<(&'static str, f64)> =
        fit.params.iter().map(|parameter| (parameter.name, parameter.estimate.value)).collect();
    let hash = sweep_spec::hash::content_hash(FORECAST_SCHEMA, &(&constants, &checks));
    ForecastFile {
        schema: FORECAST_SCHEMA,
        sweep: results.id.clone(),
        observations: fit.n_points,
        hash: hash.to_hex().to_string(),
        law: fit.law_name(),
        constants,
        checks,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn check(
    run: &RunResult,
    results: &SweepResults,
    fit: &Fit,
    largest: f64,
) -> Option<CheckForecast> {
    let n = run.parameters().under(results.fit_plan().parameters) as f64;
    let d = run.run.config.tokens() as f64;
    let forecast = fit.forecast(n, d)?;
    Some(CheckForecast {
        run: run.id.clone(),
        n,
        d,
        times_largest: run.run.config.flops() / largest,
        forecast: forecast.loss,
        ci95: forecast.ci95,
        run95: forecast.run95,
    })
}

/// A forecast with what was then measured.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// What was forecast.
    #[serde(flatten)]
    pub(crate) forecast: CheckForecast,
    /// The measured loss; absent where the run did not finish.
    pub(crate) measured: Option<f64>,
    /// 100 (forecast / measured - 1).
    pub(crate) error_percent: Option<f64>,
}

impl Checked {
    /// In a line.
    pub(crate) fn line(&self) -> String {
        let before = self.forecast.line();
        match (self.measured, self.error_percent) {
            (Some(loss), Some(error)) => format!("{before}, measured {loss:.4}: {error:+.2} %"),
            _ => format!("{before}, not measured"),
        }
    }
}

/// The forecasts beside what was measured.
pub(crate) fn measured(results: &SweepResults, file: &ForecastFile) -> Vec<Checked> {
    let loss = |id: &str| {
        let run = results.of_role(RunRole::Check).find(|run| run.id == id)?;
        run.usable_loss()
    };
    file.checks
        .iter()
        .map(|forecast| {
            let measured = loss(&forecast.run);
            let error = measured.map(|loss| 100.0 * (forecast.forecast / loss - 1.0));
            Checked { forecast: forecast.clone(), measured, error_percent: error }
        })
        .collect()
}

/// The name of the file of a forecast: one per sweep and law, so that an edited recipe does not overwrite it.
#[cfg(feature = "local")]
pub(crate) fn file_name(file: &ForecastFile) -> String {
    format!("forecast-{}-{}.json", &file.sweep[..10.min(file.sweep.len())], &file.hash[..8])
}

impl CheckForecast {
    /// In a line.
    pub(crate) fn line(&self) -> String {
        let interval = self
            .run95
            .map_or_else(String::new, |[low, high]| format!(" (95 %: {low:.4} to {high:.4})"));
        format!(
            "check {} N {} D {}, {:.1}x the compute of the largest run: forecast {:.4}{interval}",
            &self.run[..10.min(self.run.len())],
            si(self.n),
            si(self.d),
            self.times_largest,
            self.forecast
        )
    }
}
