//! What the training loop asks of a model family: parameters, the gradient of a step, and the
//! measures of an evaluation. One file per family.

mod diffusion;
mod lm;

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use sweep_spec::{metric::Metric, run::RunConfig, shape::Shape, training::TRAINING_REVISION};

use self::{diffusion::DiffusionTraining, lm::LmTraining};
use crate::{
    error::TrainError,
    model::{Model, Parameter},
    parts::Gradients,
    training::TrainRequest,
};

/// A model with its data, as the loop sees it.
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
pub(crate) enum Family<'a> {
    /// A next-token language model.
    Lm(LmTraining<'a>),
    /// A diffusion transformer over images.
    Diffusion(DiffusionTraining<'a>),
}

impl<'a> Family<'a> {
    /// The model of a run with its initial weights, on `device` (without autodiff).
    pub(crate) fn new(request: &'a TrainRequest<'a>, device: &Device) -> Result<Self, TrainError> {
        let config = &request.run.config;
        check_revision(config)?;
        match &config.shape {
            Shape::Lm(shape) => Ok(Self::Lm(LmTraining::new(request, shape, device)?)),
            Shape::Diffusion(shape) => {
                Ok(Self::Diffusion(DiffusionTraining::new(request, shape, device)?))
            }
        }
    }

    /// Every parameter in a fixed order.
    pub(crate) fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        match self {
            Self::Lm(training) => training.model.parameters_mut(),
            Self::Diffusion(training) => training.model.parameters_mut(),
        }
    }

    /// Loss and gradient of the batch of a step, from 0.
    pub(crate) fn gradients(&mut self, step: u64) -> Result<Gradients, TrainError> {
        match self {
            Self::Lm(training) => training.gradients(step),
            Self::Diffusion(training) => training.gradients(step),
        }
    }

    /// Decay of the moving average of the weights that is evaluated; absent where the weights are.
    pub(crate) fn average_decay(&self) -> Option<f64> {
        match self {
            Self::Lm(_) => None,
            Self::Diffusion(training) => Some(training.average_decay()),
        }
    }

    /// Steps after which it wants to be evaluated beside those of the recipe.
    pub(crate) fn scoring_steps(&self) -> Vec<u64> {
        match self {
            Self::Lm(training) => training.scoring_steps(),
            Self::Diffusion(_) => Vec::new(),
        }
    }

    /// What is measured on held-out data after a step; `average` is the moving average of the parameters
    /// where it is kept, `last` says that the run ends here.
    pub(crate) fn evaluate(
        &self,
        average: Option<&[Tensor<2>]>,
        step: u64,
        last: bool,
    ) -> Result<Vec<(Metric, f64)>, TrainError> {
        match self {
            Self::Lm(training) => training.evaluate(step, last),
            Self::Diffusion(training) => training.evaluate(average, last),
        }
    }
}

fn check_revision(config: &RunConfig) -> Result<(), TrainError> {
    if config.is_current_revision() {
        return Ok(());
    }
    let (found, expected) = (config.training_revision, TRAINING_REVISION);
    Err(TrainError::Revision { found, expected })
}

/// The threads that a step may use now.
fn threads(shared: &AtomicUsize) -> usize {
    shared.load(Ordering::Relaxed).max(1)
}

/// Reads one-element tensors from their device in one go.
pub(crate) fn read(tensors: Vec<Tensor<1>>) -> Result<Vec<f64>, TrainError> {
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    let data = Tensor::cat(tensors, 0)
        .try_into_data()
        .map_err(|error| TrainError::Read(format!("{error:?}")))?;
    let values =
        data.try_to_vec::<f32>().map_err(|error| TrainError::Read(format!("{error:?}")))?;
    Ok(values.into_iter().map(f64::from).collect())
}
