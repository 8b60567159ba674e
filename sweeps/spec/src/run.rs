//! A run: one training in full configuration, known by the hash of its content.

use serde::{Deserialize, Serialize};

use crate::{
    data::{DataManifest, DataSource},
    hash::{canonical_json, content_hash},
    id::{DataId, RunId},
    shape::{ParameterCounts, Shape},
    task::{Mixed, Task},
    training::{Optimizer, Schedule, TRAINING_REVISION},
};

/// Everything that changes the weights of a run. Its canonical JSON is what is hashed, stored and
/// sent; a key at its default is left out of it, so that a new key leaves old ids alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Raised when the same configuration would train differently.
    pub training_revision: u32,
    /// Family and exact shape.
    pub shape: Shape,
    /// The data by content.
    pub data: DataId,
    /// Sequences per optimiser step.
    pub batch: u32,
    /// Optimiser steps; D is `steps * batch * sequence`.
    pub steps: u64,
    /// Optimiser and width scaling.
    pub optimizer: Optimizer,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Seed of weights and data order.
    pub seed: u64,
    /// The trunk this run forks from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentEdge>,
    /// Tasks that training windows are made of, in the order of the recipe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture: Vec<Mixed>,
}

/// Where a branch leaves its trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentEdge {
    /// The trunk.
    pub run: RunId,
    /// The step whose checkpoint is taken.
    pub step: u64,
}

impl RunConfig {
    /// The identity of the run. That of a trunk leaves out its end: a larger D that is asked for
    /// later extends it and does not train it anew.
    #[must_use]
    pub fn id(&self) -> RunId {
        if self.is_trunk() {
            let endless = Self { steps: 0, ..self.clone() };
            return RunId::from_hash(&content_hash("sweep.run/1", &endless));
        }
        RunId::from_hash(&content_hash("sweep.run/1", self))
    }

    /// Whether it exists to be forked from: trained at constant rate, no observation.
    #[must_use]
    pub fn is_trunk(&self) -> bool {
        self.schedule.is_constant()
    }

    /// The trunk under this run, as far as this run needs it; `None` where its schedule never is
    /// constant up to a cool-down.
    #[must_use]
    pub fn trunk(&self) -> Option<Self> {
        let steps = self.schedule.cooldown_start(self.steps)?;
        Some(Self { steps, schedule: self.schedule.trunk(), parent: None, ..self.clone() })
    }

    /// The step after which this run trains itself: that of its fork, 0 without a trunk.
    #[must_use]
    pub fn first_step(&self) -> u64 {
        self.parent.as_ref().map_or(0, |parent| parent.step)
    }

    /// Steps that this run trains itself; the others were its trunk's.
    #[must_use]
    pub fn own_steps(&self) -> u64 {
        self.steps.saturating_sub(self.first_step())
    }

    /// Share of the steps that this run trains itself.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
    pub fn own_share(&self) -> f64 {
        if self.steps == 0 { 1.0 } else { self.own_steps() as f64 / self.steps as f64 }
    }

    /// Tokens of the steps that this run trains itself.
    #[must_use]
    pub fn own_tokens(&self) -> u64 {
        self.own_steps() * self.tokens_per_step()
    }

    /// Exact FLOPs of the steps that this run trains itself: its part of the cost of a sweep, in
    /// which every trunk counts once.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
    pub fn own_flops(&self) -> f64 {
        self.shape.flops_per_token() * self.own_tokens() as f64
    }

    /// 6 N D of the steps that this run trains itself.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn own_flops_6nd(&self) -> f64 {
        6.0 * self.parameters().total as f64 * self.own_tokens() as f64
    }

    /// The text that is hashed, stored and sent.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        canonical_json(self)
    }

    /// Tokens of one optimiser step.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        u64::from(self.batch) * self.shape.sequence()
    }

    /// Training tokens seen, D; of a branch along its whole path, from the first step of its trunk.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.steps * self.tokens_per_step()
    }

    /// Parameters by convention.
    #[must_use]
    pub fn parameters(&self) -> ParameterCounts {
        self.shape.parameters()
    }

    /// Exact training FLOPs, of a branch along its whole path.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
    pub fn flops(&self) -> f64 {
        self.shape.flops_per_token() * self.tokens() as f64
    }

    /// The usual estimate 6 N D with all parameters.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn flops_6nd(&self) -> f64 {
        6.0 * self.parameters().total as f64 * self.tokens() as f64
    }

    /// Whether this program trains this configuration as it was meant.
    #[must_use]
    pub fn is_current_revision(&self) -> bool {
        self.training_revision == TRAINING_REVISION
    }
}

/// What a run is for in one sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunRole {
    /// Its observation enters the fit.
    Fit,
    /// Held out of the fit: the forecast is compared with it. Trained after the others.
    Check,
    /// Branches fork from it; it gives no observation.
    Trunk,
    /// A place of the grid at another learning rate: it shows how much the rate matters, and enters
    /// no fit, whose runs all have the rate of the recipe.
    Sensitivity,
}

/// How often and on how much a run is evaluated; no part of its identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Tokens of the fixed held-out set, in whole windows; fewer where the data has fewer.
    pub tokens: u64,
    /// Evaluations spread over the run in equal logarithmic spacing; the last step is always one.
    pub times: u32,
    /// How a diffusion model is sampled from at its last step; absent where nothing is sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Tasks that are scored; the place of a task is its number in its metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
}

/// How samples are drawn from a diffusion model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// The algorithm.
    pub sampler: Sampler,
    /// Evaluations of the model per sample.
    pub steps: u32,
    /// Number of samples.
    pub count: u32,
}

/// Samplers of diffusion models.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Deterministic (Song et al. 2021, 2010.02502).
    #[default]
    Ddim,
    /// With fresh noise at every step (Ho et al. 2020, 2006.11239).
    Ddpm,
}

/// A run with what a worker needs to train it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What is hashed.
    pub config: RunConfig,
    /// Where a worker finds the data; it must read back to `config.data`.
    pub source: DataSource,
    /// What was read when the sweep was planned.
    pub manifest: DataManifest,
    /// How it is evaluated.
    pub evaluation: Evaluation,
    /// Of a trunk: the steps whose checkpoints branches fork from, rising; they are kept. No part
    /// of its identity, since a branch may be asked for later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forks: Vec<u64>,
}

impl Run {
    /// The same trunk with what `other`, the same trunk of another submission, asks for: the
    /// later end, and the forks of both. Everything else is `self`'s.
    #[must_use]
    pub fn extended_by(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.config.steps = self.config.steps.max(other.config.steps);
        merged.forks.extend(&other.forks);
        merged.forks.sort_unstable();
        merged.forks.dedup();
        merged
    }
}
