//! The language model in training: windows of tokens in, mean nats per token out.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};
use sweep_spec::{metric::Metric, shape::LmShape};

use super::{read, threads};
use crate::{
    error::TrainError,
    model::lm::{Batch, Lm},
    order::{DataOrder, evaluation_starts, read_windows},
    parts::{self, Gradients},
    task::{self, Tasks},
    training::TrainRequest,
};

/// Windows evaluated at once.
const EVALUATION_WINDOWS: usize = 32;

/// A language model with its data.
pub(crate) struct LmTraining<'a> {
    request: &'a TrainRequest<'a>,
    device: Device,
    shape: &'a LmShape,
    /// The model.
    pub(super) model: Lm,
    order: DataOrder,
    /// Starts of the held-out windows.
    evaluation: Vec<u64>,
    /// The parts of a batch, as ranges of its windows.
    parts: Vec<Range<usize>>,
    tasks: Tasks,
}

impl<'a> LmTraining<'a> {
    pub(super) fn new(
        request: &'a TrainRequest<'a>,
        shape: &'a LmShape,
        device: &Device,
    ) -> Result<Self, TrainError> {
        shape.check()?;
        let config = &request.run.config;
        let sequence = shape.sequence as usize;
        let tokens = request.dataset.train().len();
        let wanted = request.run.evaluation.tokens / u64::from(shape.sequence);
        let held_out = request.dataset.validation().len();
        Ok(Self {
            request,
            device: device.clone(),
            shape,
            model: Lm::new(shape, config.seed, device),
            order: DataOrder::new(config.seed, tokens, sequence, config.batch)?,
            evaluation: evaluation_starts(held_out, sequence, wanted),
            parts: parts::parts(config.batch as usize, sequence, request.device.is_cpu()),
            tasks: Tasks::open(request.run, shape)?,
        })
    }

    pub(super) fn gradients(&mut self, step: u64) -> Result<Gradients, TrainError> {
        let (mut inputs, mut targets) = self.order.batch(step, self.request.dataset.train());
        self.tasks.mix(step, &mut inputs, &mut targets);
        self.check_vocabulary(inputs.iter().chain(&targets))?;
        let threads = threads(self.request.threads);
        Ok(parts::gradients(&self.model, &self.parts, threads, |model, windows| {
            model.loss(&self.batch(&inputs, &targets, windows))
        }))
    }

    fn check_vocabulary<'t>(
        &self,
        mut tokens: impl Iterator<Item = &'t i32>,
    ) -> Result<(), TrainError> {
        let vocabulary = self.shape.vocabulary;
        let outside =
            |token: &&i32| u32::try_from(**token).map_or(true, |token| token >= vocabulary);
        tokens
            .find(outside)
            .map_or(Ok(()), |&token| Err(TrainError::Vocabulary { token, vocabulary }))
    }

    /// These windows of those that were read.
    fn batch(&self, inputs: &[i32], targets: &[i32], windows: Range<usize>) -> Batch {
        let sequence = self.shape.sequence as usize;
        let tokens = windows.start * sequence..windows.end * sequence;
        Batch {
            inputs: Tensor::<1, Int>::from_data(&inputs[tokens.clone()], &self.device),
            targets: targets[tokens].to_vec(),
        }
    }

    /// Steps after which a task is scored.
    pub(super) fn scoring_steps(&self) -> Vec<u64> {
        self.tasks.steps().collect()
    }

    /// Loss on the fixed held-out windows, nothing where no document is held out; scores of the
    /// tasks whose step it is, and at the end the calibration on held-out text.
    pub(super) fn evaluate(&self, step: u64, last: bool) -> Result<Vec<(Metric, f64)>, TrainError> {
        let (device, folder) = (&self.device, self.request.checkpoints);
        let mut found = self.losses()?;
        found.extend(self.tasks.scores(&self.model, step, last, device, folder)?);
        if last {
            let sequence = self.shape.sequence as usize;
            let dataset = self.request.dataset;
            found.extend(task::text(&self.model, dataset, &self.evaluation, sequence, device)?);
        }
        Ok(found)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn losses(&self) -> Result<Vec<(Metric, f64)>, TrainError> {
        let sequence = self.shape.sequence as usize;
        let chunks: Vec<&[u64]> = self.evaluation.chunks(EVALUATION_WINDOWS).collect();
        let losses = parts::share(chunks.len(), threads(self.request.threads), |chunk| {
            let starts = chunks[chunk];
            let (inputs, targets) =
                read_windows(starts, sequence, self.request.dataset.validation());
            self.check_vocabulary(inputs.iter().chain(&targets))?;
            let loss = self.model.evaluate(&self.batch(&inputs, &targets, 0..starts.len()));
            Ok(read(vec![loss])?[0] * starts.len() as f64)
        });
        let total = losses.into_iter().sum::<Result<f64, TrainError>>()?;
        if self.evaluation.is_empty() {
            return Ok(Vec::new());
        }
        let nats = total / self.evaluation.len() as f64;
        let mut found = vec![(Metric::ValidationLoss, nats)];
        if let Some(bytes_per_token) = self.request.run.manifest.bytes_per_token {
            let bits = nats / std::f64::consts::LN_2 / bytes_per_token;
            found.push((Metric::ValidationBitsPerByte, bits));
        }
        Ok(found)
    }
}
