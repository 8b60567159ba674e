//! How much memory a run takes while it trains.
//!
//! Weights, gradients and the two moments of AdamW are 16 bytes per parameter. A training step
//! keeps, per token and layer, the inputs and outputs of its norms, products and activations
//! (about 10 widths, and three MLP widths), and per token three rows over the vocabulary. The
//! estimate is meant for "does it suffice", and is right within about a factor of 1.5; it leaves
//! out memory-mapped data.

use crate::{
    run::RunConfig,
    shape::{LmShape, Shape, diffusion::DiffusionShape},
};

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

/// Share of the memory of a slot that a run may be estimated at.
const SHARE: f64 = 0.9;

/// The largest estimate in bytes that the memory of a slot suffices for.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "byte counts are below 2^53, and a share of one is no larger"
)]
#[must_use]
pub fn largest_estimate(available: u64) -> u64 {
    (SHARE * available as f64) as u64
}

/// Whether the memory of a slot suffices for a run of this estimate, both in bytes.
#[must_use]
pub fn suffices(estimate: u64, available: u64) -> bool {
    estimate <= largest_estimate(available)
}

/// Memory of each slot in bytes where so many share that of a device: an equal part. Whatever is
/// trained in the others, what fits a part fits.
#[must_use]
pub fn slot_memory_bytes(device: u64, slots: u32) -> u64 {
    device / u64::from(slots.max(1))
}

/// Widths that a diffusion model keeps per patch and layer beside those of a language model: shift,
/// scale and gate on either half.
const MODULATED_WIDTHS: u64 = 6;

/// Estimated bytes of the trainer of this run.
#[must_use]
pub fn training_memory_bytes(config: &RunConfig) -> u64 {
    let rows = u64::from(config.batch) * config.shape.rows();
    let (per_row, copies) = match &config.shape {
        // Weights, gradient, two moments.
        Shape::Lm(shape) => (lm_row(shape), 4),
        // And their moving average.
        Shape::Diffusion(shape) => (diffusion_row(shape), 5),
    };
    let state = copies * F32 * config.shape.parameters().total;
    PROCESS_BYTES.saturating_add(state).saturating_add(F32.saturating_mul(rows * per_row))
}

fn lm_row(shape: &LmShape) -> u64 {
    let width = u64::from(shape.width);
    let layer = WIDTHS_PER_LAYER * width + HIDDEN_PER_LAYER * u64::from(shape.hidden());
    u64::from(shape.layers) * layer + VOCABULARY_ROWS * u64::from(shape.vocabulary) + width
}

fn diffusion_row(shape: &DiffusionShape) -> u64 {
    let width = u64::from(shape.width);
    let widths = WIDTHS_PER_LAYER + MODULATED_WIDTHS;
    let layer = widths * width + HIDDEN_PER_LAYER * u64::from(shape.hidden());
    u64::from(shape.layers) * layer + 4 * u64::from(shape.patch_values()) + width
}

/// Bytes of the largest single tensor of this run.
#[must_use]
pub fn largest_tensor_bytes(config: &RunConfig) -> u64 {
    let rows = u64::from(config.batch) * config.shape.rows();
    let width = u64::from(config.shape.width());
    let (hidden, outer) = match &config.shape {
        Shape::Lm(shape) => (shape.hidden(), shape.vocabulary),
        Shape::Diffusion(shape) => (shape.hidden(), shape.patch_values()),
    };
    let (hidden, outer) = (u64::from(hidden), u64::from(outer));
    let activations = rows * outer.max(hidden).max(3 * width);
    F32.saturating_mul(activations.max(outer * width).max(width * hidden))
}
