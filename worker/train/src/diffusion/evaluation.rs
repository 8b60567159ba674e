//! What a diffusion model is measured by on held-out images.
//!
//! - The loss: the mean squared error of the predicted noise per value on fixed triples of image,
//!   timestep and noise, all timesteps alike, without weights; and the same in five bins of the
//!   timestep. The triples are the same for all runs on the same images and process.
//! - The bound: the negative evidence lower bound of Ho et al. 2020 (2006.11239, equation 5) in
//!   bits per value, that is the prior's divergence, the divergences of the steps 2..=T, and the
//!   code length of the 256 levels given the last state. The steps are drawn with probability
//!   proportional to 1 / t, which their weights nearly follow, and weighed accordingly; the error
//!   is the standard error of that estimate over its draws.
//! - Where the density of the images is known, the least loss that any model can have on the same
//!   triples, and the code length of the bound's images under the true density.

use std::f64::consts::LN_2;

use sweep_data::{GlyphDensity, TokenFile};
use sweep_spec::{
    data::ImageFacts,
    diffusion::level_nats,
    metric::Metric,
    random::{Permutation, Purpose, Stream},
};

use super::{
    frame::{level, unit},
    predict::Predictor,
    sampler::normals,
};
use crate::error::TrainError;

/// Seed of the held-out triples of every run.
const TRIPLE_SEED: u64 = 0;

/// Draws of the bound: their error is then a few hundredths of a bit.
const BOUND_DRAWS: usize = 512;

/// Images whose last step is coded; its spread is far below that of the others.
const CODED_IMAGES: usize = 128;

/// Triples evaluated together: bounds memory, whatever the size of the images.
const CHUNK: usize = 256;

/// Products that the floor may cost: about a second.
const FLOOR_PRODUCTS: usize = 1 << 30;

/// Streams of the purpose that the triples, the bound and its last step draw from.
const BOUND_STREAM: u64 = 1 << 40;
const CODE_STREAM: u64 = 1 << 41;

const BINS: [Metric; 5] = [
    Metric::NoiseLossBin1,
    Metric::NoiseLossBin2,
    Metric::NoiseLossBin3,
    Metric::NoiseLossBin4,
    Metric::NoiseLossBin5,
];

/// Images of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Images<'a> {
    file: &'a TokenFile,
    values: usize,
}

impl<'a> Images<'a> {
    /// The images of a part of a data set.
    pub(crate) fn new(file: &'a TokenFile, facts: ImageFacts) -> Self {
        Self { file, values: facts.values() as usize }
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.file.len()).unwrap_or(usize::MAX) / (self.values + 1)
    }

    /// Class and values in [-1, 1] of one image.
    pub(crate) fn read(&self, image: u64) -> (i32, Vec<f32>) {
        let mut record = vec![0; self.values + 1];
        self.file.copy(image * record.len() as u64, &mut record);
        (record[0], record[1..].iter().map(|&level| unit(level)).collect())
    }

    /// The levels of the first `count` images.
    pub(crate) fn levels(&self, from: usize, count: usize) -> Vec<Vec<u8>> {
        let to = (from + count).min(self.count());
        let read = |image: usize| self.read(image as u64).1.into_iter().map(level).collect();
        (from..to).map(read).collect()
    }
}

/// An image, a timestep and the stream of its noise.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Triple {
    image: usize,
    t: usize,
    stream: u64,
}

/// The fixed triples: images in turn, timesteps spread evenly over 1..=T and paired with the images
/// by a fixed permutation.
#[expect(clippy::cast_possible_truncation, reason = "counts fit memory")]
fn triples(images: usize, timesteps: usize, count: usize) -> Vec<Triple> {
    if images == 0 || count == 0 {
        return Vec::new();
    }
    let order = Permutation::new(TRIPLE_SEED, Purpose::Evaluation, 0, count as u64);
    (0..count)
        .map(|index| {
            let place = order.at(index as u64) as usize;
            let image = if count <= images { index * images / count } else { index % images };
            Triple { image, t: 1 + place * timesteps / count, stream: 1 + index as u64 }
        })
        .collect()
}

/// Timesteps of the bound with one over their probability: drawn by strata from 1 / t over 2..=T.
#[expect(clippy::cast_precision_loss, reason = "timesteps are below 2^24")]
fn bound_steps(timesteps: usize, count: usize) -> Vec<(usize, f64)> {
    let total: f64 = (2..=timesteps).map(|t| 1.0 / t as f64).sum();
    let mut draws = Stream::new(TRIPLE_SEED, Purpose::Evaluation, BOUND_STREAM - 1);
    (0..count)
        .map(|index| {
            let mut left = (index as f64 + draws.uniform()) / count as f64 * total;
            let reaches = |t: &usize| {
                left -= 1.0 / *t as f64;
                left < 0.0
            };
            let t = (2..=timesteps).find(reaches).unwrap_or(timesteps);
            (t, total * t as f64)
        })
        .collect()
}

/// Squared errors of the predicted noise of these triples, summed over the values of each.
fn squares(
    predictor: &Predictor<'_>,
    images: Images<'_>,
    triples: &[Triple],
    floor: Option<&GlyphDensity>,
) -> Result<Vec<(f64, Option<f64>)>, TrainError> {
    let frame = predictor.frame();
    let mut all = Vec::with_capacity(triples.len());
    for chunk in triples.chunks(CHUNK) {
        let (mut states, mut noises) = (Vec::new(), Vec::new());
        let (mut steps, mut classes) = (Vec::new(), Vec::new());
        for triple in chunk {
            let (class, image) = images.read(triple.image as u64);
            let mut stream = Stream::new(TRIPLE_SEED, Purpose::Evaluation, triple.stream);
            let noise = normals(&mut stream, image.len());
            frame.mix(&image, &noise, triple.t, &mut states);
            noises.extend(noise);
            steps.push(triple.t);
            classes.push(class);
        }
        let found = predictor.noise(&states, &steps, &classes)?;
        let length = frame.values();
        let cells = found.chunks_exact(length).zip(noises.chunks_exact(length));
        for (((found, noise), state), &t) in cells.zip(states.chunks_exact(length)).zip(&steps) {
            let model = square(found.iter().map(|&x| f64::from(x)), noise);
            let least = floor.map(|density| {
                let (signal, scale) = frame.levels().scales(t);
                square(density.expected_noise(state, signal, scale).into_iter(), noise)
            });
            all.push((model, least));
        }
    }
    Ok(all)
}

fn square(found: impl Iterator<Item = f64>, noise: &[f32]) -> f64 {
    found.zip(noise).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum()
}

/// Loss, loss by bin and, where the density is given, the least loss.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
pub(crate) fn loss(
    predictor: &Predictor<'_>,
    images: Images<'_>,
    count: usize,
    density: Option<&GlyphDensity>,
) -> Result<Vec<(Metric, f64)>, TrainError> {
    let frame = predictor.frame();
    let timesteps = frame.levels().timesteps();
    let triples = triples(images.count(), timesteps, count);
    if triples.is_empty() {
        return Ok(Vec::new());
    }
    let values = frame.values() as f64;
    let cost = |density: &&GlyphDensity| density.modes() * frame.values() * triples.len();
    let floor = density.filter(|density| cost(density) <= FLOOR_PRODUCTS);
    let squares = squares(predictor, images, &triples, floor)?;
    let mut bins = [(0.0, 0_usize); BINS.len()];
    for (triple, (square, _)) in triples.iter().zip(&squares) {
        let bin = &mut bins[(triple.t - 1) * BINS.len() / timesteps];
        *bin = (bin.0 + square, bin.1 + 1);
    }
    let all = squares.len() as f64 * values;
    let total: f64 = squares.iter().map(|(square, _)| square).sum();
    let mut found = vec![(Metric::ValidationLoss, total / all)];
    let filled = BINS.into_iter().zip(bins).filter(|(_, (_, count))| *count > 0);
    found.extend(filled.map(|(metric, (sum, count))| (metric, sum / (count as f64 * values))));
    let least: Option<f64> = squares.iter().map(|(_, least)| *least).sum();
    found.extend(least.map(|least| (Metric::NoiseLossFloor, least / all)));
    Ok(found)
}

/// The bound with its error, in bits per value, and the true code length where it is known.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
pub(crate) fn bound(
    predictor: &Predictor<'_>,
    images: Images<'_>,
    density: Option<&GlyphDensity>,
) -> Result<Vec<(Metric, f64)>, TrainError> {
    let (frame, count) = (predictor.frame(), images.count());
    if count == 0 {
        return Ok(Vec::new());
    }
    let levels = frame.levels();
    let steps = bound_steps(levels.timesteps(), BOUND_DRAWS);
    let order = Permutation::new(TRIPLE_SEED, Purpose::Evaluation, 1, BOUND_DRAWS as u64);
    let triples: Vec<Triple> = steps
        .iter()
        .zip(0..)
        .map(|(&(t, _), index)| {
            let image = usize::try_from(order.at(index)).expect("a few hundred") % count;
            Triple { image, t, stream: BOUND_STREAM + index }
        })
        .collect();
    let squares = squares(predictor, images, &triples, None)?;
    let terms: Vec<f64> = squares
        .iter()
        .zip(&steps)
        .map(|((square, _), &(t, inverse))| levels.bound_weight(t) * square * inverse)
        .collect();
    let (divergence, divergence_error) = mean_and_error(&terms);
    let (coded, truth) = code_last(predictor, images, density)?;
    let (code, code_error) = mean_and_error(&coded);
    let bits = frame.values() as f64 * LN_2;
    let error = libm::hypot(divergence_error, code_error);
    let mut found = vec![
        (Metric::BoundBits, (divergence + code) / bits),
        (Metric::BoundBitsError, error / bits),
    ];
    found.extend(truth.map(|nats| (Metric::TrueBits, nats / bits)));
    Ok(found)
}

/// For some images, nats of the prior and of the levels given the last state, where the model's
/// estimate of an image is a normal with the variance (1 - a_1) / a_1 that the last state leaves;
/// and the mean nats of the same images under the true density.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn code_last(
    predictor: &Predictor<'_>,
    images: Images<'_>,
    density: Option<&GlyphDensity>,
) -> Result<(Vec<f64>, Option<f64>), TrainError> {
    let (frame, levels) = (predictor.frame(), predictor.frame().levels());
    let count = images.count().min(CODED_IMAGES);
    let (mut states, mut classes, mut originals) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..count {
        let (class, image) = images.read((index * images.count() / count) as u64);
        let stream = CODE_STREAM + index as u64;
        let mut stream = Stream::new(TRIPLE_SEED, Purpose::Evaluation, stream);
        frame.mix(&image, &normals(&mut stream, image.len()), 1, &mut states);
        classes.push(class);
        originals.push(image);
    }
    let noise = predictor.noise(&states, &vec![1; count], &classes)?;
    let (of_image, of_noise) = levels.scales(1);
    let deviation = 127.5 * of_noise / of_image;
    let length = frame.values();
    let cells = states.chunks_exact(length).zip(noise.chunks_exact(length));
    let coded = cells.zip(&originals).map(|((state, noise), image)| {
        let cells = state.iter().zip(noise).zip(image);
        let nats = cells.map(|((&state, &noise), &value)| {
            let clean = (f64::from(state) - of_noise * f64::from(noise)) / of_image;
            let prior = levels.prior_nats(f64::from(value));
            prior - level_nats(level(value), (clean + 1.0) * 127.5, deviation)
        });
        nats.sum()
    });
    let truth = density.map(|density| {
        let nats = originals.iter().map(|image| {
            let levels: Vec<u8> = image.iter().map(|&value| level(value)).collect();
            -density.log_density(&levels).0
        });
        nats.sum::<f64>() / count as f64
    });
    Ok((coded.collect(), truth))
}

/// Mean and its standard error; the error of one value is not known and counts as none.
#[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (spread / (count * (count - 1.0).max(1.0))).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_spread_over_images_and_timesteps() {
        let found = triples(100, 1000, 2000);
        assert_eq!(found, triples(100, 1000, 2000));
        for image in 0..100 {
            assert_eq!(found.iter().filter(|triple| triple.image == image).count(), 20);
        }
        let mut times: Vec<usize> = found.iter().map(|triple| triple.t).collect();
        times.sort_unstable();
        assert!(times.into_iter().eq((1..=1000).flat_map(|t| [t, t])));
        assert!(triples(0, 1000, 10).is_empty());
    }

    /// The importance weights are unbiased: sums over the timesteps come out.
    #[test]
    fn the_steps_of_the_bound_weigh_what_they_stand_for() {
        let sum = |f: &dyn Fn(f64) -> f64| {
            let steps = bound_steps(1000, 4096);
            steps.iter().map(|&(t, inverse)| f(t as f64) * inverse).sum::<f64>() / 4096.0
        };
        let exact = |f: &dyn Fn(f64) -> f64| (2..=1000).map(|t| f(f64::from(t))).sum::<f64>();
        let functions: [&dyn Fn(f64) -> f64; 2] = [&|t| 1.0 / t, &|t| (-t / 100.0).exp()];
        for f in functions {
            assert!((sum(f) / exact(f) - 1.0).abs() < 0.01, "{} {}", sum(f), exact(f));
        }
    }
}
