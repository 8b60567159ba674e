//! Exact model shapes, their parameter counts and their FLOPs, by family.

pub mod lm;

use serde::{Deserialize, Serialize};

pub use lm::{LmShape, Mlp};

/// The three usual ways of counting a model's parameters. Which one a law uses moves its
/// exponents by tenths, so every figure states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterCounts {
    /// Every trainable parameter (Hoffmann et al. 2022).
    pub total: u64,
    /// Without the token embedding and without the head (Kaplan et al. 2020).
    pub non_embedding: u64,
    /// Without the token embedding, with the head: the parameters that do arithmetic.
    pub with_head: u64,
}

/// Which count of parameters is N.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterConvention {
    /// Every parameter (Chinchilla).
    #[default]
    Total,
    /// Without embedding and head (Kaplan).
    NonEmbedding,
    /// Without embedding, with head.
    WithHead,
}

impl ParameterCounts {
    /// The count under a convention.
    #[must_use]
    pub const fn under(&self, convention: ParameterConvention) -> u64 {
        match convention {
            ParameterConvention::Total => self.total,
            ParameterConvention::NonEmbedding => self.non_embedding,
            ParameterConvention::WithHead => self.with_head,
        }
    }
}

/// A model family with its exact shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A decoder-only next-token language model.
    Lm(LmShape),
}

impl Shape {
    /// Parameters by convention.
    #[must_use]
    pub fn parameters(&self) -> ParameterCounts {
        match self {
            Self::Lm(shape) => shape.parameters(),
        }
    }

    /// Exact training FLOPs per token: matrix products and attention, forward and backward.
    #[must_use]
    pub fn flops_per_token(&self) -> f64 {
        match self {
            Self::Lm(shape) => shape.flops_per_token(),
        }
    }

    /// Tokens of one training sample.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Lm(shape) => u64::from(shape.sequence),
        }
    }
}
