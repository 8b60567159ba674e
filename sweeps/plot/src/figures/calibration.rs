//! Reliability diagram: of the predictions made with a confidence, how many are right; how many
//! there are in every bin; and the expected calibration error over the compute of the runs.

use super::runs::{Sizes, facts, figure, finished, size_legend};
use crate::{
    figure::{Axis, Dash, Figure, Mark, Panel, Series, Style, Tone, Weight},
    input::{CalibrationInput, PlotInput, RunCurve},
    text::short,
};

/// Curves on the diagram: beyond, they hide each other.
const CURVES: usize = 6;

pub(super) fn build(input: &PlotInput, task: u8, name: &str) -> Figure {
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let what = match task {
        0 => "next tokens of held-out text".to_owned(),
        task => input
            .tasks
            .get(usize::from(task) - 1)
            .map_or_else(|| "answers".to_owned(), |task| format!("answers of {}", task.name)),
    };
    let found: Vec<(&RunCurve, &CalibrationInput)> = runs
        .iter()
        .filter_map(|run| {
            let of = |entry: &&CalibrationInput| entry.task == task && entry.run == run.label;
            Some((*run, input.calibrations.iter().find(of)?))
        })
        .collect();
    let missing = found.is_empty().then(|| {
        "No run that is done has bins of confidence; runs of language models get them at their end."
            .to_owned()
    });
    let chosen = largest_by_size(&found);
    let mut facts = facts(input, found.len());
    facts.c_convention = Some("C = 6 N D".to_owned());
    if let Some((run, entry)) = chosen.last() {
        facts.interval = Some("basic bootstrap of the bins, 95 %".to_owned());
        facts.notes.push(sentence(run, entry));
        if chosen.len() < found.len() {
            facts.notes.push(
                "The diagram shows the run with most data of each size; the error, all runs."
                    .to_owned(),
            );
        }
    }
    let description = match chosen.last() {
        Some((run, entry)) => format!("Calibration of {what}. {}", sentence(run, entry)),
        None => format!("Calibration of {what}."),
    };
    let panels = vec![
        reliability(&chosen, &sizes),
        counts(&chosen, &sizes),
        errors(&found, &sizes),
        briers(&found, &sizes),
    ];
    let title = format!("Calibration: {what}");
    Figure { columns: 2, ..figure(name, &title, description, panels, facts, missing) }
}

fn sentence(run: &RunCurve, entry: &CalibrationInput) -> String {
    let found = &entry.calibration;
    let interval = found
        .ece_ci95
        .map_or_else(String::new, |[low, high]| format!(" ({} to {})", short(low), short(high)));
    let chance = found
        .ece_by_chance
        .map_or_else(String::new, |chance| format!(", {} by chance alone", short(chance)));
    let brier =
        entry.brier.map_or_else(String::new, |brier| format!(", Brier score {}", short(brier)));
    format!(
        "Run {} ({}): error {}{interval}{chance}{brier}, {} right at mean confidence {} over {} \
         predictions.",
        run.label,
        size_legend(run.n),
        short(found.ece),
        short(found.accuracy),
        short(found.confidence),
        found.n
    )
}

/// The run with most data of each size, the largest sizes last, few enough to tell apart.
fn largest_by_size<'a>(
    found: &[(&'a RunCurve, &'a CalibrationInput)],
) -> Vec<(&'a RunCurve, &'a CalibrationInput)> {
    let mut chosen: Vec<(&RunCurve, &CalibrationInput)> = Vec::new();
    for &(run, entry) in found {
        match chosen.iter_mut().find(|(other, _)| other.n == run.n) {
            Some(kept) if kept.0.d < run.d => *kept = (run, entry),
            Some(_) => {}
            None => chosen.push((run, entry)),
        }
    }
    chosen.sort_by(|a, b| a.0.n.total_cmp(&b.0.n));
    // Every second one is left out until the rest suffices; the largest stays.
    while chosen.len() > CURVES {
        let last = chosen.len() - 1;
        let mut place = 0;
        chosen.retain(|_| {
            place += 1;
            (last + 1 - place).is_multiple_of(2)
        });
    }
    chosen
}

fn share(label: &str) -> Axis {
    Axis { range: Some([0.0, 1.0]), ..Axis::linear(label, "share") }
}

fn reliability(chosen: &[(&RunCurve, &CalibrationInput)], sizes: &Sizes) -> Panel {
    let mut panel = Panel::new(share("confidence"), share("right")).titled("reliability");
    let style = Style::line(Tone::Muted).dash(Dash::Dashed);
    let mark = Mark::Line { points: vec![[0.0, 0.0], [1.0, 1.0]] };
    let text = "as right as confident";
    panel.series.push(Series::new(text, style, mark).legend(text));
    for (run, entry) in chosen {
        let points: Vec<[f64; 2]> = entry
            .calibration
            .bins
            .iter()
            .filter(|bin| bin.count > 0)
            .filter_map(|bin| Some([bin.confidence?, number(bin.right) / number(bin.count)]))
            .collect();
        let line = Style { shape: None, ..sizes.points(run.n) }.weight(Weight::Faint);
        let label = format!("run {}", run.label);
        panel.series.push(Series::new(label.clone(), line, Mark::Line { points: points.clone() }));
        let marks = Series::new(label, sizes.points(run.n), Mark::Points { points });
        panel.series.push(marks.legend(size_legend(run.n)));
    }
    panel
}

fn counts(chosen: &[(&RunCurve, &CalibrationInput)], sizes: &Sizes) -> Panel {
    let mut panel =
        Panel::new(share("confidence"), Axis::log("predictions in the bin", "")).titled("how many");
    for (run, entry) in chosen {
        let points: Vec<[f64; 2]> = entry
            .calibration
            .bins
            .iter()
            .filter(|bin| bin.count > 0)
            .filter_map(|bin| Some([bin.confidence?, number(bin.count)]))
            .collect();
        let line = Style { shape: None, ..sizes.points(run.n) }.weight(Weight::Faint);
        let label = format!("run {}", run.label);
        panel.series.push(Series::new(label.clone(), line, Mark::Line { points: points.clone() }));
        panel.series.push(Series::new(label, sizes.points(run.n), Mark::Points { points }));
    }
    panel
}

#[expect(clippy::cast_precision_loss, reason = "a number of predictions")]
const fn number(count: u64) -> f64 {
    count as f64
}

fn over_scale(axis: Axis) -> Panel {
    Panel::new(Axis::log("training compute C", "FLOPs"), axis).titled("over scale")
}

/// Calibration and sharpness in one number: 0 for a model that is certain and right.
fn briers(found: &[(&RunCurve, &CalibrationInput)], sizes: &Sizes) -> Panel {
    let mut panel = over_scale(Axis::linear("Brier score", "mean squared difference"));
    draw_runs(&mut panel, found, sizes, |entry| entry.brier);
    panel
}

/// A mark for each run that has the value, over its compute.
fn draw_runs(
    panel: &mut Panel,
    found: &[(&RunCurve, &CalibrationInput)],
    sizes: &Sizes,
    value: impl Fn(&CalibrationInput) -> Option<f64>,
) {
    for (run, entry) in found {
        if let Some(value) = value(entry) {
            let points = vec![[run.compute(), value]];
            let label = format!("run {}", run.label);
            panel.series.push(Series::new(label, sizes.points(run.n), Mark::Points { points }));
        }
    }
}

fn errors(found: &[(&RunCurve, &CalibrationInput)], sizes: &Sizes) -> Panel {
    let mut panel = over_scale(Axis::linear("expected calibration error", "share"));
    let bars: Vec<[f64; 3]> = found
        .iter()
        .filter_map(|(run, entry)| {
            let [low, high] = entry.calibration.ece_ci95?;
            Some([run.compute(), low, high])
        })
        .collect();
    let style = Style::line(Tone::Muted).weight(Weight::Faint);
    panel.series.push(Series::new("95 % interval", style, Mark::Intervals { points: bars }));
    let mut chance: Vec<[f64; 2]> = found
        .iter()
        .filter_map(|(run, entry)| Some([run.compute(), entry.calibration.ece_by_chance?]))
        .collect();
    chance.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let style = Style::line(Tone::Muted).dash(Dash::Dotted);
    let text = "of a calibrated model, by chance";
    panel.series.push(Series::new(text, style, Mark::Line { points: chance }).legend(text));
    draw_runs(&mut panel, found, sizes, |entry| Some(entry.calibration.ece));
    panel
}
