//! The next-token language model, top to bottom.
//!
//! 1. Token embedding; no learned positions.
//! 2. Layers, each x + attention(norm(x)), then x + mlp(norm(x)): pre-norm RMSNorm without bias,
//!    QK-norm, rotary positions, if wanted a token shift before queries, keys and values, causal attention, and an MLP of ReLU^2 (width 4 d) or SwiGLU.
//! 3. A last norm and an untied head. No biases, no dropout.
//!
//! Initial weights follow muP (Yang et al. 2022, 2203.03466, table 8): a matrix of fan-in n has
//! standard deviation 1 / sqrt(n), the embedding has one that does not depend on the width, and
//! the head is zero, so that the first loss is ln(vocabulary). The two matrices that write into
//! the residual stream start at zero, so each layer starts as the identity (Zhang et al. 2019,
//! 1901.09321). They are drawn on the host from the run's seed.

mod decode;

use burn::tensor::{Device, Int, Tensor, activation};
use sweep_spec::shape::lm::{LmShape, Mlp};

use super::{Model, Parameter, Role, normal, ones, zeros};
use crate::ops::{Attention, attention, cross_entropy, relu2, rms_norm, token_shift};

pub(crate) use decode::Cache;

/// Standard deviation of the token embedding.
const EMBEDDING_DEVIATION: f64 = 0.3;

/// A batch of training windows.
pub(crate) struct Batch {
    /// Token at each place, [windows * sequence].
    pub(crate) inputs: Tensor<1, Int>,
    /// The token after it, in host memory.
    pub(crate) targets: Vec<i32>,
}

/// The model with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Lm {
    attention: Attention,
    token_shift: bool,
    embedding: Parameter,
    layers: Vec<Layer>,
    norm: Parameter,
    head: Parameter,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Parameter,
    qkv: Parameter,
    attention_output: Parameter,
    mlp_norm: Parameter,
    up: Parameter,
    gate: Option<Parameter>,
    down: Parameter,
}

/// Makes parameters one after the other, each from a stream of its own.
struct Maker<'a> {
    seed: u64,
    made: u64,
    width: u32,
    device: &'a Device,
}

impl Maker<'_> {
    fn parameter(
        &mut self,
        name: String,
        role: Role,
        shape: [usize; 2],
        deviation: f64,
    ) -> Parameter {
        self.made += 1;
        let count = shape[0] * shape[1];
        let values = if deviation > 0.0 {
            normal(self.seed, self.made, count, deviation)
        } else {
            zeros(count)
        };
        Parameter::new(name, role, values, shape, self.device)
    }

    /// A matrix [fan-in, fan-out] at muP's deviation.
    #[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
    fn matrix(&mut self, name: String, shape: [usize; 2]) -> Parameter {
        let deviation = 1.0 / (shape[0] as f64).sqrt();
        self.parameter(name, Role::Matrix { width: self.width }, shape, deviation)
    }

    fn zero_matrix(&mut self, name: String, shape: [usize; 2]) -> Parameter {
        self.parameter(name, Role::Matrix { width: self.width }, shape, 0.0)
    }

    fn gain(&mut self, name: String) -> Parameter {
        self.made += 1;
        let width = self.width as usize;
        Parameter::new(name, Role::Gain, ones(width), [1, width], self.device)
    }

    fn layer(&mut self, index: usize, shape: &LmShape) -> Layer {
        let (d, h) = (shape.width as usize, shape.hidden() as usize);
        let name = |part: &str| format!("layers.{index}.{part}");
        Layer {
            attention_norm: self.gain(name("attention_norm")),
            qkv: self.matrix(name("qkv"), [d, 3 * d]),
            attention_output: self.zero_matrix(name("attention_output"), [d, d]),
            mlp_norm: self.gain(name("mlp_norm")),
            up: self.matrix(name("up"), [d, h]),
            gate: (shape.mlp == Mlp::SwiGlu).then(|| self.matrix(name("gate"), [d, h])),
            down: self.zero_matrix(name("down"), [h, d]),
        }
    }
}

impl Lm {
    /// The model of a shape with the initial weights of a seed, on `device` (without autodiff).
    pub(crate) fn new(shape: &LmShape, seed: u64, device: &Device) -> Self {
        let (d, v) = (shape.width as usize, shape.vocabulary as usize);
        let mut maker = Maker { seed, made: 0, width: shape.width, device };
        let embedding =
            maker.parameter("embedding".to_owned(), Role::Embedding, [v, d], EMBEDDING_DEVIATION);
        let layers = (0..shape.layers as usize).map(|index| maker.layer(index, shape)).collect();
        Self {
            attention: Attention::new(
                shape.sequence as usize,
                shape.heads as usize,
                shape.head_width() as usize,
            ),
            token_shift: shape.token_shift,
            embedding,
            layers,
            norm: maker.gain("norm".to_owned()),
            head: maker.zero_matrix("head".to_owned(), [d, v]),
        }
    }

    /// Mean loss of a batch in nats per token, in the autodiff graph.
    pub(crate) fn loss(&self, batch: &Batch) -> Tensor<1> {
        self.forward(batch, |parameter| parameter.value.clone())
    }

    /// Mean loss of a batch outside any graph.
    pub(crate) fn evaluate(&self, batch: &Batch) -> Tensor<1> {
        self.forward(batch, Parameter::plain)
    }

    fn forward(&self, batch: &Batch, value: impl Fn(&Parameter) -> Tensor<2>) -> Tensor<1> {
        let x = self.stream(batch.inputs.clone(), &value);
        let logits = rms_norm(x, value(&self.norm)).matmul(value(&self.head));
        let device = batch.inputs.device();
        cross_entropy(logits, &batch.targets, || Tensor::from_data(&batch.targets[..], &device))
    }

    /// The residual stream after the last layer, [tokens, width].
    fn stream(&self, inputs: Tensor<1, Int>, value: impl Fn(&Parameter) -> Tensor<2>) -> Tensor<2> {
        let mut x = value(&self.embedding).select(0, inputs);
        for layer in &self.layers {
            let normed = rms_norm(x.clone(), value(&layer.attention_norm));
            let normed = if self.token_shift {
                token_shift(normed, self.attention.sequence)
            } else {
                normed
            };
            let mixed = attention(normed.matmul(value(&layer.qkv)), &self.attention);
            x = x + mixed.matmul(value(&layer.attention_output));
            let normed = rms_norm(x.clone(), value(&layer.mlp_norm));
            let up = normed.clone().matmul(value(&layer.up));
            let hidden = match &layer.gate {
                None => relu2(up),
                Some(gate) => activation::silu(normed.matmul(value(gate))) * up,
            };
            x = x + hidden.matmul(value(&layer.down));
        }
        x
    }
}

impl Model for Lm {
    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = vec![&mut self.embedding];
        for layer in &mut self.layers {
            let Layer { attention_norm, qkv, attention_output, mlp_norm, up, gate, down } = layer;
            all.extend([attention_norm, qkv, attention_output, mlp_norm, up]);
            all.extend(gate);
            all.push(down);
        }
        all.extend([&mut self.norm, &mut self.head]);
        all
    }
}
