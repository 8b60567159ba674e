//! One task over the runs of a sweep: a metric that is all or nothing above, one that counts small
//! steps below, over compute, size and loss. Whether a jump is in the model or in the metric is
//! seen by comparing the rows (Schaeffer et al. 2023, 2304.15004).
//!
//! Below 1 / items the upper metric sees nothing: that zone is grey. Where a metric bends at a place
//! that the scores locate, that place is a line in the band of its interval. The verdicts were
//! computed from the same scores and stand in the caption.

use sweep_fit::emergence::{Axis as Over, Bend};

use super::runs::{Sizes, ends, facts, figure, finished, scatter};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{BendOf, PlotInput, RunCurve, TaskInput, TaskScore},
    text::short,
};

/// Where the axis of exact match begins: below 0, so that the zone it cannot see has a height even
/// where 1 / items is thinner than a line.
const FLOOR: f64 = -0.04;

/// A metric of a score.
type Value = fn(&TaskScore) -> f64;

/// What the columns are drawn over.
const COLUMNS: [Over; 3] = [Over::Compute, Over::Parameters, Over::Loss];

fn axis_of(over: Over) -> Axis {
    match over {
        Over::Compute => Axis::log("training compute C", "FLOPs"),
        Over::Parameters => Axis::log("model size N", "parameters"),
        Over::Tokens => Axis::log("tokens D", "tokens"),
        Over::Loss => Axis::log("validation loss", "nats/token"),
    }
}

fn place_of(over: Over, run: &RunCurve) -> Option<f64> {
    match over {
        Over::Compute => Some(run.compute()),
        Over::Parameters => Some(run.n),
        Over::Tokens => Some(run.d),
        Over::Loss => run.final_loss(),
    }
}

pub(super) fn build(input: &PlotInput, task: u8, name: &str) -> Figure {
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let Some(task) = input.tasks.get(usize::from(task).saturating_sub(1)) else {
        let missing = "The recipe has no such task; `[[task]]` adds one.".to_owned();
        return empty(input, name, missing);
    };
    let scored: Vec<&RunCurve> =
        runs.iter().filter(|run| task.of(run).is_some()).copied().collect();
    if scored.is_empty() {
        let missing = format!("No run that is done was scored on `{}`.", task.name);
        return empty(input, name, missing);
    }
    let mut panels = Vec::new();
    for over in COLUMNS {
        panels.push(sharp(task, over, &scored, &sizes));
    }
    let nats = Axis::linear("\u{2212}ln p of the right answer", "nats/answer");
    let edits = Axis {
        range: Some([0.0, 1.0]),
        ..Axis::linear("edit distance", "share of the longer text")
    };
    let graded: [(Axis, &str, Value); 2] = [
        (nats, "small steps count", |score| score.answer_nats),
        (edits, "and partly right counts", |score| score.edit_distance),
    ];
    for (axis, title, value) in graded {
        for over in COLUMNS {
            let mut panel = Panel::new(axis_of(over), axis.clone()).titled(title);
            panel.series.extend(scatter(&scored, &sizes, place(task, over, value)));
            panels.push(panel);
        }
    }
    let (exact, graded) = panels.split_at_mut(COLUMNS.len());
    for (of, row) in [(BendOf::ExactMatch, exact), (BendOf::AnswerNats, graded)] {
        for (over, panel) in COLUMNS.into_iter().zip(row) {
            let found = task.bends.iter().find(|entry| entry.of == of && entry.axis == over);
            if let Some(entry) = found {
                draw_bend(panel, entry.bend);
            }
        }
    }
    let mut facts = facts(input, scored.len());
    facts.c_convention = Some("C = 6 N D".to_owned());
    let mut interval = "Wilson 95 % over items".to_owned();
    if !task.bends.is_empty() {
        interval.push_str(", of a bend the 95 % profile of its place in a broken curve");
    }
    facts.interval = Some(interval);
    let items = scored.iter().filter_map(|run| Some(task.of(run)?.items)).min().unwrap_or(0);
    facts.notes.push(format!(
        "{items} held-out items; exact match cannot see a rate below 1/{items} = {}.",
        short(1.0 / count(items))
    ));
    facts.notes.extend(task.verdicts.iter().cloned());
    let title = format!("Task: {}", task.name);
    let description = format!(
        "Exact match of {} above, nats per answer and edit distance below, over compute, size and \
         loss. {}",
        task.name,
        task.verdicts.join(" ")
    );
    Figure { columns: 3, ..figure(name, &title, description, panels, facts, None) }
}

fn empty(input: &PlotInput, name: &str, missing: String) -> Figure {
    let panel = Panel::new(axis_of(Over::Compute), Axis::linear("exact match", "share of items"));
    let description = missing.clone();
    figure(name, "Task", description, vec![panel], facts(input, 0), Some(missing))
}

#[expect(clippy::cast_precision_loss, reason = "a number of items")]
const fn count(items: u64) -> f64 {
    items as f64
}

/// The place of a bend over the height of a panel, in the band of its interval.
fn draw_bend(panel: &mut Panel, Bend { x, ci95: [left, right] }: Bend) {
    let marks = panel.series.iter().flat_map(|series| series.mark.extent());
    let Some([low, high]) = panel.y.range.or_else(|| ends(marks.map(|place| place[1]))) else {
        return;
    };
    let band = Mark::Band { points: [left, right].map(|end| [end, low, high]).to_vec() };
    let text = "95 % interval of the bend";
    panel.series.push(Series::new(text, Style::line(Tone::Law), band).legend(text));
    let style = Style::line(Tone::Law).dash(Dash::Dashed);
    let line = Mark::Line { points: vec![[x, low], [x, high]] };
    panel.series.push(Series::new("bend", style, line).legend("bend"));
    panel.note([x, high], format!("bend at {}", short(x)), Tone::Law);
}

/// Exact match with its intervals, the zone it cannot see, the chance level, and what the accuracy
/// per token implies.
fn sharp(task: &TaskInput, over: Over, runs: &[&RunCurve], sizes: &Sizes) -> Panel {
    let mut axis = Axis::linear("exact match", "share of items");
    axis.range = Some([FLOOR, 1.0]);
    let mut panel = Panel::new(axis_of(over), axis).titled("all or nothing");
    let xs: Vec<f64> = runs.iter().filter_map(|run| place_of(over, run)).collect();
    let (low, high) =
        xs.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
    let ends = [low * 0.9, high * 1.1];
    if let Some(items) = runs.iter().filter_map(|run| Some(task.of(run)?.items)).min() {
        let points = ends.map(|x| [x, FLOOR, 1.0 / count(items)]).to_vec();
        let style = Style::line(Tone::Muted);
        let band = Series::new("below 1 / items", style, Mark::Band { points });
        panel.series.push(band.legend("below 1 / items: not seen"));
    }
    if let Some(chance) = task.chance {
        let points = ends.map(|x| [x, chance]).to_vec();
        let style = Style::line(Tone::Muted).dash(Dash::Dashed);
        let line = Series::new("chance", style, Mark::Line { points });
        panel.series.push(line.legend(format!("chance {}", short(chance))));
    }
    let implied: Vec<[f64; 2]> = runs
        .iter()
        .filter_map(|run| {
            let score = task.of(run)?;
            Some([place_of(over, run)?, score.token_accuracy.powf(score.answer_tokens)])
        })
        .collect();
    let style = Style::points(Tone::Reference, Shape::Ring).weight(Weight::Faint);
    let text = "(token accuracy)^(tokens of an answer)";
    panel.series.push(Series::new(text, style, Mark::Points { points: implied }).legend(text));
    let bars: Vec<[f64; 3]> = runs
        .iter()
        .filter_map(|run| {
            let [low, high] = task.of(run)?.exact_ci95;
            Some([place_of(over, run)?, low, high])
        })
        .collect();
    let style = Style::line(Tone::Muted).weight(Weight::Faint);
    panel.series.push(Series::new("95 % of items", style, Mark::Intervals { points: bars }));
    panel.series.extend(scatter(runs, sizes, place(task, over, |score| score.exact_match)));
    panel
}

fn place(
    task: &TaskInput,
    over: Over,
    value: impl Fn(&TaskScore) -> f64,
) -> impl Fn(&RunCurve) -> Option<[f64; 2]> {
    move |run| Some([place_of(over, run)?, value(task.of(run)?)])
}
