//! What a sweep leaves on disks: checkpoints, by their arithmetic, and points, by how often a
//! trainer reports. Both are estimates for "is there room".

use serde::Serialize;

use crate::{
    data::DataManifest,
    grid::{Grid, GridRun},
    recipe::Recipe,
    run::RunConfig,
    shape::Shape,
};

/// Checkpoints of a run that are kept beside those that branches fork from: the newest and the one
/// before it.
const KEPT: u64 = 2;

/// Reports of training metrics over a run, at least where it has so many steps; a trainer makes one
/// every (steps / this) steps, rounded down.
const REPORTS: u64 = 200;

/// Metrics of a report: loss, gradient norm, learning rate, tokens, FLOPs, seconds, speed.
const TRAINING_METRICS: u64 = 7;

/// Metrics of an evaluation of a diffusion model: its loss, and that in five ranges of the timestep.
const DIFFUSION_METRICS: u64 = 6;

/// Bytes of a point in an SQLite store: 23.6 over 280,000 points of 200 runs (measured).
const POINT_BYTES: u64 = 24;

/// What a sweep leaves on disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// Bytes of the checkpoints that are kept, at most.
    pub checkpoint_bytes: u64,
    /// Points in the store, about, without those of tasks.
    pub points: u64,
    /// Bytes of these points.
    pub point_bytes: u64,
}

impl Storage {
    /// What the runs of a grid leave.
    pub(super) fn of(recipe: &Recipe, grid: &Grid, manifest: &DataManifest) -> Self {
        let points = |entry: &GridRun| points(recipe, &entry.run.config, manifest);
        let points: u64 = grid.runs.iter().map(points).sum();
        Self {
            checkpoint_bytes: grid.runs.iter().map(checkpoint_bytes).sum(),
            points,
            point_bytes: points * POINT_BYTES,
        }
    }
}

fn checkpoint_bytes(entry: &GridRun) -> u64 {
    // Weights and two moments; of a diffusion model also the moving average.
    let copies = match entry.run.config.shape {
        Shape::Lm(_) => 3,
        Shape::Diffusion(_) => 4,
    };
    let one = copies * 4 * entry.run.config.parameters().total;
    one * (KEPT + entry.run.forks.len() as u64)
}

fn points(recipe: &Recipe, config: &RunConfig, manifest: &DataManifest) -> u64 {
    let reports = config.own_steps() / (config.steps / REPORTS).max(1);
    let evaluation = match &config.shape {
        Shape::Lm(_) => 1 + u64::from(manifest.bytes_per_token.is_some()),
        Shape::Diffusion(_) => DIFFUSION_METRICS,
    };
    let evaluations = u64::from(recipe.evaluation.times).min(config.own_steps());
    reports * TRAINING_METRICS + evaluations * evaluation
}
