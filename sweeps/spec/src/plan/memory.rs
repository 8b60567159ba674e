//! How much memory a run takes while it trains.
//!
//! Weights, gradients and the two moments of AdamW are 16 bytes per parameter. A training step
//! keeps, per token and layer, the inputs and outputs of its norms, products and activations
//! (about 10 widths, and three MLP widths), and per token three rows over the vocabulary. The
//! estimate is meant for "does it suffice", and is right within about a factor of 1.5; it leaves
//! out memory-mapped data.

use crate::{run::RunConfig, shape::Shape};

/// Largest tensor: the buffer limit of wgpu.
pub const MAX_TENSOR_BYTES: u64 = 2 << 30;

/// The process itself: code, thread pools, allocator.
const PROCESS_BYTES: u64 = 48 << 20;

/// Widths of the residual stream kept per token and layer.
const WIDTHS_PER_LAYER: u64 = 10;

/// MLP widths kept per token and layer.
const HIDDEN_PER_LAYER: u64 = 3;

/// Rows over the vocabulary kept per token: logits, their soft-max, their gradient.
const VOCABULARY_ROWS: u64 = 3;

const F32: u64 = 4;

/// Estimated bytes of the trainer of this run.
#[must_use]
pub fn training_memory_bytes(config: &RunConfig) -> u64 {
    let Shape::Lm(shape) = &config.shape;
    let tokens = config.tokens_per_step();
    let width = u64::from(shape.width);
    let layer = WIDTHS_PER_LAYER * width + HIDDEN_PER_LAYER * u64::from(shape.hidden());
    let per_token =
        u64::from(shape.layers) * layer + VOCABULARY_ROWS * u64::from(shape.vocabulary) + width;
    let state = 4 * F32 * shape.parameters().total;
    PROCESS_BYTES.saturating_add(state).saturating_add(F32.saturating_mul(tokens * per_token))
}

/// Bytes of the largest single tensor of this run.
#[must_use]
pub fn largest_tensor_bytes(config: &RunConfig) -> u64 {
    let Shape::Lm(shape) = &config.shape;
    let tokens = config.tokens_per_step();
    let (vocabulary, width) = (u64::from(shape.vocabulary), u64::from(shape.width));
    let hidden = u64::from(shape.hidden());
    let activations = tokens * vocabulary.max(hidden).max(3 * width);
    F32.saturating_mul(activations.max(vocabulary * width).max(width * hidden))
}
