//! One task over the runs of a sweep: a metric that is all or nothing above, one that counts small
//! steps below, over compute, size and loss. Whether a jump is in the model or in the metric is
//! seen by comparing the rows (Schaeffer et al. 2023, 2304.15004).
//!
//! Below 1 / items the upper metric sees nothing: that zone is grey. The verdicts were computed
//! from the same scores and stand in the caption.

use super::runs::{Sizes, facts, figure, finished, scatter};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Shape, Style, Tone, Weight},
    input::{PlotInput, RunCurve, TaskInput, TaskScore},
    text::short,
};

/// Where the axis of exact match begins: below 0, so that the zone it cannot see has a height even
/// where 1 / items is thinner than a line.
const FLOOR: f64 = -0.04;

/// A metric of a score.
type Value = fn(&TaskScore) -> f64;

/// What a column is drawn over.
#[derive(Clone, Copy)]
enum Over {
    Compute,
    Size,
    Loss,
}

impl Over {
    const ALL: [Self; 3] = [Self::Compute, Self::Size, Self::Loss];

    fn axis(self) -> Axis {
        match self {
            Self::Compute => Axis::log("training compute C", "FLOPs"),
            Self::Size => Axis::log("model size N", "parameters"),
            Self::Loss => Axis::log("validation loss", "nats/token"),
        }
    }

    fn of(self, run: &RunCurve) -> Option<f64> {
        match self {
            Self::Compute => Some(run.compute()),
            Self::Size => Some(run.n),
            Self::Loss => run.final_loss(),
        }
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
    for over in Over::ALL {
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
        for over in Over::ALL {
            let mut panel = Panel::new(over.axis(), axis.clone()).titled(title);
            panel.series.extend(scatter(&scored, &sizes, place(task, over, value)));
            panels.push(panel);
        }
    }
    let mut facts = facts(input, scored.len());
    facts.c_convention = Some("C = 6 N D".to_owned());
    facts.interval = Some("Wilson 95 % over items".to_owned());
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
    let panel = Panel::new(Over::Compute.axis(), Axis::linear("exact match", "share of items"));
    let description = missing.clone();
    figure(name, "Task", description, vec![panel], facts(input, 0), Some(missing))
}

#[expect(clippy::cast_precision_loss, reason = "a number of items")]
const fn count(items: u64) -> f64 {
    items as f64
}

/// Exact match with its intervals, the zone it cannot see, the chance level, and what the accuracy
/// per token implies.
fn sharp(task: &TaskInput, over: Over, runs: &[&RunCurve], sizes: &Sizes) -> Panel {
    let mut axis = Axis::linear("exact match", "share of items");
    axis.range = Some([FLOOR, 1.0]);
    let mut panel = Panel::new(over.axis(), axis).titled("all or nothing");
    let xs: Vec<f64> = runs.iter().filter_map(|run| over.of(run)).collect();
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
            Some([over.of(run)?, score.token_accuracy.powf(score.answer_tokens)])
        })
        .collect();
    let style = Style::points(Tone::Reference, Shape::Ring).weight(Weight::Faint);
    let text = "(token accuracy)^(tokens of an answer)";
    panel.series.push(Series::new(text, style, Mark::Points { points: implied }).legend(text));
    let bars: Vec<[f64; 3]> = runs
        .iter()
        .filter_map(|run| {
            let [low, high] = task.of(run)?.exact_ci95;
            Some([over.of(run)?, low, high])
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
    move |run| Some([over.of(run)?, value(task.of(run)?)])
}
