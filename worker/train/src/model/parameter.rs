//! A named matrix of trainable numbers, with what the optimiser must know about it.

use burn::tensor::{Device, Tensor, TensorData};
use sweep_spec::random::{Purpose, Stream};

/// What a parameter does; it decides learning rate and decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A matrix that mixes a vector of this width: learning rate falls with the width, decayed.
    Matrix {
        /// Width of the model whose vectors it mixes.
        width: u32,
    },
    /// A table of vectors: learning rate as given, not decayed.
    Embedding,
    /// A gain of a norm: learning rate as given, not decayed.
    Gain,
}

/// A trainable matrix [rows, columns]; a gain has one row.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// Its path in the model, the name in checkpoints.
    pub(crate) name: String,
    /// Its role.
    pub(crate) role: Role,
    /// Its value, a leaf of the autodiff graph.
    pub(crate) value: Tensor<2>,
}

impl Parameter {
    /// A leaf on `device` (without autodiff) that holds these values.
    pub(crate) fn new(
        name: String,
        role: Role,
        values: Vec<f32>,
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        let value = Tensor::<2>::from_data(TensorData::new(values, shape), device);
        Self { name, role, value: leaf(value) }
    }

    /// Its value outside the graph.
    pub(crate) fn plain(&self) -> Tensor<2> {
        self.value.clone().inner()
    }
}

/// A plain tensor as a leaf whose gradient is wanted.
pub(crate) fn leaf(value: Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(value).require_grad()
}

/// Normal draws of this standard deviation: parameter number `index` of the run with this seed.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
pub(crate) fn normal(seed: u64, index: u64, count: usize, deviation: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Weights, index);
    (0..count).map(|_| (deviation * stream.normal()) as f32).collect()
}

/// Zeros.
pub(crate) fn zeros(count: usize) -> Vec<f32> {
    vec![0.0; count]
}

/// Ones.
pub(crate) fn ones(count: usize) -> Vec<f32> {
    vec![1.0; count]
}
