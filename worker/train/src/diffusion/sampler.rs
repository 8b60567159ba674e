//! Samples from a trained model: ancestral (DDPM: Ho et al. 2020, 2006.11239, algorithm 2) or
//! deterministic (DDIM: Song et al. 2021, 2010.02502, equation 12 with sigma = 0).
//!
//! Sample number i starts from the same noise in every run, whatever its size, seed and data, so
//! that pictures of different runs can be compared; the noise that DDPM adds comes from the same
//! stream. The estimate of the clean image is kept within [-1, 1], as the images are.

use sweep_spec::{
    random::{Purpose, Stream},
    run::Sampler,
};

use super::{frame::Frame, predict::Predictor};
use crate::error::TrainError;

/// Seed of the noise that samples start from, of all runs alike.
const SAMPLE_SEED: u64 = 0;

/// What to draw, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The algorithm.
    pub(crate) sampler: Sampler,
    /// Evaluations of the model per sample.
    pub(crate) steps: usize,
    /// Number of samples.
    pub(crate) count: usize,
}

/// Samples with the way that the first of them took.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Values of all samples in [-1, 1], [samples * values].
    pub(crate) images: Vec<f32>,
    /// States of the first sample from noise to image, with their timesteps.
    pub(crate) path: Vec<(usize, Vec<f32>)>,
}

/// The timesteps that are visited, from T down to 0: evenly spaced, each once.
pub(crate) fn visited(timesteps: usize, steps: usize) -> Vec<usize> {
    let steps = steps.clamp(1, timesteps);
    (0..=steps).rev().map(|step| step * timesteps / steps).collect()
}

/// Draws samples.
pub(crate) fn draw(predictor: &Predictor<'_>, plan: Plan) -> Result<Samples, TrainError> {
    let frame = predictor.frame();
    let length = frame.values();
    let mut streams: Vec<Stream> = (0..plan.count as u64)
        .map(|sample| Stream::new(SAMPLE_SEED, Purpose::Sampling, sample))
        .collect();
    let mut states: Vec<f32> =
        streams.iter_mut().flat_map(|stream| normals(stream, length)).collect();
    let classes = classes(frame, plan.count);
    let times = visited(frame.levels().timesteps(), plan.steps);
    let mut path = vec![(times[0], states[..length].to_vec())];
    for pair in times.windows(2) {
        let (t, s) = (pair[0], pair[1]);
        let noise = predictor.noise(&states, &vec![t; plan.count], &classes)?;
        let cells = states.chunks_exact_mut(length).zip(noise.chunks_exact(length));
        for ((state, noise), stream) in cells.zip(&mut streams) {
            match plan.sampler {
                Sampler::Ddim => ddim(frame, state, noise, t, s),
                Sampler::Ddpm => ddpm(frame, state, noise, t, s, stream),
            }
        }
        path.push((s, states[..length].to_vec()));
    }
    Ok(Samples { images: states, path })
}

/// Classes in turn, for a model that is told them.
pub(crate) fn classes(frame: &Frame, count: usize) -> Vec<i32> {
    let classes = frame.shape().classes.max(1) as usize;
    (0..count).map(|sample| i32::try_from(sample % classes).expect("few classes")).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "noise is f32")]
pub(crate) fn normals(stream: &mut Stream, count: usize) -> Vec<f32> {
    (0..count).map(|_| stream.normal() as f32).collect()
}

/// The estimate of the clean image of one value.
fn clean(state: f64, noise: f64, (of_image, of_noise): (f64, f64)) -> f64 {
    ((state - of_noise * noise) / of_image).clamp(-1.0, 1.0)
}

#[expect(clippy::cast_possible_truncation, reason = "states are f32")]
fn ddim(frame: &Frame, state: &mut [f32], noise: &[f32], t: usize, s: usize) {
    let (from, to) = (frame.levels().scales(t), frame.levels().scales(s));
    for (x, &e) in state.iter_mut().zip(noise) {
        let image = clean(f64::from(*x), f64::from(e), from);
        // The noise that goes with the clamped image.
        let noise = (f64::from(*x) - from.0 * image) / from.1;
        *x = (to.0 * image + to.1 * noise) as f32;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "states are f32")]
fn ddpm(frame: &Frame, state: &mut [f32], noise: &[f32], t: usize, s: usize, stream: &mut Stream) {
    let scales = frame.levels().scales(t);
    let (of_image, of_state, deviation) = frame.levels().posterior(s, t);
    for (x, &e) in state.iter_mut().zip(noise) {
        let image = clean(f64::from(*x), f64::from(e), scales);
        let fresh = if s > 0 { deviation * stream.normal() } else { 0.0 };
        *x = (of_image * image + of_state * f64::from(*x) + fresh) as f32;
    }
}
