//! A fit of whole curves as tables for people.

use std::io::{self, Write};

use sweep_spec::units::si;

use super::{
    fit_table::number,
    table::{lines, table},
};
use crate::cmd::curves::Fitted;

/// Prints the law, its constants, each curve beside it, and the forecasts.
pub(crate) fn print(fitted: &Fitted, out: &mut dyn Write) -> io::Result<()> {
    let model = fitted.model.as_ref().map_or_else(String::new, |model| format!("{model}: "));
    writeln!(out, "{model}{}  {}", fitted.law, fitted.formula)?;
    let metric = fitted.metric.map_or_else(|| "as given".to_owned(), |name| format!("of {name}"));
    writeln!(
        out,
        "{} losses {metric}, {} of the warm-up left out; sum of {} is {:.10e}; rates are per step",
        fitted.n_points, fitted.n_warmup, fitted.objective.name, fitted.objective.value
    )?;
    let mut rows = table(&["", "value"], &[0]);
    for (name, value) in &fitted.params {
        rows.add_row([(*name).to_owned(), number(*value)]);
    }
    writeln!(out, "\n{}", lines(&rows))?;
    let header =
        ["curve", "", "steps", "losses", "mean error", "largest", "last loss", "by the law"];
    let mut rows = table(&header, &[0, 1]);
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.3} %", 100.0 * share))
    };
    for curve in &fitted.curves {
        rows.add_row([
            curve.name.clone(),
            (if curve.predicted { "predicted" } else { "fitted" }).to_owned(),
            curve.steps.to_string(),
            curve.n.to_string(),
            percent(curve.mean_abs_rel_error),
            percent(curve.max_abs_rel_error),
            curve.last_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.5}")),
            curve.last_predicted.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.5}")),
        ]);
    }
    writeln!(out, "\n{}", lines(&rows))?;
    if !fitted.forecasts.is_empty() {
        let mut rows = table(&["steps", "forecast loss", "peak rate", "schedule of"], &[3]);
        for forecast in &fitted.forecasts {
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let steps = si(forecast.steps as f64);
            rows.add_row([
                steps,
                format!("{:.5}", forecast.loss),
                number(forecast.peak_rate),
                forecast.like.clone(),
            ]);
        }
        writeln!(out, "\n{}", lines(&rows))?;
    }
    writeln!(out)
}
