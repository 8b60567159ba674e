//! How far the constants depend on choices that the data does not make: the outliers, the
//! objective, the rows of highest loss. Each choice is a fit of its own; none is called the right
//! one here.

use crate::{
    design::outlier_threshold,
    direct::{Method, Options, fit},
    error::FitError,
    fit::{Fit, FittedPoint},
    interval::Intervals,
    objective::{DEFAULT_DELTA, Objective},
    observation::Observation,
};

/// One choice and what it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The choice in words.
    pub name: String,
    /// The fit, or why it was refused.
    pub result: Result<Fit, FitError>,
}

/// The fit as asked, and the same under other choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Lines of the observations that stand out of the fit as asked.
    pub outliers: Vec<String>,
    /// The log residual beyond which they do.
    pub threshold: f64,
    /// As asked, without outliers (where there are any), and under each other objective.
    pub variants: Vec<Variant>,
}

/// Fits as asked and under other choices. Only the direct method has them.
///
/// # Errors
/// [`FitError`] where the fit as asked is refused, or the method knows no objective.
pub fn sensitivity(
    observations: &[Observation],
    options: &Options,
) -> Result<Sensitivity, FitError> {
    if options.method != Method::Direct {
        return Err(FitError::BadOption {
            option: "--sensitivity",
            value: String::from("given"),
            allowed: "only --method direct has an objective and residuals",
        });
    }
    let plain = Options { bootstrap: 0, intervals: Intervals::default(), ..options.clone() };
    let asked = fit(observations, &plain)?;
    let used: Vec<&FittedPoint> = asked.points.iter().filter(|point| !point.held_out).collect();
    let threshold = outlier_threshold(&used);
    let out = |point: &FittedPoint| !point.held_out && point.log_residual.abs() > threshold;
    let outliers: Vec<String> = used
        .iter()
        .enumerate()
        .filter(|(_, point)| out(point))
        .map(|(index, point)| point.observation.place(index))
        .collect();
    let mut variants = Vec::new();
    if !outliers.is_empty() {
        let kept = used.iter().filter(|point| !out(point));
        let rows: Vec<Observation> = kept.map(|point| point.observation.clone()).collect();
        // The highest were dropped and the top was held out already: both would bite again.
        let rest = Options { drop_highest: 0, hold_out_top: None, ..plain.clone() };
        variants.push(Variant {
            name: format!("without {} outliers", outliers.len()),
            result: fit(&rows, &rest),
        });
    }
    for name in ["huber-log", "l1-log", "huber", "mse", "mse-log"] {
        let delta = options.objective.delta().unwrap_or(DEFAULT_DELTA);
        let objective = Objective::from_name(name, delta).expect("a name of the list");
        if objective.name() == options.objective.name() {
            continue;
        }
        let result = fit(observations, &Options { objective, ..plain.clone() });
        variants.push(Variant { name: name.to_owned(), result });
    }
    variants.insert(0, Variant { name: String::from("as asked"), result: Ok(asked) });
    Ok(Sensitivity { outliers, threshold, variants })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_is_named_and_the_law_returns_without_it() {
        let mut rows = Vec::new();
        for i in 0..5_i32 {
            for j in 0..5_i32 {
                let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
                let line = Some(u64::from((5 * i + j).unsigned_abs()) + 2);
                let loss = 1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28);
                rows.push(Observation { line, ..Observation::new(n, d, loss) });
            }
        }
        rows[7].loss *= 1.3;
        let squares = Options { objective: Objective::MseLog, ..Options::default() };
        let found = sensitivity(&rows, &squares).unwrap();
        assert!(found.outliers.contains(&String::from("line 9")), "{:?}", found.outliers);
        let alpha = |variant: &Variant| variant.result.as_ref().unwrap().param("alpha").unwrap();
        assert!((alpha(&found.variants[0]) - 0.34).abs() > 1e-3);
        if found.outliers.len() == 1 {
            assert!((alpha(&found.variants[1]) - 0.34).abs() < 1e-6);
        }
        let robust = found.variants.iter().find(|v| v.name == "l1-log").unwrap();
        assert!((alpha(robust) - 0.34).abs() < 1e-4, "{}", alpha(robust));
    }

    #[test]
    fn sound_data_has_no_outliers_and_other_methods_no_choices() {
        let rows: Vec<Observation> = (0..5_i32)
            .flat_map(|i| (0..5_i32).map(move |j| (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j))))
            .map(|(n, d)| {
                Observation::new(n, d, 1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28))
            })
            .collect();
        let found = sensitivity(&rows, &Options::default()).unwrap();
        assert!(found.outliers.is_empty());
        assert_eq!(found.variants.len(), 5);
        let isoflop = Options { method: Method::Isoflop, ..Options::default() };
        assert!(sensitivity(&rows, &isoflop).unwrap_err().is_usage());
    }
}
