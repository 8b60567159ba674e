//! Root-mean-square normalisation (Zhang and Sennrich 2019, 1910.07467):
//! y = g x / sqrt(mean(x^2) + epsilon), row by row, with a gain g and no bias.

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
    simd::{dispatch, dot},
};

/// Keeps a row of zeros finite.
pub(crate) const EPSILON: f32 = 1e-6;

/// Normalises the rows of `x` [rows, width] and multiplies by `gain` [1, width].
pub(crate) fn rms_norm(x: Tensor<2>, gain: Tensor<2>) -> Tensor<2> {
    match (x.into(), gain.into()) {
        (Operand::Tracked(x), Operand::Tracked(gain)) => {
            let prepared = RmsNorm.prepare::<NoCheckpointing>([x.node(), gain.node()]);
            let (x, gain) = (contiguous(x.into_primitive()), contiguous(gain.into_primitive()));
            let (output, inverse) = forward(&x, &gain);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(State { x, gain, inverse }, output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        (Operand::Plain(x), Operand::Plain(gain)) => {
            Tensor::from_primitive::<Flex>(forward(&contiguous(x), &contiguous(gain)).0)
        }
        (Operand::Other(x), Operand::Other(gain)) => composed(x, gain),
        _ => panic!("the operands of a norm live on one device and in one graph"),
    }
}

/// The same of Burn's operations.
pub(crate) fn composed(x: Tensor<2>, gain: Tensor<2>) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + EPSILON).sqrt().recip();
    x * scale * gain
}

#[derive(Debug)]
struct RmsNorm;

#[derive(Clone, Debug)]
struct State {
    x: Plain,
    gain: Plain,
    inverse: Vec<f32>,
}

impl Backward<Flex, 2> for RmsNorm {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (grad_x, grad_gain) = backward(&ops.state, &grad);
        let [x, gain] = ops.parents;
        if let Some(node) = x {
            grads.register::<Flex>(node.id, grad_x);
        }
        if let Some(node) = gain {
            grads.register::<Flex>(node.id, grad_gain);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
fn forward(x: &Plain, gain: &Plain) -> (Plain, Vec<f32>) {
    let (x, gain) = (values(x), values(gain));
    let width = gain.len();
    let mut output = vec![0.0; x.len()];
    let mut inverse = vec![0.0; x.len() / width];
    dispatch(
        #[inline(always)]
        || {
            let rows = output.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for ((output, x), inverse) in rows.zip(&mut inverse) {
                *inverse = 1.0 / (dot(x, x) / width as f32 + EPSILON).sqrt();
                for ((y, &x), &gain) in output.iter_mut().zip(x).zip(gain) {
                    *y = x * *inverse * gain;
                }
            }
        },
    );
    let rows = inverse.len();
    (plain(output, [rows, width]), inverse)
}

/// With n = x / rms: grad x = (g dy - n mean(g dy n)) / rms, grad g = sum over rows of dy n.
#[expect(clippy::cast_precision_loss, reason = "widths are below 2^24")]
fn backward(state: &State, grad: &Plain) -> (Plain, Plain) {
    let (x, gain, grad) = (values(&state.x), values(&state.gain), values(grad));
    let width = gain.len();
    let mut grad_x = vec![0.0; x.len()];
    let mut grad_gain = vec![0.0_f32; width];
    let mut weighted = vec![0.0_f32; width];
    dispatch(
        #[inline(always)]
        || {
            let rows = grad_x.chunks_exact_mut(width).zip(x.chunks_exact(width));
            let rows = rows.zip(grad.chunks_exact(width)).zip(&state.inverse);
            for (((grad_x, x), grad), &inverse) in rows {
                for ((w, &grad), &gain) in weighted.iter_mut().zip(grad).zip(gain) {
                    *w = grad * gain;
                }
                let mean = dot(&weighted, x) / width as f32;
                let pull = mean * inverse * inverse;
                for ((grad_x, &w), &x) in grad_x.iter_mut().zip(&weighted).zip(x) {
                    *grad_x = inverse * (w - x * pull);
                }
                for ((sum, &grad), &x) in grad_gain.iter_mut().zip(grad).zip(x) {
                    *sum += grad * x * inverse;
                }
            }
        },
    );
    (plain(grad_x, [x.len() / width, width]), plain(grad_gain, [1, width]))
}
