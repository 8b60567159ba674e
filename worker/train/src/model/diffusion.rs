//! The diffusion transformer, top to bottom (DiT: Peebles and Xie 2022, 2212.09748).
//!
//! 1. A patch and the fixed numbers that tell its place, through one matrix to the width.
//! 2. A condition per image: the timestep as sines and cosines, through a matrix, SiLU and another
//!    matrix; the class's row of a table added where the model is told classes; SiLU again.
//! 3. Layers, each x + g1 attention(norm(x)), then x + g2 mlp(norm(x)), where norm is an RMSNorm
//!    shifted and scaled by the condition (adaLN) and g1, g2 are gates of the condition. Attention
//!    sees the whole image; the MLP is ReLU^2 of width 4 d.
//! 4. A last norm, shifted and scaled likewise, and a head back to the values of the patch.
//!
//! The matrices that make shifts, scales and gates start at zero, and so does the head: every layer
//! starts as the identity, and the first prediction is zero, whose squared noise error is 1. The
//! rest starts as in the language model (muP).

use burn::tensor::{Device, Int, Tensor, activation};
use sweep_spec::shape::diffusion::{DiffusionShape, PLACE_FEATURES, TIME_FEATURES};

use super::{Model, Parameter, Role, normal, zeros};
use crate::ops::{Attention, Modulation, attention, gated_sum, modulated_norm, relu2};

/// Standard deviation of the table of classes, as that of a token embedding.
const CLASS_DEVIATION: f64 = 0.3;

/// What the model is shown.
pub(crate) struct Inputs {
    /// Patches with their places, [images * patches, patch values + place features].
    pub(crate) patches: Tensor<2>,
    /// Features of each image's timestep, [images, time features].
    pub(crate) times: Tensor<2>,
    /// Class of each image, [images]; absent where the model is told none.
    pub(crate) classes: Option<Tensor<1, Int>>,
}

/// The model with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Dit {
    attention: Attention,
    patch: Parameter,
    time_in: Parameter,
    time_out: Parameter,
    classes: Option<Parameter>,
    layers: Vec<Layer>,
    last: Parameter,
    head: Parameter,
}

#[derive(Clone, Debug)]
struct Layer {
    /// Shift, scale, gate of attention, then of the MLP: [width, 6 width].
    modulation: Parameter,
    qkv: Parameter,
    attention_output: Parameter,
    up: Parameter,
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
    fn parameter(&mut self, name: String, role: Role, shape: [usize; 2], scale: f64) -> Parameter {
        self.made += 1;
        let count = shape[0] * shape[1];
        let values =
            if scale > 0.0 { normal(self.seed, self.made, count, scale) } else { zeros(count) };
        Parameter::new(name, role, values, shape, self.device)
    }

    /// A matrix [fan-in, fan-out] at muP's deviation; one that reads the outside world, whose
    /// fan-in does not grow with the width, keeps its learning rate.
    #[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
    fn reader(&mut self, name: &str, shape: [usize; 2]) -> Parameter {
        let deviation = 1.0 / (shape[0] as f64).sqrt();
        self.parameter(name.to_owned(), Role::Embedding, shape, deviation)
    }

    #[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
    fn matrix(&mut self, name: String, shape: [usize; 2]) -> Parameter {
        let deviation = 1.0 / (shape[0] as f64).sqrt();
        self.parameter(name, Role::Matrix { width: self.width }, shape, deviation)
    }

    fn zero_matrix(&mut self, name: String, shape: [usize; 2]) -> Parameter {
        self.parameter(name, Role::Matrix { width: self.width }, shape, 0.0)
    }

    fn layer(&mut self, index: usize, d: usize) -> Layer {
        let name = |part: &str| format!("layers.{index}.{part}");
        Layer {
            modulation: self.zero_matrix(name("modulation"), [d, 6 * d]),
            qkv: self.matrix(name("qkv"), [d, 3 * d]),
            attention_output: self.matrix(name("attention_output"), [d, d]),
            up: self.matrix(name("up"), [d, 4 * d]),
            down: self.matrix(name("down"), [4 * d, d]),
        }
    }
}

impl Dit {
    /// The model of a shape with the initial weights of a seed, on `device` (without autodiff).
    pub(crate) fn new(shape: &DiffusionShape, seed: u64, device: &Device) -> Self {
        let d = shape.width as usize;
        let values = shape.patch_values() as usize;
        let mut maker = Maker { seed, made: 0, width: shape.width, device };
        let patch = maker.reader("patch", [values + PLACE_FEATURES as usize, d]);
        let time_in = maker.reader("time_in", [TIME_FEATURES as usize, d]);
        let time_out = maker.matrix("time_out".to_owned(), [d, d]);
        let classes = (shape.classes > 0).then(|| {
            let table = [shape.classes as usize, d];
            maker.parameter("classes".to_owned(), Role::Embedding, table, CLASS_DEVIATION)
        });
        let layers = (0..shape.layers as usize).map(|index| maker.layer(index, d)).collect();
        Self {
            attention: Attention::of_all(
                shape.patches() as usize,
                shape.heads as usize,
                shape.head_width() as usize,
            ),
            patch,
            time_in,
            time_out,
            classes,
            layers,
            last: maker.zero_matrix("last".to_owned(), [d, 2 * d]),
            head: maker.zero_matrix("head".to_owned(), [d, values]),
        }
    }

    /// What the model gives out for every value, [images * patches, patch values], in the autodiff
    /// graph.
    pub(crate) fn predict(&self, inputs: &Inputs) -> Tensor<2> {
        self.forward(inputs, |parameter| parameter.value.clone())
    }

    /// The same outside any graph.
    pub(crate) fn evaluate(&self, inputs: &Inputs) -> Tensor<2> {
        self.forward(inputs, Parameter::plain)
    }

    fn forward(&self, inputs: &Inputs, value: impl Fn(&Parameter) -> Tensor<2>) -> Tensor<2> {
        let rows = self.attention.sequence;
        let at = |part: usize| Modulation { rows, part };
        let time = inputs_to(value(&self.time_in), &inputs.times);
        let mut condition = activation::silu(time).matmul(value(&self.time_out));
        if let (Some(table), Some(classes)) = (&self.classes, &inputs.classes) {
            condition = condition + value(table).select(0, classes.clone());
        }
        let condition = activation::silu(condition);
        let mut x = inputs_to(value(&self.patch), &inputs.patches);
        for layer in &self.layers {
            let mods = condition.clone().matmul(value(&layer.modulation));
            let normed = modulated_norm(x.clone(), mods.clone(), at(0));
            let mixed = attention(normed.matmul(value(&layer.qkv)), &self.attention);
            let mixed = mixed.matmul(value(&layer.attention_output));
            x = gated_sum(x, mixed, mods.clone(), at(2));
            let normed = modulated_norm(x.clone(), mods.clone(), at(3));
            let hidden = relu2(normed.matmul(value(&layer.up)));
            x = gated_sum(x, hidden.matmul(value(&layer.down)), mods, at(5));
        }
        let mods = condition.matmul(value(&self.last));
        modulated_norm(x, mods, at(0)).matmul(value(&self.head))
    }
}

/// Constant rows times a matrix that may be in an autodiff graph: the rows join its graph.
fn inputs_to(matrix: Tensor<2>, rows: &Tensor<2>) -> Tensor<2> {
    let rows = rows.clone();
    let rows = if matrix.device().is_autodiff() { Tensor::from_inner(rows) } else { rows };
    rows.matmul(matrix)
}

impl Model for Dit {
    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = vec![&mut self.patch, &mut self.time_in, &mut self.time_out];
        all.extend(&mut self.classes);
        for layer in &mut self.layers {
            let Layer { modulation, qkv, attention_output, up, down } = layer;
            all.extend([modulation, qkv, attention_output, up, down]);
        }
        all.extend([&mut self.last, &mut self.head]);
        all
    }
}
