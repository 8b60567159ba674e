//! The words and numbers that figures and reports share, so that both say the same.

use std::fmt::Write as _;

use sweep_fit::{Estimate, Fit};
use sweep_spec::{run::RunRole, units::si};

use crate::input::RunCurve;

/// The law with its constants, their intervals, and what it was fitted to.
#[must_use]
pub fn law_text(fit: &Fit) -> String {
    let mut text = format!("{} {}", fit.law_name(), typeset(fit.law.formula()));
    for (i, parameter) in fit.params.iter().enumerate() {
        let separator = if i == 0 { ": " } else { ", " };
        let estimate = estimate(&parameter.estimate);
        let _ = write!(text, "{separator}{} = {estimate}", typeset(parameter.name));
    }
    let _ = write!(text, " ({}, {} observations)", fit.objective.name(), fit.n_points);
    text
}

/// Greek letters and a true minus sign in a formula or the name of a constant.
#[must_use]
pub fn typeset(formula: &str) -> String {
    ["A N", "B D", "A x"]
        .iter()
        // A single power reads best as a quotient: A/N^α.
        .fold(formula.to_owned(), |text, product| {
            text.replace(&format!("{product}^-"), &format!("{}^", product.replace(' ', "/")))
        })
        .replace("alpha", "α")
        .replace("beta", "β")
        .replace("^-", "^\u{2212}")
}

/// A value with its interval.
#[must_use]
pub fn estimate(estimate: &Estimate) -> String {
    match estimate.ci95 {
        Some([low, high]) => {
            format!("{} [{}, {}]", short(estimate.value), short(low), short(high))
        }
        None => short(estimate.value),
    }
}

/// Three significant digits.
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 || (size > 0.0 && size < 1e-3) {
        return if (1e3..1e21).contains(&size) { si(value) } else { format!("{value:.2e}") };
    }
    let decimals = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// How a fit predicted the observations of highest compute that it did not see.
#[must_use]
pub fn held_out_text(fit: &Fit) -> Option<String> {
    let held = fit.held_out?;
    let largest = |held_out: bool| {
        let points = fit.points.iter().filter(|point| point.held_out == held_out);
        let scale = points
            .filter_map(|point| point.observation.compute().or_else(|| point.observation.single()));
        scale.fold(0.0, f64::max)
    };
    Some(format!(
        "{} observations of highest compute held out, {:.1} times beyond the rest: mean error \
         {:.2} %, largest {:.2} %.",
        held.n,
        largest(true) / largest(false),
        100.0 * held.mean_abs_rel_error,
        100.0 * held.max_abs_rel_error
    ))
}

/// A signed relative error in per cent.
#[must_use]
pub fn percent(value: f64) -> String {
    format!("{value:+.2} %").replacen('-', "\u{2212}", 1)
}

/// predicted / measured - 1, in per cent.
#[must_use]
pub fn error_percent(fit: &Fit, run: &RunCurve) -> Option<f64> {
    let measured = run.final_loss()?;
    Some(100.0 * (fit.predict(run.n, run.d)? / measured - 1.0))
}

/// The forecast of a check run in words.
#[must_use]
pub fn forecast_text(fit: &Fit, run: &RunCurve) -> Option<String> {
    let (forecast, measured) = (fit.forecast(run.n, run.d)?, run.final_loss()?);
    let interval = forecast
        .run95
        .map_or_else(String::new, |[low, high]| format!(" [{}, {}]", short(low), short(high)));
    Some(format!(
        "Check run {} (N = {}, D = {}): forecast {}{interval}, measured {}, error {}.",
        run.label,
        si(run.n),
        si(run.d),
        short(forecast.loss),
        short(measured),
        percent(error_percent(fit, run)?),
    ))
}

/// Root mean square of the relative errors of the fitted runs, in per cent.
#[must_use]
pub fn rms_percent(fit: &Fit, runs: &[&RunCurve]) -> Option<f64> {
    let fitted = runs.iter().filter(|run| run.role == RunRole::Fit);
    rms(fitted.filter_map(|run| error_percent(fit, run)))
}

/// A law of one variable with its constants, and what it leaves over of the points it was fitted
/// to.
#[must_use]
pub fn single_law_text(fit: &Fit) -> String {
    let errors = fit.points.iter().map(|point| 100.0 * point.log_residual.exp_m1());
    let spread = rms(errors).map_or_else(String::new, |rms| format!(", errors {rms:.2} % rms"));
    format!("{}{spread}", law_text(fit))
}

fn rms(errors: impl Iterator<Item = f64>) -> Option<f64> {
    let squares: Vec<f64> = errors.map(|error| error * error).collect();
    #[expect(clippy::cast_precision_loss, reason = "a number of runs")]
    let n = squares.len() as f64;
    (n > 0.0).then(|| (squares.iter().sum::<f64>() / n).sqrt())
}
