//! What the law leaves over, against N, D and C: structure in any of them shows a wrong form.

use super::runs::{Sizes, ends, figure, finished, law_facts, missing, no_error, scatter};
use crate::{
    figure::{Axis, Figure, Panel},
    input::{PlotInput, RunCurve},
    text::{error_percent, held_out_text},
};

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    type Place = fn(&RunCurve) -> f64;
    let axes: [(&str, Axis, Place); 3] = [
        ("against N", Axis::log("parameters N", ""), |run| run.n),
        ("against D", Axis::log("tokens D", ""), |run| run.d),
        ("against C", Axis::log("compute C", "FLOPs"), RunCurve::compute),
    ];
    let sizes = Sizes::of(&input.runs);
    let runs = finished(input);
    let missing = missing(input, true);
    let mut panels = Vec::new();
    for (title, axis, place) in axes {
        let mut panel = Panel::new(axis, Axis::linear("error", "%")).titled(title);
        if let Some(fit) = input.fit.as_ref().filter(|_| missing.is_none()) {
            if let Some([low, high]) = ends(runs.iter().map(|run| place(run))) {
                panel.series.push(no_error(low * 0.8, high * 1.25));
            }
            panel
                .series
                .extend(scatter(&runs, &sizes, |run| Some([place(run), error_percent(fit, run)?])));
        }
        panels.push(panel);
    }
    let mut facts = law_facts(input, runs.len());
    facts.notes.push("Error: predicted / measured \u{2212} 1.".to_owned());
    facts.notes.extend(input.rehearsal.as_ref().and_then(held_out_text));
    let description = format!(
        "Relative error of the law for {} runs against N, D and C, three panels.",
        runs.len()
    );
    figure(name, "Errors of the law", description, panels, facts, missing)
}
