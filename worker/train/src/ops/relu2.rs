//! Squared rectifier y = max(x, 0)^2 (So et al. 2021, 2109.08668), one pass each way.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::{Tensor, activation},
};

use super::{
    flex::{Operand, Plain, contiguous, plain, values},
    simd::dispatch,
};

/// Squares the positive part of each element of `x` [rows, width].
pub(crate) fn relu2(x: Tensor<2>) -> Tensor<2> {
    match x.into() {
        Operand::Tracked(x) => {
            let prepared = Relu2.prepare::<NoCheckpointing>([x.node()]);
            let x = contiguous(x.into_primitive());
            let output = map(&x, &x, |x, _| x.max(0.0) * x);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(x, output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        Operand::Plain(x) => {
            let x = contiguous(x);
            Tensor::from_primitive::<Flex>(map(&x, &x, |x, _| x.max(0.0) * x))
        }
        Operand::Other(x) => composed(x),
    }
}

/// The same of Burn's operations.
pub(crate) fn composed(x: Tensor<2>) -> Tensor<2> {
    activation::relu(x).square()
}

#[derive(Debug)]
struct Relu2;

impl Backward<Flex, 1> for Relu2 {
    type State = Plain;

    fn backward(self, ops: Ops<Plain, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            map(&x, &contiguous(grad), |x, grad| 2.0 * x.max(0.0) * grad)
        });
    }
}

fn map(x: &Plain, y: &Plain, f: impl Fn(f32, f32) -> f32) -> Plain {
    let shape = x.layout().shape().clone();
    let (x, y) = (values(x), values(y));
    let mut output = vec![0.0; x.len()];
    dispatch(
        #[inline(always)]
        || {
            for ((output, &x), &y) in output.iter_mut().zip(x).zip(y) {
                *output = f(x, y);
            }
        },
    );
    plain(output, [shape[0], shape[1]])
}
