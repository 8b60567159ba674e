//! Diffusion beside the model: what it is shown, what it is measured by, how samples are drawn from
//! it. Everything that is drawn at random is drawn on the host.

pub(crate) mod evaluation;
pub(crate) mod frame;
pub(crate) mod predict;
pub(crate) mod quality;
pub(crate) mod sampler;
pub(crate) mod samples;
