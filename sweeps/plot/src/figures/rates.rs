//! How much the learning rate matters: final loss against the peak rate, one line for each size and
//! data size that was trained at several.

use sweep_spec::units::si;

use super::runs::{Sizes, facts, figure, finished, loss_axis, size_legend};
use crate::{
    figure::{Axis, Figure, Mark, Panel, Series, Style, Weight},
    input::{PlotInput, RunCurve},
};

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let runs = finished(input);
    let groups = groups(&runs);
    let sizes = Sizes::of(&input.runs);
    let mut panel =
        Panel::new(Axis::log("peak learning rate at the base width", ""), loss_axis("loss"));
    for group in &groups {
        let points: Vec<[f64; 2]> =
            group.iter().filter_map(|run| Some([run.learning_rate, run.final_loss()?])).collect();
        let (n, d) = (group[0].n, group[0].d);
        let style = sizes.points(n);
        let line = Style { shape: None, ..style }.weight(Weight::Faint);
        let label = format!("{}, D = {}", size_legend(n), si(d));
        panel.series.push(Series::new(label.clone(), line, Mark::Line { points: points.clone() }));
        if let Some(best) = points.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1])) {
            let text = format!("D = {}: best {:.3e}", si(d), best[0]);
            panel.note(best, text, style.tone);
        }
        let marks = Series::new(label, style, Mark::Points { points });
        panel.series.push(marks.legend(size_legend(n)));
    }
    let drawn = groups.iter().map(Vec::len).sum();
    let facts = facts(input, drawn);
    let missing = groups
        .is_empty()
        .then(|| "No two finished runs of one N and D differ in their learning rate.".to_owned());
    let description = format!(
        "Final loss against the peak learning rate for {} pairs of N and D, both axes logarithmic.",
        groups.len()
    );
    figure(name, "Learning-rate sensitivity", description, vec![panel], facts, missing)
}

/// Runs of one N and D with several rates among them, each group in the order of rates.
fn groups<'a>(runs: &[&'a RunCurve]) -> Vec<Vec<&'a RunCurve>> {
    let mut sorted: Vec<&RunCurve> = runs.to_vec();
    let key = |run: &RunCurve| [run.n, run.d, run.learning_rate];
    sorted.sort_by(|a, b| {
        let pairs = key(a).into_iter().zip(key(b));
        pairs
            .map(|(a, b)| a.total_cmp(&b))
            .find(|order| order.is_ne())
            .unwrap_or(a.seed.cmp(&b.seed))
    });
    sorted
        .chunk_by(|a, b| a.n == b.n && a.d == b.d)
        .filter(|group| group.iter().any(|run| run.learning_rate != group[0].learning_rate))
        .map(<[&RunCurve]>::to_vec)
        .collect()
}
