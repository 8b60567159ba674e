//! Mean next-token cross-entropy in nats: the mean over rows of ln sum exp(logits) - logits[target].
//!
//! On the CPU the gradient (softmax - one-hot) / rows is made in the forward pass, from the
//! exponentials that are there already; the backward pass only scales it.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::{Int, Tensor, activation},
};

use super::{
    flex::{Operand, Plain, contiguous, plain, values, values_mut},
    simd::{dispatch, exp_in_place, max},
};

/// Mean cross-entropy of `logits` [rows, vocabulary] against `targets`, one token per row; a
/// tensor of one element. `targets` stands in host memory, `device_targets` gives the same on the
/// device where the composed form needs it.
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: &[i32],
    device_targets: impl FnOnce() -> Tensor<1, Int>,
) -> Tensor<1> {
    match logits.into() {
        Operand::Tracked(logits) => {
            let prepared = CrossEntropy.prepare::<NoCheckpointing>([logits.node()]);
            let mut logits = contiguous(logits.into_primitive());
            let loss = loss_and_gradient(&mut logits, targets);
            let output = match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(logits, plain(vec![loss], [1])),
                OpsKind::UnTracked(prepared) => prepared.finish(plain(vec![loss], [1])),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        Operand::Plain(logits) => {
            let loss = loss_and_gradient(&mut contiguous(logits), targets);
            Tensor::from_primitive::<Flex>(plain(vec![loss], [1]))
        }
        Operand::Other(logits) => composed(logits, device_targets()),
    }
}

/// The same of Burn's operations.
pub(crate) fn composed(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let chosen = activation::log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1));
    chosen.mean().neg()
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Flex, 1> for CrossEntropy {
    /// The gradient for an upstream gradient of one.
    type State = Plain;

    fn backward(self, ops: Ops<Plain, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |upstream| {
            let scale = values(&contiguous(upstream))[0];
            // The loss is the root of the graph, so the factor is nearly always one.
            if scale.to_bits() != 1.0_f32.to_bits() {
                values_mut(&mut gradient).iter_mut().for_each(|value| *value *= scale);
            }
            gradient
        });
    }
}

/// Replaces the logits by their gradient and gives the mean loss.
#[expect(clippy::cast_precision_loss, reason = "row counts are below 2^24")]
#[expect(clippy::cast_possible_truncation, reason = "the mean of f32 losses is an f32")]
#[expect(clippy::cast_sign_loss, reason = "tokens are not negative; checked where data is read")]
fn loss_and_gradient(logits: &mut Plain, targets: &[i32]) -> f32 {
    let logits = values_mut(logits);
    let vocabulary = logits.len() / targets.len();
    let share = 1.0 / targets.len() as f32;
    let loss = dispatch(
        #[inline(always)]
        || {
            let mut loss = 0.0_f64;
            for (row, &target) in logits.chunks_exact_mut(vocabulary).zip(targets) {
                let target = target as usize;
                let (top, chosen) = (max(row), row[target]);
                let total = exp_in_place(row, 1.0, top);
                loss += f64::from(total.ln() + top - chosen);
                let scale = share / total;
                row.iter_mut().for_each(|value| *value *= scale);
                row[target] -= share;
            }
            loss
        },
    );
    (loss / targets.len() as f64) as f32
}
