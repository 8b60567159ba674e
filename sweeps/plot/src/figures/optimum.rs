//! N and D that use a budget best, against the budget, with their exponents; and the tokens per
//! parameter that follow. Beyond the fitted runs the lines are dashed on a shaded ground.

use sweep_fit::{Allocation, Estimate, Fit, Split, Surface, Verdict};
use sweep_spec::run::RunRole;

use super::{
    isoflop,
    runs::{PLACES, figure, finished, fitted_compute, law_facts, log_places, missing},
};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
    text::{estimate, short},
};

/// How far the lines are drawn beyond the fitted runs where no check run lies further.
const REACH: f64 = 10.0;
/// Tokens per parameter of Chinchilla (arXiv 2203.15556): a familiar mark, not a target.
const TOKENS_PER_PARAMETER: f64 = 20.0;
/// Exponents of N* and D* that others found: Chinchilla's approach 1, and Kaplan (arXiv 2001.08361).
const OTHERS: [(&str, [f64; 2]); 2] = [("Chinchilla", [0.50, 0.50]), ("Kaplan", [0.73, 0.27])];
/// Places along a band: each is two optima under every resampled fit.
const BAND_PLACES: usize = 12;

/// What a panel shows of an allocation.
type Part = fn(&Allocation) -> f64;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let compute = || Axis::log("training compute C", "FLOPs");
    let mut panels = vec![
        Panel::new(compute(), Axis::log("best N", "parameters")).titled("N*"),
        Panel::new(compute(), Axis::log("best D", "tokens")).titled("D*"),
        Panel::new(compute(), Axis::log("D*/N*", "tokens per parameter")).titled("D*/N*"),
    ];
    let parts: [Part; 3] = [|best| best.n, |best| best.d, |best| best.d / best.n];
    let missing = missing(input, true);
    let mut facts = law_facts(input, finished(input).len());
    let (fit, ends) = (input.fit.as_ref(), fitted_compute(input));
    if let (None, Some(fit), Some([low, high])) = (&missing, fit, ends) {
        let checks = input.runs.iter().filter(|run| run.role == RunRole::Check);
        let reach = checks.map(RunCurve::compute).fold(REACH * high, f64::max);
        draw_bands(&mut panels, fit, [low, reach]);
        for (panel, part) in panels.iter_mut().zip(parts) {
            draw_lines(panel, fit, [low, high, reach], part);
        }
        if let Some(exponents) = fit.exponents {
            for (panel, (letter, value)) in
                panels.iter_mut().zip([("N", exponents.a), ("D", exponents.b)])
            {
                panel.title = Some(format!("{letter}* ~ C^{}", short(value.value)));
                let exponent = estimate(&value);
                facts.notes.push(format!("Exponent of {letter}*: {exponent}."));
            }
        }
        draw_references(&mut panels, fit, [low, reach]);
        draw_budgets(&mut panels, input);
        facts.notes.push(match input.isoflop {
            Some(_) => {
                format!("A measured minimum stands at 6 N* D*; bars: {}.", isoflop::INTERVAL)
            }
            None => {
                "No budget was measured on its own: the lines come from the law alone.".to_owned()
            }
        });
    }
    let description = "Compute-optimal parameters, tokens and tokens per parameter against \
                       training compute, from the fitted law, three panels."
        .to_owned();
    figure(name, "Best use of a budget", description, panels, facts, missing)
}

fn draw_lines(panel: &mut Panel, fit: &Fit, [low, high, reach]: [f64; 3], part: Part) {
    panel.series.push(
        Series::new(
            "beyond the fitted runs",
            Style::line(Tone::Muted),
            Mark::Region { from: high, to: f64::INFINITY },
        )
        .legend("beyond the fitted runs"),
    );
    let line = |from: f64, to: f64| -> Vec<[f64; 2]> {
        let place = |c: f64| Some([c, part(&fit.optimum(c)?)]);
        log_places(from, to, PLACES / 2).into_iter().filter_map(place).collect()
    };
    let style = Style::line(Tone::Law).weight(Weight::Bold);
    let solid = Mark::Line { points: line(low, high) };
    panel.series.push(Series::new("optimum of the law", style, solid).legend("optimum of the law"));
    let dashed = Mark::Line { points: line(high, reach) };
    let series = Series::new("optimum, extrapolated", style.dash(Dash::Dashed), dashed);
    panel.series.push(series.legend("optimum, extrapolated"));
}

/// Where 95 % of the resampled fits put N* and D*.
fn draw_bands(panels: &mut [Panel], fit: &Fit, [low, reach]: [f64; 2]) {
    let splits: Vec<Split> = log_places(low, reach, BAND_PLACES)
        .into_iter()
        .filter_map(|c| fit.best_split(&Surface::Flops, c))
        .collect();
    let parts: [fn(&Split) -> Estimate; 2] = [|split| split.n, |split| split.d];
    for (panel, part) in panels.iter_mut().zip(parts) {
        let place = |split: &Split| part(split).ci95.map(|[l, h]| [split.budget, l, h]);
        let points: Vec<[f64; 3]> = splits.iter().filter_map(place).collect();
        if points.len() > 1 {
            let text = "95 % of the resampled fits";
            let band = Series::new(text, Style::line(Tone::Law), Mark::Band { points });
            panel.series.push(band.legend(text));
        }
    }
}

/// Slopes and ratios that others found, through the middle of ours.
fn draw_references(panels: &mut [Panel], fit: &Fit, [low, reach]: [f64; 2]) {
    let middle = (low * reach).sqrt();
    let style = Style::line(Tone::Reference);
    if let Some(best) = fit.optimum(middle) {
        for (at, (panel, value)) in panels.iter_mut().zip([best.n, best.d]).enumerate() {
            for ((who, slopes), dash) in OTHERS.into_iter().zip([Dash::Dotted, Dash::Dashed]) {
                let place = |c: f64| [c, value * (c / middle).powf(slopes[at])];
                let mark = Mark::Line { points: vec![place(low), place(reach)] };
                let label = format!("slope {:.2} ({who})", slopes[at]);
                let series = Series::new(label, style.dash(dash).weight(Weight::Normal), mark);
                panel.series.push(series.legend(format!("slope of {who}")));
            }
        }
    }
    if let Some(panel) = panels.get_mut(2) {
        let mark =
            Mark::Line { points: vec![[low, TOKENS_PER_PARAMETER], [reach, TOKENS_PER_PARAMETER]] };
        panel.series.push(Series::new("20 tokens per parameter", style.dash(Dash::Dotted), mark));
        panel.note([middle, TOKENS_PER_PARAMETER], "20", Tone::Reference);
    }
}

/// Optima of budgets that were measured on their own.
fn draw_budgets(panels: &mut [Panel], input: &PlotInput) {
    let Some(isoflop) = input.isoflop.as_ref().and_then(|fit| fit.isoflop.as_ref()) else { return };
    for budget in &isoflop.budgets {
        let Some((n, d, _)) = budget.minimum() else { continue };
        // On the axis of the law: the budget itself counts the FLOPs exactly.
        let c = 6.0 * n * d;
        // As on the isoFLOP curves: a doubtful minimum has an open mark.
        let (shape, legend) = match budget.verdict {
            Verdict::Sound => (Shape::Diamond, "minimum of an isoFLOP parabola"),
            _ => (Shape::Ring, "doubtful minimum"),
        };
        let style = Style::points(Tone::Ink, shape);
        for (panel, y) in panels.iter_mut().zip([n, d, d / n]) {
            let mark = Mark::Points { points: vec![[c, y]] };
            let label = format!("isoFLOP minimum of {:.3e} FLOPs", budget.flops);
            panel.series.push(Series::new(label, style, mark).legend(legend));
        }
        if let (Some([low, high]), Some(panel)) = (budget.interval(), panels.first_mut()) {
            let mark = Mark::Intervals { points: vec![[c, low, high]] };
            let text = "95 % interval of N*";
            panel.series.push(Series::new(text, Style::line(Tone::Ink), mark).legend(text));
        }
    }
}
