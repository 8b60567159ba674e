//! The two operations that let a condition steer a layer (adaLN-zero: Peebles and Xie 2022,
//! 2212.09748), one pass each way.
//!
//! The rows of x are the patches of images, `rows` for each; `mods` has a row per image with parts
//! of the width of x side by side. With a shift b, a scale s and a gate g of the image:
//! y = (1 + s) x / sqrt(mean(x^2) + epsilon) + b, and y = x + g z.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::Tensor,
};

use super::{
    flex::{Operand, Plain, contiguous, plain, values},
    rms_norm::EPSILON,
    simd::{dispatch, dot},
};

/// Which part of `mods` is meant, and how many rows of x an image has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modulation {
    /// Rows of x for each row of `mods`.
    pub(crate) rows: usize,
    /// Place of the part, counted in widths: the shift, with the scale after it, or the gate.
    pub(crate) part: usize,
}

/// Normalises the rows of `x` [images * rows, width], then scales and shifts them by the two parts
/// of `mods` [images, parts * width] from `at.part` on.
pub(crate) fn modulated_norm(x: Tensor<2>, mods: Tensor<2>, at: Modulation) -> Tensor<2> {
    match (x.into(), mods.into()) {
        (Operand::Tracked(x), Operand::Tracked(mods)) => {
            let prepared = ModulatedNorm.prepare::<NoCheckpointing>([x.node(), mods.node()]);
            let (x, mods) = (contiguous(x.into_primitive()), contiguous(mods.into_primitive()));
            let (output, inverse) = norm_forward(&x, &mods, at);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    prepared.finish(NormState { x, mods, inverse, at }, output)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        (Operand::Plain(x), Operand::Plain(mods)) => {
            let (output, _) = norm_forward(&contiguous(x), &contiguous(mods), at);
            Tensor::from_primitive::<Flex>(output)
        }
        (Operand::Other(x), Operand::Other(mods)) => composed_norm(x, mods, at),
        _ => panic!("the operands of a norm live on one device and in one graph"),
    }
}

/// Adds to `x` the rows of `z`, both [images * rows, width], times the part `at.part` of `mods`.
pub(crate) fn gated_sum(x: Tensor<2>, z: Tensor<2>, mods: Tensor<2>, at: Modulation) -> Tensor<2> {
    match (x.into(), z.into(), mods.into()) {
        (Operand::Tracked(x), Operand::Tracked(z), Operand::Tracked(mods)) => {
            let nodes = [x.node(), z.node(), mods.node()];
            let prepared = GatedSum.prepare::<NoCheckpointing>(nodes);
            let [x, z, mods] = [x, z, mods].map(|operand| contiguous(operand.into_primitive()));
            let output = gate_forward(&x, &z, &mods, at);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(GateState { z, mods, at }, output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        (Operand::Plain(x), Operand::Plain(z), Operand::Plain(mods)) => {
            let [x, z, mods] = [x, z, mods].map(contiguous);
            Tensor::from_primitive::<Flex>(gate_forward(&x, &z, &mods, at))
        }
        (Operand::Other(x), Operand::Other(z), Operand::Other(mods)) => {
            composed_gate(x, z, mods, at)
        }
        _ => panic!("the operands of a gate live on one device and in one graph"),
    }
}

/// One part of `mods`, repeated for the rows of each image: [images * rows, width].
fn spread(mods: Tensor<2>, width: usize, rows: usize, part: usize) -> Tensor<2> {
    let [images, _] = mods.dims();
    let one: Tensor<3> = mods.narrow(1, part * width, width).unsqueeze_dim(1);
    one.expand([images, rows, width]).reshape([images * rows, width])
}

/// The same of Burn's operations.
pub(crate) fn composed_norm(x: Tensor<2>, mods: Tensor<2>, at: Modulation) -> Tensor<2> {
    let [_, width] = x.dims();
    let inverse = (x.clone().square().mean_dim(1) + EPSILON).sqrt().recip();
    let shift = spread(mods.clone(), width, at.rows, at.part);
    let scale = spread(mods, width, at.rows, at.part + 1);
    x * inverse * (scale + 1.0) + shift
}

/// The same of Burn's operations.
pub(crate) fn composed_gate(
    x: Tensor<2>,
    z: Tensor<2>,
    mods: Tensor<2>,
    at: Modulation,
) -> Tensor<2> {
    let [_, width] = x.dims();
    x + z * spread(mods, width, at.rows, at.part)
}

#[derive(Debug)]
struct ModulatedNorm;

#[derive(Clone, Debug)]
struct NormState {
    x: Plain,
    mods: Plain,
    inverse: Vec<f32>,
    at: Modulation,
}

impl Backward<Flex, 2> for ModulatedNorm {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (grad_x, grad_mods) = norm_backward(&ops.state, &grad);
        let [x, mods] = ops.parents;
        for (node, grad) in [(x, grad_x), (mods, grad_mods)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct GatedSum;

#[derive(Clone, Debug)]
struct GateState {
    z: Plain,
    mods: Plain,
    at: Modulation,
}

impl Backward<Flex, 3> for GatedSum {
    type State = GateState;

    fn backward(self, ops: Ops<GateState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (grad_z, grad_mods) = gate_backward(&ops.state, &grad);
        let [x, z, mods] = ops.parents;
        for (node, grad) in [(x, grad), (z, grad_z), (mods, grad_mods)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

fn width_of(tensor: &Plain) -> usize {
    tensor.layout().shape()[1]
}

#[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
fn norm_forward(x: &Plain, mods: &Plain, at: Modulation) -> (Plain, Vec<f32>) {
    let (width, parts) = (width_of(x), width_of(mods));
    let (x, mods) = (values(x), values(mods));
    let mut output = vec![0.0; x.len()];
    let mut inverse = vec![0.0; x.len() / width];
    dispatch(
        #[inline(always)]
        || {
            for (row, inverse) in inverse.iter_mut().enumerate() {
                let cells = row * width..(row + 1) * width;
                let (x, y) = (&x[cells.clone()], &mut output[cells]);
                let image = &mods[row / at.rows * parts + at.part * width..];
                let (shift, scale) = (&image[..width], &image[width..2 * width]);
                *inverse = 1.0 / (dot(x, x) / width as f32 + EPSILON).sqrt();
                for (((y, &x), &shift), &scale) in y.iter_mut().zip(x).zip(shift).zip(scale) {
                    *y = (x * *inverse).mul_add(1.0 + scale, shift);
                }
            }
        },
    );
    let rows = inverse.len();
    (plain(output, [rows, width]), inverse)
}

/// With n = x / rms and w = (1 + s) dy: grad x = (w - n mean(w n)) / rms, and summed over the rows
/// of an image grad s = dy n, grad b = dy.
#[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
fn norm_backward(state: &NormState, grad: &Plain) -> (Plain, Plain) {
    let (width, parts, at) = (width_of(&state.x), width_of(&state.mods), state.at);
    let (x, mods, grad) = (values(&state.x), values(&state.mods), values(grad));
    let mut grad_x = vec![0.0; x.len()];
    let mut grad_mods = vec![0.0; mods.len()];
    let mut weighted = vec![0.0_f32; width];
    dispatch(
        #[inline(always)]
        || {
            for (row, &inverse) in state.inverse.iter().enumerate() {
                let cells = row * width..(row + 1) * width;
                let (x, dy) = (&x[cells.clone()], &grad[cells.clone()]);
                let part = row / at.rows * parts + at.part * width;
                let scale = &mods[part + width..part + 2 * width];
                for ((w, &dy), &scale) in weighted.iter_mut().zip(dy).zip(scale) {
                    *w = dy * (1.0 + scale);
                }
                let pull = dot(&weighted, x) / width as f32 * inverse * inverse;
                for ((dx, &w), &x) in grad_x[cells].iter_mut().zip(&weighted).zip(x) {
                    *dx = inverse * (w - x * pull);
                }
                let (shifts, scales) = grad_mods[part..part + 2 * width].split_at_mut(width);
                for (((b, s), &dy), &x) in shifts.iter_mut().zip(scales).zip(dy).zip(x) {
                    *b += dy;
                    *s = (dy * inverse).mul_add(x, *s);
                }
            }
        },
    );
    let (rows, images) = (state.inverse.len(), grad_mods.len() / parts);
    (plain(grad_x, [rows, width]), plain(grad_mods, [images, parts]))
}

fn gate_forward(x: &Plain, z: &Plain, mods: &Plain, at: Modulation) -> Plain {
    let (width, parts) = (width_of(x), width_of(mods));
    let (x, z, mods) = (values(x), values(z), values(mods));
    let mut output = vec![0.0; x.len()];
    dispatch(
        #[inline(always)]
        || {
            let rows = output.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for (row, ((y, x), z)) in rows.zip(z.chunks_exact(width)).enumerate() {
                let gate = &mods[row / at.rows * parts + at.part * width..][..width];
                for (((y, &x), &z), &gate) in y.iter_mut().zip(x).zip(z).zip(gate) {
                    *y = gate.mul_add(z, x);
                }
            }
        },
    );
    plain(output, [x.len() / width, width])
}

/// grad z = g dy, and summed over the rows of an image grad g = dy z.
fn gate_backward(state: &GateState, grad: &Plain) -> (Plain, Plain) {
    let (width, parts, at) = (width_of(&state.z), width_of(&state.mods), state.at);
    let (z, mods, grad) = (values(&state.z), values(&state.mods), values(grad));
    let mut grad_z = vec![0.0; z.len()];
    let mut grad_mods = vec![0.0; mods.len()];
    dispatch(
        #[inline(always)]
        || {
            let rows = grad_z.chunks_exact_mut(width).zip(z.chunks_exact(width));
            for (row, ((dz, z), dy)) in rows.zip(grad.chunks_exact(width)).enumerate() {
                let part = row / at.rows * parts + at.part * width;
                let (gate, sum) = (&mods[part..part + width], &mut grad_mods[part..part + width]);
                let cells = dz.iter_mut().zip(z).zip(dy);
                for (((dz, &z), &dy), (&gate, sum)) in cells.zip(gate.iter().zip(sum)) {
                    *dz = dy * gate;
                    *sum = dy.mul_add(z, *sum);
                }
            }
        },
    );
    let (rows, images) = (z.len() / width, grad_mods.len() / parts);
    (plain(grad_z, [rows, width]), plain(grad_mods, [images, parts]))
}
