//! Loss of diffusion models by how much noise the image has: where size and data help.

use sweep_spec::run::RunRole;

use super::runs::{RUNS_MOST, Sizes, facts, figure, loss_axis, size_legend};
use crate::{
    figure::{Axis, Figure, Mark, Panel, Series, Style},
    input::PlotInput,
};

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let sizes = Sizes::of(&input.runs);
    let mut panel = Panel::new(
        Axis::linear("timestep, as a share of all: 0 is the image, 1 is noise", ""),
        loss_axis("validation loss at the end"),
    );
    let measured = input.diffusion.iter().flat_map(|diffusion| &diffusion.runs);
    let runs = input.runs.iter().zip(measured).filter(|(run, _)| run.role != RunRole::Sensitivity);
    let mut drawn = 0;
    for (run, measures) in runs.filter(|(run, _)| run.final_loss().is_some()).take(RUNS_MOST) {
        let bins = measures.noise_bins.len();
        #[expect(clippy::cast_precision_loss, reason = "a few bins")]
        let middle = |bin: usize| (bin as f64 + 0.5) / bins as f64;
        let points: Vec<[f64; 2]> = measures
            .noise_bins
            .iter()
            .enumerate()
            .filter_map(|(bin, loss)| loss.map(|loss| [middle(bin), loss]))
            .filter(|[_, loss]| loss.is_finite() && *loss > 0.0)
            .collect();
        if points.len() < 2 {
            continue;
        }
        drawn += 1;
        let style = sizes.points(run.n);
        let text = size_legend(run.n);
        let line = Style { shape: None, ..style };
        let mark = Mark::Line { points: points.clone() };
        panel.series.push(Series::new(run.label.clone(), line, mark));
        let marks = Series::new(run.label.clone(), style, Mark::Points { points });
        panel.series.push(marks.legend(text));
    }
    let facts = facts(input, drawn);
    let missing = (drawn == 0).then(|| match &input.diffusion {
        None => "These runs are no diffusion models.".to_owned(),
        Some(_) => "No run has been measured by noise level yet.".to_owned(),
    });
    let description = "Noise-prediction loss at the end of each run in five ranges of the \
                       timestep, one line per run."
        .to_owned();
    figure(name, "Loss by noise level", description, vec![panel], facts, missing)
}
