//! The parts beside a fit as tables: forecasts, allocations, ranking, other choices and methods,
//! the checklist, and how stored forecasts fared.

use std::io::{self, Write};

use sweep_fit::{Allocation, Estimate};
use sweep_spec::units::si;

use super::{
    fit_table::number,
    table::{lines, table},
};
use crate::analysis::{
    Allocated, Analysis, ComparisonTold, CostTold, Forecasted, Ranking, SensitivityTold,
    checklist::Item, register::Record,
};

/// Prints every part that is there.
pub(crate) fn print(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    if let Some(ranking) = &analysis.ranking {
        self::ranking(ranking, out)?;
    }
    if let Some(cost) = &analysis.cost_law {
        cost_law(cost, out)?;
    }
    if !analysis.allocations.is_empty() {
        allocations(&analysis.allocations, out)?;
    }
    if !analysis.forecasts.is_empty() {
        forecasts(&analysis.forecasts, out)?;
    }
    if let Some(found) = &analysis.sensitivity {
        sensitivity(found, out)?;
    }
    if let Some(found) = &analysis.comparison {
        comparison(found, out)?;
    }
    if let Some(items) = &analysis.checklist {
        checklist(items, out)?;
    }
    Ok(())
}

fn interval(ci95: Option<[f64; 2]>, show: fn(f64) -> String) -> String {
    ci95.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} .. {}", show(low), show(high)))
}

fn five(value: f64) -> String {
    format!("{value:.5}")
}

fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}

fn ranking(ranking: &Ranking, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nlaws by mean error on the {} of highest compute, held out, up to {:.1} times beyond the rest",
        percent(ranking.held_out_share),
        ranking.extrapolation
    )?;
    let mut rows =
        table(&["law", "parameters", "held out", "mean error", "largest", "weight", ""], &[0, 6]);
    for law in &ranking.laws {
        let held = |pick: &dyn Fn(sweep_fit::HeldOut) -> String| {
            law.held_out.map_or_else(|| "-".to_owned(), pick)
        };
        rows.add_row([
            law.law.name().to_owned(),
            law.parameters.to_string(),
            held(&|held| held.n.to_string()),
            held(&|held| percent(held.mean_abs_rel_error)),
            held(&|held| percent(held.max_abs_rel_error)),
            law.weight.map_or_else(|| "-".to_owned(), |weight| format!("{weight:.3}")),
            law.refused.clone().unwrap_or_default(),
        ]);
    }
    writeln!(out, "{}", lines(&rows))
}

fn cost_law(cost: &CostTold, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nGPU-seconds = {:.4e} N^{:.4} D^{:.4} over {} timed runs, which scatter by {}",
        cost.scale,
        cost.p,
        cost.q,
        cost.runs,
        percent(cost.scatter)
    )
}

fn allocations(splits: &[Allocated], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nsplits of a budget, with 95 % intervals")?;
    let mut rows = table(
        &[
            "budget",
            "in",
            "at",
            "N",
            "95 %",
            "D",
            "95 %",
            "loss",
            "95 %",
            "N within 1 % of the loss",
        ],
        &[1, 2],
    );
    for split in splits {
        let cells = |estimate: &Estimate, show: fn(f64) -> String| {
            [show(estimate.value), interval(estimate.ci95, show)]
        };
        let [n, n95] = cells(&split.n, si);
        let [d, d95] = cells(&split.d, si);
        let [loss, loss95] = cells(&split.loss, five);
        rows.add_row([
            format!("{:.3e}", split.budget),
            split.surface.to_owned(),
            split.at.clone(),
            n,
            n95,
            d,
            d95,
            loss,
            loss95,
            interval(split.within_1_percent, si),
        ]);
    }
    writeln!(out, "{}", lines(&rows))
}

fn forecasts(forecasts: &[Forecasted], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nforecasts; 6 N D against the largest compute fitted")?;
    let averaged = forecasts.iter().any(|forecast| forecast.averaged.is_some());
    let banded = forecasts.iter().any(|forecast| forecast.band95.is_some());
    let mut header = vec!["N", "D", "times", "loss", "95 % of the law", "95 % of a run"];
    if banded {
        header.push("95 % of the law at all");
    }
    if averaged {
        header.extend(["average of laws", "95 %", "least .. largest law"]);
    }
    let mut rows = table(&header, &[]);
    for forecast in forecasts {
        let mut cells = vec![
            si(forecast.n),
            si(forecast.d),
            format!("{:.1}", forecast.times_largest),
            five(forecast.loss),
            interval(forecast.ci95, five),
            interval(forecast.run95, five),
        ];
        if banded {
            cells.push(interval(forecast.band95, five));
        }
        if let Some(average) = &forecast.averaged {
            cells.extend([
                five(average.loss),
                interval(Some(average.ci95), five),
                interval(Some(average.range), five),
            ]);
        }
        rows.add_row(cells);
    }
    writeln!(out, "{}", lines(&rows))
}

fn optima(optima: &[Allocation]) -> String {
    let one = |at: &Allocation| format!("{} at {:.2e}", si(at.n), at.flops);
    optima.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn sensitivity(found: &SensitivityTold, out: &mut dyn Write) -> io::Result<()> {
    if found.outliers.is_empty() {
        writeln!(out, "\nno log residual exceeds {:.4}: no outliers", found.threshold)?;
    } else {
        let shown: Vec<&str> = found.outliers.iter().take(10).map(String::as_str).collect();
        let more = found.outliers.len().saturating_sub(shown.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        writeln!(
            out,
            "\n{} outliers, log residual beyond {:.4}: {}{more}",
            found.outliers.len(),
            found.threshold,
            shown.join(", ")
        )?;
    }
    let names: Vec<&str> = found
        .variants
        .first()
        .map(|variant| variant.params.iter().map(|(name, _)| *name).collect())
        .unwrap_or_default();
    let mut header = vec!["choice", "rows"];
    header.extend(&names);
    header.extend(["a", "N*"]);
    let last = header.len() - 1;
    let mut rows = table(&header, &[0, last]);
    for variant in &found.variants {
        let mut cells = vec![
            variant.name.clone(),
            variant.n_points.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ];
        match &variant.refused {
            None => cells.extend(variant.params.iter().map(|(_, value)| number(*value))),
            Some(_) => cells.extend(names.iter().map(|_| "-".to_owned())),
        }
        cells.push(variant.a.map_or_else(|| "-".to_owned(), |a| format!("{a:.4}")));
        cells.push(variant.refused.clone().unwrap_or_else(|| optima(&variant.optimum)));
        rows.add_row(cells);
    }
    writeln!(out, "{}", lines(&rows))
}

fn comparison(found: &ComparisonTold, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nmethods side by side; N* ~ C^a, D* ~ C^b")?;
    let mut rows = table(&["method", "a", "b", "N*", "doubts"], &[0, 3, 4]);
    for method in &found.methods {
        let four = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let mut doubts: Vec<&str> = method.warnings.iter().map(|w| w.code.as_str()).collect();
        doubts.dedup();
        rows.add_row([
            method.method.to_owned(),
            four(method.a),
            four(method.b),
            method.refused.clone().unwrap_or_else(|| optima(&method.optimum)),
            doubts.join(", "),
        ]);
    }
    writeln!(out, "{}", lines(&rows))?;
    if found.disagreements.is_empty() {
        return writeln!(out, "they agree on N* within 25 % at every budget shown");
    }
    for apart in &found.disagreements {
        writeln!(
            out,
            "they disagree at {:.3e} FLOPs: N* is {} by {} and {} by {}",
            apart.flops,
            si(apart.n[0]),
            apart.methods[0],
            si(apart.n[1]),
            apart.methods[1]
        )?;
    }
    Ok(())
}

fn checklist(items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nchecklist")?;
    for item in items {
        match (&item.stated, item.open) {
            (Some(stated), _) => writeln!(out, "[x] {}: {stated}", item.item)?,
            (None, add) => writeln!(out, "[ ] {}: {}", item.item, add.unwrap_or("to be stated"))?,
        }
    }
    Ok(())
}

/// Prints how stored forecasts fared.
pub(crate) fn print_record(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = table(
        &[
            "entry",
            "law",
            "N",
            "D",
            "times",
            "forecast",
            "95 % of a run",
            "measured",
            "error",
            "held",
        ],
        &[1, 9],
    );
    for fared in &record.forecasts {
        let promise = &fared.promise;
        rows.add_row([
            fared.entry.to_string(),
            fared.law.clone(),
            si(promise.n),
            si(promise.d),
            format!("{:.1}", promise.times_largest),
            five(promise.loss),
            interval(promise.run95, five),
            fared.measured.map_or_else(|| "-".to_owned(), five),
            fared.error.map_or_else(|| "-".to_owned(), |e| format!("{:+.3} %", 100.0 * e)),
            match fared.covered {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            }
            .to_owned(),
        ]);
    }
    writeln!(out, "{}", lines(&rows))?;
    let (Some(mean), Some(most)) = (record.mean_abs_error, record.max_abs_error) else {
        return writeln!(out, "\nnone of {} forecasts is measured here", record.forecasts.len());
    };
    let reach = record.mean_extrapolation.map_or_else(String::new, |factor| {
        format!(" at {factor:.1} times the largest compute fitted (geometric mean)")
    });
    writeln!(
        out,
        "\n{} of {} forecasts measured{reach}: mean error {}, largest {}",
        record.measured,
        record.forecasts.len(),
        percent(mean),
        percent(most)
    )?;
    if let Some([held, judged]) = record.covered {
        writeln!(out, "intervals of nominally 95 % held in {held} of {judged}")?;
    }
    Ok(())
}
