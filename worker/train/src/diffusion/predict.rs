//! The model outside training: the noise it sees in states, batch by batch.

use burn::tensor::Device;

use super::frame::Frame;
use crate::{error::TrainError, model::diffusion::Dit, parts};

/// Images shown at once: enough for full matrix products, few enough for any memory.
const BATCH: usize = 64;

/// A model with its frame, on a device, with the threads that it may use.
pub(crate) struct Predictor<'a> {
    model: Dit,
    frame: &'a Frame,
    device: &'a Device,
    threads: usize,
}

impl<'a> Predictor<'a> {
    /// Puts them together.
    pub(crate) const fn new(
        model: Dit,
        frame: &'a Frame,
        device: &'a Device,
        threads: usize,
    ) -> Self {
        Self { model, frame, device, threads }
    }

    /// The frame.
    pub(crate) const fn frame(&self) -> &'a Frame {
        self.frame
    }

    /// The predicted noise in each of these states, [images * values], at one timestep and for one
    /// class each.
    pub(crate) fn noise(
        &self,
        states: &[f32],
        steps: &[usize],
        classes: &[i32],
    ) -> Result<Vec<f32>, TrainError> {
        let length = self.frame.values();
        let batches = steps.len().div_ceil(BATCH);
        let found = parts::share(batches, self.threads, |batch| {
            let images = batch * BATCH..((batch + 1) * BATCH).min(steps.len());
            let states = &states[images.start * length..images.end * length];
            self.batch(states, &steps[images.clone()], &classes[images])
        });
        let mut all = Vec::with_capacity(states.len());
        for batch in found {
            all.extend(batch?);
        }
        Ok(all)
    }

    fn batch(
        &self,
        states: &[f32],
        steps: &[usize],
        classes: &[i32],
    ) -> Result<Vec<f32>, TrainError> {
        let inputs = self.frame.inputs(states, steps, classes, self.device);
        let output = self.model.evaluate(&inputs).try_into_data();
        let output = output.map_err(|error| TrainError::Read(format!("{error:?}")))?;
        let patches =
            output.try_to_vec::<f32>().map_err(|error| TrainError::Read(format!("{error:?}")))?;
        let mut noise = self.frame.to_images(&patches);
        let length = self.frame.values();
        let cells = noise.chunks_exact_mut(length).zip(states.chunks_exact(length));
        for ((output, state), &t) in cells.zip(steps) {
            self.frame.noise_of(output, state, t);
        }
        Ok(noise)
    }
}
