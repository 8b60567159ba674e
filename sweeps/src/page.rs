//! The results of a sweep as the report tells them; the page itself is made in `report`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use sweep_fit::Fit;
use sweep_plot::{figure::Figure, figures::FigureKind, input::PlotInput};
use sweep_spec::{
    attempt::RunState,
    data::{DataManifest, DataSource},
    hash::canonical_json,
    metric::Metric,
    run::{RunConfig, RunRole},
    task::Task,
    training::TRAINING_REVISION,
    units::si,
};

use crate::{
    analysis::{
        Basis,
        checklist::{self, Item},
    },
    exit::{Exit, Failure, OrExit as _},
    law,
    machine::clock::{unix_ms, utc_seconds},
    report::{self, ReportCost, ReportDevice, ReportInput, ReportRun},
    results::{RunResult, SweepResults},
    texts::SampleText,
};

/// What the caller knows beside the results.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling {
    /// Why there is no fit.
    pub(crate) fit_refused: Option<String>,
    /// Texts that models of different size wrote.
    pub(crate) texts: Vec<SampleText>,
}

/// Makes the page.
///
/// # Errors
/// Exit code 1.
pub(crate) fn render(
    results: &SweepResults,
    plot: &PlotInput,
    figures: &[(FigureKind, Figure)],
    telling: &Telling,
) -> Result<String, Failure> {
    let input = ReportInput {
        sweep: results.name.clone(),
        recipe: results.recipe.text().to_owned(),
        command: command(results),
        written: now(),
        plot: plot.clone(),
        fit_refused: telling.fit_refused.clone(),
        runs: results.observed().map(report_run).collect(),
        cost: cost(results),
        devices: devices(results),
        measures: measures(results),
        loss_unit: if results.is_diffusion() {
            "squared error of the noise per value"
        } else {
            "nats per token"
        },
        units: if results.is_diffusion() {
            "D: images seen. Loss: squared error of the noise per value at the end."
        } else {
            "Loss: nats per token at the end."
        },
        facts: facts(results),
        texts: telling.texts.clone(),
        checklist: plot.fit.as_ref().map_or_else(Vec::new, |fit| checklist(results, plot, fit)),
    };
    report::render(&input, figures).or_exit(Exit::Failed)
}

/// The checklist of the recipe's fit; the fit was made with these options.
fn checklist(results: &SweepResults, plot: &PlotInput, fit: &Fit) -> Vec<Item> {
    let observations = results.observations();
    let origin = format!("sweep {} ({})", results.name, results.id);
    let basis = Basis {
        observations: &observations,
        seconds: &[],
        origin: &origin,
        sweep: Some(results),
        rehearsal: plot.rehearsal.as_ref(),
    };
    law::options(results.fit_plan())
        .map_or_else(|_| Vec::new(), |options| checklist::fill(&basis, fit, &options))
}

fn report_run(run: &RunResult) -> ReportRun {
    let counts = run.parameters();
    ReportRun {
        id: run.id.clone(),
        parameters_total: counts.total,
        parameters_non_embedding: counts.non_embedding,
        steps: run.run.config.steps,
        bits_per_byte: run.bits_per_byte,
        seconds: run.seconds,
        attempts: run.attempts,
        device: run.device.clone(),
        peak_memory_bytes: run.peak_memory_bytes,
    }
}

/// The command that trains the sweep again, given the recipe of the page as a file.
fn command(results: &SweepResults) -> String {
    let seeds = |own: &mut dyn Iterator<Item = u64>| own.collect::<BTreeSet<u64>>();
    let trained = seeds(&mut results.runs.iter().map(|run| run.run.config.seed));
    let asked = seeds(&mut results.recipe.requests.iter().map(|request| request.seed));
    let mut command = format!("sweep run {}.toml", results.name);
    if trained != asked {
        for seed in trained {
            let _ = write!(command, " --seed {seed}");
        }
    }
    command
}

fn cost(results: &SweepResults) -> ReportCost {
    let ended = |run: &&RunResult| matches!(run.state, RunState::Finished | RunState::Diverged);
    let done = results.runs.iter().filter(ended);
    // Runs that were trained for an earlier sweep may have ended before.
    let wall = results.ended_unix_ms.map(|ended| ended - results.submitted_unix_ms);
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let wall_seconds = wall.filter(|ms| *ms >= 0).map(|ms| ms as f64 / 1e3);
    ReportCost {
        planned_seconds: results.planned_seconds,
        spent_seconds: results.runs.iter().filter_map(|run| run.seconds).reduce(|sum, s| sum + s),
        planned_flops: Some(results.runs.iter().map(|run| run.run.config.own_flops()).sum()),
        done_flops: Some(done.map(|run| run.run.config.own_flops()).sum()),
        wall_seconds,
    }
}

fn devices(results: &SweepResults) -> Vec<ReportDevice> {
    let mut counts: BTreeMap<[Option<&str>; 4], usize> = BTreeMap::new();
    for run in results.runs.iter().filter(|run| run.device.is_some()) {
        let key = [&run.device, &run.backend, &run.canary, &run.device_refused];
        *counts.entry(key.map(Option::as_deref)).or_default() += 1;
    }
    let known = |text: Option<&str>| text.unwrap_or("not known").to_owned();
    let device =
        |([name, backend, canary, refused], runs): ([Option<&str>; 4], usize)| ReportDevice {
            name: known(name),
            backend: known(backend),
            canary: match refused {
                Some(reason) => format!("{}; refused since: {reason}", known(canary)),
                None => known(canary),
            },
            runs,
        };
    counts.into_iter().map(device).collect()
}

/// What diffusion runs were measured by beside the loss; one row of heads, one for each run.
fn measures(results: &SweepResults) -> Vec<Vec<String>> {
    const COLUMNS: [(&str, Metric, usize); 11] = [
        ("least loss", Metric::NoiseLossFloor, 4),
        ("bound", Metric::BoundBits, 3),
        ("\u{b1}", Metric::BoundBitsError, 3),
        ("true", Metric::TrueBits, 3),
        ("Fr\u{e9}chet", Metric::FrechetDistance, 4),
        ("its floor", Metric::FrechetFloor, 4),
        ("coverage", Metric::Coverage, 3),
        ("duplicates", Metric::Duplicates, 3),
        ("modes", Metric::ModeCoverage, 2),
        ("recognised", Metric::InMode, 3),
        ("mode distance", Metric::ModeDistance, 3),
    ];
    if !results.is_diffusion() {
        return Vec::new();
    }
    let measured = |metric| results.runs.iter().any(|run| results.last(run, metric).is_some());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(_, metric, _)| measured(*metric)).collect();
    let heads = ["run", "N", "D", "loss"].into_iter().chain(columns.iter().map(|column| column.0));
    let mut rows = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "\u{2013}".to_owned(), |value| format!("{value:.digits$}"))
    };
    for run in results.at_own_rate() {
        let config = &run.run.config;
        let mut row = vec![
            run.label(),
            run.parameters().total.to_string(),
            config.tokens().to_string(),
            shown(run.loss, 4),
        ];
        row.extend(
            columns.iter().map(|&(_, metric, digits)| shown(results.last(run, metric), digits)),
        );
        rows.push(row);
    }
    rows
}

fn facts(results: &SweepResults) -> Vec<(String, String)> {
    let mut facts = vec![
        ("sweep".to_owned(), results.id.clone()),
        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("training revision".to_owned(), TRAINING_REVISION.to_string()),
    ];
    facts.extend(trunk_facts(results));
    if let Some(run) = results.observed().next() {
        facts.extend(data_facts(&run.run.manifest, &run.run.source));
        let evaluation = &run.run.evaluation;
        facts.push((
            "evaluation".to_owned(),
            format!(
                "{} held-out {}, {} times a run",
                evaluation.tokens,
                if run.run.manifest.image.is_some() {
                    "(image, timestep, noise)"
                } else {
                    "tokens"
                },
                evaluation.times
            ),
        ));
        for (place, task) in (1..).zip(&evaluation.tasks) {
            facts.push((format!("task {place}"), task_fact(task)));
        }
        facts.push(("optimiser".to_owned(), canonical_json(&run.run.config.optimizer)));
        facts.push(("schedule".to_owned(), canonical_json(&run.run.config.schedule)));
    }
    facts
}

fn task_fact(task: &Task) -> String {
    let chance = task.suite.chance().map_or_else(
        || "chance not known".to_owned(),
        |chance| format!("chance {}", sweep_plot::text::short(chance)),
    );
    format!(
        "{}: {}, {:.0} % of the training windows, at most {} held-out items, {chance}",
        task.name,
        task.suite.name(),
        100.0 * task.fraction,
        task.items
    )
}

/// What the trunks carried and saved, where there are some.
fn trunk_facts(results: &SweepResults) -> Option<(String, String)> {
    let trunks = results.of_role(RunRole::Trunk).count();
    let sum = |flops: fn(&RunConfig) -> f64, runs: &mut dyn Iterator<Item = &RunResult>| -> f64 {
        runs.map(|run| flops(&run.run.config)).sum()
    };
    let own = sum(RunConfig::own_flops, &mut results.runs.iter());
    let alone = sum(RunConfig::flops, &mut results.observed());
    let branches = results.runs.iter().filter(|run| run.run.config.parent.is_some()).count();
    (trunks > 0).then(|| {
        let text = format!(
            "{trunks}, from which {branches} runs fork: {own:.3e} FLOPs in place of {alone:.3e} \
             if every run were trained alone. Curves and FLOPs of a run count along its path \
             through its trunk"
        );
        ("trunks".to_owned(), text)
    })
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn data_facts(manifest: &DataManifest, source: &DataSource) -> Vec<(String, String)> {
    let tokens = format!(
        "{} unique training {} in {} documents, {} held out in {}",
        si(manifest.train_tokens as f64),
        manifest.unit(),
        manifest.train_documents,
        si(manifest.validation_tokens as f64),
        manifest.validation_documents
    );
    let tokenizer = match source {
        DataSource::Text { tokenizer, .. } => canonical_json(tokenizer),
        DataSource::Bin { .. } => "none, tokens as they are in the files".to_owned(),
        DataSource::Synthetic(_) => "none, a synthetic process".to_owned(),
        DataSource::Images { .. } => "none, images of 8 bits per value".to_owned(),
        DataSource::Glyphs(_) => "none, images drawn from a known density".to_owned(),
    };
    let mut facts = vec![
        ("data".to_owned(), manifest.id.to_string()),
        (manifest.unit().to_owned(), tokens),
        ("vocabulary".to_owned(), manifest.vocabulary.to_string()),
        ("tokenizer".to_owned(), tokenizer),
    ];
    if let Some(entropy) = manifest.entropy {
        facts.push(("entropy rate".to_owned(), format!("{entropy} nats per token")));
    }
    facts
}

/// The date and time of now in UTC, for display.
fn now() -> String {
    let now = utc_seconds(unix_ms());
    // Nobody cares in which second a page was made.
    format!("{} UTC", now.rsplit_once(':').map_or(now.as_str(), |(minutes, _)| minutes))
}
