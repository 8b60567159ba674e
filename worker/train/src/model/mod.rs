//! Model families, one file each, and the parameters they are made of.

pub(crate) mod lm;
mod parameter;

pub(crate) use parameter::{Parameter, Role, leaf, normal, ones, zeros};
