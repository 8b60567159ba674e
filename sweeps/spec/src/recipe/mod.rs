//! The recipe: a TOML file that describes a grid of runs.
//!
//! [`raw`] is the file as people write it, [`Recipe`] what is left after validation; the grid is
//! expanded in [`crate::grid`] once the data is known, because the vocabulary decides the shapes.
//! Nothing here reads a file: the text is an argument, its name serves error messages.
//!
//! Counts may be numbers or text (`300_000`, `"300k"`, `"3e5"`). Unknown keys are errors.

mod error;
mod number;
mod position;
pub mod raw;
mod requests;
mod sensitivity;
mod tasks;
mod validate;

pub use error::RecipeError;
pub use number::{Count, Number};
pub use tasks::{RawTask, SuiteKind};

use serde::Serialize;

use self::position::SourceText;
pub use self::position::{Key, KeyPath};
pub(crate) use self::validate::MAX_BATCH;
use crate::{
    data::DataSource,
    diffusion::Process,
    horizon::Horizon,
    run::{Evaluation, RunRole},
    shape::{Mlp, ParameterConvention},
    training::{Optimizer, Schedule},
};

/// Largest recipe in bytes: ten times the largest grid anyone wrote out by hand.
pub const MAX_RECIPE_BYTES: usize = 1 << 20;

/// Most runs of a sweep; bounds every list and every cycle of the scheduler.
pub const MAX_RUNS: usize = 10_000;

/// A recipe that was checked: what it says can be expanded to runs once its data is known.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recipe {
    /// Name of the sweep.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// Where the tokens come from; globs as written.
    pub data: DataSource,
    /// Model family and shape rule.
    pub model: ModelRule,
    /// How every run is trained.
    pub training: TrainingPlan,
    /// How every run is evaluated.
    pub evaluation: Evaluation,
    /// The runs asked for, in the order of the file.
    pub requests: Vec<RunRequest>,
    /// What is fitted to the result.
    pub fit: FitPlan,
    source: SourceText,
}

/// Everything of a shape that is not its size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelRule {
    /// Units of D in one training sample: the tokens of a window; 1 for an image.
    pub sequence: u32,
    /// Kind of MLP.
    pub mlp: Mlp,
    /// Whether attention reads half of its channels from the token before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub token_shift: bool,
    /// Width of one head.
    pub head_width: u32,
    /// Width per layer.
    pub aspect: u32,
    /// What only a diffusion model has; absent for a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionRule>,
}

/// What only a diffusion model has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiffusionRule {
    /// Side of a patch.
    pub patch: u32,
    /// Whether the model is told the class of an image.
    pub class_conditional: bool,
    /// The process.
    pub process: Process,
}

impl ModelRule {
    /// What D counts, in the plural.
    #[must_use]
    pub const fn data_unit(&self) -> &'static str {
        if self.diffusion.is_some() { "images" } else { "tokens" }
    }
}

/// Batch, optimiser and schedule of every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Sequences per optimiser step.
    pub batch: u32,
    /// How batch and learning rate follow the tokens of a run; absent where they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    /// Optimiser and width scaling.
    pub optimizer: Optimizer,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Runs of one size and seed fork from a trunk.
    pub trunk: bool,
}

impl TrainingPlan {
    /// Sequences per optimiser step of a run of this many tokens.
    #[must_use]
    pub fn batch_of(&self, tokens: f64) -> u32 {
        self.horizon.map_or(self.batch, |horizon| horizon.batch(self.batch, tokens))
    }

    /// The optimiser of a run of this many tokens.
    #[must_use]
    pub fn optimizer_of(&self, tokens: f64) -> Optimizer {
        let mut optimizer = self.optimizer.clone();
        if let Some(horizon) = self.horizon {
            optimizer.learning_rate = horizon.rate(optimizer.learning_rate, tokens);
        }
        optimizer
    }
}

/// One run as the recipe asks for it, before its shape and its steps are known.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// The model.
    pub size: SizeRequest,
    /// The amount of training.
    pub amount: Amount,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Whether it enters the fit.
    pub role: RunRole,
    /// Its learning rate over that of the recipe; 1 for all but runs of sensitivity.
    pub rate_factor: f64,
    /// Where the size stands in the recipe.
    pub size_at: KeyPath,
    /// Where the amount stands in the recipe.
    pub amount_at: KeyPath,
}

/// A model by its parameters or by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeRequest {
    /// The shape whose total parameters are nearest to this in ratio.
    Parameters(u64),
    /// This width and depth.
    Shape {
        /// Width of the residual stream.
        width: u32,
        /// Number of layers.
        layers: u32,
        /// Number of heads; by the rule when absent.
        heads: Option<u32>,
    },
}

/// How long a run trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// This many tokens, rounded to whole optimiser steps.
    Tokens(u64),
    /// As many tokens as this many FLOPs (exact count) pay for, rounded to whole steps.
    Budget(f64),
}

/// What is fitted to the runs of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FitPlan {
    /// The law.
    pub law: raw::Law,
    /// The objective.
    pub objective: raw::Objective,
    /// Where the Huber loss turns linear, in the units of the objective.
    pub delta: f64,
    /// Which count of parameters is N.
    pub parameters: ParameterConvention,
    /// Bootstrap replicates; 0 for no intervals.
    pub bootstrap: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Compute budgets, in FLOPs, at which the optimum is printed.
    pub budgets: Vec<f64>,
}

impl Recipe {
    /// Reads and checks a recipe. `file` names it in messages.
    ///
    /// # Errors
    /// [`RecipeError`] with file, line, column, key path and a hint.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let source = SourceText::new(file, text)?;
        let raw = source.deserialize()?;
        validate::recipe(raw, source)
    }

    /// An error at a place of this recipe; `message` ends in a hint.
    #[must_use]
    pub fn error_at(&self, path: &KeyPath, message: &str) -> RecipeError {
        self.source.error_at(path, message)
    }

    /// The text it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    /// The name of the file it was read from.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.file()
    }

    /// The same recipe with these seeds in place of its own: each distinct request once per seed.
    #[must_use]
    pub fn with_seeds(mut self, seeds: &[u64]) -> Self {
        let mut requests: Vec<RunRequest> = Vec::with_capacity(self.requests.len());
        for request in &self.requests {
            for &seed in seeds {
                let reseeded = RunRequest { seed, ..request.clone() };
                if !requests.contains(&reseeded) {
                    requests.push(reseeded);
                }
            }
        }
        self.requests = requests;
        self
    }
}

/// The JSON Schema of a recipe, from the types that read it.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(raw::RawRecipe).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "recipe of a sweep".into());
    }
    schema
}

#[cfg(test)]
mod tests;
