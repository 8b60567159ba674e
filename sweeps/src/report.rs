//! The report: one HTML file that tells a sweep and opens offline. Everything is in it: figures as
//! inline SVG, numbers as tables and as JSON, the recipe, and the command that repeats it.
//!
//! It computes nothing and reads no file and no clock; [`ReportInput`] holds all it says.

mod law;

use std::fmt::Write as _;

use askama::Template;
use serde::Serialize;
use sweep_fit::{Fit, Forecast};
use sweep_plot::{
    figure::Figure,
    figures::FigureKind,
    input::{PlotInput, RunCurve, RunState, TaskInput},
    rates,
    render::{Paint, json, page_css, svg},
    text,
};
use sweep_spec::{run::RunRole, units::si};

use self::law::LawTable;
use crate::{
    analysis::checklist::Item,
    texts::{self, SampleText},
};

/// Version of the JSON inside the page.
const SCHEMA: &str = "sweep.report/1";

/// Figures that stand before the loss curves: what a reader came for.
const LEADING: usize = 2;

/// Everything that a report says.
#[derive(Clone, Debug)]
pub(crate) struct ReportInput {
    /// The name of the sweep.
    pub(crate) sweep: String,
    /// The recipe as it was handed in.
    pub(crate) recipe: String,
    /// The command that repeats the sweep, ready to paste.
    pub(crate) command: String,
    /// When the report was written, for display.
    pub(crate) written: String,
    /// Runs, curves and fits.
    pub(crate) plot: PlotInput,
    /// Why there is no fit, where it was refused.
    pub(crate) fit_refused: Option<String>,
    /// What is known of each run beside its curve, in the order of `plot.runs`.
    pub(crate) runs: Vec<ReportRun>,
    /// Planned and spent.
    pub(crate) cost: ReportCost,
    /// The devices that trained, with their backend and whatever else is to be said of them.
    pub(crate) devices: Vec<ReportDevice>,
    /// Measures of diffusion runs as a table: heads, then a row for each run; empty for others.
    pub(crate) measures: Vec<Vec<String>>,
    /// What the loss is in.
    pub(crate) loss_unit: &'static str,
    /// What D counts and what the loss is in, for the key of the run table.
    pub(crate) units: &'static str,
    /// Facts in order: versions, data, tokenizer, held-out set, training revision.
    pub(crate) facts: Vec<(String, String)>,
    /// Texts that models of different size wrote.
    pub(crate) texts: Vec<SampleText>,
    /// What a report of a fit must state; empty without a fit.
    pub(crate) checklist: Vec<Item>,
}

/// A run beside its curve.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReportRun {
    /// Its full id.
    pub(crate) id: String,
    /// Parameters, all of them.
    pub(crate) parameters_total: u64,
    /// Parameters without embedding and head.
    pub(crate) parameters_non_embedding: u64,
    /// Optimiser steps.
    pub(crate) steps: u64,
    /// Validation loss in bits per byte, where tokens are text.
    pub(crate) bits_per_byte: Option<f64>,
    /// Measured seconds of training.
    pub(crate) seconds: Option<f64>,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// The device of the last attempt.
    pub(crate) device: Option<String>,
    /// Largest memory of its trainer.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// Planned and spent; absent is not known.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ReportCost {
    /// Predicted device-seconds of all runs, from before they were trained.
    pub(crate) planned_seconds: Option<f64>,
    /// Measured device-seconds of all attempts.
    pub(crate) spent_seconds: Option<f64>,
    /// Exact FLOPs of all runs.
    pub(crate) planned_flops: Option<f64>,
    /// Exact FLOPs of the runs that are done.
    pub(crate) done_flops: Option<f64>,
    /// Wall seconds from the first submission to the end of the last attempt.
    pub(crate) wall_seconds: Option<f64>,
}

/// A device that trained.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReportDevice {
    /// Its name.
    pub(crate) name: String,
    /// Backend of the trainer.
    pub(crate) backend: String,
    /// Result of its canary.
    pub(crate) canary: String,
    /// Runs whose last attempt it trained.
    pub(crate) runs: usize,
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// Facts of runs and their curves differ in number.
    #[error("{runs} facts of runs beside {curves} curves; hint: fill both from the same list")]
    RunsDiffer {
        /// Facts.
        runs: usize,
        /// Curves.
        curves: usize,
    },
    /// The template could not be filled.
    #[error("report.html cannot be filled: {0}")]
    Template(#[from] askama::Error),
    /// The embedded data could not be written.
    #[error("the data of the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes the report as one HTML page, with the figures of its input.
///
/// # Errors
/// [`ReportError`]; an input whose lists agree gives no cause for one.
pub(crate) fn render(
    input: &ReportInput,
    figures: &[(FigureKind, Figure)],
) -> Result<String, ReportError> {
    let (runs, curves) = (input.runs.len(), input.plot.runs.len());
    if runs != curves {
        return Err(ReportError::RunsDiffer { runs, curves });
    }
    let data = embedded(input, figures)?;
    let optima = input.plot.fit.as_ref().map_or_else(Vec::new, law::optima);
    let mut drawn = Figures::of(figures);
    let mut leading = std::mem::take(&mut drawn.others);
    let figures = leading.split_off(LEADING.min(leading.len()));
    let page = Page {
        title: &input.sweep,
        summary: summary(&input.plot, input.fit_refused.as_deref(), &optima),
        css: page_css(),
        written: &input.written,
        cost: cost_rows(&input.cost),
        law: input.plot.fit.as_ref().map(LawTable::of),
        interval: input.plot.interval.as_deref().unwrap_or("none"),
        n_convention: &input.plot.n_convention,
        optima,
        budgets: input.plot.isoflop.as_ref().map_or_else(Vec::new, law::budgets),
        forecasts: law::forecasts(&input.plot),
        curves: drawn.curves,
        leading,
        figures,
        left_out: drawn.left_out,
        runs: run_rows(input),
        measures: &input.measures,
        loss_unit: input.loss_unit,
        units: input.units,
        failed: failed(&input.plot),
        devices: &input.devices,
        seeds: seeds(&input.plot),
        facts: &input.facts,
        texts: &input.texts,
        texts_how: texts::how(),
        checklist: &input.checklist,
        recipe: &input.recipe,
        command: &input.command,
        data,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: &'a str,
    summary: Vec<String>,
    css: String,
    written: &'a str,
    cost: Vec<[String; 3]>,
    law: Option<LawTable>,
    interval: &'a str,
    n_convention: &'a str,
    optima: Vec<[String; 5]>,
    budgets: Vec<[String; 5]>,
    forecasts: Vec<[String; 6]>,
    curves: Vec<Drawn>,
    leading: Vec<Drawn>,
    figures: Vec<Drawn>,
    /// Figures without data: name and what is missing.
    left_out: Vec<[String; 2]>,
    runs: Vec<Vec<Cell>>,
    measures: &'a [Vec<String>],
    loss_unit: &'a str,
    units: &'a str,
    failed: Vec<[String; 3]>,
    devices: &'a [ReportDevice],
    seeds: String,
    facts: &'a [(String, String)],
    texts: &'a [SampleText],
    texts_how: String,
    checklist: &'a [Item],
    recipe: &'a str,
    command: &'a str,
    /// JSON in which no `<` stands.
    data: String,
}

/// A figure as SVG, which escapes its own text.
struct Drawn {
    name: String,
    short: String,
    svg: String,
}

/// A cell with the value that it is sorted by.
struct Cell {
    text: String,
    key: String,
}

/// The sweep in a few sentences: what was trained, the law, the forecast and what came of it.
fn summary(plot: &PlotInput, refused: Option<&str>, optima: &[[String; 5]]) -> Vec<String> {
    let done = plot.runs.iter().filter(|run| run.final_loss().is_some()).count();
    let failed = plot.runs.iter().filter(|run| run.failed()).count();
    let mut sentences =
        vec![format!("{done} of {} runs are done, {failed} failed or diverged.", plot.runs.len())];
    match (&plot.fit, refused) {
        (Some(fit), _) => {
            let spread = text::rms_percent(fit, &plot.runs.iter().collect::<Vec<_>>());
            let spread = spread.map_or_else(String::new, |rms| format!(", errors {rms:.2} % rms"));
            sentences.push(format!("Law: {}{spread}.", text::law_text(fit)));
            let checks = plot.runs.iter().filter(|run| run.role == RunRole::Check);
            sentences.extend(checks.filter_map(|run| check_sentence(plot, fit, run)));
            sentences.extend(optima.iter().map(|[c, n, d, _, loss]| {
                format!(
                    "A budget of {c} FLOPs is best spent on N* = {n} and D* = {d}, at loss {loss}."
                )
            }));
        }
        (None, Some(reason)) => sentences.push(format!("No law was fitted: {reason}.")),
        (None, None) => sentences.push("No law was fitted.".to_owned()),
    }
    sentences.extend(rates::summary(&rates::places(&plot.runs)));
    let verdict = |task: &TaskInput| {
        let told = task.headline.as_ref().or_else(|| task.verdicts.first())?;
        Some(format!("{}: {told}", task.name))
    };
    sentences.extend(plot.tasks.iter().filter_map(verdict));
    if let Some(entropy) = plot.entropy {
        let floor = plot.fit.as_ref().and_then(|fit| fit.param("E"));
        let floor = floor.map_or_else(String::new, |floor| {
            if floor <= 0.0 {
                return " The law found no floor: its E is 0.".to_owned();
            }
            let error = text::percent(100.0 * (floor / entropy - 1.0));
            format!(" The law's floor E is {}, {error} off.", text::short(floor))
        });
        sentences.push(format!(
            "The entropy of the data is {} nats/token.{floor}",
            text::short(entropy)
        ));
    }
    sentences
}

fn check_sentence(plot: &PlotInput, fit: &Fit, run: &RunCurve) -> Option<String> {
    let sentence = text::forecast_text(fit, run).or_else(|| {
        let forecast = text::short(fit.predict(run.n, run.d)?);
        let state = state_name(run.state);
        Some(format!("Check run {}: forecast {forecast}, {state}, not measured.", run.label))
    })?;
    let fitted = plot.runs.iter().filter(|run| run.role == RunRole::Fit);
    let fitted = fitted.filter(|run| run.final_loss().is_some());
    let largest = fitted.map(|run| run.flops).fold(0.0, f64::max);
    Some(if largest > 0.0 {
        let times = run.flops / largest;
        format!("{sentence} It has {times:.1} times the compute of the largest fitted run.")
    } else {
        sentence
    })
}

fn cost_rows(cost: &ReportCost) -> Vec<[String; 3]> {
    let row = |name: &str, planned: Option<String>, spent: Option<String>| {
        let known = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
        [name.to_owned(), known(planned), known(spent)]
    };
    let flops = |value: f64| format!("{} FLOPs", si(value));
    let mut rows = vec![
        row(
            "compute of runs that are done, exact",
            cost.planned_flops.map(flops),
            cost.done_flops.map(flops),
        ),
        row(
            "device time of all attempts",
            cost.planned_seconds.map(duration),
            cost.spent_seconds.map(duration),
        ),
    ];
    if let Some(wall) = cost.wall_seconds {
        rows.push([
            "from submission to the end of the last run".to_owned(),
            "\u{2013}".to_owned(),
            duration(wall),
        ]);
    }
    rows
}

/// `1 h 02 m`, `3 m 20 s` or `4.1 s`.
fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for display")]
    let whole = seconds.round().clamp(0.0, 1e12) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

/// The figures of a report.
#[derive(Default)]
struct Figures {
    /// Loss curves: they have their axes to choose from and stand together.
    curves: Vec<Drawn>,
    others: Vec<Drawn>,
    /// What has nothing to show: name and reason.
    left_out: Vec<[String; 2]>,
}

impl Figures {
    fn of(built: &[(FigureKind, Figure)]) -> Self {
        let mut figures = Self::default();
        for (kind, figure) in built {
            if let Some(missing) = &figure.missing {
                figures.left_out.push([kind.name().to_owned(), missing.clone()]);
                continue;
            }
            let svg = svg::render(figure, Paint::Inline);
            let name = kind.name().to_owned();
            if let FigureKind::LossCurves(axis) = *kind {
                figures.curves.push(Drawn { name, short: axis.name().to_owned(), svg });
            } else {
                figures.others.push(Drawn { short: name.clone(), name, svg });
            }
        }
        figures
    }
}

const fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Waiting => "waiting",
        RunState::Running => "running",
        RunState::Done => "done",
        RunState::Failed => "failed",
        RunState::Diverged => "diverged",
        RunState::Suspect => "suspect",
    }
}

/// The rows of the run table, in the order of its head in `report.html`.
fn run_rows(input: &ReportInput) -> Vec<Vec<Cell>> {
    let word = |text: &str| Cell { text: text.to_owned(), key: text.to_owned() };
    let value = |number: Option<f64>, show: &dyn Fn(f64) -> String| Cell {
        text: number.map_or_else(|| "\u{2013}".to_owned(), show),
        key: number.map_or_else(String::new, |number| number.to_string()),
    };
    let count = |number: u64| Cell { text: si(widened(number)), key: number.to_string() };
    let rows = input.plot.runs.iter().zip(&input.runs);
    rows.map(|(run, facts)| {
        // The law is one of the recipe's own rate.
        let law = input.plot.fit.as_ref().filter(|_| run.role != RunRole::Sensitivity);
        let error = law.and_then(|fit| text::error_percent(fit, run));
        vec![
            word(&run.label),
            word(crate::export::role(run.role)),
            word(state_name(run.state)),
            count(facts.parameters_total),
            count(facts.parameters_non_embedding),
            value(Some(run.d), &si),
            value(Some(run.d / run.n), &|ratio| format!("{ratio:.1}")),
            value(Some(run.flops), &si),
            count(facts.steps),
            word(&run.seed.to_string()),
            value(Some(run.learning_rate), &|rate| format!("{rate:.2e}")),
            value(run.loss, &|loss| format!("{loss:.4}")),
            value(facts.bits_per_byte, &|bits| format!("{bits:.4}")),
            value(error, &text::percent),
            value(facts.seconds, &duration),
            count(u64::from(facts.attempts)),
            word(facts.device.as_deref().unwrap_or("\u{2013}")),
        ]
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
const fn widened(number: u64) -> f64 {
    number as f64
}

/// Runs without a loss that a fit may use, with the reason.
fn failed(plot: &PlotInput) -> Vec<[String; 3]> {
    let ended = |run: &&RunCurve| run.failed() || run.state == RunState::Suspect;
    plot.runs
        .iter()
        .filter(ended)
        .map(|run| {
            let reason = run.reason.clone().unwrap_or_else(|| "no reason was recorded".to_owned());
            [run.label.clone(), state_name(run.state).to_owned(), reason]
        })
        .collect()
}

fn seeds(plot: &PlotInput) -> String {
    let mut seeds: Vec<u64> = plot.runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let mut text = String::new();
    for (i, seed) in seeds.iter().take(20).enumerate() {
        let _ = write!(text, "{}{seed}", if i == 0 { "" } else { ", " });
    }
    if seeds.len() > 20 {
        let _ = write!(text, " and {} more", seeds.len() - 20);
    }
    text
}

#[derive(Serialize)]
struct Embedded<'a> {
    schema: &'static str,
    sweep: &'a str,
    n_convention: &'a str,
    fit: Option<&'a Fit>,
    isoflop: Option<&'a Fit>,
    cost: &'a ReportCost,
    devices: &'a [ReportDevice],
    checklist: &'a [Item],
    forecasts: Vec<EmbeddedForecast<'a>>,
    measures: &'a [Vec<String>],
    facts: &'a [(String, String)],
    texts: &'a [SampleText],
    runs: Vec<EmbeddedRun<'a>>,
    figures: Vec<serde_json::Value>,
}

/// What the law says of a check run that was held out.
#[derive(Serialize)]
struct EmbeddedForecast<'a> {
    run: &'a str,
    forecast: Forecast,
    measured: Option<f64>,
}

#[derive(Serialize)]
struct EmbeddedRun<'a> {
    label: &'a str,
    role: RunRole,
    state: &'static str,
    #[serde(rename = "N")]
    n: f64,
    #[serde(rename = "D")]
    d: f64,
    flops: f64,
    budget: Option<f64>,
    seed: u64,
    learning_rate: f64,
    loss: Option<f64>,
    reason: Option<&'a str>,
    facts: &'a ReportRun,
}

/// The numbers of the report as JSON that cannot end its element: `<` is written as an escape.
fn embedded(input: &ReportInput, figures: &[(FigureKind, Figure)]) -> Result<String, ReportError> {
    let runs = input.plot.runs.iter().zip(&input.runs);
    let checks = input.plot.runs.iter().filter(|run| run.role == RunRole::Check);
    let data = Embedded {
        schema: SCHEMA,
        sweep: &input.sweep,
        n_convention: &input.plot.n_convention,
        fit: input.plot.fit.as_ref(),
        isoflop: input.plot.isoflop.as_ref(),
        cost: &input.cost,
        devices: &input.devices,
        checklist: &input.checklist,
        forecasts: checks
            .filter_map(|run| {
                let forecast = input.plot.fit.as_ref()?.forecast(run.n, run.d)?;
                Some(EmbeddedForecast { run: &run.label, forecast, measured: run.final_loss() })
            })
            .collect(),
        measures: &input.measures,
        facts: &input.facts,
        texts: &input.texts,
        runs: runs
            .map(|(run, facts)| EmbeddedRun {
                label: &run.label,
                role: run.role,
                state: state_name(run.state),
                n: run.n,
                d: run.d,
                flops: run.flops,
                budget: run.budget,
                seed: run.seed,
                learning_rate: run.learning_rate,
                loss: run.loss,
                reason: run.reason.as_deref(),
                facts,
            })
            .collect(),
        figures: figures
            .iter()
            .map(|(_, figure)| json::render(figure, serde_json::value::Serializer))
            .collect::<Result<_, _>>()?,
    };
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests;
