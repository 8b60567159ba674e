//! Token shift: the first half of the channels of each place come from the place before it.
//!
//! y[t, c] = x[t - 1, c] for c < width / 2 and x[t, c] for the rest; the first place of a window
//! has zeros for the half it lacks. Attention that reads y sees pairs of neighbouring tokens at
//! once, so that one layer can look up what followed an earlier token (Olsson et al. 2022,
//! 2209.11895, section on smeared keys; Peng et al. 2023, 2305.13048).

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::Tensor,
};

use super::flex::{Operand, Plain, contiguous, plain, values};

/// Shifts half of `x` [windows * sequence, width] by one place within each window.
pub(crate) fn token_shift(x: Tensor<2>, sequence: usize) -> Tensor<2> {
    match x.into() {
        Operand::Tracked(x) => {
            let prepared = TokenShift.prepare::<NoCheckpointing>([x.node()]);
            let output = forward(&contiguous(x.into_primitive()), sequence);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(sequence, output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        Operand::Plain(x) => Tensor::from_primitive::<Flex>(forward(&contiguous(x), sequence)),
        Operand::Other(x) => composed(x, sequence),
    }
}

/// The same of Burn's operations.
pub(crate) fn composed(x: Tensor<2>, sequence: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    let half = width / 2;
    let x: Tensor<3> = x.reshape([rows / sequence, sequence, width]);
    let earlier = x.clone().narrow(1, 0, sequence - 1).narrow(2, 0, half);
    let first = x.clone().narrow(1, 0, 1).narrow(2, 0, half).zeros_like();
    let shifted = Tensor::cat(vec![first, earlier], 1);
    let kept = x.narrow(2, half, width - half);
    Tensor::cat(vec![shifted, kept], 2).reshape([rows, width])
}

#[derive(Debug)]
struct TokenShift;

impl Backward<Flex, 1> for TokenShift {
    /// Places of a window.
    type State = usize;

    fn backward(self, ops: Ops<usize, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let sequence = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            backward(&contiguous(grad), sequence)
        });
    }
}

fn forward(x: &Plain, sequence: usize) -> Plain {
    let (rows, width) = (x.layout().shape()[0], x.layout().shape()[1]);
    let half = width / 2;
    let mut output = values(x).to_vec();
    for (to, from) in
        output.chunks_exact_mut(sequence * width).zip(values(x).chunks_exact(sequence * width))
    {
        to[..half].fill(0.0);
        for place in 1..sequence {
            to[place * width..][..half].copy_from_slice(&from[(place - 1) * width..][..half]);
        }
    }
    plain(output, [rows, width])
}

fn backward(grad: &Plain, sequence: usize) -> Plain {
    let (rows, width) = (grad.layout().shape()[0], grad.layout().shape()[1]);
    let half = width / 2;
    let mut output = values(grad).to_vec();
    for (to, from) in
        output.chunks_exact_mut(sequence * width).zip(values(grad).chunks_exact(sequence * width))
    {
        for place in 1..sequence {
            to[(place - 1) * width..][..half].copy_from_slice(&from[place * width..][..half]);
        }
        to[(sequence - 1) * width..][..half].fill(0.0);
    }
    plain(output, [rows, width])
}
