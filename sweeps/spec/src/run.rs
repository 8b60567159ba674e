//! A run: one training in full configuration, known by the hash of its content.

use serde::{Deserialize, Serialize};

use crate::{
    data::{DataManifest, DataSource},
    hash::{canonical_json, content_hash},
    id::{DataId, RunId},
    shape::{ParameterCounts, Shape},
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
    /// The identity of the run.
    #[must_use]
    pub fn id(&self) -> RunId {
        RunId::from_hash(&content_hash("sweep.run/1", self))
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

    /// Training tokens seen, D.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.steps * self.tokens_per_step()
    }

    /// Parameters by convention.
    #[must_use]
    pub fn parameters(&self) -> ParameterCounts {
        self.shape.parameters()
    }

    /// Exact training FLOPs.
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
}

/// How often and on how much a run is evaluated; no part of its identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Tokens of the fixed held-out set, in whole windows; fewer where the data has fewer.
    pub tokens: u64,
    /// Evaluations spread over the run in equal logarithmic spacing; the last step is always one.
    pub times: u32,
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
}
