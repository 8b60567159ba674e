//! Doubts that the table itself raises: outliers, the spread of the sizes, duplicates, the
//! distance from the frontier. Thresholds are those of the contract; each is named where it is
//! used.

use std::collections::BTreeMap;

use crate::{
    direct::{Options, Table, refit},
    fit::{Fit, FittedPoint},
    law::Law,
    observation::Observation,
    statistics::{count, mean, median},
    warning::{Warning, WarningCode},
    weighting::repeated,
};

/// Rows that a message names before it counts the rest.
const NAMED: usize = 10;

/// Everything that a direct fit's table gives cause to doubt.
pub(crate) fn doubts(fit: &mut Fit, table: &Table<'_>, options: &Options) {
    let rows = &table.fitted;
    let found = [
        outliers(fit, options),
        collinear(fit.law, rows),
        short_range(fit, rows),
        few_observations(fit.law, rows),
        few_groups(rows, options),
        ungrouped(rows, options),
        held_out_worse(fit),
        far_from_frontier(fit.law, rows),
        duplicates(fit.law, rows),
        repeated_data(fit.law, rows),
        unit_mismatch(rows),
    ];
    fit.warnings.extend(found.into_iter().flatten());
}

/// A budget far beyond the data.
pub(crate) fn extrapolation(warnings: &mut Vec<Warning>, table: &Table<'_>, budgets: &[f64]) {
    let Some(largest) = table.fitted.iter().filter_map(Observation::compute).reduce(f64::max)
    else {
        return;
    };
    for budget in budgets.iter().filter(|budget| **budget > 10.0 * largest) {
        warnings.push(Warning::new(
            WarningCode::Extrapolation,
            format!(
                "{budget:.3e} FLOPs is {:.0} times the largest C fitted, {largest:.3e}; hint: treat \
                 the optimum as a guess, or train nearer to it",
                budget / largest
            ),
        ));
    }
}

/// The log residual beyond which an observation is an outlier: 6 robust sigma and 1 %.
pub(crate) fn outlier_threshold(used: &[&FittedPoint]) -> f64 {
    let centre = median(used.iter().map(|p| p.log_residual).collect());
    let spread =
        1.4826 * median(used.iter().map(|p| (p.log_residual - centre).abs()).collect::<Vec<f64>>());
    (6.0 * spread).max(0.01)
}

fn outliers(fit: &Fit, options: &Options) -> Option<Warning> {
    let used: Vec<&FittedPoint> = fit.points.iter().filter(|p| !p.held_out).collect();
    let threshold = outlier_threshold(&used);
    let is_outlier = |p: &FittedPoint| p.log_residual.abs() > threshold;
    let places: Vec<String> = used
        .iter()
        .enumerate()
        .filter(|(_, p)| is_outlier(p))
        .map(|(i, p)| p.observation.place(i))
        .collect();
    if places.is_empty() {
        return None;
    }
    let kept: Vec<Observation> =
        used.iter().filter(|p| !is_outlier(p)).map(|p| p.observation.clone()).collect();
    let names = fit.law.parameters();
    let without =
        (kept.len() >= names.len()).then(|| refit(&kept, fit, options)).flatten().map_or_else(
            || String::from("too few observations are left to fit without them"),
            |values| {
                let pairs =
                    names.iter().zip(values).map(|(name, value)| format!("{name} {value:.5e}"));
                format!("without them {}", pairs.collect::<Vec<_>>().join(", "))
            },
        );
    Some(Warning::new(
        WarningCode::Outliers,
        format!(
            "{} of {} log residuals exceed {threshold:.4} (6 robust sigma, at least 1 %): {}; {without}",
            places.len(),
            used.len(),
            listed(&places)
        ),
    ))
}

fn listed(places: &[String]) -> String {
    let shown = places.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match places.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn sizes(rows: &[Observation]) -> (Vec<f64>, Vec<f64>) {
    rows.iter().filter_map(|row| Some((row.n?.ln(), row.tokens()?.ln()))).unzip()
}

fn collinear(law: Law, rows: &[Observation]) -> Option<Warning> {
    if law.one_variable() {
        return None;
    }
    let (x, y) = sizes(rows);
    let (x0, y0) = (mean(&x), mean(&y));
    let xx: f64 = x.iter().map(|x| (x - x0) * (x - x0)).sum();
    let xy: f64 = x.iter().zip(&y).map(|(x, y)| (x - x0) * (y - y0)).sum();
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    let squares: f64 = x.iter().zip(&y).map(|(x, y)| (y - y0 - slope * (x - x0)).powi(2)).sum();
    let spread = (squares / count(x.len())).sqrt();
    (spread < 0.1).then(|| {
        Warning::new(
            WarningCode::CollinearDesign,
            format!(
                "ln D varies by only {spread:.3} at given ln N, so that A, B and E alone mean nothing; \
                 hint: vary the tokens per parameter"
            ),
        )
    })
}

fn short_range(fit: &Fit, rows: &[Observation]) -> Option<Warning> {
    if !fit.law.has_floor() || fit.warned(WarningCode::FloorAtZero) {
        return None;
    }
    let scales = rows.iter().filter_map(|row| row.scale(Some(fit.law)));
    let (low, high) = scales.fold((f64::INFINITY, 0.0_f64), |(l, h), s| (l.min(s), h.max(s)));
    let decades = (high / low).log10();
    // Two decades up to rounding are two decades.
    (decades < 2.0 - 1e-9).then(|| {
        Warning::new(
            WarningCode::ShortRange,
            format!(
                "E is free over only {decades:.2} decades; hint: fit over two or more, or pin a known \
                 floor"
            ),
        )
    })
}

fn few_observations(law: Law, rows: &[Observation]) -> Option<Warning> {
    let parameters = law.parameters().len();
    (rows.len() < 3 * parameters).then(|| {
        Warning::new(
            WarningCode::FewObservations,
            format!("{} observations for {parameters} parameters", rows.len()),
        )
    })
}

fn groups(rows: &[Observation]) -> Option<usize> {
    let names: Option<std::collections::BTreeSet<&str>> =
        rows.iter().map(|row| row.group.as_deref()).collect();
    names.map(|names| names.len())
}

fn few_groups(rows: &[Observation], options: &Options) -> Option<Warning> {
    if options.bootstrap == 0 {
        return None;
    }
    let (units, what) = groups(rows).map_or((rows.len(), "observations"), |n| (n, "groups"));
    (units < 20).then(|| {
        Warning::new(
            WarningCode::FewGroups,
            format!("{units} {what} are resampled; intervals from fewer than 20 are too narrow"),
        )
    })
}

fn ungrouped(rows: &[Observation], options: &Options) -> Option<Warning> {
    let column = options.ungrouped_column.as_deref()?;
    (options.bootstrap > 0 && groups(rows).is_none()).then(|| {
        Warning::new(
            WarningCode::Ungrouped,
            format!(
                "checkpoints of one run are not independent; hint: --map group={column} resamples \
                 by run"
            ),
        )
    })
}

fn held_out_worse(fit: &Fit) -> Option<Warning> {
    let held = fit.held_out?;
    let errors: Vec<f64> = fit
        .points
        .iter()
        .filter(|p| !p.held_out)
        .map(|p| (p.predicted / p.observation.loss - 1.0).abs())
        .collect();
    let fitted = mean(&errors);
    // Below a millionth both are rounding.
    (held.mean_abs_rel_error > 3.0 * fitted && held.mean_abs_rel_error > 1e-6).then(|| {
        Warning::new(
            WarningCode::HeldOutWorse,
            format!(
                "the held-out mean error is {:.3} %, that of the fit {:.3} %; hint: the law bends \
                 away from the data at its top",
                100.0 * held.mean_abs_rel_error,
                100.0 * fitted
            ),
        )
    })
}

fn far_from_frontier(law: Law, rows: &[Observation]) -> Option<Warning> {
    if law.one_variable() {
        return None;
    }
    // Budgets where they are known, else quarter decades of compute.
    #[expect(clippy::cast_possible_truncation, reason = "a quarter decade's number is small")]
    let bin = |row: &Observation| {
        let compute = row.budget.or_else(|| row.compute())?;
        Some((4.0 * compute.log10() + 1e-9).floor() as i64)
    };
    let mut best: BTreeMap<i64, f64> = BTreeMap::new();
    for row in rows {
        let least = best.entry(bin(row)?).or_insert(f64::INFINITY);
        *least = least.min(row.loss);
    }
    let far =
        rows.iter().filter(|row| bin(row).is_some_and(|bin| row.loss > 1.1 * best[&bin])).count();
    (3 * far > rows.len()).then(|| {
        Warning::new(
            WarningCode::FarFromFrontier,
            format!(
                "{far} of {} observations lie more than 10 % above the best loss at their compute; \
                 hint: a forecast near the frontier is better fitted near it",
                rows.len()
            ),
        )
    })
}

fn duplicates(law: Law, rows: &[Observation]) -> Option<Warning> {
    let spreads = repeated(law, rows);
    let degrees: usize = spreads.iter().map(|size| size.degrees).sum();
    (degrees > 0).then(|| {
        let noise = (spreads.iter().map(|size| size.squares).sum::<f64>() / count(degrees)).sqrt();
        Warning::new(
            WarningCode::Duplicates,
            format!(
                "{} sizes were trained more than once with different losses: seed noise of {:.3} % \
                 of the loss",
                spreads.len(),
                100.0 * noise
            ),
        )
    })
}

fn repeated_data(law: Law, rows: &[Observation]) -> Option<Warning> {
    if law.needs_unique() {
        return None;
    }
    let repeated = rows
        .iter()
        .filter(|row| {
            let pair = row.tokens().zip(row.unique);
            pair.is_some_and(|(tokens, unique)| tokens > unique * (1.0 + 1e-9))
        })
        .count();
    (repeated > 0).then(|| {
        Warning::new(
            WarningCode::RepeatedData,
            format!(
                "{repeated} of {} observations saw data more than once and are counted as fresh; \
                 hint: --law repeat",
                rows.len()
            ),
        )
    })
}

fn unit_mismatch(rows: &[Observation]) -> Option<Warning> {
    let ratio = |row: &Observation| {
        Some(row.flops? / (6.0 * row.n? * row.d? * row.positions.unwrap_or(1.0)))
    };
    let ratios: Vec<f64> = rows.iter().filter_map(ratio).collect();
    let odd: Vec<&f64> = ratios.iter().filter(|r| !(0.5..=2.0).contains(*r)).collect();
    (!odd.is_empty()).then(|| {
        Warning::new(
            WarningCode::UnitMismatch,
            format!(
                "C/(6 N D) is outside 1/2 .. 2 for {} of {} observations, for example {:.3e}; hint: \
                 check the units of N, D and C",
                odd.len(),
                ratios.len(),
                odd[0]
            ),
        )
    })
}

#[cfg(test)]
mod tests;
