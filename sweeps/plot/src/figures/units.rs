//! The words of a figure for data that are images: D counts images, and the loss is the squared
//! error of the noise per value. The figures are written in the words of language models.

use crate::figure::Figure;

/// Words of language models with those of diffusion models, the longer ones first.
const WORDS: [(&str, &str); 4] = [
    ("nats per token", "squared noise error per value"),
    ("nats/token", "squared noise error/value"),
    ("tokens", "images"),
    ("token", "image"),
];

/// Marks of language models that say nothing of others.
const FOREIGN: &str = "20 images per parameter";

/// An image has many patches, and each costs 2 FLOPs per parameter: 6 N D counts one of them.
const COMPUTE: &str = "C = 6 N D (exact FLOPs are more, by about the patches of an image)";

/// The figure in the words of diffusion models.
pub(super) fn of_images(mut figure: Figure) -> Figure {
    let change = |text: &mut String| {
        for (from, to) in WORDS {
            if text.contains(from) {
                *text = text.replace(from, to);
            }
        }
    };
    change(&mut figure.title);
    change(&mut figure.description);
    figure.missing.iter_mut().for_each(change);
    figure.facts.notes.iter_mut().for_each(change);
    let counted = figure.facts.c_convention.iter_mut().filter(|text| *text == "C = 6 N D");
    counted.for_each(|text| COMPUTE.clone_into(text));
    for panel in &mut figure.panels {
        panel.title.iter_mut().for_each(change);
        for axis in [&mut panel.x, &mut panel.y] {
            change(&mut axis.label);
            axis.unit.iter_mut().for_each(change);
        }
        for series in &mut panel.series {
            change(&mut series.label);
            series.legend.iter_mut().for_each(change);
        }
        let marked = panel.series.len();
        panel.series.retain(|series| series.label != FOREIGN);
        if panel.series.len() < marked {
            panel.notes.retain(|note| note.text != "20");
        }
    }
    figure
}

#[cfg(test)]
mod tests {
    use crate::{
        figures::{FigureKind, tests::example},
        input::{DiffusionInput, PlotInput},
        render::{Paint, svg},
    };

    #[test]
    fn a_figure_of_images_speaks_of_images() {
        for input in [example::sweep(), example::budgets()] {
            let input = PlotInput { diffusion: Some(DiffusionInput::default()), ..input };
            for kind in FigureKind::of(&input) {
                let text = svg::render(&kind.build(&input), Paint::Standalone);
                // The name of a figure is the same for every family.
                let text = text.replace(kind.name(), "");
                assert!(!text.contains("token"), "{kind}: {text}");
            }
        }
    }
}
