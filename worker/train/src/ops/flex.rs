//! The way from a tensor to the slices of the CPU backend, and back.

use burn::{
    backend::{Autodiff, BackendTypes, Flex},
    tensor::{Tensor, TensorData},
};

/// A tensor of the CPU backend without autodiff.
pub(crate) type Plain = <Flex as BackendTypes>::FloatTensorPrimitive;

/// A tensor of the CPU backend in an autodiff graph.
pub(crate) type Tracked = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// Where a tensor lives, with its storage.
pub(crate) enum Operand<const D: usize> {
    /// On the CPU backend, in an autodiff graph.
    Tracked(Tracked),
    /// On the CPU backend, without one.
    Plain(Plain),
    /// Elsewhere.
    Other(Tensor<D>),
}

impl<const D: usize> From<Tensor<D>> for Operand<D> {
    fn from(tensor: Tensor<D>) -> Self {
        if let Ok(tracked) = tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            return Self::Tracked(tracked);
        }
        match tensor.clone().try_into_primitive::<Flex>() {
            Ok(plain) => Self::Plain(plain),
            Err(_) => Self::Other(tensor),
        }
    }
}

/// A new tensor of these values.
pub(crate) fn plain<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Plain {
    Plain::from_data(TensorData::new(values, shape))
}

/// The values of a tensor in row-major order; a strided one is copied first.
pub(crate) fn contiguous(tensor: Plain) -> Plain {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of a contiguous tensor.
///
/// # Panics
/// When it is strided or not f32: [`contiguous`] comes first, and a trainer is f32 throughout.
pub(crate) fn values(tensor: &Plain) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous f32 tensor")
}

/// The values of a tensor for writing, in place where nobody else holds them.
///
/// # Panics
/// When the tensor is a view of part of its storage.
pub(crate) fn values_mut(tensor: &mut Plain) -> &mut [f32] {
    let covered =
        tensor.as_slice::<f32>().is_some_and(|slice| slice.len() == tensor.storage::<f32>().len());
    assert!(covered, "a tensor that is written covers its storage");
    tensor.storage_mut::<f32>()
}
