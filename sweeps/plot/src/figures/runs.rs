//! What the figures share: how a run looks, which runs there are, the caption, and curves that
//! are thin enough to draw.

use sweep_spec::{run::RunRole, units::si};

use crate::{
    figure::{
        Axis, Dash, Facts, Figure, Mark, Panel, RAMP_STEPS, SCHEMA, Series, Shape, Style, Tone,
        Weight,
    },
    input::{CurvePoint, PlotInput, RunCurve, RunState},
    text::law_text,
};

/// Runs on one figure: beyond, a drawing is a smear and a page is slow. The rest is counted.
pub(super) const RUNS_MOST: usize = 100;
/// Buckets of a drawn curve, about two pixels each. Each keeps its lowest, highest and last
/// value, so that no spike is lost.
const BUCKETS: usize = 240;
/// Buckets of all curves of a figure: about 0.2 MB of SVG. Many curves share them.
const BUCKETS_ALL: usize = 5000;
/// Fewer make a curve look broken.
const BUCKETS_LEAST: usize = 24;
/// Places along a drawn law.
pub(super) const PLACES: usize = 80;

/// The sizes of a sweep, each with its tone and shape.
pub(super) struct Sizes(Vec<f64>);

impl Sizes {
    pub(super) fn of(runs: &[RunCurve]) -> Self {
        let mut sizes: Vec<f64> = runs.iter().map(|run| run.n).filter(|n| n.is_finite()).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        Self(sizes)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    fn rank(&self, n: f64) -> usize {
        self.0.iter().position(|size| *size >= n).unwrap_or(0)
    }

    pub(super) fn tone(&self, n: f64) -> Tone {
        let steps = usize::from(RAMP_STEPS) - 1;
        let place = (self.rank(n) * steps).checked_div(self.0.len().saturating_sub(1));
        Tone::Ramp(u8::try_from(place.unwrap_or(0)).unwrap_or(RAMP_STEPS - 1))
    }

    pub(super) fn shape(&self, n: f64) -> Shape {
        Shape::PLAIN[self.rank(n) % Shape::PLAIN.len()]
    }

    pub(super) fn points(&self, n: f64) -> Style {
        Style::points(self.tone(n), self.shape(n))
    }
}

/// The tone and the shape of one of several groups in an order.
pub(super) fn look(index: usize, count: usize) -> (Tone, Shape) {
    let steps = usize::from(RAMP_STEPS) - 1;
    let place = (index * steps).checked_div(count.saturating_sub(1)).unwrap_or(0);
    (
        Tone::Ramp(u8::try_from(place).unwrap_or(RAMP_STEPS - 1)),
        Shape::PLAIN[index % Shape::PLAIN.len()],
    )
}

/// How check runs look everywhere.
pub(super) const CHECK: Style = Style::points(Tone::Ink, Shape::Star).weight(Weight::Bold);
/// Their line in a legend.
pub(super) const CHECK_LEGEND: &str = "check run, held out";

/// The text of a size in a legend.
pub(super) fn size_legend(n: f64) -> String {
    format!("N = {}", si(n))
}

/// The runs of the sweep but those at other learning rates, which `rates` alone draws: beside runs that
/// differ in size and data only they would mislead.
pub(super) fn at_own_rate(input: &PlotInput) -> impl Iterator<Item = &RunCurve> + Clone {
    input.runs.iter().filter(|run| run.role != RunRole::Sensitivity)
}

/// Runs whose final loss may be drawn, up to the limit.
pub(super) fn finished(input: &PlotInput) -> Vec<&RunCurve> {
    let usable = || input.runs.iter().filter(|run| run.final_loss().is_some());
    // Check runs are what a figure is read for: they are never the ones left out.
    let checks = usable().filter(|run| run.role == RunRole::Check);
    let fitted = usable().filter(|run| run.role == RunRole::Fit);
    checks.chain(fitted).take(RUNS_MOST).collect()
}

/// Final losses by size, check runs apart; `place` gives (x, y).
pub(super) fn scatter(
    runs: &[&RunCurve],
    sizes: &Sizes,
    place: impl Fn(&RunCurve) -> Option<[f64; 2]>,
) -> Vec<Series> {
    let mut series = Vec::new();
    for n in sizes.iter() {
        let points: Vec<[f64; 2]> = runs
            .iter()
            .filter(|run| run.n == n && run.role == RunRole::Fit)
            .filter_map(|run| place(run))
            .collect();
        if !points.is_empty() {
            let text = size_legend(n);
            let marks = Series::new(text.clone(), sizes.points(n), Mark::Points { points });
            series.push(marks.legend(text));
        }
    }
    for run in runs.iter().filter(|run| run.role == RunRole::Check) {
        if let Some(at) = place(run) {
            let marks = Series::new(run.label.clone(), CHECK, Mark::Points { points: vec![at] });
            series.push(marks.legend(CHECK_LEGEND));
        }
    }
    series
}

/// The caption's facts for a figure that draws `drawn` of the runs.
pub(super) fn facts(input: &PlotInput, drawn: usize) -> Facts {
    let failed = at_own_rate(input).filter(|run| run.failed()).count();
    let usable = at_own_rate(input).filter(|run| run.final_loss().is_some()).count();
    let count = |state: RunState| at_own_rate(input).filter(|run| run.state == state).count();
    let mut notes = Vec::new();
    let open = count(RunState::Waiting) + count(RunState::Running);
    if open > 0 {
        let all = at_own_rate(input).count();
        notes.push(format!("{open} of {all} runs are not done yet."));
    }
    Facts {
        runs_drawn: drawn,
        runs_hidden: usable.saturating_sub(drawn),
        runs_failed: failed,
        runs_suspect: count(RunState::Suspect),
        n_convention: input.n_convention.clone(),
        c_convention: None,
        law: None,
        interval: None,
        notes,
    }
}

/// The same for a figure with a law over C = 6 N D.
pub(super) fn law_facts(input: &PlotInput, drawn: usize) -> Facts {
    Facts {
        c_convention: Some("C = 6 N D".to_owned()),
        law: input.fit.as_ref().map(law_text),
        interval: input.fit.as_ref().and(input.interval.clone()),
        ..facts(input, drawn)
    }
}

/// A figure without data yet, or with; `missing` says which.
pub(super) fn figure(
    name: &str,
    title: &str,
    description: String,
    panels: Vec<Panel>,
    facts: Facts,
    missing: Option<String>,
) -> Figure {
    Figure {
        schema: SCHEMA,
        name: name.to_owned(),
        title: title.to_owned(),
        description,
        columns: panels.len().min(3),
        panels,
        pictures: None,
        facts,
        missing,
    }
}

/// Why nothing can be drawn that needs a finished run, or a law.
pub(super) fn missing(input: &PlotInput, needs_law: bool) -> Option<String> {
    if input.runs.is_empty() {
        return Some("This sweep has no runs yet.".to_owned());
    }
    if at_own_rate(input).all(|run| run.final_loss().is_none()) {
        let failed = at_own_rate(input).filter(|run| run.failed()).count();
        let total = at_own_rate(input).count();
        return Some(if failed == total {
            format!("All {total} runs failed or diverged: there is no final loss to draw.")
        } else {
            format!("None of {total} runs is done yet, {failed} failed.")
        });
    }
    (needs_law && input.fit.as_ref().is_none_or(|fit| fit.predict(1e6, 1e8).is_none())).then(|| {
        "No law of N and D is fitted: the runs do not suffice yet, or the fit was refused."
            .to_owned()
    })
}

/// C of the runs that were fitted: least and largest.
pub(super) fn fitted_compute(input: &PlotInput) -> Option<[f64; 2]> {
    ends(
        input
            .runs
            .iter()
            .filter(|run| run.role == RunRole::Fit && run.final_loss().is_some())
            .map(RunCurve::compute),
    )
}

/// Least and largest of values above 0.
pub(super) fn ends(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values.filter(|v| v.is_finite() && *v > 0.0).fold(None, |ends, v| match ends {
        None => Some([v, v]),
        Some([low, high]) => Some([low.min(v), high.max(v)]),
    })
}

/// `count` places of equal ratio from `low` to `high`.
pub(super) fn log_places(low: f64, high: f64, count: usize) -> Vec<f64> {
    let last = count.saturating_sub(1).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred places")]
    let place = |i: usize| (low.ln() + (high / low).ln() * (i as f64 / last as f64)).exp();
    (0..count).map(place).collect()
}

/// The loss axis of every figure.
pub(super) fn loss_axis(label: &str) -> Axis {
    Axis::log(label, "nats/token")
}

/// The panel of predicted losses against measured ones, and that of the errors over compute.
pub(super) fn prediction_panels(errors: &str) -> [Panel; 2] {
    [
        Panel::new(loss_axis("measured loss"), loss_axis("predicted loss"))
            .titled("predicted against measured"),
        Panel::new(
            Axis::log("training compute C", "FLOPs"),
            Axis::linear("predicted / measured \u{2212} 1", "%"),
        )
        .titled(errors),
    ]
}

/// Where predicted equals measured, over these losses; absent without any.
pub(super) fn diagonal(losses: impl Iterator<Item = f64>) -> Option<Series> {
    let [low, high] = ends(losses)?;
    let (low, high) = (low * 0.985, high * 1.015);
    let style = Style::line(Tone::Muted).dash(Dash::Dashed);
    let mark = Mark::Line { points: vec![[low, low], [high, high]] };
    let text = "predicted = measured";
    Some(Series::new(text, style, mark).legend(text))
}

/// The line of no error, from a place to another.
pub(super) fn no_error(from: f64, to: f64) -> Series {
    let style = Style::line(Tone::Muted).dash(Dash::Dashed);
    Series::new("no error", style, Mark::Line { points: vec![[from, 0.0], [to, 0.0]] })
}

/// A curve that is thin enough to draw beside others.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Thin {
    /// (x, loss); where neighbours were gathered, the last of them.
    pub(super) line: Vec<[f64; 2]>,
    /// (x, least, largest) of what was gathered; empty where nothing was.
    pub(super) band: Vec<[f64; 3]>,
}

/// A curve as (x, loss), thin enough to draw beside others; values that are no number are left
/// out.
pub(super) fn thinned(
    curve: &[CurvePoint],
    curves: usize,
    x: impl Fn(&CurvePoint) -> Option<f64>,
) -> Thin {
    let buckets = (BUCKETS_ALL / curves.clamp(1, RUNS_MOST)).clamp(BUCKETS_LEAST, BUCKETS);
    let points: Vec<(f64, &CurvePoint)> = curve
        .iter()
        .filter_map(|point| Some((rounded(x(point)?), point)))
        .filter(|(x, _)| x.is_finite() && *x > 0.0)
        .collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Thin::default() };
    let many = points.len() > 2 * buckets;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred buckets")]
    let per_log = buckets as f64 / (last.0 / first.0).ln();
    let bucket = |x: f64| ((x / first.0).ln() * per_log).floor();
    let mut thin = Thin::default();
    for chunk in points.chunk_by(|a, b| many && bucket(a.0) == bucket(b.0)) {
        let positive = |loss: &f64| loss.is_finite() && *loss > 0.0;
        if let Some((x, point)) = chunk.iter().rfind(|(_, point)| positive(&point.loss)) {
            thin.line.push([*x, rounded(point.loss)]);
        }
        let losses = chunk.iter().flat_map(|(_, point)| {
            let [least, largest] = point.spread.unwrap_or([point.loss; 2]);
            [least, point.loss, largest]
        });
        let ends = ends(losses.filter(positive));
        if let (Some([low, high]), Some((x, _))) = (ends, chunk.last()) {
            thin.band.push([*x, rounded(low), rounded(high)]);
        }
    }
    if thin.band.iter().all(|[_, low, high]| low == high) {
        thin.band.clear();
    }
    thin
}

/// Six significant digits: a drawing shows three, and the page stays small.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_spikes_and_its_end() {
        let loss = |i: u32| match i {
            31_415 => 9.0,
            27_182 => 0.5,
            31_416 => f64::NAN,
            _ => 3.0 - f64::from(i) * 1e-5,
        };
        let curve: Vec<CurvePoint> = (0..100_000)
            .map(|i| {
                let x = f64::from(i);
                CurvePoint {
                    step: x,
                    tokens: x,
                    flops: x,
                    seconds: None,
                    loss: loss(i),
                    points: 1,
                    spread: None,
                }
            })
            .collect();
        let Thin { line, band } = thinned(&curve, 20, |point| Some(point.tokens));
        assert!(line.len() <= BUCKETS + 1 && line.len() == band.len(), "{}", line.len());
        assert!(band.iter().any(|p| p[2] == 9.0) && band.iter().any(|p| p[1] == 0.5));
        assert_eq!(line.last().map(|p| p[0]), Some(99_999.0));
        assert!(line.is_sorted_by(|a, b| a[0] <= b[0]));
        assert!(thinned(&curve, 100, |point| Some(point.tokens)).line.len() <= 51);
        let unmeasured = thinned(&curve, 20, |point| point.seconds);
        assert_eq!(unmeasured, Thin::default(), "not measured, not drawn");
    }

    #[test]
    fn what_a_store_gathered_keeps_its_extremes_in_a_short_curve_too() {
        let point = |x: f64, loss: f64, spread| CurvePoint {
            step: x,
            tokens: x,
            flops: x,
            seconds: None,
            loss,
            points: 10,
            spread,
        };
        let curve = [point(10.0, 3.0, Some([2.5, 4.0])), point(20.0, f64::NAN, Some([2.0, 9.0]))];
        let thin = thinned(&curve, 1, |point| Some(point.tokens));
        assert_eq!(thin.line, [[10.0, 3.0]], "a loss that is no number has no place");
        assert_eq!(thin.band, [[10.0, 2.5, 4.0], [20.0, 2.0, 9.0]]);
        let alone = [point(10.0, 3.0, None), point(20.0, 2.0, None)];
        assert!(thinned(&alone, 1, |point| Some(point.tokens)).band.is_empty());
    }
}
