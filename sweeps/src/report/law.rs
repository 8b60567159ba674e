//! The tables of a fit: constants, best splits of the recipe's budgets, measured budgets, and the
//! forecasts of check runs.

use sweep_fit::{Estimate, Fit, Surface};
use sweep_plot::{input::PlotInput, text};
use sweep_spec::{run::RunRole, units::si};

use super::state_name;

/// The law with its constants, and what is proved and doubted about them.
pub(super) struct LawTable {
    pub(super) name: String,
    pub(super) formula: String,
    pub(super) objective: String,
    pub(super) rows: Vec<[String; 4]>,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<[String; 2]>,
}

impl LawTable {
    pub(super) fn of(fit: &Fit) -> Self {
        let row = |name: &str, estimate: &Estimate| {
            let optional =
                |value: Option<String>| value.unwrap_or_else(|| "not estimated".to_owned());
            [
                text::typeset(name),
                text::short(estimate.value),
                optional(estimate.se.map(text::short)),
                optional(
                    estimate.ci95.map(|[a, b]| format!("{} to {}", text::short(a), text::short(b))),
                ),
            ]
        };
        let mut rows: Vec<[String; 4]> =
            fit.params.iter().map(|parameter| row(parameter.name, &parameter.estimate)).collect();
        if let Some(exponents) = &fit.exponents {
            rows.push(row("a (N* ~ C^a)", &exponents.a));
            rows.push(row("b (D* ~ C^b)", &exponents.b));
        }
        let mut notes =
            vec![format!("{} observations fitted, {} dropped.", fit.n_points, fit.n_dropped)];
        if let Some(held) = &fit.held_out {
            notes.push(format!(
                "{} observations held out of the top: mean error {:.2} %, largest {:.2} %.",
                held.n,
                100.0 * held.mean_abs_rel_error,
                100.0 * held.max_abs_rel_error
            ));
        }
        notes.push(match &fit.certificate {
            Some(certificate) if certificate.global => format!(
                "The minimum is certified: the profile over the exponents (grid step {}) has no lower one.",
                text::short(certificate.resolution)
            ),
            Some(_) => "The minimum is not certified: the profile has a lower one, or it lies on the edge.".to_owned(),
            None => "No certificate for the minimum.".to_owned(),
        });
        Self {
            name: fit.law_name().to_owned(),
            formula: text::typeset(fit.law.formula()),
            objective: fit.objective.name().to_owned(),
            rows,
            notes,
            warnings: fit
                .warnings
                .iter()
                .map(|warning| [warning.code.to_string(), warning.message.clone()])
                .collect(),
        }
    }
}

/// Best splits of the recipe's budgets: C, N*, D*, D*/N*, loss; with intervals where the fit was
/// resampled.
pub(super) fn optima(fit: &Fit) -> Vec<[String; 5]> {
    let split = |flops: f64| {
        let split = fit.best_split(&Surface::Flops, flops)?;
        Some([
            si(flops),
            spread(&split.n, si),
            spread(&split.d, si),
            text::short(split.d.value / split.n.value),
            spread(&split.loss, text::short),
        ])
    };
    fit.optimum.iter().filter_map(|best| split(best.flops)).collect()
}

/// A value with its interval.
fn spread(estimate: &Estimate, show: impl Fn(f64) -> String) -> String {
    match estimate.ci95 {
        Some([low, high]) => {
            format!("{} ({} to {})", show(estimate.value), show(low), show(high))
        }
        None => show(estimate.value),
    }
}

/// Budgets that were measured: FLOPs, sizes, N* with its interval, loss, verdict.
pub(super) fn budgets(fit: &Fit) -> Vec<[String; 5]> {
    let budgets = fit.isoflop.iter().flat_map(|isoflop| &isoflop.budgets);
    budgets
        .map(|budget| {
            let interval = budget
                .interval()
                .map_or_else(String::new, |[low, high]| format!(" ({} to {})", si(low), si(high)));
            let (n, loss) = budget.minimum().map_or_else(
                || ("none".to_owned(), "none".to_owned()),
                |(n, _, loss)| (format!("{}{interval}", si(n)), text::short(loss)),
            );
            [
                si(budget.flops),
                budget.points.len().to_string(),
                n,
                loss,
                budget.verdict.words().to_owned(),
            ]
        })
        .collect()
}

/// Check runs: name, sizes, forecast with interval, measured, error.
pub(super) fn forecasts(plot: &PlotInput) -> Vec<[String; 6]> {
    let Some(fit) = &plot.fit else { return Vec::new() };
    let checks = plot.runs.iter().filter(|run| run.role == RunRole::Check);
    checks
        .filter_map(|run| {
            let forecast = fit.forecast(run.n, run.d)?;
            let interval = forecast.run95.map_or_else(
                || "none".to_owned(),
                |[low, high]| format!("{} to {}", text::short(low), text::short(high)),
            );
            let error = text::error_percent(fit, run).map(text::percent);
            Some([
                run.label.clone(),
                format!("{}, {}", si(run.n), si(run.d)),
                text::short(forecast.loss),
                interval,
                run.final_loss().map_or_else(|| state_name(run.state).to_owned(), text::short),
                error.unwrap_or_else(|| "not yet".to_owned()),
            ])
        })
        .collect()
}
