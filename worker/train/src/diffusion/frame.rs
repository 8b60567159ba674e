//! Between images and what the model is shown: patches, places, timesteps, levels.
//!
//! An image is a row of values in [-1, 1], row by row, channels together. All of it happens on the
//! host, so it is the same for every backend.

use burn::tensor::{Device, Int, Tensor, TensorData};
use sweep_spec::{
    diffusion::{Levels, Prediction},
    shape::diffusion::{DiffusionShape, PLACE_FEATURES, TIME_FEATURES},
};

use crate::model::diffusion::Inputs;

/// Longest period of the features of a timestep (Vaswani et al. 2017, 1706.03762).
const TIME_PERIOD: f64 = 10_000.0;

/// Timesteps are told on a scale of this many, whatever their number.
const TIME_SCALE: f64 = 1000.0;

/// The fixed parts of a shape.
#[derive(Debug)]
pub(crate) struct Frame {
    shape: DiffusionShape,
    levels: Levels,
    /// Features of the places, [patches, place features].
    places: Vec<f32>,
}

impl Frame {
    /// The frame of a shape.
    pub(crate) fn new(shape: &DiffusionShape) -> Self {
        let process = &shape.process;
        let levels = Levels::new(process.noise, process.timesteps);
        let across = shape.side / shape.patch;
        let places = (0..across * across)
            .flat_map(|patch| [patch / across, patch % across])
            .flat_map(|place| place_features(f64::from(place) / f64::from(across)))
            .collect();
        Self { shape: shape.clone(), levels, places }
    }

    /// Its shape.
    pub(crate) const fn shape(&self) -> &DiffusionShape {
        &self.shape
    }

    /// Its process.
    pub(crate) const fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Values of an image.
    pub(crate) const fn values(&self) -> usize {
        self.shape.values() as usize
    }

    /// What the model is shown of these states, one timestep and one class for each.
    pub(crate) fn inputs(
        &self,
        states: &[f32],
        steps: &[usize],
        classes: &[i32],
        device: &Device,
    ) -> Inputs {
        let (patches, values) = (self.shape.patches() as usize, self.shape.patch_values() as usize);
        let place = PLACE_FEATURES as usize;
        let mut rows = Vec::with_capacity(steps.len() * patches * (values + place));
        for (index, patch) in self.to_patches(states).chunks_exact(values).enumerate() {
            rows.extend_from_slice(patch);
            rows.extend_from_slice(&self.places[index % patches * place..][..place]);
        }
        let times: Vec<f32> = steps.iter().flat_map(|&t| self.time_features(t)).collect();
        let shape = [steps.len() * patches, values + place];
        Inputs {
            patches: Tensor::from_data(TensorData::new(rows, shape), device),
            times: Tensor::from_data(
                TensorData::new(times, [steps.len(), TIME_FEATURES as usize]),
                device,
            ),
            classes: (self.shape.classes > 0).then(|| Tensor::<1, Int>::from_data(classes, device)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "timesteps are below 2^24")]
    #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
    fn time_features(&self, t: usize) -> Vec<f32> {
        let time = t as f64 / self.levels.timesteps() as f64 * TIME_SCALE;
        let half = TIME_FEATURES / 2;
        let angle = move |c: u32| time * libm::pow(TIME_PERIOD, -f64::from(c) / f64::from(half));
        let sines = (0..half).map(|c| libm::sin(angle(c)) as f32);
        sines.chain((0..half).map(|c| libm::cos(angle(c)) as f32)).collect()
    }

    /// Images cut into patches, [images * patches, patch values].
    pub(crate) fn to_patches(&self, images: &[f32]) -> Vec<f32> {
        let mut patches = vec![0.0; images.len()];
        self.each_run(images.len(), |image, patch, run| {
            patches[patch..patch + run].copy_from_slice(&images[image..image + run]);
        });
        patches
    }

    /// Patches put together again.
    pub(crate) fn to_images(&self, patches: &[f32]) -> Vec<f32> {
        let mut images = vec![0.0; patches.len()];
        self.each_run(patches.len(), |image, patch, run| {
            images[image..image + run].copy_from_slice(&patches[patch..patch + run]);
        });
        images
    }

    /// Calls `each` with the places, in images and in patches, of every run of values that lies
    /// together in both, and its length.
    fn each_run(&self, length: usize, mut each: impl FnMut(usize, usize, usize)) {
        let channels = self.shape.channels as usize;
        let (side, patch) = (self.shape.side as usize, self.shape.patch as usize);
        let run = patch * channels;
        let mut at = 0;
        for image in (0..length).step_by(self.values()) {
            for top in (0..side).step_by(patch) {
                for left in (0..side).step_by(patch) {
                    for row in top..top + patch {
                        each(image + (row * side + left) * channels, at, run);
                        at += run;
                    }
                }
            }
        }
    }

    /// The state of one image at a timestep: signal and noise.
    #[expect(clippy::cast_possible_truncation, reason = "states are f32")]
    pub(crate) fn mix(&self, image: &[f32], noise: &[f32], t: usize, out: &mut Vec<f32>) {
        let (of_image, of_noise) = self.levels.scales(t);
        let (of_image, of_noise) = (of_image as f32, of_noise as f32);
        out.extend(image.iter().zip(noise).map(|(&x, &e)| of_image * x + of_noise * e));
    }

    /// What the model should give out for one image.
    #[expect(clippy::cast_possible_truncation, reason = "targets are f32")]
    pub(crate) fn target(&self, image: &[f32], noise: &[f32], t: usize, out: &mut Vec<f32>) {
        match self.shape.process.prediction {
            Prediction::Noise => out.extend_from_slice(noise),
            Prediction::Velocity => {
                let (of_image, of_noise) = self.levels.scales(t);
                let (of_image, of_noise) = (of_image as f32, of_noise as f32);
                out.extend(image.iter().zip(noise).map(|(&x, &e)| of_image * e - of_noise * x));
            }
        }
    }

    /// The noise that the model's output means for one state, in place.
    #[expect(clippy::cast_possible_truncation, reason = "states are f32")]
    pub(crate) fn noise_of(&self, output: &mut [f32], state: &[f32], t: usize) {
        if self.shape.process.prediction == Prediction::Velocity {
            let (of_image, of_noise) = self.levels.scales(t);
            let (of_image, of_noise) = (of_image as f32, of_noise as f32);
            for (value, &x) in output.iter_mut().zip(state) {
                *value = of_image * *value + of_noise * x;
            }
        }
    }

    /// Weight of a timestep in training.
    pub(crate) fn weight(&self, t: usize) -> f64 {
        let process = &self.shape.process;
        self.levels.weight(t, process.prediction, process.weighting)
    }
}

/// Sines and cosines of a place from 0 to 1: half a turn over the image, doubled seven times.
#[expect(clippy::cast_possible_truncation, reason = "features are f32")]
fn place_features(place: f64) -> Vec<f32> {
    let frequencies = PLACE_FEATURES / 4;
    let angle = move |c: u32| std::f64::consts::TAU * place * libm::pow(2.0, f64::from(c)) / 2.0;
    let sines = (0..frequencies).map(|c| libm::sin(angle(c)) as f32);
    sines.chain((0..frequencies).map(|c| libm::cos(angle(c)) as f32)).collect()
}

/// A value of 0 to 255 in [-1, 1].
#[expect(clippy::cast_precision_loss, reason = "a byte")]
pub(crate) fn unit(level: i32) -> f32 {
    level as f32 / 127.5 - 1.0
}

/// A value in [-1, 1] as the nearest of 256 levels.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
pub(crate) fn level(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}
