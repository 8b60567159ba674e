//! Samples of diffusion models: a grid of sizes and data from the same noise, and the way of one
//! sample from noise to image.

use sweep_spec::{run::RunRole, units::si};

use super::runs::{facts, figure};
use crate::{
    figure::{Figure, Picture, PictureCell, PictureGrid},
    input::{PlotInput, RunCurve, SampleSheet},
};

/// Columns that a page has room for.
const COLUMNS_MOST: usize = 8;

/// Samples side by side in a cell; the rest stands below.
const ACROSS: usize = 4;

/// Runs that left samples, each with them.
fn sampled(input: &PlotInput) -> Vec<(&RunCurve, &SampleSheet)> {
    let sheets = input.diffusion.iter().flat_map(|diffusion| &diffusion.runs);
    input
        .runs
        .iter()
        .zip(sheets)
        .filter_map(|(run, measures)| Some((run, measures.samples.as_ref()?)))
        .filter(|(run, _)| run.final_loss().is_some() && run.role != RunRole::Sensitivity)
        .collect()
}

fn missing(input: &PlotInput, runs: &[(&RunCurve, &SampleSheet)]) -> Option<String> {
    runs.is_empty().then(|| match &input.diffusion {
        None => "These runs are no diffusion models.".to_owned(),
        Some(_) => "No finished run left samples here: they lie beside the checkpoints, on the \
                    machine that trained it."
            .to_owned(),
    })
}

/// Rows of sizes, columns of data sizes or of budgets, the same noise in every cell.
pub(super) fn grid(input: &PlotInput, name: &str) -> Figure {
    let runs = sampled(input);
    let by_budget = runs.iter().any(|(run, _)| run.budget.is_some());
    // A check stands on no budget: it has a column of its own.
    let column = |run: &RunCurve| if by_budget { run.budget.unwrap_or(run.flops) } else { run.d };
    let (sizes, mut columns) = (
        distinct(runs.iter().map(|(run, _)| run.n)),
        distinct(runs.iter().map(|(run, _)| column(run))),
    );
    let hidden = columns.len().saturating_sub(COLUMNS_MOST);
    // The largest say most.
    columns.drain(..hidden);
    let mut cells = Vec::new();
    for &n in &sizes {
        for &at in &columns {
            let found = runs.iter().find(|(run, _)| run.n == n && column(run) == at);
            cells.push(found.map(|(run, sheet)| cell(run, sheet)));
        }
    }
    let drawn = cells.iter().flatten().count();
    let unit = if by_budget { " FLOPs" } else { " images" };
    let header = |value: &f64| format!("{}{unit}", si(*value));
    let mut facts = facts(input, drawn);
    facts.runs_hidden = runs.len() - drawn;
    facts.notes.push(
        "Every cell starts from the same noise: equal places are comparable. Samples are drawn \
         from the moving average of the weights and are not chosen."
            .to_owned(),
    );
    facts.notes.extend(runs.first().map(|(_, sheet)| format!("Sampler: {}.", sheet.sampler)));
    let description = format!(
        "Samples of {drawn} models: rows from {} parameters down to more, columns from less to \
         more {}.",
        sizes.first().map_or_else(|| "none".to_owned(), |n| si(*n)),
        if by_budget { "compute" } else { "images seen" }
    );
    let pictures = PictureGrid {
        rows: sizes.iter().map(|n| format!("N = {}", si(*n))).collect(),
        columns: columns.iter().map(header).collect(),
        cells,
    };
    let missing = missing(input, &runs);
    let title = "Samples by model size and training";
    Figure {
        pictures: missing.is_none().then_some(pictures),
        ..figure(name, title, description, Vec::new(), facts, missing)
    }
}

fn cell(run: &RunCurve, sheet: &SampleSheet) -> PictureCell {
    let loss = run.final_loss().map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
    PictureCell {
        caption: format!("D = {}{loss}", si(run.d)),
        across: ACROSS,
        pictures: sheet.images.iter().map(|pixels| picture(sheet, pixels)).collect(),
    }
}

fn picture(sheet: &SampleSheet, pixels: &[u8]) -> Picture {
    Picture { side: sheet.side, channels: sheet.channels, pixels: pixels.to_vec() }
}

/// The way of the first sample of the best run.
pub(super) fn path(input: &PlotInput, name: &str) -> Figure {
    let runs = sampled(input);
    let best = runs.iter().min_by(|(a, _), (b, _)| {
        let loss = |run: &RunCurve| run.final_loss().unwrap_or(f64::INFINITY);
        loss(a).total_cmp(&loss(b))
    });
    let mut facts = facts(input, usize::from(best.is_some()));
    facts.runs_hidden = runs.len().saturating_sub(1);
    let mut pictures = None;
    if let Some((run, sheet)) = best {
        facts.notes.push(format!(
            "The first sample of run {} (N = {}, D = {}), which has the least loss. Sampler: {}. \
             States are shown as they are, values beyond black and white cut off.",
            run.label,
            si(run.n),
            si(run.d),
            sheet.sampler
        ));
        let state = |(_, pixels): &(usize, Vec<u8>)| {
            let pictures = vec![picture(sheet, pixels)];
            Some(PictureCell { caption: String::new(), across: 1, pictures })
        };
        pictures = Some(PictureGrid {
            rows: vec![String::new()],
            columns: sheet.path.iter().map(|(t, _)| format!("t = {t}")).collect(),
            cells: sheet.path.iter().map(state).collect(),
        });
    }
    let description = "The states of one sample from pure noise on the left to the image on the \
                       right."
        .to_owned();
    let missing = missing(input, &runs);
    let title = "From noise to image";
    Figure { pictures, ..figure(name, title, description, Vec::new(), facts, missing) }
}

/// Distinct values, rising.
fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}
