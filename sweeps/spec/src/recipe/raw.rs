//! The recipe as it is written: every key, its type, its default. The JSON Schema is made from
//! these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::{
    number::{Count, Number, Size},
    tasks::RawTask,
};
use crate::{
    diffusion::{NoiseSchedule, Prediction, Weighting},
    horizon::Horizon,
    run::Sampler,
    shape::{Mlp, ParameterConvention},
    training::Decay,
};

/// A recipe: data, model family, training, and the grid of runs.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRecipe {
    /// Name of the sweep: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// What the sweep is for.
    pub description: Option<String>,
    /// Where the tokens come from.
    pub data: RawData,
    /// Model family and shape rule.
    pub model: RawModel,
    /// Batch, optimiser and schedule.
    pub training: RawTraining,
    /// How often and on how much every run is evaluated.
    #[serde(default)]
    pub evaluation: RawEvaluation,
    /// Every size with every token count and every seed.
    pub grid: Option<RawGrid>,
    /// For each FLOP budget a range of sizes; tokens follow from the budget.
    pub isoflop: Option<RawIsoflop>,
    /// Runs given one by one.
    #[serde(default)]
    pub runs: Vec<RawRun>,
    /// Runs held out of the fit: forecast first, then trained.
    #[serde(default)]
    pub check: Vec<RawRun>,
    /// Places of the grid trained at other learning rates too, outside the fit.
    pub sensitivity: Option<RawSensitivity>,
    /// What is fitted to the result.
    #[serde(default)]
    pub fit: RawFit,
    /// Tasks that every run is scored on, and trained on at their fractions.
    #[serde(default)]
    pub task: Vec<RawTask>,
}

impl RawRecipe {
    /// Tokens of a training window.
    pub(super) const fn sequence(&self) -> Option<u32> {
        self.model.sequence
    }
}

/// Kinds of data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Files of text.
    Text,
    /// Token files of little-endian u16.
    Bin,
    /// A process of known entropy.
    Synthetic,
    /// Files of images.
    Images,
    /// Images of known density.
    Glyphs,
}

/// Where tokens come from. Which keys apply depends on `source`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawData {
    /// Kind of source.
    pub source: SourceKind,
    /// `images`: globs of files of one size: IDX (images, and labels beside them, also `.gz`),
    /// CIFAR-10 `.bin`, `.npy` of bytes, PNG, JPEG (folders of several names are classes).
    /// `text`: globs of files (plain, `.gz`, `.zst`, `.jsonl` with a `text` field); `~`, `$NAME`
    /// and `${NAME:-default}` are expanded; a relative glob starts at the recipe's folder.
    pub globs: Option<Vec<String>>,
    /// `text`: "bytes" (default), { bpe = 1024 } or { file = "tokenizer.json" }.
    pub tokenizer: Option<RawTokenizer>,
    /// `text`: at most this many bytes, in whole documents; all when absent.
    pub max_bytes: Option<Count>,
    /// `text`, `images`: share of the documents or images held out for validation; 0.05 when
    /// absent.
    pub held_out: Option<f64>,
    /// `bin`: globs of the training files.
    pub train: Option<Vec<String>>,
    /// `bin`: globs of the validation files.
    pub validation: Option<Vec<String>>,
    /// `bin`, `synthetic`: size of the vocabulary.
    pub vocabulary: Option<u32>,
    /// `synthetic`: entropy rate in nats per token, above 0 and below ln(vocabulary).
    pub entropy: Option<f64>,
    /// `synthetic`: number of contexts with a table of their own.
    pub contexts: Option<u32>,
    /// `synthetic`: training tokens.
    pub tokens: Option<Count>,
    /// `synthetic`, `glyphs`: seed of what is drawn; 0 when absent.
    pub seed: Option<u64>,
    /// `glyphs`: side of the images, 8 to 64.
    pub side: Option<u32>,
    /// `glyphs`: 1 for grey, 3 for colour; 1 when absent.
    pub channels: Option<u32>,
    /// `glyphs`: training images.
    pub images: Option<Count>,
    /// `glyphs`: standard deviation of the noise on every value, in levels of 256; 10 when absent.
    pub deviation: Option<f64>,
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawTokenizer {
    /// Bytes: a vocabulary of 256.
    Bytes,
    /// Byte-pair encoding with this vocabulary, trained on the training documents.
    Bpe(u32),
    /// A `tokenizer.json`.
    File(String),
}

/// Model families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A decoder-only next-token language model.
    #[default]
    Lm,
    /// A diffusion transformer over images; D counts images.
    Diffusion,
}

/// Everything of a shape that is not its size.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    /// Model family.
    #[serde(default)]
    pub family: Family,
    /// `lm`: tokens of a training window, at most 512.
    pub sequence: Option<u32>,
    /// `lm`: kind of MLP; "relu2" when absent.
    pub mlp: Option<Mlp>,
    /// `lm`: whether attention reads half of its channels from the token before, which makes small
    /// models learn to copy sooner and more evenly; false when absent.
    pub token_shift: Option<bool>,
    /// `diffusion`: side of a patch; it divides the side of the images.
    pub patch: Option<u32>,
    /// `diffusion`: whether the model is told the class of an image; false when absent.
    pub class_conditional: Option<bool>,
    /// `diffusion`: "cosine" (default) or "linear", how signal falls over the timesteps.
    pub noise: Option<NoiseSchedule>,
    /// `diffusion`: number of timesteps; 1000 when absent.
    pub timesteps: Option<u32>,
    /// `diffusion`: "noise" (default) or "velocity", what the model gives out.
    pub prediction: Option<Prediction>,
    /// `diffusion`: "uniform" (default) or { min-snr = 5.0 }, the weights of timesteps in training.
    pub weighting: Option<Weighting>,
    /// `diffusion`: decay of the moving average of the weights that is evaluated and sampled from;
    /// 0.999 when absent. Early steps count less: at step t it is at most (1 + t) / (10 + t).
    pub ema_decay: Option<f64>,
    /// Width of one attention head, even. A width asked for by parameters is a multiple of it.
    #[serde(default = "default_head_width")]
    pub head_width: u32,
    /// Shape rule: layers = max(2, round(width / aspect)).
    #[serde(default = "default_aspect")]
    pub aspect: u32,
}

fn default_head_width() -> u32 {
    16
}

fn default_aspect() -> u32 {
    32
}

/// How every run is trained. The learning rate of a matrix of fan-in d is
/// `learning_rate * base_width / d` (muP), so that one learning rate serves all sizes.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTraining {
    /// Sequences per optimiser step.
    pub batch: u32,
    /// Peak learning rate at `base_width`.
    pub learning_rate: f64,
    /// The width at which the learning rate is the stated one.
    #[serde(default = "default_base_width")]
    pub base_width: u32,
    /// Steps of linear warm-up at most.
    #[serde(default = "default_warmup_steps")]
    pub warmup_steps: u64,
    /// Warm-up is never longer than this share of a run.
    #[serde(default = "default_warmup_fraction")]
    pub warmup_fraction: f64,
    /// How batch and learning rate follow the tokens of a run:
    /// { tokens = "2M", batch_exponent = 0.5 }; the same for all runs when absent.
    pub horizon: Option<Horizon>,
    /// What follows: { wsd = { fraction = 0.2 } } or { cosine = { floor = 0.1 } }.
    #[serde(default = "default_schedule")]
    pub schedule: Decay,
    /// Train one trunk per model size and seed at constant rate, and every run as a cool-down that
    /// forks from it; needs a `wsd` schedule and a warm-up that is the same for every run.
    #[serde(default)]
    pub trunk: bool,
    /// Decay of the first moment of AdamW.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// Decay of the second moment of AdamW.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Decoupled weight decay, on matrices only.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Largest global gradient norm.
    #[serde(default = "default_clip_norm")]
    pub clip_norm: f64,
}

fn default_base_width() -> u32 {
    64
}

fn default_warmup_steps() -> u64 {
    100
}

fn default_warmup_fraction() -> f64 {
    0.1
}

fn default_schedule() -> Decay {
    Decay::Wsd { fraction: 0.2 }
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.95
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.1
}

fn default_clip_norm() -> f64 {
    1.0
}

/// Evaluation of every run; no part of a run's identity.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEvaluation {
    /// Tokens of the fixed held-out set, 65,536 when absent; for images the number of fixed
    /// (image, timestep, noise) triples, 2,048 when absent.
    pub tokens: Option<Count>,
    /// `diffusion`: "ddim" (default) or "ddpm", how samples are drawn after the last step.
    pub sampler: Option<Sampler>,
    /// `diffusion`: evaluations of the model per sample; 50 when absent.
    pub sampler_steps: Option<u32>,
    /// `diffusion`: samples drawn after the last step, for the report and the measures of them;
    /// 256 when absent, 0 for none.
    pub samples: Option<u32>,
    /// Evaluations over a run, in equal logarithmic spacing; the last step is always one.
    #[serde(default = "default_evaluation_times")]
    pub times: u32,
}

fn default_evaluation_times() -> u32 {
    10
}

impl Default for RawEvaluation {
    fn default() -> Self {
        Self {
            tokens: None,
            sampler: None,
            sampler_steps: None,
            samples: None,
            times: default_evaluation_times(),
        }
    }
}

/// Every size with every token count and every seed.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGrid {
    /// Model sizes.
    pub sizes: Vec<Size>,
    /// Training tokens, or images of a diffusion model, each rounded to whole optimiser steps.
    pub tokens: Vec<Count>,
    /// Seeds.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
}

fn default_seeds() -> Vec<u64> {
    vec![0]
}

/// FLOP budgets with a range of sizes each.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIsoflop {
    /// Training FLOPs by the exact count.
    pub budgets: Vec<Number>,
    /// The same sizes for every budget; instead of `per_budget` and `tokens_per_parameter`.
    pub sizes: Option<Vec<Size>>,
    /// Sizes per budget, spaced evenly in log parameters; 6 when absent.
    pub per_budget: Option<u32>,
    /// Range of tokens per parameter that the sizes of a budget span; 2 to 200 when absent.
    pub tokens_per_parameter: Option<RawRange>,
    /// Seeds.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
}

/// A range of positive numbers, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRange {
    /// Lower end.
    pub from: Number,
    /// Upper end.
    pub to: Number,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRun {
    /// Model size.
    pub size: Size,
    /// Training tokens or images, rounded to whole optimiser steps; or give `budget`.
    pub tokens: Option<Count>,
    /// Training FLOPs by the exact count, in place of `tokens`.
    pub budget: Option<Number>,
    /// Seed.
    #[serde(default)]
    pub seed: u64,
}

/// Places of the grid that are trained at other learning rates too: each of these sizes with each of
/// these token counts. Such a run enters no fit; the figure `learning-rate` shows it beside the run
/// of the grid.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSensitivity {
    /// Learning rates as multiples of the one that the run of the grid has: [0.25, 0.5, 2, 4]. Above
    /// 0, at most 100, without 1, which is the run of the grid.
    pub rate_factors: Vec<f64>,
    /// Sizes, each one of `grid.sizes`.
    pub sizes: Vec<Size>,
    /// Token counts, each one of `grid.tokens`.
    pub tokens: Vec<Count>,
    /// Seeds, each one of `grid.seeds`; the first of them when absent.
    pub seeds: Option<Vec<u64>>,
}

/// A model by width and layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawShape {
    /// Width of the residual stream.
    pub width: u32,
    /// Number of layers.
    pub layers: u32,
    /// Number of heads; width / head_width when absent.
    pub heads: Option<u32>,
}

/// Laws that a sweep can be fitted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// L = E + A N^-alpha + B D^-beta.
    #[default]
    Separable,
    /// L = E + A (N^-alpha + R D^-beta)^k.
    Coupled,
    /// L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D.
    Kaplan,
    /// L = E + A N^-alpha + B D^-alpha.
    Gadre,
}

impl Law {
    /// Its name in recipes and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Separable => "separable",
            Self::Coupled => "coupled",
            Self::Kaplan => "kaplan",
            Self::Gadre => "gadre",
        }
    }
}

/// What a fit minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Huber loss of the log residuals.
    #[default]
    HuberLog,
    /// Absolute log residuals.
    L1Log,
    /// Huber loss of the residuals.
    Huber,
    /// Squared residuals.
    Mse,
    /// Squared log residuals.
    MseLog,
}

impl Objective {
    /// Its name in recipes and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HuberLog => "huber-log",
            Self::L1Log => "l1-log",
            Self::Huber => "huber",
            Self::Mse => "mse",
            Self::MseLog => "mse-log",
        }
    }
}

/// What is fitted to the runs that are not checks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFit {
    /// The law.
    #[serde(default)]
    pub law: Law,
    /// The objective.
    #[serde(default)]
    pub objective: Objective,
    /// Where the Huber loss turns linear.
    #[serde(default = "default_delta")]
    pub delta: f64,
    /// Which count of parameters is N.
    #[serde(default)]
    pub parameters: ParameterConvention,
    /// Bootstrap replicates for intervals; 0 for none, at most 20,000.
    #[serde(default = "default_bootstrap")]
    pub bootstrap: u32,
    /// Seed of the bootstrap.
    #[serde(default)]
    pub seed: u64,
    /// Compute budgets in FLOPs at which the optimum is printed.
    #[serde(default)]
    pub budgets: Vec<Number>,
}

fn default_delta() -> f64 {
    1e-3
}

fn default_bootstrap() -> u32 {
    1000
}

impl Default for RawFit {
    fn default() -> Self {
        Self {
            law: Law::default(),
            objective: Objective::default(),
            delta: default_delta(),
            parameters: ParameterConvention::default(),
            bootstrap: default_bootstrap(),
            seed: 0,
            budgets: Vec::new(),
        }
    }
}
