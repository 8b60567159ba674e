//! Loss of every run while it was trained, over steps, tokens, FLOPs or seconds. Where neighbouring
//! points of a few runs were gathered, a faint band goes from their least to their largest. Failed and diverged
//! runs are marked where they ended, not dropped.

use sweep_spec::run::RunRole;

use super::{
    CurveAxis,
    runs::{
        CHECK_LEGEND, RUNS_MOST, Sizes, Thin, at_own_rate, ends, facts, figure, loss_axis,
        size_legend, thinned,
    },
};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{CurvePoint, PlotInput, RunCurve, RunState},
};

/// Bands of more runs than this cover each other.
const BANDED_RUNS_MOST: usize = 20;

/// How the series of a run beside its strong line are called.
const TRAINING: &str = "training loss";
const SPREAD: &str = "least and largest of neighbours";

pub(super) fn build(input: &PlotInput, axis: CurveAxis, name: &str) -> Figure {
    let (x_axis, x): (Axis, fn(&CurvePoint) -> Option<f64>) = match axis {
        CurveAxis::Steps => (Axis::log("optimiser steps", ""), |p| Some(p.step)),
        CurveAxis::Tokens => (Axis::log("training tokens seen", "tokens"), |p| Some(p.tokens)),
        CurveAxis::Flops => (Axis::log("training compute, exact", "FLOPs"), |p| Some(p.flops)),
        CurveAxis::Seconds => (Axis::log("training time", "seconds"), |p| p.seconds),
    };
    let sizes = Sizes::of(&input.runs);
    let mut panel = Panel::new(x_axis, loss_axis("loss"));
    let (mut drawn, mut points, mut thinned_out) = (0, 0, 0);
    let with_curves = at_own_rate(input).filter(|run| !curve_of(run).is_empty());
    let count = with_curves.clone().count();
    for run in with_curves.clone().take(RUNS_MOST) {
        let before = panel.series.len();
        draw_run(&mut panel, run, &sizes, |curve| {
            let Thin { line, band } = thinned(curve, count, x);
            let band = if count <= BANDED_RUNS_MOST { band } else { Vec::new() };
            Thin { line, band }
        });
        if panel.series.len() > before {
            drawn += 1;
            let behind = run.train.iter().chain(&run.validation);
            points += behind.map(|point| u64::from(point.points)).sum::<u64>();
            thinned_out += run.thinned;
        }
    }
    draw_entropy(&mut panel, input.entropy);
    let mut facts = facts(input, drawn);
    facts.runs_hidden = count - drawn;
    facts.notes.extend(notes(&panel, points, thinned_out));
    let missing = (drawn == 0).then(|| {
        let failed = at_own_rate(input).filter(|run| run.failed()).count();
        let all = at_own_rate(input).count();
        format!("No run has a curve yet: {all} runs, {failed} of them failed.")
    });
    let description = format!(
        "Loss of {drawn} runs against {}, both axes logarithmic, one colour and mark for each \
         model size.",
        panel.x.label
    );
    figure(name, "Loss curves", description, vec![panel], facts, missing)
}

/// What the lines are, and how many points stand behind them.
fn notes(panel: &Panel, points: u64, thinned_out: u64) -> Vec<String> {
    let has = |label: &str| panel.series.iter().any(|series| series.label.ends_with(label));
    let mut text = String::new();
    if has(TRAINING) {
        text.push_str("Strong lines: validation loss; faint lines: training loss. ");
    }
    if has(SPREAD) {
        text.push_str(
            "Neighbouring points are gathered: a line goes through the last of them, a band from \
             their least to their largest. ",
        );
    }
    text.push_str("The mark at the end of a line gives its size.");
    let mut notes = vec![text];
    if points > 0 {
        notes.push(format!("Points behind the lines: {points}."));
    }
    if thinned_out > 0 {
        notes.push(format!(
            "Points that a full spool left out before: {thinned_out}, of training only."
        ));
    }
    notes
}

/// Validation where there is enough of it for a line, else training.
fn curve_of(run: &RunCurve) -> &[CurvePoint] {
    if run.validation.len() > 1 { &run.validation } else { &run.train }
}

fn draw_run(
    panel: &mut Panel,
    run: &RunCurve,
    sizes: &Sizes,
    thin: impl Fn(&[CurvePoint]) -> Thin,
) {
    let check = run.role == RunRole::Check;
    let tone = if check { Tone::Ink } else { sizes.tone(run.n) };
    let Thin { line: main, band } = thin(curve_of(run));
    let Some(&end) = main.last() else { return };
    draw_band(panel, run, tone, band);
    if run.validation.len() > 1 && !run.train.is_empty() {
        let Thin { line, band } = thin(&run.train);
        draw_band(panel, run, tone, band);
        let style = Style::line(tone).weight(Weight::Faint);
        let label = format!("{}: {TRAINING}", run.label);
        panel.series.push(Series::new(label, style, Mark::Line { points: line }));
    }
    let shape = if check { Shape::Star } else { sizes.shape(run.n) };
    let style = match run.state {
        RunState::Done | RunState::Suspect => Style::line(tone).ending(shape),
        _ => Style::line(tone),
    };
    let legend = if check { CHECK_LEGEND.to_owned() } else { size_legend(run.n) };
    panel
        .series
        .push(Series::new(run.label.clone(), style, Mark::Line { points: main }).legend(legend));
    if run.failed() {
        let word = if run.state == RunState::Diverged { "diverged" } else { "failed" };
        let label = match &run.reason {
            Some(reason) => format!("{}: {word}, {reason}", run.label),
            None => format!("{}: {word}", run.label),
        };
        let style = Style::points(Tone::Ink, Shape::Cross).weight(Weight::Bold);
        let mark = Mark::Points { points: vec![end] };
        panel.series.push(Series::new(label, style, mark).legend("failed or diverged"));
        panel.note(end, word, Tone::Ink);
    }
}

fn draw_band(panel: &mut Panel, run: &RunCurve, tone: Tone, points: Vec<[f64; 3]>) {
    if points.len() > 1 {
        let style = Style::line(tone).weight(Weight::Faint);
        let label = format!("{}: {SPREAD}", run.label);
        panel.series.push(Series::new(label, style, Mark::Band { points }));
    }
}

/// The entropy of the data is the least loss that any model can have.
fn draw_entropy(panel: &mut Panel, entropy: Option<f64>) {
    let all = panel.series.iter().flat_map(|series| series.mark.extent());
    if let (Some(entropy), Some([low, high])) = (entropy, ends(all.map(|p| p[0]))) {
        let style = Style::line(Tone::Reference).dash(Dash::Dotted);
        let mark = Mark::Line { points: vec![[low, entropy], [high, entropy]] };
        panel
            .series
            .push(Series::new("entropy of the data", style, mark).legend("entropy of the data"));
    }
}
