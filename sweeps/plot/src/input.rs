//! What figures are made of: the curves of runs, and fits. Plain data that a caller fills from
//! wherever it has them.

use sweep_fit::{
    Calibration, Fit,
    emergence::{Axis, Bend},
};
use sweep_spec::run::RunRole;

/// Everything the figures of one sweep need.
#[derive(Clone, Debug)]
pub struct PlotInput {
    /// The runs, in the order of the plan.
    pub runs: Vec<RunCurve>,
    /// The law fitted to the runs with [`RunRole::Fit`], in the convention of `n_convention`.
    pub fit: Option<Fit>,
    /// The isoFLOP fit, where the runs stand on budgets.
    pub isoflop: Option<Fit>,
    /// The same law without the fifth of highest compute, which it then predicts; absent where too
    /// few are left.
    pub rehearsal: Option<Fit>,
    /// Power laws of the loss against C = 6 N D.
    pub frontier: FrontierInput,
    /// The law that tells repeated tokens from new ones, where runs repeat their data and it could be
    /// fitted.
    pub repeat_law: Option<Fit>,
    /// How intervals of `fit` were made, for example `2000 case bootstraps, 95 %`; absent where
    /// there are none.
    pub interval: Option<String>,
    /// What N counts, for example `N: all parameters`.
    pub n_convention: String,
    /// Entropy rate of the data in nats per token, where it is known.
    pub entropy: Option<f64>,
    /// What only diffusion models have; absent for others.
    pub diffusion: Option<DiffusionInput>,
    /// The tasks of the recipe, in its order.
    pub tasks: Vec<TaskInput>,
    /// Calibrations of runs at their end.
    pub calibrations: Vec<CalibrationInput>,
    /// When and where runs were trained; empty where nobody asked for it.
    pub timeline: TimelineInput,
}

/// When and where runs were trained. Times are in seconds of wall time since the sweep was handed
/// in; those of a run that an earlier sweep trained are below 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimelineInput {
    /// The attempts at all runs, trunks among them, in any order.
    pub attempts: Vec<AttemptInput>,
    /// When it was looked at, beside whoever trains; absent for a store that is read by itself,
    /// which does not tell how long its last attempts went on.
    pub read: Option<f64>,
}

/// An attempt at a run.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptInput {
    /// The label of the run.
    pub run: String,
    /// Its number, from 1.
    pub number: u32,
    /// The id of its worker.
    pub worker: String,
    /// The machine of that worker.
    pub host: String,
    /// The slot of that worker.
    pub slot: u32,
    /// When it was granted; absent where no clock says.
    pub granted: Option<f64>,
    /// When it ended; absent while it runs.
    pub ended: Option<f64>,
    /// How it ended.
    pub ending: Ending,
    /// Seconds of training, as its worker measured them.
    pub trained: Option<f64>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not.
    Running,
    /// All steps done.
    Finished,
    /// Stopped with a checkpoint: it was preempted, drained or paused.
    Stopped,
    /// By an error.
    Failed,
    /// Its worker went silent.
    Lost,
    /// Its loss became infinite or not a number.
    Diverged,
    /// Nobody wanted its run any more.
    Cancelled,
}

/// Power laws of one variable, C, over the fitted runs of least loss for their compute; absent
/// where these are too few.
#[derive(Clone, Debug, Default)]
pub struct FrontierInput {
    /// L = A C^-alpha.
    pub without_floor: Option<Fit>,
    /// L = E + A C^-alpha.
    pub with_floor: Option<Fit>,
}

/// A task with its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskInput {
    /// Its name.
    pub name: String,
    /// Exact match of a guess, where it is known.
    pub chance: Option<f64>,
    /// Scores of runs at their end, by the label of the run.
    pub scores: Vec<(String, TaskScore)>,
    /// What the scores say, a sentence each.
    pub verdicts: Vec<String>,
    /// Of these the one that tells most, with what it means.
    pub headline: Option<String>,
    /// Where its metrics bend, as far as the scores locate it.
    pub bends: Vec<BendInput>,
}

/// Where a metric of a task bends on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BendInput {
    /// Of which metric.
    pub of: BendOf,
    /// On which axis.
    pub axis: Axis,
    /// The place with its interval.
    pub bend: Bend,
}

/// The metrics of a task whose bends are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BendOf {
    /// [`TaskScore::exact_match`].
    ExactMatch,
    /// [`TaskScore::answer_nats`].
    AnswerNats,
}

impl TaskInput {
    /// The scores of a run.
    #[must_use]
    pub fn of(&self, run: &RunCurve) -> Option<&TaskScore> {
        self.scores.iter().find(|(label, _)| *label == run.label).map(|(_, score)| score)
    }
}

/// What a run scores on a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Share of items answered right to the last token.
    pub exact_match: f64,
    /// Its 95 % interval over the items.
    pub exact_ci95: [f64; 2],
    /// Mean -ln p of the right answer, in nats.
    pub answer_nats: f64,
    /// Mean share of right tokens after the right ones before.
    pub token_accuracy: f64,
    /// Mean edit distance over the longer length.
    pub edit_distance: f64,
    /// Items.
    pub items: u64,
    /// Mean tokens of an answer.
    pub answer_tokens: f64,
}

/// The calibration of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationInput {
    /// 0 for held-out text, else the task by its place from 1.
    pub task: u8,
    /// The label of the run.
    pub run: String,
    /// Bins, error and interval.
    pub calibration: Calibration,
    /// Mean squared difference of confidence and being right.
    pub brier: Option<f64>,
}

/// What only diffusion models have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiffusionInput {
    /// One for each of the runs, in their order.
    pub runs: Vec<DiffusionRun>,
}

/// What is known of one diffusion run beside its curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiffusionRun {
    /// Final loss in equal ranges of the timestep, from least noise to most.
    pub noise_bins: Vec<Option<f64>>,
    /// The samples that it left, where they are at hand.
    pub samples: Option<SampleSheet>,
}

/// Samples of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleSheet {
    /// Side of the images.
    pub side: u32,
    /// 1 for grey, 3 for colour.
    pub channels: u32,
    /// How they were drawn, in words.
    pub sampler: String,
    /// The samples; sample number i starts from the same noise in every run.
    pub images: Vec<Vec<u8>>,
    /// Timestep and state of the first sample, from noise to image.
    pub path: Vec<(usize, Vec<u8>)>,
}

/// A run with its curves.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCurve {
    /// A short name that is unique in the sweep.
    pub label: String,
    /// Parameters, in the convention of the input.
    pub n: f64,
    /// Training tokens planned.
    pub d: f64,
    /// Exact training FLOPs planned.
    pub flops: f64,
    /// The budget that the run was made for, in FLOPs.
    pub budget: Option<f64>,
    /// Its seed.
    pub seed: u64,
    /// Peak learning rate at the base width.
    pub learning_rate: f64,
    /// Training tokens that its data has, each counted once.
    pub unique: Option<f64>,
    /// How fast it was trained; absent until it is done.
    pub speed: Option<Speed>,
    /// Fitted or held out.
    pub role: RunRole,
    /// How far it came.
    pub state: RunState,
    /// Why it failed.
    pub reason: Option<String>,
    /// Validation loss at the end, in nats per token; absent until it is done.
    pub loss: Option<f64>,
    /// Training loss.
    pub train: Vec<CurvePoint>,
    /// Validation loss.
    pub validation: Vec<CurvePoint>,
    /// Points that were left out of its curves before they came to a store.
    pub thinned: u64,
}

/// How fast a run was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Tokens along its path over the seconds of training along it.
    pub tokens_per_second: f64,
    /// The same in exact FLOPs.
    pub flops_per_second: f64,
    /// The device of its last attempt.
    pub device: String,
    /// Peak FLOP/s of that device in f32, where it is known.
    pub peak: Option<f64>,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Not started.
    Waiting,
    /// In training.
    Running,
    /// Trained to its end.
    Done,
    /// Ended before its end by an error.
    Failed,
    /// Its loss became infinite or not a number.
    Diverged,
    /// Done, on a device that failed a later check; kept out of fits.
    Suspect,
}

/// A loss at a place of a run, alone or as the last of a bucket of neighbours. The loss may be NaN
/// or infinite: a diverged run is data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Optimiser steps.
    pub step: f64,
    /// Training tokens seen.
    pub tokens: f64,
    /// Exact training FLOPs spent.
    pub flops: f64,
    /// Seconds of training, all attempts; absent where they were not measured.
    pub seconds: Option<f64>,
    /// Nats per token.
    pub loss: f64,
    /// Points that it stands for.
    pub points: u32,
    /// Their least and largest finite loss, where they differ.
    pub spread: Option<[f64; 2]>,
}

impl RunCurve {
    /// 6 N D, the C of every law here.
    #[must_use]
    pub fn compute(&self) -> f64 {
        6.0 * self.n * self.d
    }

    /// The final loss, where a figure may use it: done and finite.
    #[must_use]
    pub fn final_loss(&self) -> Option<f64> {
        self.loss.filter(|loss| self.state == RunState::Done && loss.is_finite())
    }

    /// Whether it ended without a usable loss.
    #[must_use]
    pub const fn failed(&self) -> bool {
        matches!(self.state, RunState::Failed | RunState::Diverged)
    }
}
