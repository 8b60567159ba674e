//! Fused operations of the transformer, each in two forms.
//!
//! On the CPU backend an operation is one node of the autodiff graph with a hand-written backward
//! pass over slices: the passes between the matrix products are most of a small model's time. On
//! any other backend it is composed of Burn's own operations, which the GPU backends fuse and
//! differentiate themselves. The tests hold the two forms against each other and the backward
//! passes against finite differences. Matrix products stay Burn's.

mod attention;
mod cross_entropy;
mod flex;
mod modulation;
mod relu2;
mod rms_norm;
pub(crate) mod simd;
mod token_shift;
mod weighted_sum;

#[cfg(test)]
mod tests;

pub(crate) use attention::{Attention, attention};
pub(crate) use cross_entropy::cross_entropy;
pub(crate) use flex::{Operand, values, values_mut};
pub(crate) use modulation::{Modulation, gated_sum, modulated_norm};
pub(crate) use relu2::relu2;
pub(crate) use rms_norm::rms_norm;
pub(crate) use token_shift::token_shift;
pub(crate) use weighted_sum::weighted_sum;
