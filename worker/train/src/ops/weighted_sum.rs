//! A weighted sum of gradients, in place on the CPU backend.

use burn::{backend::Flex, tensor::Tensor};

use super::{
    flex::{Operand, Plain, contiguous, values, values_mut},
    simd::dispatch,
};

/// The sum of `weight * term` over plain tensors of one shape, taken from left to right. A single
/// term has all the weight and is given back as it is.
///
/// # Panics
/// When there is no term, or one in an autodiff graph.
pub(crate) fn weighted_sum(mut terms: Vec<Tensor<2>>, weights: &[f32]) -> Tensor<2> {
    if terms.len() == 1 {
        return terms.remove(0);
    }
    let sum =
        |(sum, weight): (Tensor<2>, f32), (term, next): (Tensor<2>, f32)| {
            let sum =
                match (sum.into(), term.into()) {
                    (Operand::Plain(sum), Operand::Plain(term)) => Tensor::from_primitive::<Flex>(
                        add(contiguous(sum), weight, &contiguous(term), next),
                    ),
                    (Operand::Other(sum), Operand::Other(term)) => sum * weight + term * next,
                    _ => panic!("the terms of a sum live on one device and in no graph"),
                };
            (sum, 1.0)
        };
    let terms = terms.into_iter().zip(weights.iter().copied());
    terms.reduce(sum).expect("a sum has a term").0
}

/// `a * sum + b * term`, in the storage of `sum` where nobody else holds it.
fn add(mut sum: Plain, a: f32, term: &Plain, b: f32) -> Plain {
    let (to, from) = (values_mut(&mut sum), values(term));
    dispatch(
        #[inline(always)]
        || {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from.mul_add(b, *to * a);
            }
        },
    );
    sum
}
