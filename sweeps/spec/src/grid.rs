//! From a recipe and its data to runs: shapes by the rule, tokens in whole optimiser steps.
//!
//! A token count D is rounded to the nearest whole number of steps of `batch * sequence` tokens,
//! at least one; a FLOP budget C is turned into tokens by the exact count, D = C / (FLOPs per
//! token), and rounded in the same way. So D and C of a run are exact, and as near to what was
//! asked for as whole steps allow.

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    data::DataManifest,
    hash::content_hash,
    id::{RunId, SweepId},
    recipe::{Amount, MAX_RUNS, Recipe, RecipeError, RunRequest, SizeRequest},
    run::{Evaluation, Run, RunConfig, RunRole},
    shape::{
        LmShape, Shape,
        lm::{ShapeError, ShapeRule},
    },
    training::TRAINING_REVISION,
};

/// A run of a sweep with what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct GridRun {
    /// The run.
    pub run: Run,
    /// Whether it enters the fit.
    pub role: RunRole,
    /// The tokens asked for, before rounding to whole steps.
    pub tokens_requested: f64,
    /// The FLOP budget it was made for, where it was made for one.
    pub budget: Option<f64>,
}

/// All runs of a recipe on its data, each once, in the order of the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The runs.
    pub runs: Vec<GridRun>,
    /// Requests that came out as a run that was there already, for example two targets with the
    /// same nearest shape.
    pub merged: usize,
}

/// The facts that make a submitted sweep what it is.
#[derive(Serialize)]
struct SweepFacts<'a> {
    name: &'a str,
    runs: Vec<SweepRun<'a>>,
}

#[derive(Serialize)]
struct SweepRun<'a> {
    id: RunId,
    role: RunRole,
    budget: Option<f64>,
    evaluation: &'a Evaluation,
}

/// The identity of a sweep: its name, and what its runs are and are for, in their order. Comments,
/// the fit and the order of keys in the recipe do not count. Client and coordinator both compute
/// it, so that neither takes the other's word.
pub fn sweep_id<'a>(
    name: &str,
    runs: impl IntoIterator<Item = (&'a Run, RunRole, Option<f64>)>,
) -> SweepId {
    let runs = runs
        .into_iter()
        .map(|(run, role, budget)| SweepRun {
            id: run.config.id(),
            role,
            budget,
            evaluation: &run.evaluation,
        })
        .collect();
    SweepId::from_hash(&content_hash("sweep.sweep/1", &SweepFacts { name, runs }))
}

impl Grid {
    /// The identity of the sweep under this name; see [`sweep_id`].
    #[must_use]
    pub fn sweep_id(&self, name: &str) -> SweepId {
        sweep_id(name, self.runs.iter().map(|entry| (&entry.run, entry.role, entry.budget)))
    }
}

/// Expands a recipe on its data.
///
/// # Errors
/// [`RecipeError`] names the place of a size that the shape rule cannot reach, of a run that is
/// asked for both in the fit and as a check, and of data shorter than one batch.
pub fn expand(recipe: &Recipe, manifest: &DataManifest) -> Result<Grid, RecipeError> {
    let mut grid = Grid { runs: Vec::with_capacity(recipe.requests.len()), merged: 0 };
    let mut places: HashMap<RunId, usize> = HashMap::new();
    for request in &recipe.requests {
        let run = grid_run(recipe, manifest, request)?;
        let id = run.run.config.id();
        match places.get(&id) {
            None => {
                places.insert(id, grid.runs.len());
                grid.runs.push(run);
            }
            Some(&place) if grid.runs[place].role == run.role => grid.merged += 1,
            Some(_) => {
                let message = "this check is also a run of the fit, so it would forecast itself; \
                               hint: give it another size, token count or seed";
                return Err(recipe.error_at(&request.size_at, message));
            }
        }
    }
    if grid.runs.len() > MAX_RUNS {
        let message = format!(
            "{} runs are more than the limit of {MAX_RUNS}; hint: split the recipe",
            grid.runs.len()
        );
        return Err(recipe.error_at(&recipe.requests[MAX_RUNS].amount_at, &message));
    }
    check_data(recipe, manifest)?;
    Ok(grid)
}

/// Refuses data on which not even one step can be made.
fn check_data(recipe: &Recipe, manifest: &DataManifest) -> Result<(), RecipeError> {
    let sequence = u64::from(recipe.model.sequence);
    let batch = u64::from(recipe.training.batch) * sequence;
    let at = crate::recipe::KeyPath::of(&["data"]);
    // A window has one more token than it predicts from.
    if manifest.train_tokens <= batch {
        let message = format!(
            "the corpus has {} training tokens, fewer than one batch of {batch} (batch {} x \
             sequence {sequence}); hint: add data, or lower `training.batch`",
            manifest.train_tokens, recipe.training.batch
        );
        return Err(recipe.error_at(&at, &message));
    }
    if manifest.validation_tokens <= sequence {
        let message = format!(
            "the corpus holds out {} tokens, fewer than one window of {sequence}; hint: add \
             data, or raise `data.held_out`",
            manifest.validation_tokens
        );
        return Err(recipe.error_at(&at, &message));
    }
    Ok(())
}

fn grid_run(
    recipe: &Recipe,
    manifest: &DataManifest,
    request: &RunRequest,
) -> Result<GridRun, RecipeError> {
    let shape = Shape::Lm(shape(recipe, manifest, request.size).map_err(|error| {
        let message = match request.amount {
            Amount::Budget(budget) if request.size_at == request.amount_at => {
                format!("at the budget of {budget:e} FLOPs, {error}")
            }
            _ => error.to_string(),
        };
        recipe.error_at(&request.size_at, &message)
    })?);
    let (tokens_requested, budget) = match request.amount {
        #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
        Amount::Tokens(tokens) => (tokens as f64, None),
        Amount::Budget(budget) => (budget / shape.flops_per_token(), Some(budget)),
    };
    let steps = steps(recipe, tokens_requested)
        .ok_or_else(|| recipe.error_at(&request.amount_at, &too_long(tokens_requested)))?;
    let config = RunConfig {
        training_revision: TRAINING_REVISION,
        shape,
        data: manifest.id.clone(),
        batch: recipe.training.batch,
        steps,
        optimizer: recipe.training.optimizer.clone(),
        schedule: recipe.training.schedule.clone(),
        seed: request.seed,
        parent: None,
    };
    let run = Run {
        config,
        source: recipe.data.clone(),
        manifest: manifest.clone(),
        evaluation: recipe.evaluation.clone(),
    };
    Ok(GridRun { run, role: request.role, tokens_requested, budget })
}

/// Most steps of a run; a hundred days at a millisecond each.
const MAX_STEPS: f64 = 1e10;

/// Whole steps nearest to a token count, at least one; `None` beyond the limit.
fn steps(recipe: &Recipe, tokens: f64) -> Option<u64> {
    let per_step = f64::from(recipe.training.batch) * f64::from(recipe.model.sequence);
    let steps = (tokens / per_step).round().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1e10")]
    (steps <= MAX_STEPS).then_some(steps as u64)
}

fn too_long(tokens: f64) -> String {
    format!(
        "{tokens:e} tokens are more than {MAX_STEPS:e} optimiser steps; hint: raise \
         `training.batch`, or ask for less"
    )
}

fn shape(
    recipe: &Recipe,
    manifest: &DataManifest,
    size: SizeRequest,
) -> Result<LmShape, ShapeError> {
    let rule = ShapeRule {
        vocabulary: manifest.vocabulary,
        sequence: recipe.model.sequence,
        mlp: recipe.model.mlp,
        head_width: recipe.model.head_width,
        aspect: recipe.model.aspect,
    };
    let shape = match size {
        SizeRequest::Parameters(target) => rule.of_parameters(target)?,
        SizeRequest::Shape { width, layers, heads } => {
            if width == 0 {
                return Err(ShapeError::Zero("width"));
            }
            let heads = heads.unwrap_or((width / rule.head_width).max(1));
            LmShape { layers, heads, ..rule.of_width(width) }
        }
    };
    shape.check()?;
    Ok(shape)
}

#[cfg(test)]
mod tests;
