//! What goes into the store and what comes out of it.

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    id::{RunId, SweepId},
    metric::Point,
    run::{Run, RunConfig, RunRole},
    shape::{Mlp, Shape},
    training::Decay,
};

/// A sweep as it is handed in.
#[derive(Clone, Debug)]
pub struct NewSweep {
    /// Its id.
    pub id: SweepId,
    /// Its name.
    pub name: String,
    /// The recipe as it was read.
    pub recipe: String,
    /// Its runs in order.
    pub runs: Vec<NewRun>,
    /// Wall time, for display.
    pub unix_ms: i64,
    /// Predicted device-seconds of all its runs; the first submission's count.
    pub planned_seconds: Option<f64>,
}

/// A run of a sweep as it is handed in.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The run.
    pub run: Run,
    /// What it is for.
    pub role: RunRole,
    /// FLOP budget it was made for.
    pub budget_flops: Option<f64>,
    /// Tokens asked for.
    pub tokens_requested: f64,
}

/// What a submission came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    /// Runs nobody had asked for.
    pub runs_new: u32,
    /// Runs that are finished or diverged.
    pub runs_finished: u32,
    /// Known runs that are neither.
    pub runs_known: u32,
    /// Of these, failed ones.
    pub runs_failed: u32,
    /// Earlier sweeps of the same name that are not given up.
    pub earlier: Vec<SweepId>,
}

/// What a run is, as columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Model family.
    pub family: String,
    /// Every parameter.
    pub n_total: u64,
    /// Without embedding and head.
    pub n_non_embedding: u64,
    /// Without embedding, with head.
    pub n_with_head: u64,
    /// Training tokens, or images, seen.
    pub tokens: u64,
    /// Unique training tokens of the data.
    pub unique_tokens: u64,
    /// Exact FLOPs.
    pub flops: f64,
    /// 6 N D.
    pub flops_6nd: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences per step.
    pub batch: u32,
    /// Tokens per sequence, or patches per image.
    pub sequence: u32,
    /// Model width.
    pub width: u32,
    /// Layers.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Vocabulary.
    pub vocabulary: u32,
    /// Kind of MLP.
    pub mlp: String,
    /// Seed.
    pub seed: u64,
    /// The data by content.
    pub data_id: String,
    /// Revision of the training code.
    pub training_revision: u32,
    /// Peak learning rate at the base width.
    pub learning_rate: f64,
    /// The base width.
    pub base_width: u32,
    /// Weight decay.
    pub weight_decay: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// `wsd` or `cosine`.
    pub decay: String,
    /// Share of cool-down, or floor.
    pub decay_parameter: f64,
    /// Of a branch, its trunk.
    pub parent_run: Option<String>,
    /// Of a branch, the step at which it leaves its trunk.
    pub parent_step: Option<u64>,
    /// Training tokens of the steps that it trains itself.
    pub own_tokens: u64,
    /// Exact FLOPs of these.
    pub own_flops: f64,
    /// 6 N D of these.
    pub own_flops_6nd: f64,
}

impl Facts {
    /// The facts of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let config = &run.config;
        let shape = &config.shape;
        let (sequence, vocabulary, mlp) = inner_facts(shape);
        let parameters = config.parameters();
        let (decay, decay_parameter) = match config.schedule.decay {
            Decay::Wsd { fraction } => ("wsd", fraction),
            Decay::Cosine { floor } => ("cosine", floor),
        };
        Self {
            family: shape.family().to_owned(),
            n_total: parameters.total,
            n_non_embedding: parameters.non_embedding,
            n_with_head: parameters.with_head,
            tokens: config.tokens(),
            unique_tokens: run.manifest.train_tokens,
            flops: config.flops(),
            flops_6nd: config.flops_6nd(),
            steps: config.steps,
            batch: config.batch,
            sequence,
            width: shape.width(),
            layers: shape.layers(),
            heads: shape.heads(),
            vocabulary,
            mlp: mlp.to_owned(),
            seed: config.seed,
            data_id: config.data.to_string(),
            training_revision: config.training_revision,
            learning_rate: config.optimizer.learning_rate,
            base_width: config.optimizer.base_width,
            weight_decay: config.optimizer.weight_decay,
            warmup_steps: config.schedule.warmup(config.steps),
            decay: decay.to_owned(),
            decay_parameter,
            parent_run: config.parent.as_ref().map(|edge| edge.run.to_string()),
            parent_step: config.parent.as_ref().map(|edge| edge.step),
            own_tokens: config.own_tokens(),
            own_flops: config.own_flops(),
            own_flops_6nd: config.own_flops_6nd(),
        }
    }
}

/// Rows of a sample, values that a token or a pixel can have, kind of MLP.
const fn inner_facts(shape: &Shape) -> (u32, u32, &'static str) {
    match shape {
        Shape::Lm(shape) => (shape.sequence, shape.vocabulary, shape.mlp.name()),
        Shape::Diffusion(shape) => (shape.patches(), 256, Mlp::Relu2.name()),
    }
}

/// A stored sweep, without its recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRecord {
    /// Its id.
    pub id: SweepId,
    /// Its name.
    pub name: String,
    /// Wall time of the first submission.
    pub submitted_unix_ms: i64,
    /// Given up.
    pub cancelled: bool,
    /// Predicted device-seconds when it was handed in first.
    pub planned_seconds: Option<f64>,
}

/// Runs of one state with their sums. Of a branch only its own steps count, so that a trunk counts
/// once.
#[derive(Clone, Debug, PartialEq)]
pub struct StateCount {
    /// The state.
    pub state: RunState,
    /// Number of runs.
    pub runs: u64,
    /// Training tokens.
    pub tokens: f64,
    /// Exact FLOPs.
    pub flops: f64,
    /// 6 N D.
    pub flops_6nd: f64,
    /// Measured seconds of all attempts.
    pub measured_seconds: f64,
    /// Wall time at which the last of their attempts ended.
    pub ended_unix_ms: Option<i64>,
}

/// A run with all that lists show.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// Place in the sweep, -1 without one.
    pub position: i64,
    /// What it is for in the sweep.
    pub role: Option<RunRole>,
    /// FLOP budget it was made for.
    pub budget_flops: Option<f64>,
    /// Tokens asked for.
    pub tokens_requested: Option<f64>,
    /// What it is.
    pub facts: Facts,
    /// The run as JSON.
    pub run_json: String,
    /// Where it stands.
    pub state: RunState,
    /// Number of its last attempt.
    pub attempts: u32,
    /// Why it stands there.
    pub reason: Option<String>,
    /// Held back by itself until it is resumed.
    pub paused: bool,
    /// Last step with a training loss.
    pub latest_step: Option<u64>,
    /// That loss; may be NaN or infinite.
    pub latest_loss: Option<f64>,
    /// Validation loss at the end.
    pub final_validation_loss: Option<f64>,
    /// The same per byte.
    pub final_validation_bits_per_byte: Option<f64>,
    /// Seconds of all attempts.
    pub measured_seconds: Option<f64>,
    /// Points a full spool left out.
    pub points_thinned: u64,
    /// Worker of the last attempt.
    pub worker: Option<String>,
    /// Its machine.
    pub host: Option<String>,
    /// Device of the last attempt.
    pub device_id: Option<String>,
    /// Its name.
    pub device_name: Option<String>,
    /// Its backend.
    pub backend: Option<String>,
    /// What its canary had found.
    pub canary: Option<String>,
    /// Why it takes no more runs.
    pub device_refused: Option<String>,
    /// The most memory a trainer of it held.
    pub peak_memory_bytes: Option<u64>,
    /// Newest committed checkpoint.
    pub checkpoint_step: Option<u64>,
}

/// Failures that count against a run's budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Of the trainer or the run.
    pub program: u32,
    /// Of the machine.
    pub infrastructure: u32,
    /// In a row without a newer checkpoint.
    pub without_checkpoint: u32,
}

/// What a scheduler has to know after a start.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Sweeps, oldest first.
    pub sweeps: Vec<SavedSweep>,
    /// Runs.
    pub runs: Vec<SavedRun>,
}

/// A sweep and its runs.
#[derive(Clone, Debug)]
pub struct SavedSweep {
    /// Its id.
    pub id: SweepId,
    /// Given up.
    pub cancelled: bool,
    /// Its runs in order, with what they are for.
    pub members: Vec<(RunId, RunRole)>,
}

/// A run as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct SavedRun {
    /// Its id.
    pub id: RunId,
    /// Where it stands.
    pub state: RunState,
    /// Number of its last attempt.
    pub attempts: u32,
    /// What it costs.
    pub config: RunConfig,
    /// Failures so far.
    pub failures: Failures,
    /// Step of the newest checkpoint, and the worker that holds it.
    pub checkpoint: Option<(u64, String)>,
    /// Of a trunk: every committed step with a worker that wrote its checkpoint.
    pub checkpoints: Vec<(u64, String)>,
    /// Of a trunk: the steps whose checkpoints the coordinator keeps.
    pub kept: Vec<u64>,
    /// The attempt that lives.
    pub live: Option<LiveAttempt>,
    /// Why it stands where it stands.
    pub reason: Option<String>,
    /// Held back by itself, whatever its sweeps want.
    pub paused: bool,
    /// Given up by itself, whatever its sweeps want.
    pub dropped: bool,
}

/// An attempt without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveAttempt {
    /// Its worker.
    pub worker: String,
    /// The worker's incarnation at the grant.
    pub incarnation: u64,
    /// Its slot.
    pub slot: u32,
    /// Name of the device.
    pub device_name: String,
    /// When it was granted, by the wall clock.
    pub started_unix_ms: i64,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// The new attempt.
    pub key: AttemptKey,
    /// Its worker.
    pub worker: String,
    /// The worker's incarnation.
    pub incarnation: u64,
    /// Its slot.
    pub slot: u32,
    /// Its device.
    pub device_id: String,
    /// Name of the device.
    pub device_name: String,
    /// Backend of the device.
    pub backend: String,
    /// What the device's canary found.
    pub canary: Option<String>,
    /// Wall time, for display.
    pub unix_ms: i64,
}

/// What a grant carries beside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The run as JSON.
    pub run_json: String,
    /// Its newest checkpoint that the worker has which the attempt was granted to, or can fetch.
    pub checkpoint: Option<CheckpointRecord>,
}

/// A committed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Steps it holds.
    pub step: u64,
    /// Hash of its manifest.
    pub hash: String,
    /// The coordinator keeps its files.
    pub kept: bool,
}

/// A checkpoint to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The attempt that wrote it.
    pub key: AttemptKey,
    /// Steps it holds.
    pub step: u64,
    /// Hash of its manifest.
    pub hash: String,
    /// Size.
    pub bytes: Option<u64>,
    /// The last batch it needs.
    pub requires_seq: u64,
    /// Wall time, for display.
    pub unix_ms: i64,
}

/// How an attempt ended, in the word of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps done.
    Finished,
    /// Loss not finite.
    Diverged,
    /// Stopped with a checkpoint.
    Stopped,
    /// Failed.
    Failed,
    /// Its worker went silent, or no longer knows it.
    Lost,
    /// Nobody wants it.
    Cancelled,
}

impl Outcome {
    /// The word of the column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The end of an attempt and what it makes of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct EndRow {
    /// The attempt.
    pub key: AttemptKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
    /// Step at the end.
    pub end_step: Option<u64>,
    /// Step it began after.
    pub resume_step: Option<u64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// The most memory the trainer held.
    pub peak_memory_bytes: Option<u64>,
    /// Points a full spool left out.
    pub points_thinned: u64,
    /// Where the run stands now.
    pub state: RunState,
    /// Why.
    pub state_reason: Option<String>,
    /// Failures of the run now.
    pub failures: Failures,
    /// Wall time, for display.
    pub unix_ms: i64,
}

/// A change of a run without a live attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The run.
    pub run: RunId,
    /// Where it stands now.
    pub state: RunState,
    /// Why.
    pub reason: Option<String>,
    /// Failures of the run now.
    pub failures: Failures,
}

/// What became of a guarded write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Stored, or stored before.
    Done,
    /// A later attempt owns the run, or this one has another end.
    Fenced,
    /// The last durable batch is this one; the write needs a later one.
    PointsMissing(u64),
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptStatus {
    /// It has an end.
    pub ended: bool,
    /// Its end came from its worker.
    pub reported: bool,
    /// It is the last one of its run.
    pub current: bool,
    /// Last durable batch.
    pub last_seq: u64,
}

/// An attempt, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// Its number.
    pub number: u32,
    /// Its worker.
    pub worker: String,
    /// The machine.
    pub host: String,
    /// Its slot there.
    pub slot: u32,
    /// Name of the device.
    pub device_name: String,
    /// Wall time of the grant.
    pub started_unix_ms: i64,
    /// Wall time of the end.
    pub ended_unix_ms: Option<i64>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Step it began after.
    pub resume_step: Option<u64>,
    /// Number of the attempt whose checkpoint that was.
    pub resume_attempt: Option<u32>,
    /// Step at the end.
    pub end_step: Option<u64>,
    /// Seconds of training.
    pub measured_seconds: Option<f64>,
}

/// What the ended attempts at a run took, all together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The run.
    pub run: RunId,
    /// Steps trained, repeated ones counted each time.
    pub steps: u64,
    /// Milliseconds from the grants to the ends.
    pub held_ms: u64,
}

/// What the cost model learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredAttempt {
    /// What was trained.
    pub config: RunConfig,
    /// On which kind of device.
    pub device_name: String,
    /// Steps trained.
    pub steps: u64,
    /// Seconds they took.
    pub seconds: f64,
}

/// A batch of points.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The attempt.
    pub key: AttemptKey,
    /// Its number, from 1 without a gap.
    pub seq: u64,
    /// Step the attempt began after.
    pub resume_step: u64,
    /// The points.
    pub points: Vec<Point>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// All batches up to this one are durable.
    Durable(u64),
    /// Batches after this one are missing.
    Resend(u64),
    /// The attempt no longer owns its run.
    Fenced(&'static str),
    /// It can never be stored.
    Refused(String),
}

/// A worker, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its id.
    pub id: String,
    /// The machine.
    pub host: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its devices.
    pub devices: Vec<Device>,
}
