//! What a sweep would be and cost, before anything is started: a pure function of the recipe, its
//! data, measured speeds and the kinds of device at hand. It changes nothing.

mod memory;
mod storage;
mod wall;
mod warning;

use std::collections::BTreeMap;

use serde::Serialize;

use self::wall::wall_seconds;
pub use self::{
    memory::{
        MAX_TENSOR_BYTES, largest_estimate, largest_tensor_bytes, slot_memory_bytes, suffices,
        training_memory_bytes,
    },
    storage::Storage,
    warning::Warning,
};
use crate::{
    cost::{Basis, CostModel, Predicted},
    data::DataManifest,
    grid::{Grid, GridRun},
    id::{RunId, SweepId},
    recipe::{Recipe, RecipeError},
    run::{ParentEdge, RunConfig, RunRole},
    shape::{ParameterCounts, Shape},
};

/// Version of the plan's JSON.
pub const PLAN_SCHEMA: &str = "sweep.plan/2";

/// A kind of device that a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceKind {
    /// Name as the inventory gives it.
    pub name: String,
    /// Runs that train at a time on all devices of the kind.
    pub slots: u32,
    /// Memory of one slot in bytes, where it is known.
    pub memory_bytes: Option<u64>,
}

/// One run of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedRun {
    /// Identity of the run.
    pub id: RunId,
    /// Whether it enters the fit.
    pub role: RunRole,
    /// Exact shape.
    pub shape: Shape,
    /// Parameters by convention.
    pub parameters: ParameterCounts,
    /// Training tokens, D.
    pub tokens: u64,
    /// The tokens asked for, before rounding to whole steps.
    pub tokens_requested: f64,
    /// D over total parameters.
    pub tokens_per_parameter: f64,
    /// Exact training FLOPs, of a branch along its whole path.
    pub flops: f64,
    /// The estimate 6 N D with total parameters.
    pub flops_6nd: f64,
    /// Where it forks from its trunk; absent for a run that starts at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentEdge>,
    /// Exact FLOPs of the steps that it trains itself.
    pub own_flops: f64,
    /// The FLOP budget it was made for.
    pub budget: Option<f64>,
    /// Sequences per optimiser step.
    pub batch: u32,
    /// Peak learning rate at the base width.
    pub learning_rate: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Passes over the unique tokens.
    pub epochs: f64,
    /// Seed.
    pub seed: u64,
    /// Estimated memory while training.
    pub memory_bytes: u64,
    /// Predicted seconds by device, in the order of the plan's devices.
    pub seconds: Vec<Option<Predicted>>,
}

/// What a sweep costs on one kind of device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DevicePlan {
    /// The device.
    #[serde(flatten)]
    pub kind: DeviceKind,
    /// Seconds of all runs one after another; absent where a run has no prediction.
    pub device_seconds: Option<f64>,
    /// Seconds until the last run ends on all slots.
    pub wall_seconds: Option<f64>,
    /// The weakest origin among the predictions.
    pub basis: Option<Basis>,
    /// Runs that the memory of a slot suffices for, where it is known.
    pub runs_in_memory: Option<usize>,
}

/// Sums over the runs. Of a branch only its own steps count, so that a trunk counts once: these
/// are what is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Number of runs.
    pub runs: usize,
    /// Those held out of the fit.
    pub checks: usize,
    /// Trunks among them, which give no observation.
    pub trunks: usize,
    /// Those at other learning rates than the recipe's, which enter no fit.
    pub sensitivity: usize,
    /// Training tokens.
    pub tokens: u64,
    /// Exact training FLOPs.
    pub flops: f64,
    /// The estimate 6 N D.
    pub flops_6nd: f64,
    /// Exact FLOPs of the same observations if every run were trained alone.
    pub flops_alone: f64,
    /// Largest estimated memory of a run.
    pub memory_bytes_max: u64,
}

/// A recipe with its data, expanded and costed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this JSON.
    pub schema: &'static str,
    /// Name of the sweep.
    pub name: String,
    /// Identity of the sweep.
    pub sweep: SweepId,
    /// The data as it was read.
    pub data: DataManifest,
    /// The runs in the order of the recipe.
    pub runs: Vec<PlannedRun>,
    /// Requests that came out as a run that was there already.
    pub merged: usize,
    /// Sums.
    pub totals: Totals,
    /// What it leaves on disks.
    pub storage: Storage,
    /// Cost by kind of device.
    pub devices: Vec<DevicePlan>,
    /// What the author should know before spending.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// Costs a grid.
    ///
    /// # Errors
    /// [`RecipeError`] for a run that no device can hold: a tensor beyond [`MAX_TENSOR_BYTES`].
    pub fn new(
        recipe: &Recipe,
        grid: &Grid,
        manifest: &DataManifest,
        cost: &CostModel,
        kinds: &[DeviceKind],
    ) -> Result<Self, RecipeError> {
        refuse_large_tensors(recipe, grid)?;
        let runs: Vec<PlannedRun> =
            grid.runs.iter().map(|entry| planned(entry, manifest, cost, kinds)).collect();
        let devices =
            kinds.iter().enumerate().map(|(place, kind)| device_plan(kind, place, &runs)).collect();
        let totals = totals(grid, &runs);
        let warnings = warning::warnings(recipe, manifest, &runs, grid.merged, kinds);
        Ok(Self {
            schema: PLAN_SCHEMA,
            name: recipe.name.clone(),
            sweep: grid.sweep_id(&recipe.name),
            data: manifest.clone(),
            runs,
            merged: grid.merged,
            totals,
            storage: Storage::of(recipe, grid, manifest),
            devices,
            warnings,
        })
    }
}

fn refuse_large_tensors(recipe: &Recipe, grid: &Grid) -> Result<(), RecipeError> {
    for entry in &grid.runs {
        let bytes = largest_tensor_bytes(&entry.run.config);
        if bytes > MAX_TENSOR_BYTES {
            let message = format!(
                "a run of {} parameters needs a tensor of {bytes} bytes, more than the limit of \
                 {MAX_TENSOR_BYTES}; hint: lower `training.batch` or `model.sequence`",
                entry.run.config.parameters().total
            );
            let at = crate::recipe::KeyPath::of(&["training", "batch"]);
            return Err(recipe.error_at(&at, &message));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
fn planned(
    entry: &GridRun,
    manifest: &DataManifest,
    cost: &CostModel,
    kinds: &[DeviceKind],
) -> PlannedRun {
    let config = &entry.run.config;
    let parameters = config.parameters();
    PlannedRun {
        id: config.id(),
        role: entry.role,
        shape: config.shape.clone(),
        parameters,
        tokens: config.tokens(),
        tokens_requested: entry.tokens_requested,
        tokens_per_parameter: config.tokens() as f64 / parameters.total as f64,
        flops: config.flops(),
        flops_6nd: config.flops_6nd(),
        parent: config.parent.clone(),
        own_flops: config.own_flops(),
        budget: entry.budget,
        batch: config.batch,
        learning_rate: config.optimizer.learning_rate,
        steps: config.steps,
        epochs: config.tokens() as f64 / manifest.train_tokens as f64,
        seed: config.seed,
        memory_bytes: training_memory_bytes(config),
        seconds: kinds.iter().map(|kind| cost.predict_own(&kind.name, config)).collect(),
    }
}

fn totals(grid: &Grid, runs: &[PlannedRun]) -> Totals {
    let of_role = |role| runs.iter().filter(|run| run.role == role).count();
    let observed = runs.iter().filter(|run| run.role != RunRole::Trunk);
    let configs = || grid.runs.iter().map(|entry| &entry.run.config);
    Totals {
        runs: runs.len(),
        checks: of_role(RunRole::Check),
        trunks: of_role(RunRole::Trunk),
        sensitivity: of_role(RunRole::Sensitivity),
        tokens: configs().map(RunConfig::own_tokens).sum(),
        flops: configs().map(RunConfig::own_flops).sum(),
        flops_6nd: configs().map(RunConfig::own_flops_6nd).sum(),
        flops_alone: observed.map(|run| run.flops).sum(),
        memory_bytes_max: runs.iter().map(|run| run.memory_bytes).max().unwrap_or(0),
    }
}

fn device_plan(kind: &DeviceKind, place: usize, runs: &[PlannedRun]) -> DevicePlan {
    let seconds: Option<Vec<f64>> =
        runs.iter().map(|run| run.seconds[place].map(|predicted| predicted.seconds)).collect();
    DevicePlan {
        device_seconds: seconds.as_ref().map(|seconds| seconds.iter().sum()),
        wall_seconds: seconds.map(|seconds| wall_seconds(runs, &seconds, kind.slots)),
        basis: runs.iter().filter_map(|run| run.seconds[place]).map(|p| p.basis).max(),
        runs_in_memory: kind
            .memory_bytes
            .map(|bytes| runs.iter().filter(|run| suffices(run.memory_bytes, bytes)).count()),
        kind: kind.clone(),
    }
}

/// Distinct values with how often each occurs; for warnings and tables.
fn tally<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
