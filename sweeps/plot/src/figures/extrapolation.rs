//! A rehearsal of the forecast: the law without the runs of highest compute, and how well it
//! predicts these. What lies beyond the cut was not seen by this fit.

use sweep_fit::{Fit, FittedPoint};

use super::runs::{RUNS_MOST, diagonal, ends, facts, figure, missing, no_error, prediction_panels};
use crate::{
    figure::{Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::PlotInput,
    text::{held_out_text, law_text, percent},
};

const FITTED: Style = Style::points(Tone::Muted, Shape::Circle);
const HELD_OUT: Style = Style::points(Tone::Law, Shape::Diamond).weight(Weight::Bold);

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let [mut against, mut over] = prediction_panels("error beyond the cut");
    let rehearsal = input.rehearsal.as_ref();
    let points = rehearsal.map_or_else(Vec::new, drawn);
    let gap = missing(input, false).or_else(|| {
        let few = "The runs are too few to fit the law without the fifth of highest compute.";
        rehearsal.is_none().then(|| few.to_owned())
    });
    let mut facts = facts(input, points.len());
    facts.c_convention = Some("C: exact FLOPs".to_owned());
    let mut description = "The law fitted below a cut in compute, against the losses measured \
                           above it."
        .to_owned();
    if let Some(fit) = rehearsal.filter(|_| gap.is_none()) {
        facts.law = Some(law_text(fit));
        if let Some(sentence) = held_out_text(fit) {
            description = format!("{description} {sentence}");
            facts.notes.push(sentence);
        }
        draw_losses(&mut against, &points);
        draw_errors(&mut over, &points);
    }
    figure(name, "A rehearsal of the forecast", description, vec![against, over], facts, gap)
}

/// The points of a fit, up to the limit of a drawing; what was held out is never left out first.
fn drawn(fit: &Fit) -> Vec<&FittedPoint> {
    let of = |held_out: bool| fit.points.iter().filter(move |point| point.held_out == held_out);
    of(true).chain(of(false)).take(RUNS_MOST).collect()
}

/// The series of a panel: what was fitted, and what was held out.
fn series(
    points: &[&FittedPoint],
    place: impl Fn(&FittedPoint) -> Option<[f64; 2]>,
) -> [Series; 2] {
    [(false, "fitted", FITTED), (true, "held out", HELD_OUT)].map(|(held_out, text, style)| {
        let chosen = points.iter().filter(|point| point.held_out == held_out);
        let points = chosen.filter_map(|point| place(point)).collect();
        Series::new(text, style, Mark::Points { points }).legend(text)
    })
}

fn draw_losses(panel: &mut Panel, points: &[&FittedPoint]) {
    let losses = points.iter().flat_map(|point| [point.observation.loss, point.predicted]);
    panel.series.extend(diagonal(losses));
    panel.series.extend(series(points, |point| Some([point.observation.loss, point.predicted])));
}

fn draw_errors(panel: &mut Panel, points: &[&FittedPoint]) {
    let compute = |point: &FittedPoint| point.observation.compute();
    let error = |point: &FittedPoint| 100.0 * point.log_residual.exp_m1();
    let Some([low, high]) = ends(points.iter().filter_map(|point| compute(point))) else { return };
    let held_out = || points.iter().filter(|point| point.held_out);
    if let Some([cut, _]) = ends(held_out().filter_map(|point| compute(point))) {
        let mark = Mark::Region { from: cut / 1.1, to: f64::INFINITY };
        let text = "beyond the cut";
        panel.series.push(Series::new(text, Style::line(Tone::Muted), mark).legend(text));
    }
    panel.series.push(no_error(low * 0.7, high * 1.4));
    panel.series.extend(series(points, |point| Some([compute(point)?, error(point)])));
    let worst = held_out().max_by(|a, b| a.log_residual.abs().total_cmp(&b.log_residual.abs()));
    if let Some((point, at)) = worst.and_then(|point| Some((point, compute(point)?))) {
        panel.note([at, error(point)], percent(error(point)), Tone::Ink);
    }
}
