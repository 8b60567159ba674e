//! A metric's shape against scale, as tables and sentences.

use std::io::{self, Write};

use sweep_fit::emergence::Emergence;

use super::{
    fit_table::number,
    table::{lines, table},
};
use crate::cmd::emergence::{Assessed, MetricTold};

/// Prints a metric on all axes.
pub(crate) fn print(metric: &MetricTold, out: &mut dyn Write) -> io::Result<()> {
    for assessed in &metric.axes {
        axis(&metric.metric, assessed, out)?;
    }
    if let Some(by) = &metric.by_length {
        writeln!(
            out,
            "p^{} of token accuracy explains {:.1} % of {} (rmse {:.4}); the length that explains it \
             best is {:.1}",
            by.length,
            100.0 * by.explained,
            metric.metric,
            by.rmse,
            by.best_length
        )?;
    }
    if let Some(p) = metric.size_beyond_loss_p {
        let words =
            if p < 0.05 { "size matters beyond loss" } else { "no sign of size beyond loss" };
        writeln!(out, "residuals against loss, permuted over N: p = {p:.4}, {words}")?;
    }
    if let Some(forecast) = &metric.forecast {
        let interval = |ci: Option<[f64; 2]>| {
            ci.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.4} .. {high:.4}"))
        };
        let soft = forecast.soft.map_or_else(String::new, |soft| format!(", soft score {soft:.4}"));
        writeln!(
            out,
            "forecast of {} at loss {:.4}{soft}: {:.4}, 95 % {} (loss and first step alone {}, second \
             step alone {}), from {} rows in {} units",
            metric.metric,
            forecast.loss,
            forecast.score.value,
            interval(forecast.score.ci95),
            interval(forecast.first_step_ci95),
            interval(forecast.second_step_ci95),
            forecast.chain.n,
            forecast.chain.units
        )?;
    }
    writeln!(out)
}

fn axis(metric: &str, assessed: &Assessed, out: &mut dyn Write) -> io::Result<()> {
    let found = &assessed.found;
    writeln!(out, "{metric} against {}, {} scores", found.axis.name(), found.n)?;
    let least = found.forms.first().and_then(|form| form.aicc);
    let mut rows =
        table(&["curve", "parameters", "AICc over least", "rmse", "held-out error"], &[0]);
    for form in &found.forms {
        #[expect(clippy::cast_precision_loss, reason = "a number of scores")]
        let rmse = (form.squares / found.n as f64).sqrt();
        let over = form.aicc.zip(least).map(|(aicc, least)| format!("{:.1}", aicc - least));
        rows.add_row([
            form.kind.name().to_owned(),
            form.params.len().to_string(),
            over.unwrap_or_else(|| "too few".to_owned()),
            format!("{rmse:.5}"),
            form.held_out_error.map_or_else(|| "-".to_owned(), |error| format!("{error:.5}")),
        ]);
    }
    writeln!(out, "{}", lines(&rows))?;
    facts(found, out)?;
    writeln!(out, "{}", assessed.sentence)?;
    if let Some(contrast) = &assessed.contrast {
        writeln!(out, "{contrast}")?;
    }
    writeln!(out)
}

fn facts(found: &Emergence, out: &mut dyn Write) -> io::Result<()> {
    if let Some(knee) = &found.knee {
        let end = |end: Option<f64>| end.map_or_else(|| "open".to_owned(), |x| format!("{x:.3e}"));
        writeln!(
            out,
            "knee at {:.3e}, 95 % {} .. {} ({:.0} % of the range)",
            knee.x,
            end(knee.ci95[0]),
            end(knee.ci95[1]),
            100.0 * knee.width.min(1.0)
        )?;
    }
    if let Some(steepness) = found.steepness {
        let most = steepness
            .breakthroughness
            .map_or_else(|| "undefined (most steps are nothing)".to_owned(), |b| format!("{b:.2}"));
        writeln!(out, "linearity {:.2}, breakthroughness {most}", steepness.linearity)?;
    }
    if let Some(chance) = found.chance {
        let from = found
            .above_chance_from
            .map_or_else(|| "nowhere".to_owned(), |x| format!("from {x:.3e} on"));
        let held = found.at_chance;
        writeln!(out, "chance {}: {held} scores hold it; above it {from}", number(chance))?;
    }
    if let Some(step) = found.resolution {
        writeln!(out, "resolution 1/items = {step:.2e}")?;
    }
    Ok(())
}
