//! What a sweep measured, fetched from a coordinator, and its three uses: observations for a fit,
//! input for figures, rows for an export. Nothing is left out of it: runs that failed or diverged
//! are there, marked.

mod curve;
pub(crate) mod selector;
mod stored;
pub(crate) mod timeline;

use std::collections::BTreeMap;
#[cfg(feature = "local")]
use std::path::Path;

use sweep_fit::Observation;
use sweep_plot::input::{
    DiffusionInput, DiffusionRun, FrontierInput, PlotInput, RunCurve, RunState as PlotState,
    SampleSheet, Speed,
};
use sweep_proto::{client::Control, convert, v1};
use sweep_spec::{
    attempt::{RunState, computes_wrongly},
    cost::peak_flops,
    metric::Metric,
    recipe::{FitPlan, Recipe},
    run::{Run, RunRole},
    shape::{ParameterConvention, ParameterCounts, Shape},
};

pub(crate) use self::{
    curve::{Asked, Curve, PartSink},
    stored::StoredArgs,
};
#[cfg(feature = "local")]
use crate::local::samples;
use crate::{
    client::refused,
    exit::{Exit, Failure, OrExit as _},
    machine::clock::unix_ms,
    scores,
};

/// One run with what became of it.
#[derive(Clone, Debug)]
pub(crate) struct RunResult {
    /// The run in full.
    pub(crate) run: Run,
    /// Its id.
    pub(crate) id: String,
    /// Whether it enters the fit.
    pub(crate) role: RunRole,
    /// The FLOP budget it was made for.
    pub(crate) budget: Option<f64>,
    /// How far it came.
    pub(crate) state: RunState,
    /// Why it failed or diverged.
    pub(crate) reason: Option<String>,
    /// Held back by itself until it is resumed.
    pub(crate) paused: bool,
    /// Validation loss at the last step, in nats per token.
    pub(crate) loss: Option<f64>,
    /// The same per byte of text.
    pub(crate) bits_per_byte: Option<f64>,
    /// Seconds of training.
    pub(crate) seconds: Option<f64>,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// The device of its last attempt.
    pub(crate) device: Option<String>,
    /// The backend of its last attempt.
    pub(crate) backend: Option<String>,
    /// What the canary of that device had found.
    pub(crate) canary: Option<String>,
    /// Why that device takes no more runs.
    pub(crate) device_refused: Option<String>,
    /// Largest memory of its trainer.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Points that a full spool left out of its curves.
    pub(crate) points_thinned: u64,
    /// Its attempts, first to last, as far as they were asked for.
    pub(crate) stays: Vec<timeline::Stay>,
}

/// A sweep with all its runs.
#[derive(Clone, Debug)]
pub(crate) struct SweepResults {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// The recipe as it was handed in.
    pub(crate) recipe: Recipe,
    /// Predicted device-seconds of all its runs, from before they were trained.
    pub(crate) planned_seconds: Option<f64>,
    /// When it was handed in first, in milliseconds since 1970.
    pub(crate) submitted_unix_ms: i64,
    /// When the last attempt at one of its runs ended.
    pub(crate) ended_unix_ms: Option<i64>,
    /// When a coordinator was asked, by the clock of this machine; absent for the file of a store.
    pub(crate) read_unix_ms: Option<i64>,
    /// Its runs in the order of the recipe.
    pub(crate) runs: Vec<RunResult>,
    /// Curves by run and metric, as far as they were asked for.
    pub(crate) curves: BTreeMap<String, BTreeMap<Metric, Curve>>,
    /// Samples of diffusion runs, where they lie on this machine.
    pub(crate) samples: BTreeMap<String, SampleSheet>,
}

impl RunResult {
    /// A short name that tells people which run it is.
    pub(crate) fn label(&self) -> String {
        self.id.chars().take(sweep_spec::id::SHORT_DIGITS).collect()
    }

    /// Whether it would be trained but for its own pause.
    pub(crate) fn is_held_back(&self) -> bool {
        self.paused && !self.state.is_ended()
    }

    /// Parameters by convention.
    pub(crate) fn parameters(&self) -> ParameterCounts {
        self.run.config.parameters()
    }

    /// The final loss where a fit may use it.
    pub(crate) fn usable_loss(&self) -> Option<f64> {
        self.loss.filter(|loss| self.is_sound() && loss.is_finite())
    }

    /// Finished, on a device that computes right as far as is known.
    pub(crate) fn is_sound(&self) -> bool {
        self.state == RunState::Finished && self.suspicion().is_none()
    }

    /// Why its result is in doubt: the device that trained it was found to compute wrongly since.
    pub(crate) fn suspicion(&self) -> Option<&str> {
        let refused = self.device_refused.as_deref().filter(|reason| computes_wrongly(reason));
        refused.filter(|_| self.state == RunState::Finished)
    }

    /// The run as an observation of this loss.
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub(crate) fn sizes(&self, convention: ParameterConvention, loss: f64) -> Observation {
        let config = &self.run.config;
        Observation {
            n: Some(self.parameters().under(convention) as f64),
            d: Some(config.tokens() as f64),
            positions: Some((config.shape.rows() / config.shape.sequence()) as f64),
            flops: Some(config.flops()),
            loss,
            unique: Some(config.tokens().min(self.run.manifest.train_tokens) as f64),
            group: None,
            noise: None,
            budget: self.budget,
            convention: Some(convention_name(convention).to_owned()),
            line: None,
        }
    }
}

/// The name of a convention in recipes and tables.
pub(crate) const fn convention_name(convention: ParameterConvention) -> &'static str {
    match convention {
        ParameterConvention::Total => "total",
        ParameterConvention::NonEmbedding => "non-embedding",
        ParameterConvention::WithHead => "with-head",
    }
}

impl SweepResults {
    /// What the recipe asks to be fitted.
    pub(crate) fn fit_plan(&self) -> &FitPlan {
        &self.recipe.fit
    }

    /// Runs that are observed: all but the trunks.
    pub(crate) fn observed(&self) -> impl Iterator<Item = &RunResult> {
        self.runs.iter().filter(|run| run.role != RunRole::Trunk)
    }

    /// Those of them at the learning rate of the recipe: runs that differ in size, data and seed only.
    pub(crate) fn at_own_rate(&self) -> impl Iterator<Item = &RunResult> {
        self.observed().filter(|run| run.role != RunRole::Sensitivity)
    }

    /// Runs of a role.
    pub(crate) fn of_role(&self, role: RunRole) -> impl Iterator<Item = &RunResult> {
        self.runs.iter().filter(move |run| run.role == role)
    }

    /// The observations of the fit: final losses of finished runs that are no checks.
    pub(crate) fn observations(&self) -> Vec<Observation> {
        let convention = self.fit_plan().parameters;
        self.of_role(RunRole::Fit)
            .filter_map(|run| Some(run.sizes(convention, run.usable_loss()?)))
            .collect()
    }

    /// GPU-seconds of each observation, in their order; empty where one was not measured.
    pub(crate) fn seconds(&self) -> Vec<f64> {
        let usable = self.of_role(RunRole::Fit).filter(|run| run.usable_loss().is_some());
        let seconds: Option<Vec<f64>> =
            usable.map(|run| run.seconds.filter(|seconds| *seconds > 0.0)).collect();
        seconds.unwrap_or_default()
    }

    /// Every finished run at the recipe's own learning rate with its final loss, checks among them.
    pub(crate) fn measured(&self) -> Vec<Observation> {
        let convention = self.fit_plan().parameters;
        let runs = self.at_own_rate();
        runs.filter_map(|run| Some(run.sizes(convention, run.usable_loss()?))).collect()
    }

    /// Runs of the fit that give no observation, with the reason; a fit says how many it lacks.
    pub(crate) fn left_out(&self) -> Vec<(&RunResult, &'static str)> {
        self.of_role(RunRole::Fit)
            .filter(|run| run.usable_loss().is_none())
            .map(|run| {
                let why = match (run.state, run.suspicion()) {
                    (RunState::Finished, Some(_)) => "its device computes wrongly",
                    (RunState::Finished, None) => "no loss",
                    (state, _) => state.name(),
                };
                (run, why)
            })
            .collect()
    }

    /// How many runs ended without being finished.
    #[cfg(feature = "local")]
    pub(crate) fn failed(&self) -> usize {
        let failed = |run: &&RunResult| {
            matches!(run.state, RunState::Failed | RunState::Diverged | RunState::Cancelled)
        };
        self.runs.iter().filter(failed).count()
    }

    /// What the figures need, without fits.
    pub(crate) fn plot_input(&self) -> PlotInput {
        let convention = self.fit_plan().parameters;
        PlotInput {
            runs: self.observed().map(|run| self.run_curve(run, convention)).collect(),
            fit: None,
            isoflop: None,
            rehearsal: None,
            frontier: FrontierInput::default(),
            repeat_law: None,
            interval: None,
            n_convention: format!("N: {}", convention_words(convention)),
            entropy: self.runs.first().and_then(|run| run.run.manifest.entropy),
            diffusion: self.is_diffusion().then(|| self.diffusion_input()),
            tasks: scores::tasks(self),
            calibrations: scores::calibrations(self),
            timeline: self.timeline(),
        }
    }

    /// Whether the runs are diffusion models.
    pub(crate) fn is_diffusion(&self) -> bool {
        let diffusion = |run: &RunResult| matches!(run.run.config.shape, Shape::Diffusion(_));
        self.runs.iter().any(diffusion)
    }

    /// The last value of a metric of a run.
    pub(crate) fn last(&self, run: &RunResult, metric: Metric) -> Option<f64> {
        self.curves.get(&run.id)?.get(&metric)?.last().map(|(_, value)| *value)
    }

    fn diffusion_input(&self) -> DiffusionInput {
        const BINS: [Metric; 5] = [
            Metric::NoiseLossBin1,
            Metric::NoiseLossBin2,
            Metric::NoiseLossBin3,
            Metric::NoiseLossBin4,
            Metric::NoiseLossBin5,
        ];
        let runs = self.observed().map(|run| DiffusionRun {
            noise_bins: BINS.map(|metric| self.last(run, metric)).to_vec(),
            samples: self.samples.get(&run.id).cloned(),
        });
        DiffusionInput { runs: runs.collect() }
    }

    /// Reads the samples that runs left in a folder of checkpoints; gives a line for each file that
    /// does not read.
    #[cfg(feature = "local")]
    pub(crate) fn read_samples(&mut self, checkpoints: &Path) -> Vec<String> {
        let mut damaged = Vec::new();
        for run in &self.runs {
            match samples::read(checkpoints, &run.id) {
                Ok(Some(sheet)) => {
                    self.samples.insert(run.id.clone(), sheet);
                }
                Ok(None) => {}
                Err(reason) => damaged.push(reason),
            }
        }
        damaged
    }

    /// How fast a finished run was trained, with the seconds of its trunk's steps.
    fn speed(&self, run: &RunResult) -> Option<Speed> {
        let (step, value) = *self.curves.get(&run.id)?.get(&Metric::TokensPerSecond)?.last()?;
        let config = &run.run.config;
        let whole = run.state == RunState::Finished && step == config.steps;
        let tokens_per_second =
            Some(value).filter(|value| whole && value.is_finite() && *value > 0.0)?;
        let device = run.device.clone()?;
        Some(Speed {
            tokens_per_second,
            flops_per_second: tokens_per_second * config.shape.flops_per_token(),
            peak: peak_flops(&device),
            device,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn run_curve(&self, run: &RunResult, convention: ParameterConvention) -> RunCurve {
        let config = &run.run.config;
        RunCurve {
            label: run.label(),
            n: run.parameters().under(convention) as f64,
            d: config.tokens() as f64,
            flops: config.flops(),
            budget: run.budget,
            seed: config.seed,
            learning_rate: config.optimizer.learning_rate,
            unique: Some(run.run.manifest.train_tokens as f64),
            speed: self.speed(run),
            role: run.role,
            state: if run.suspicion().is_some() {
                PlotState::Suspect
            } else {
                plot_state(run.state)
            },
            reason: run.suspicion().map(str::to_owned).or_else(|| run.reason.clone()),
            loss: run.loss,
            train: self.drawn(run, Metric::TrainLoss),
            validation: self.drawn(run, Metric::ValidationLoss),
            thinned: run.points_thinned,
        }
    }
}

/// A convention in words.
pub(crate) const fn convention_words(convention: ParameterConvention) -> &'static str {
    match convention {
        ParameterConvention::Total => "all parameters",
        ParameterConvention::NonEmbedding => "without embedding and head",
        ParameterConvention::WithHead => "without embedding, with head",
    }
}

const fn plot_state(state: RunState) -> PlotState {
    match state {
        RunState::Queued => PlotState::Waiting,
        RunState::Running => PlotState::Running,
        RunState::Finished => PlotState::Done,
        RunState::Diverged => PlotState::Diverged,
        RunState::Failed | RunState::Cancelled => PlotState::Failed,
    }
}

/// Fetches a sweep with the curves that are asked for.
///
/// # Errors
/// What the coordinator refuses, and replies that do not read.
pub(crate) async fn fetch(
    control: &mut Control,
    sweep: &str,
    curves: Asked<'_>,
) -> Result<SweepResults, Failure> {
    let request = v1::GetSweepRequest { sweep: sweep.to_owned() };
    let reply = control.get_sweep(request).await.map_err(refused)?.into_inner();
    let summary = reply.summary.ok_or_else(|| damaged("no summary"))?;
    let recipe =
        Recipe::parse(&format!("{}.toml", summary.name), &reply.recipe).or_exit(Exit::Failed)?;
    let mut results = SweepResults {
        id: summary.sweep_id.clone(),
        name: summary.name,
        recipe,
        planned_seconds: summary.planned_seconds,
        submitted_unix_ms: summary.submitted_unix_ms,
        ended_unix_ms: summary.ended_unix_ms,
        read_unix_ms: Some(unix_ms()),
        runs: Vec::new(),
        curves: BTreeMap::new(),
        samples: BTreeMap::new(),
    };
    let request = v1::ListRunsRequest {
        sweep: summary.sweep_id.clone(),
        with_json: true,
        with_attempts: curves.with_attempts,
        ..v1::ListRunsRequest::default()
    };
    let mut rows = control.list_runs(request).await.map_err(refused)?.into_inner();
    while let Some(row) = rows.message().await.map_err(refused)? {
        results.runs.push(run_result(row)?);
    }
    if !curves.metrics.is_empty() {
        fetch_curves(control, &mut results, curves).await?;
    }
    Ok(results)
}

/// The metrics of these that a sweep has: one of two tasks has none of a third.
fn metrics_of(results: &SweepResults, metrics: &[Metric]) -> Vec<Metric> {
    let tasks = results.recipe.evaluation.tasks.len();
    metrics.iter().copied().filter(|metric| metric.exists_with(tasks)).collect()
}

fn curves_request(
    results: &SweepResults,
    metrics: &[Metric],
    buckets: Option<usize>,
) -> v1::GetCurvesRequest {
    v1::GetCurvesRequest {
        sweep: results.id.clone(),
        runs: Vec::new(),
        metrics: metrics_of(results, metrics).iter().map(|m| m.name().to_owned()).collect(),
        buckets_max: buckets.and_then(|buckets| u32::try_from(buckets).ok()),
    }
}

async fn fetch_curves(
    control: &mut Control,
    results: &mut SweepResults,
    asked: Asked<'_>,
) -> Result<(), Failure> {
    let request = curves_request(results, asked.metrics, asked.buckets(results.runs.len()));
    let mut stream = control.get_curves(request).await.map_err(refused)?.into_inner();
    while let Some(part) = stream.message().await.map_err(refused)? {
        let metric: Metric = part.metric.parse().or_exit(Exit::Failed)?;
        let curves = results.curves.entry(part.run_id.clone()).or_default();
        curves.entry(metric).or_default().extend(part);
    }
    Ok(())
}

/// Hands over every point of every curve as it comes: together they may not fit into memory.
///
/// # Errors
/// What the coordinator refuses, and of the sink.
pub(crate) async fn stream(
    control: &mut Control,
    results: &SweepResults,
    sink: &mut PartSink<'_>,
) -> Result<(), Failure> {
    let request = curves_request(results, Metric::ALL, None);
    let mut stream = control.get_curves(request).await.map_err(refused)?.into_inner();
    while let Some(part) = stream.message().await.map_err(refused)? {
        let metric: Metric = part.metric.parse().or_exit(Exit::Failed)?;
        let points: Vec<(u64, f64)> = part.steps.into_iter().zip(part.values).collect();
        sink(&part.run_id, metric, &points)?;
    }
    Ok(())
}

fn run_result(row: v1::RunRow) -> Result<RunResult, Failure> {
    let role = convert::role("role", row.role).or_exit(Exit::Failed)?;
    // A trunk never cools down: its loss is that of no D, so it is no observation.
    let observed = |loss: Option<f64>| loss.filter(|_| role != RunRole::Trunk);
    let id = convert::run_id("run_id", &row.run_id).or_exit(Exit::Failed)?;
    let json = row.run_json.as_deref().ok_or_else(|| damaged("a run without its JSON"))?;
    Ok(RunResult {
        run: convert::run("run_json", &id, json).or_exit(Exit::Failed)?,
        id: row.run_id,
        role,
        budget: row.budget_flops,
        state: convert::run_state("state", row.state).or_exit(Exit::Failed)?,
        reason: row.reason,
        paused: row.paused,
        loss: observed(row.final_validation_loss),
        bits_per_byte: observed(row.final_validation_bits_per_byte),
        seconds: row.measured_seconds,
        attempts: row.attempts,
        device: row.device_name,
        backend: row.backend,
        canary: row.canary,
        device_refused: row.device_refused,
        peak_memory_bytes: row.peak_memory_bytes,
        points_thinned: row.points_thinned,
        stays: row.stays.into_iter().map(timeline::stay).collect::<Result<_, _>>()?,
    })
}

fn damaged(what: &str) -> Failure {
    Failure::message(
        Exit::Failed,
        format!("the coordinator sent {what}; hint: are both of one version?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished() -> RunResult {
        const RECIPE: &str = "name = \"one\"\n[data]\nsource = \"synthetic\"\nvocabulary = 16\n\
            entropy = 1.0\ncontexts = 4\ntokens = \"10k\"\n[model]\nsequence = 8\n[training]\n\
            batch = 2\nlearning_rate = 0.01\n[[runs]]\nsize = { width = 16, layers = 1 }\n\
            tokens = \"1k\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.toml");
        std::fs::write(&path, RECIPE).unwrap();
        let prepared = crate::recipe_file::Prepared::load(&path, &[]).unwrap();
        let run = prepared.grid.runs[0].run.clone();
        RunResult {
            id: run.config.id().to_string(),
            run,
            role: RunRole::Fit,
            budget: None,
            state: RunState::Finished,
            reason: None,
            paused: false,
            loss: Some(1.5),
            bits_per_byte: None,
            seconds: Some(1.0),
            attempts: 1,
            device: Some("card".to_owned()),
            backend: Some("vulkan".to_owned()),
            canary: Some("no deviation".to_owned()),
            device_refused: None,
            peak_memory_bytes: None,
            points_thinned: 0,
            stays: Vec::new(),
        }
    }

    #[test]
    fn no_fit_uses_what_a_device_trained_that_computes_wrongly() {
        let refused =
            |reason: &str| RunResult { device_refused: Some(reason.to_owned()), ..finished() };
        assert_eq!(finished().usable_loss(), Some(1.5));
        assert_eq!(refused("three trainers were lost").usable_loss(), Some(1.5));
        let suspect = refused("canary refused: loss 3.1 at step 2");
        assert_eq!((suspect.usable_loss(), suspect.is_sound()), (None, false));
        let results = SweepResults {
            id: String::new(),
            name: "one".to_owned(),
            recipe: Recipe::parse("one.toml", include_str!("cmd/starter.toml")).unwrap(),
            planned_seconds: None,
            submitted_unix_ms: 0,
            ended_unix_ms: None,
            read_unix_ms: None,
            runs: vec![suspect, finished()],
            curves: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        assert_eq!(results.observations().len(), 1);
        let mut tuned = results.clone();
        tuned.runs.push(RunResult { role: RunRole::Sensitivity, loss: Some(0.1), ..finished() });
        assert_eq!(tuned.observations(), results.observations(), "of no other rate");
        assert_eq!(tuned.measured(), results.measured());
        assert_eq!(tuned.seconds(), results.seconds());
        assert_eq!((tuned.observed().count(), tuned.at_own_rate().count()), (3, 2));
        assert_eq!(tuned.plot_input().runs[2].role, RunRole::Sensitivity, "but it is drawn");
        assert_eq!(results.left_out()[0].1, "its device computes wrongly");
        let drawn = results.plot_input().runs;
        assert_eq!((drawn[0].state, drawn[1].state), (PlotState::Suspect, PlotState::Done));
        assert!(drawn[0].reason.as_ref().is_some_and(|reason| reason.starts_with("canary")));
    }
}
