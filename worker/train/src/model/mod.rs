//! Model families, one file each, and the parameters they are made of.

pub(crate) mod diffusion;
pub(crate) mod lm;
mod parameter;

pub(crate) use parameter::{Parameter, Role, leaf, normal, ones, zeros};

/// What the training step needs of every family.
pub(crate) trait Model: Clone + Sync {
    /// Every parameter in a fixed order: the order of checkpoints and of sums over all of them.
    fn parameters_mut(&mut self) -> Vec<&mut Parameter>;
}
