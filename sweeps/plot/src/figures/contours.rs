//! Lines of equal loss over N and D, with the runs and the efficient frontier.

use sweep_fit::Fit;

use super::runs::{PLACES, Sizes, ends, figure, finished, law_facts, log_places, missing, scatter};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Style, Tone, Weight},
    input::{PlotInput, RunCurve},
    text::short,
};

/// Lines of equal loss; more are hard to tell apart.
const LEVELS: usize = 8;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let mut panel =
        Panel::new(Axis::log("parameters N", ""), Axis::log("training tokens D", "tokens"));
    let missing = missing(input, true);
    let n = ends(runs.iter().map(|run| run.n));
    let d = ends(runs.iter().map(|run| run.d));
    if let (None, Some(fit), Some(n), Some(d)) = (&missing, &input.fit, n, d) {
        let (n, d) = ([n[0] / 1.5, n[1] * 1.5], [d[0] / 1.5, d[1] * 1.5]);
        panel.x.range = Some(n);
        panel.y.range = Some(d);
        draw_levels(&mut panel, fit, n, d);
        draw_frontier(&mut panel, fit, n, d);
        panel.series.extend(scatter(&runs, &sizes, |run: &RunCurve| Some([run.n, run.d])));
    }
    let mut facts = law_facts(input, runs.len());
    facts.notes.push("Numbers on the lines: loss by the law, nats/token.".to_owned());
    let description =
        "Lines of equal loss of the law over parameters and tokens, with the runs and the line of \
         best splits."
            .to_owned();
    figure(name, "Loss over N and D", description, vec![panel], facts, missing)
}

fn draw_levels(panel: &mut Panel, fit: &Fit, n: [f64; 2], d: [f64; 2]) {
    // The law falls along both axes: its ends lie in two corners.
    let (Some(worst), Some(best)) = (fit.predict(n[0], d[0]), fit.predict(n[1], d[1])) else {
        return;
    };
    if !(worst > best && best > 0.0 && worst.is_finite()) {
        return;
    }
    for level in log_places(best, worst, LEVELS + 2).into_iter().skip(1).take(LEVELS) {
        let path: Vec<[f64; 2]> = log_places(n[0], n[1], 3 * PLACES)
            .into_iter()
            .filter_map(|n| Some([n, tokens_for(fit, n, level, d)?]))
            .collect();
        let Some(&middle) = path.get(path.len() / 2) else { continue };
        let text = short(level);
        let mark = Mark::Contour { level, paths: vec![path] };
        let series = Series::new(format!("loss {text}"), Style::line(Tone::Muted), mark);
        panel.series.push(series.legend("equal loss by the law"));
        panel.note_over(middle, text, Tone::Ink);
    }
}

/// The D at which the law has this loss at N, by halving ln D; `None` outside the axis.
fn tokens_for(fit: &Fit, n: f64, level: f64, [low, high]: [f64; 2]) -> Option<f64> {
    let above = |d: f64| Some(fit.predict(n, d)? > level);
    // A little beyond the axis, so that a line reaches the frame.
    let (mut low, mut high) = (low / 1.2, high * 1.2);
    if !above(low)? || above(high)? {
        return None;
    }
    for _ in 0..40 {
        let middle = (low * high).sqrt();
        if above(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((low * high).sqrt())
}

fn draw_frontier(panel: &mut Panel, fit: &Fit, n: [f64; 2], d: [f64; 2]) {
    let (low, high) = (6.0 * n[0] * d[0], 6.0 * n[1] * d[1]);
    let points: Vec<[f64; 2]> = log_places(low, high, PLACES)
        .into_iter()
        .filter_map(|c| fit.optimum(c).map(|best| [best.n, best.d]))
        .collect();
    let style = Style::line(Tone::Law).weight(Weight::Bold).dash(Dash::Dashed);
    let series = Series::new("best split of a budget", style, Mark::Line { points });
    panel.series.push(series.legend("best split of a budget by the law"));
}
