//! From a recipe and its data to runs: shapes by the rule, tokens in whole optimiser steps.
//!
//! A token count D is rounded to the nearest whole number of steps of `batch * sequence` tokens,
//! at least one; a FLOP budget C is turned into tokens by the exact count, D = C / (FLOPs per
//! token), and rounded in the same way. So D and C of a run are exact, and as near to what was
//! asked for as whole steps allow.
//!
//! With `training.trunk` the runs of one size and seed become branches of a trunk, which is a run
//! of the grid too: it stands before its first branch and ends at its last fork. A check that no
//! run of the fit shares a trunk with is trained alone.
//!
//! With `[sensitivity]` some places of the grid are there once more at other learning rates, with a
//! role of their own.

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    data::DataManifest,
    hash::content_hash,
    id::{RunId, SweepId},
    recipe::{
        Amount, DiffusionRule, MAX_BATCH, MAX_RUNS, Recipe, RecipeError, RunRequest, SizeRequest,
    },
    run::{Evaluation, ParentEdge, Run, RunConfig, RunRole},
    shape::{
        DiffusionShape, LmShape, Shape, ShapeError, diffusion::DiffusionShapeRule, lm::ShapeRule,
    },
    task::mixture,
    training::{Optimizer, TRAINING_REVISION},
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
        let mut run = grid_run(recipe, manifest, request)?;
        if recipe.training.trunk {
            fork(recipe, request, &mut run, &mut grid, &mut places)?;
        }
        let id = run.run.config.id();
        match places.get(&id) {
            None => {
                places.insert(id, grid.runs.len());
                grid.runs.push(run);
            }
            // A run at another rate that is there already is known, whatever it is there for.
            Some(&place)
                if grid.runs[place].role == run.role || run.role == RunRole::Sensitivity =>
            {
                grid.merged += 1;
            }
            Some(_) => {
                let message = "this check is also a run of the fit, so it would forecast itself; \
                               hint: give it another size, token count or seed";
                return Err(recipe.error_at(&request.size_at, message));
            }
        }
    }
    if grid.runs.len() > MAX_RUNS {
        let message = format!(
            "{} runs, trunks included, are more than the limit of {MAX_RUNS}; hint: split the \
             recipe",
            grid.runs.len()
        );
        let last = recipe.requests.last().expect("a grid of runs has requests");
        return Err(recipe.error_at(&last.amount_at, &message));
    }
    let batch = grid.runs.iter().map(|entry| entry.run.config.batch).max();
    check_data(recipe, manifest, batch.unwrap_or(recipe.training.batch))?;
    Ok(grid)
}

/// Makes a run a branch: adds its trunk to the grid, or extends the one that is there, and sets the
/// edge to it.
fn fork(
    recipe: &Recipe,
    request: &RunRequest,
    branch: &mut GridRun,
    grid: &mut Grid,
    places: &mut HashMap<RunId, usize>,
) -> Result<(), RecipeError> {
    let refused = |message: String| recipe.error_at(&request.amount_at, &message);
    let config = &branch.run.config;
    let trunk = config.trunk().expect("a recipe with trunks has a schedule that cools down");
    let id = trunk.id();
    let known = places.get(&id).copied();
    if known.is_none() && branch.role == RunRole::Check {
        return Ok(());
    }
    let step = trunk.steps;
    check_warmup(config, step).map_err(refused)?;
    let place = known.unwrap_or_else(|| {
        let run = Run { config: trunk, forks: Vec::new(), ..branch.run.clone() };
        let entry = GridRun { run, role: RunRole::Trunk, tokens_requested: 0.0, budget: None };
        places.insert(id.clone(), grid.runs.len());
        grid.runs.push(entry);
        grid.runs.len() - 1
    });
    let entry = &mut grid.runs[place];
    let mut fork = Run { forks: vec![step], ..entry.run.clone() };
    fork.config.steps = step;
    entry.run = entry.run.extended_by(&fork);
    #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
    {
        entry.tokens_requested = entry.run.config.tokens() as f64;
    }
    branch.run.config.parent = Some(ParentEdge { run: id, step });
    Ok(())
}

/// A branch has its trunk's warm-up, whatever its own length: it must be neither cut by the share
/// of the run that it may take, nor reach into the cool-down.
fn check_warmup(config: &RunConfig, fork: u64) -> Result<(), String> {
    let schedule = &config.schedule;
    let (wanted, steps) = (schedule.warmup_steps.max(1), config.steps);
    let within = schedule.warmup(steps);
    if within < wanted {
        return Err(format!(
            "at {steps} steps `warmup_fraction` cuts the warm-up from {wanted} to {within} steps, \
             but a branch has the warm-up of its trunk; hint: set `training.warmup_steps` to at \
             most {within}, raise `training.warmup_fraction`, or ask for more"
        ));
    }
    if fork < wanted {
        return Err(format!(
            "the cool-down begins at step {fork} of {steps}, within the warm-up of {wanted} steps, \
             so there is nothing to fork from; hint: set `training.warmup_steps` to at most \
             {fork}, lower the fraction of the `wsd` schedule, or ask for more"
        ));
    }
    Ok(())
}

/// Refuses data on which not even one step can be made.
fn check_data(recipe: &Recipe, manifest: &DataManifest, sequences: u32) -> Result<(), RecipeError> {
    let sequence = u64::from(recipe.model.sequence);
    let batch = u64::from(sequences) * sequence;
    let at = crate::recipe::KeyPath::of(&["data"]);
    // A window has one more token than it predicts from.
    if manifest.train_tokens <= batch {
        let message = format!(
            "there are {} training {}, fewer than one batch of {batch} (batch {sequences} x \
             sequence {sequence}); hint: add data, or lower `training.batch`",
            manifest.train_tokens,
            manifest.unit()
        );
        return Err(recipe.error_at(&at, &message));
    }
    if manifest.validation_tokens <= sequence {
        let message = format!(
            "{} {} are held out, fewer than one window of {sequence}; hint: add \
             data, or raise `data.held_out`",
            manifest.validation_tokens,
            manifest.unit()
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
    let shape = shape(recipe, manifest, request.size).map_err(|error| {
        let message = match request.amount {
            Amount::Budget(budget) if request.size_at == request.amount_at => {
                format!("at the budget of {budget:e} FLOPs, {error}")
            }
            _ => error.to_string(),
        };
        recipe.error_at(&request.size_at, &message)
    })?;
    let (tokens_requested, budget) = match request.amount {
        #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
        Amount::Tokens(tokens) => (tokens as f64, None),
        Amount::Budget(budget) => (budget / shape.flops_per_token(), Some(budget)),
    };
    let refused = |message: String| recipe.error_at(&request.amount_at, &message);
    let batch = recipe.training.batch_of(tokens_requested);
    if batch > MAX_BATCH {
        return Err(refused(too_wide(tokens_requested, shape.data_unit(), batch)));
    }
    let steps = steps(recipe, batch, tokens_requested)
        .ok_or_else(|| refused(too_long(tokens_requested, shape.data_unit())))?;
    let config = RunConfig {
        training_revision: TRAINING_REVISION,
        shape,
        data: manifest.id.clone(),
        batch,
        steps,
        optimizer: optimizer(recipe, request, tokens_requested),
        schedule: recipe.training.schedule.clone(),
        seed: request.seed,
        parent: None,
        mixture: mixture(&recipe.evaluation.tasks),
    };
    let run = Run {
        config,
        source: recipe.data.clone(),
        manifest: manifest.clone(),
        evaluation: recipe.evaluation.clone(),
        forks: Vec::new(),
    };
    Ok(GridRun { run, role: request.role, tokens_requested, budget })
}

/// The optimiser of a run, at its own multiple of the rate that the recipe has for its tokens.
fn optimizer(recipe: &Recipe, request: &RunRequest, tokens: f64) -> Optimizer {
    let mut optimizer = recipe.training.optimizer_of(tokens);
    optimizer.learning_rate *= request.rate_factor;
    optimizer
}

/// Most steps of a run; a hundred days at a millisecond each.
const MAX_STEPS: f64 = 1e10;

/// Whole steps nearest to a token count, at least one; `None` beyond the limit.
fn steps(recipe: &Recipe, batch: u32, tokens: f64) -> Option<u64> {
    let per_step = f64::from(batch) * f64::from(recipe.model.sequence);
    let steps = (tokens / per_step).round().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1e10")]
    (steps <= MAX_STEPS).then_some(steps as u64)
}

fn too_wide(tokens: f64, unit: &str, batch: u32) -> String {
    format!(
        "at {tokens:e} {unit} `training.horizon` makes a batch of {batch} sequences, more than \
         {MAX_BATCH}; hint: lower `training.horizon.batch_exponent` or `training.batch`"
    )
}

fn too_long(tokens: f64, unit: &str) -> String {
    format!(
        "{tokens:e} {unit} are more than {MAX_STEPS:e} optimiser steps; hint: raise \
         `training.batch`, or ask for less"
    )
}

fn shape(recipe: &Recipe, manifest: &DataManifest, size: SizeRequest) -> Result<Shape, ShapeError> {
    match &recipe.model.diffusion {
        None => lm_shape(recipe, manifest, size).map(Shape::Lm),
        Some(rule) => diffusion_shape(recipe, rule, manifest, size).map(Shape::Diffusion),
    }
}

fn diffusion_shape(
    recipe: &Recipe,
    rule: &DiffusionRule,
    manifest: &DataManifest,
    size: SizeRequest,
) -> Result<DiffusionShape, ShapeError> {
    let image = manifest.image.ok_or(ShapeError::NoImages)?;
    if rule.class_conditional && image.classes == 0 {
        return Err(ShapeError::NoClasses);
    }
    let head_width = recipe.model.head_width;
    let like = DiffusionShape {
        side: image.side,
        channels: image.channels,
        patch: rule.patch,
        classes: if rule.class_conditional { image.classes } else { 0 },
        width: head_width,
        layers: 2,
        heads: 1,
        process: rule.process.clone(),
    };
    // Before a search by parameters, which would not see what is wrong with the image.
    like.check()?;
    let rule = DiffusionShapeRule { like, head_width, aspect: recipe.model.aspect };
    let shape = match size {
        SizeRequest::Parameters(target) => rule.of_parameters(target)?,
        SizeRequest::Shape { width, layers, heads } => {
            if width == 0 {
                return Err(ShapeError::Zero("width"));
            }
            let heads = heads.unwrap_or((width / head_width).max(1));
            DiffusionShape { layers, heads, ..rule.of_width(width) }
        }
    };
    shape.check()?;
    Ok(shape)
}

fn lm_shape(
    recipe: &Recipe,
    manifest: &DataManifest,
    size: SizeRequest,
) -> Result<LmShape, ShapeError> {
    let rule = ShapeRule {
        vocabulary: manifest.vocabulary,
        sequence: recipe.model.sequence,
        mlp: recipe.model.mlp,
        token_shift: recipe.model.token_shift,
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
