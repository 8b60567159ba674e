//! Loss against compute: every curve, their lower envelope, the final losses, and the frontier of
//! the law, beyond the fitted runs dashed on a shaded ground; beside it two power laws of C alone,
//! with and without a floor, over the runs of least loss for their compute. Where the law has a
//! floor E, a second panel shows the loss above it, where the frontier of a power law is straight.

use sweep_fit::Fit;
use sweep_spec::{run::RunRole, units::si};

use super::runs::{
    PLACES, RUNS_MOST, Sizes, at_own_rate, ends, figure, finished, fitted_compute, law_facts,
    log_places, loss_axis, missing, scatter, thinned,
};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
    text::{short, single_law_text},
};

/// A band is drawn up to so many times the law: one that says nothing would flatten all else.
const BAND_TIMES_MAX: f64 = 3.0;

/// How far the frontier is drawn beyond the fitted runs where no check run lies further.
const REACH: f64 = 3.0;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let curves = curves(input);
    let mut panel = Panel::new(Axis::log("training compute C", "FLOPs"), loss_axis("loss"));
    let range = fitted_compute(input).map(|[low, high]| [low, high, reach(input, high)]);
    let law = input.fit.as_ref().and_then(|fit| Some((fit, range?)));
    let extrapolated = law.is_some() || !power_fits(input).is_empty();
    if let Some([_, high, _]) = range.filter(|_| extrapolated) {
        panel.series.push(beyond(high));
    }
    for (run, points) in &curves {
        let tone = if run.role == RunRole::Check { Tone::Ink } else { sizes.tone(run.n) };
        let style = Style::line(tone).weight(Weight::Faint);
        panel.series.push(Series::new(
            run.label.clone(),
            style,
            Mark::Line { points: points.clone() },
        ));
    }
    let envelope = envelope(&curves);
    if envelope.len() > 1 {
        let style = Style::line(Tone::Ink).weight(Weight::Bold);
        let series = Series::new("lower envelope", style, Mark::Line { points: envelope });
        panel.series.push(series.legend("lower envelope of the fitted runs' curves"));
    }
    panel.series.extend(scatter(&runs, &sizes, |run| Some([run.compute(), run.final_loss()?])));
    if let Some(range) = range {
        panel.series.extend(power_laws(input, range));
    }
    let floor = input.fit.as_ref().and_then(|fit| fit.param("E")).filter(|e| *e > 0.0);
    let mut panels = vec![];
    if let Some((fit, range)) = law {
        panel.series.extend(frontier(fit, range, 0.0));
        panels.extend(floor.map(|floor| above_floor(fit, range, floor, &runs, &sizes)));
    }
    let panel = if panels.is_empty() { panel } else { panel.titled("loss") };
    panels.insert(0, panel);
    let missing = missing(input, false).filter(|_| curves.is_empty());
    let mut facts = law_facts(input, curves.len().max(runs.len()));
    facts.runs_hidden = at_own_rate(input)
        .filter(|run| !run.validation.is_empty() || !run.train.is_empty())
        .count()
        .saturating_sub(facts.runs_drawn);
    facts.notes.push(
        "Marks: final losses; faint lines: curves on the way, whose learning rate had not yet \
         come to its end."
            .to_owned(),
    );
    facts.notes.extend(range.map(|[_, _, reach]| power_law_text(input, reach)));
    let description = format!(
        "Loss of {} runs against training compute on two logarithmic axes, with the lower \
         envelope of the curves{}.",
        curves.len(),
        if law.is_some() {
            " and the frontier of the fitted law, extrapolated beyond the runs"
        } else {
            ""
        }
    );
    figure(name, "Loss against compute", description, panels, facts, missing)
}

fn curves(input: &PlotInput) -> Vec<(&RunCurve, Vec<[f64; 2]>)> {
    let count = at_own_rate(input).count();
    at_own_rate(input)
        .map(|run| {
            let curve = if run.validation.len() > 1 { &run.validation } else { &run.train };
            (run, thinned(curve, count, |point| Some(6.0 * run.n * point.tokens)).line)
        })
        .filter(|(_, points)| points.len() > 1)
        .take(RUNS_MOST)
        .collect()
}

/// The least loss that any fitted run's curve has at a compute or below it.
fn envelope(curves: &[(&RunCurve, Vec<[f64; 2]>)]) -> Vec<[f64; 2]> {
    let fitted = || {
        curves
            .iter()
            .filter(|(run, _)| run.role == RunRole::Fit && !run.failed())
            .map(|(_, points)| points)
    };
    let Some([low, high]) = ends(fitted().flatten().map(|p| p[0])) else { return Vec::new() };
    let mut best = f64::INFINITY;
    log_places(low, high, 3 * PLACES)
        .into_iter()
        .filter_map(|c| {
            best = fitted().filter_map(|points| at(points, c)).fold(best, f64::min);
            best.is_finite().then_some([c, best])
        })
        .collect()
}

/// A curve's loss at x, straight in ln x between its points.
fn at(points: &[[f64; 2]], x: f64) -> Option<f64> {
    let after = points.partition_point(|p| p[0] < x);
    if after == points.len() {
        // The last place of an envelope is the end of a curve, up to rounding.
        return points.last().filter(|p| x <= p[0] * (1.0 + 1e-9)).map(|p| p[1]);
    }
    let Some([x0, y0]) = after.checked_sub(1).map(|i| points[i]) else {
        return (points[0][0] <= x * (1.0 + 1e-9)).then_some(points[0][1]);
    };
    let [x1, y1] = points[after];
    Some(y0 + (y1 - y0) * (x / x0).ln() / (x1 / x0).ln())
}

fn reach(input: &PlotInput, high: f64) -> f64 {
    let checks = input.runs.iter().filter(|run| run.role == RunRole::Check).map(RunCurve::compute);
    checks.fold(REACH * high, f64::max)
}

fn beyond(high: f64) -> Series {
    let mark = Mark::Region { from: high, to: f64::INFINITY };
    Series::new("beyond the fitted runs", Style::line(Tone::Muted), mark)
        .legend("beyond the fitted runs")
}

/// The loss above the law's floor, where its frontier is straight.
fn above_floor(fit: &Fit, range: [f64; 3], floor: f64, runs: &[&RunCurve], sizes: &Sizes) -> Panel {
    let compute = Axis::log("training compute C", "FLOPs");
    let mut above = Panel::new(compute, loss_axis("L \u{2212} E"));
    above.series.push(beyond(range[1]));
    let place = |run: &RunCurve| Some([run.compute(), run.final_loss()? - floor]);
    above.series.extend(scatter(runs, sizes, place));
    above.series.extend(frontier(fit, range, floor));
    above.titled(&format!("loss above the law's floor, E = {}", short(floor)))
}

/// The power laws of C alone, from the fitted runs to as far as the frontier goes.
fn power_laws(input: &PlotInput, [low, _, reach]: [f64; 3]) -> Vec<Series> {
    let frontier = &input.frontier;
    [
        (&frontier.without_floor, "power law of C without a floor", Dash::Dotted),
        (&frontier.with_floor, "power law of C with a floor E", Dash::Dashed),
    ]
    .into_iter()
    .filter_map(|(fit, text, dash)| {
        let fit = fit.as_ref()?;
        let place = |c: f64| Some([c, fit.predict_single(c)?]);
        let points = log_places(low, reach, PLACES).into_iter().filter_map(place).collect();
        let style = Style::line(Tone::Reference).dash(dash);
        Some(Series::new(text, style, Mark::Line { points }).legend(text))
    })
    .collect()
}

fn power_fits(input: &PlotInput) -> Vec<&Fit> {
    input.frontier.without_floor.iter().chain(&input.frontier.with_floor).collect()
}

/// The power laws with their constants, and where they part.
fn power_law_text(input: &PlotInput, reach: f64) -> String {
    let laws = power_fits(input);
    if laws.is_empty() {
        return "Too few runs have the least loss for their compute: no power law of C alone."
            .to_owned();
    }
    let told: Vec<String> = laws.iter().map(|fit| single_law_text(fit)).collect();
    let ahead: Vec<String> =
        laws.iter().filter_map(|fit| Some(short(fit.predict_single(reach)?))).collect();
    format!(
        "Power laws of x = C over the runs of least loss for their compute, without intervals: \
         {}. At {} FLOPs: {}.",
        told.join("; "),
        si(reach),
        ahead.join(" and ")
    )
}

/// The law's loss at the best split of every budget, less `floor`.
fn frontier(fit: &Fit, [low, high, reach]: [f64; 3], floor: f64) -> Vec<Series> {
    let place = |c: f64| Some([c, fit.optimum(c)?.loss? - floor]);
    let line = |from: f64, to: f64| -> Vec<[f64; 2]> {
        log_places(from, to, PLACES).into_iter().filter_map(place).collect()
    };
    let mut is_cut = false;
    let band: Vec<[f64; 3]> = log_places(low, reach, PLACES)
        .into_iter()
        .filter_map(|c| {
            let best = fit.optimum(c)?;
            let [under, over] = fit.forecast(best.n, best.d)?.ci95?;
            let most = BAND_TIMES_MAX * (best.loss? - floor);
            is_cut |= over - floor > most;
            Some([c, under - floor, (over - floor).min(most)])
        })
        .filter(|[_, under, _]| *under > 0.0)
        .collect();
    let style = Style::line(Tone::Law).weight(Weight::Bold);
    let solid = Series::new("frontier of the law", style, Mark::Line { points: line(low, high) });
    let dashed = Series::new(
        "frontier of the law, extrapolated",
        style.dash(Dash::Dashed),
        Mark::Line { points: line(high, reach) },
    );
    let mut series =
        vec![solid.legend("frontier of the law"), dashed.legend("frontier, extrapolated")];
    if band.len() > 1 {
        let band = Series::new(
            "95 % interval of the frontier",
            Style::line(Tone::Law),
            Mark::Band { points: band },
        );
        let text = match is_cut {
            true => format!("95 % interval, cut at {BAND_TIMES_MAX} times the law"),
            false => "95 % interval".to_owned(),
        };
        series.push(band.legend(text));
    }
    series
}
