//! Images of digits whose modes and density are known: the truth against which the modes, the
//! likelihood bound and the loss floor of a diffusion model are checked.
//!
//! Construction, for a side s, c channels and a noise deviation of d levels:
//! 1. A mode is a digit (10), a shift by -1, 0 or 1 twelfth of the side in both directions (9), a
//!    thin or a thick stroke (2), and in colour one of 6 inks. Its template is the digit drawn with
//!    straight strokes: background 48, ink 208 (or the ink's three levels), and in between by how
//!    much of a pixel the stroke covers.
//! 2. The digit k has probability proportional to 1 / (k + 1), so that rare modes can be lost; all
//!    else is equally likely.
//! 3. An image is its mode's template plus independent normal noise of deviation d on every value,
//!    rounded to a whole level and kept within 0 to 255.
//!
//! So the probability of an image x is, exactly,
//! p(x) = sum over modes k of w_k prod over values i of P(x_i | template_k,i), where P is the
//! normal mass of the level's interval and the outermost levels take the tails. Modes differ by far
//! more than the noise, so the entropy is that of the mode plus that of the noise.
//!
//! Everything is drawn from the counter-based generator with `libm`; the id is the hash of the
//! parameters and [`FORMAT`], and a test holds the drawn images to a golden hash.

use std::path::Path;

use sweep_spec::{
    data::{DataManifest, Glyphs, ImageFacts},
    diffusion::level_nats,
    hash::content_hash,
    id::DataId,
    random::{Purpose, Stream},
};

use crate::{dataset::Part, error::DataError, shard::ShardWriter};

/// Raised when the same parameters would give other images.
const FORMAT: &str = "sweep.data.glyphs/1";

/// Held-out images are a tenth of the training images within these bounds.
const VALIDATION_IMAGES: (u64, u64) = (512, 10_000);

const DIGITS: usize = 10;
const BACKGROUND: f64 = 48.0;
/// Half widths of strokes, as shares of the side.
const STROKES: [f64; 2] = [0.04, 0.075];
/// Inks as levels of red, green and blue.
const INKS: [[f64; 3]; 6] = [
    [208.0, 48.0, 48.0],
    [48.0, 208.0, 48.0],
    [64.0, 96.0, 208.0],
    [208.0, 192.0, 48.0],
    [192.0, 64.0, 208.0],
    [64.0, 208.0, 208.0],
];
const GREY_INKS: [[f64; 3]; 1] = [[208.0; 3]];

/// Modes whose squared distance lies this many nats above the nearest add less than e^-50 of the
/// density and are left out of the sum.
const NEGLIGIBLE_NATS: f64 = 50.0;

/// Ends of a stroke in the box of the digit, x to the right and y down, from 0 to 1.
type Stroke = [[f64; 2]; 2];

/// The strokes of a digit.
fn strokes(digit: usize) -> Vec<Stroke> {
    const TOP: Stroke = [[0.0, 0.0], [1.0, 0.0]];
    const MIDDLE: Stroke = [[0.0, 0.5], [1.0, 0.5]];
    const BOTTOM: Stroke = [[0.0, 1.0], [1.0, 1.0]];
    const LEFT_HIGH: Stroke = [[0.0, 0.0], [0.0, 0.5]];
    const LEFT_LOW: Stroke = [[0.0, 0.5], [0.0, 1.0]];
    const RIGHT_HIGH: Stroke = [[1.0, 0.0], [1.0, 0.5]];
    const RIGHT_LOW: Stroke = [[1.0, 0.5], [1.0, 1.0]];
    match digit {
        0 => vec![TOP, LEFT_HIGH, LEFT_LOW, RIGHT_HIGH, RIGHT_LOW, BOTTOM],
        1 => vec![[[0.6, 0.0], [0.6, 1.0]], [[0.2, 0.25], [0.6, 0.0]]],
        2 => vec![TOP, RIGHT_HIGH, MIDDLE, LEFT_LOW, BOTTOM],
        3 => vec![TOP, RIGHT_HIGH, MIDDLE, RIGHT_LOW, BOTTOM],
        4 => vec![LEFT_HIGH, MIDDLE, RIGHT_HIGH, RIGHT_LOW],
        5 => vec![TOP, LEFT_HIGH, MIDDLE, RIGHT_LOW, BOTTOM],
        6 => vec![TOP, LEFT_HIGH, MIDDLE, LEFT_LOW, RIGHT_LOW, BOTTOM],
        7 => vec![TOP, [[1.0, 0.0], [0.35, 1.0]]],
        8 => vec![TOP, LEFT_HIGH, MIDDLE, LEFT_LOW, RIGHT_HIGH, RIGHT_LOW, BOTTOM],
        _ => vec![TOP, LEFT_HIGH, MIDDLE, RIGHT_HIGH, RIGHT_LOW, BOTTOM],
    }
}

/// Distance of a point from a stroke.
fn distance(point: [f64; 2], [a, b]: Stroke) -> f64 {
    let along = [b[0] - a[0], b[1] - a[1]];
    let from = [point[0] - a[0], point[1] - a[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    let share = ((from[0] * along[0] + from[1] * along[1]) / length).clamp(0.0, 1.0);
    libm::hypot(from[0] - share * along[0], from[1] - share * along[1])
}

/// A mode of the distribution.
#[derive(Clone, Debug)]
struct Mode {
    digit: usize,
    /// Its probability.
    weight: f64,
    /// Mean of every value, row by row, channels together.
    template: Vec<f64>,
}

/// The distribution with its modes.
#[derive(Clone, Debug)]
pub struct GlyphDensity {
    modes: Vec<Mode>,
    deviation: f64,
}

impl GlyphDensity {
    /// The distribution of a source.
    #[must_use]
    pub fn new(source: &Glyphs) -> Self {
        let inks: &[[f64; 3]] = if source.channels == 3 { &INKS } else { &GREY_INKS };
        let total: f64 = (1..=DIGITS).map(|place| 1.0 / index(place)).sum();
        let variants = index(9 * STROKES.len() * inks.len());
        let mut modes = Vec::new();
        for digit in 0..DIGITS {
            let weight = 1.0 / index(digit + 1) / total / variants;
            for shift in 0..9 {
                for stroke in STROKES {
                    let covered = coverage(source.side, digit, shift, stroke);
                    for ink in inks {
                        let template = template(&covered, ink, source.channels);
                        modes.push(Mode { digit, weight, template });
                    }
                }
            }
        }
        Self { modes, deviation: source.deviation }
    }

    /// Number of modes.
    #[must_use]
    pub fn modes(&self) -> usize {
        self.modes.len()
    }

    /// Probability of each of the ten digits.
    #[must_use]
    pub fn digit_weights(&self) -> [f64; DIGITS] {
        let mut weights = [0.0; DIGITS];
        for mode in &self.modes {
            weights[mode.digit] += mode.weight;
        }
        weights
    }

    /// Draws image number `index` of a part, levels row by row, and its digit.
    fn draw(&self, seed: u64, stream: u64, pixels: &mut Vec<u8>) -> usize {
        let mut draws = Stream::new(seed, Purpose::Synthetic, stream);
        let mut left = draws.uniform();
        let mode = self
            .modes
            .iter()
            .find(|mode| {
                left -= mode.weight;
                left < 0.0
            })
            .unwrap_or(&self.modes[self.modes.len() - 1]);
        pixels.clear();
        for mean in &mode.template {
            let value = libm::round(mean + self.deviation * draws.normal()).clamp(0.0, 255.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 255, rounded"
            )]
            pixels.push(value as u8);
        }
        mode.digit
    }

    /// ln p of an image, and the digit of the mode it most likely came from.
    ///
    /// # Panics
    /// When the image has another number of values than the source.
    #[must_use]
    pub fn log_density(&self, pixels: &[u8]) -> (f64, usize) {
        assert_eq!(pixels.len(), self.modes[0].template.len(), "an image of the source");
        let squares: Vec<f64> = self
            .modes
            .iter()
            .map(|mode| {
                let pairs = mode.template.iter().zip(pixels);
                pairs.map(|(mean, &value)| (f64::from(value) - mean).powi(2)).sum()
            })
            .collect();
        let nearest = squares.iter().copied().fold(f64::INFINITY, f64::min);
        let within = 2.0 * self.deviation * self.deviation * NEGLIGIBLE_NATS;
        let terms: Vec<(f64, usize)> = self
            .modes
            .iter()
            .zip(&squares)
            .filter(|(_, square)| **square <= nearest + within)
            .map(|(mode, _)| {
                let pairs = mode.template.iter().zip(pixels);
                let nats: f64 =
                    pairs.map(|(&mean, &value)| level_nats(value, mean, self.deviation)).sum();
                (libm::log(mode.weight) + nats, mode.digit)
            })
            .collect();
        let best = terms.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)).expect("a mode");
        let sum: f64 = terms.iter().map(|(nats, _)| libm::exp(nats - best.0)).sum();
        (best.0 + libm::log(sum), best.1)
    }

    /// The digit of the nearest template, and the mean squared distance from it over that of the
    /// source's own images: about 1 for one of them.
    #[must_use]
    pub fn nearest(&self, pixels: &[u8]) -> (usize, f64) {
        let of_mode = |mode: &Mode| {
            let pairs = mode.template.iter().zip(pixels);
            let square: f64 = pairs.map(|(mean, &value)| (f64::from(value) - mean).powi(2)).sum();
            (mode.digit, square / index(pixels.len()) / (self.deviation * self.deviation))
        };
        self.modes.iter().map(of_mode).min_by(|a, b| a.1.total_cmp(&b.1)).expect("a mode")
    }

    /// Entropy of an image in nats, in closed form: mode and noise.
    #[must_use]
    pub fn entropy_nats(&self) -> f64 {
        let of_mode = |mode: &Mode| {
            let noise: f64 = mode.template.iter().map(|&mean| self.level_entropy(mean)).sum();
            mode.weight * (noise - libm::log(mode.weight))
        };
        self.modes.iter().map(of_mode).sum()
    }

    fn level_entropy(&self, mean: f64) -> f64 {
        (0..=u8::MAX)
            .map(|level| {
                let nats = level_nats(level, mean, self.deviation);
                -libm::exp(nats) * nats
            })
            .sum()
    }

    /// The best prediction of the noise in a state x_t = signal x + noise e of values in [-1, 1]:
    /// E[e | x_t] under the mixture of normals before rounding, whose deviation has the twelfth of
    /// a squared level that rounding adds.
    #[must_use]
    pub fn expected_noise(&self, state: &[f32], signal: f64, noise: f64) -> Vec<f64> {
        let unit = |level: f64| level / 127.5 - 1.0;
        let spread = (self.deviation * self.deviation + 1.0 / 12.0) / (127.5 * 127.5);
        let total = signal * signal * spread + noise * noise;
        let nats: Vec<f64> = self
            .modes
            .iter()
            .map(|mode| {
                let pairs = mode.template.iter().zip(state);
                let square: f64 =
                    pairs.map(|(&m, &x)| (f64::from(x) - signal * unit(m)).powi(2)).sum();
                libm::log(mode.weight) - 0.5 * square / total
            })
            .collect();
        let best = nats.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = nats.iter().map(|n| libm::exp(n - best)).collect();
        let sum: f64 = weights.iter().sum();
        let mut mean = vec![0.0; state.len()];
        for (mode, weight) in self.modes.iter().zip(&weights).filter(|(_, w)| **w > 1e-12 * sum) {
            for (mean, &value) in mean.iter_mut().zip(&mode.template) {
                *mean += weight / sum * unit(value);
            }
        }
        let pairs = state.iter().zip(mean);
        pairs.map(|(&x, mean)| noise / total * (f64::from(x) - signal * mean)).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn index(value: usize) -> f64 {
    value as f64
}

/// How much of each pixel the strokes of a digit cover, row by row.
fn coverage(side: u32, digit: usize, shift: usize, stroke: f64) -> Vec<f64> {
    let side_f = f64::from(side);
    let (width, height) = (0.40 * side_f, 0.60 * side_f);
    let moved = |place: usize| (index(place) - 1.0) * side_f / 12.0;
    let left = 0.5 * (side_f - width) + moved(shift % 3);
    let top = 0.5 * (side_f - height) + moved(shift / 3);
    let place = |[x, y]: [f64; 2]| [left + x * width, top + y * height];
    let strokes: Vec<Stroke> =
        strokes(digit).into_iter().map(|[a, b]| [place(a), place(b)]).collect();
    (0..side)
        .flat_map(|row| (0..side).map(move |column| [column, row]))
        .map(|[column, row]| {
            let centre = [f64::from(column) + 0.5, f64::from(row) + 0.5];
            let nearest =
                strokes.iter().map(|&s| distance(centre, s)).fold(f64::INFINITY, f64::min);
            (0.5 + stroke * side_f - nearest).clamp(0.0, 1.0)
        })
        .collect()
}

fn template(covered: &[f64], ink: &[f64; 3], channels: u32) -> Vec<f64> {
    let ink = &ink[..channels as usize];
    let mix = |share: f64| ink.iter().map(move |level| BACKGROUND + share * (level - BACKGROUND));
    covered.iter().flat_map(|&share| mix(share)).collect()
}

/// The facts of the source, without drawing it.
pub(crate) fn manifest(source: &Glyphs) -> Result<DataManifest, DataError> {
    check(source)?;
    let validation = (source.images / 10).clamp(VALIDATION_IMAGES.0, VALIDATION_IMAGES.1);
    Ok(DataManifest {
        id: DataId::from_hash(&content_hash(FORMAT, source)),
        vocabulary: 256,
        train_tokens: source.images,
        validation_tokens: validation,
        bytes_per_token: None,
        train_documents: source.images,
        validation_documents: validation,
        entropy: None,
        image: Some(ImageFacts { side: source.side, channels: source.channels, classes: 10 }),
    })
}

/// Draws both parts into shards: label, then values, image by image.
pub(crate) fn build(folder: &Path, source: &Glyphs) -> Result<DataManifest, DataError> {
    let manifest = manifest(source)?;
    let density = GlyphDensity::new(source);
    let mut pixels = Vec::new();
    for (part, images, odd) in
        [(Part::Train, manifest.train_tokens, 0), (Part::Validation, manifest.validation_tokens, 1)]
    {
        let mut shard = ShardWriter::create(&folder.join(part.file()), 256)?;
        for image in 0..images {
            let digit = density.draw(source.seed, 2 * image + odd, &mut pixels);
            shard.push_bytes(&[u8::try_from(digit).expect("below 10")])?;
            shard.push_bytes(&pixels)?;
        }
        shard.finish()?;
    }
    Ok(manifest)
}

fn check(source: &Glyphs) -> Result<(), DataError> {
    let refused = |key, value: String, reason: &str, hint| {
        Err(DataError::Synthetic { key, value, reason: reason.to_owned(), hint })
    };
    if !(8..=64).contains(&source.side) {
        return refused("side", source.side.to_string(), "is not from 8 to 64", "give 16");
    }
    if !matches!(source.channels, 1 | 3) {
        let hint = "give 1 for grey or 3 for colour";
        return refused("channels", source.channels.to_string(), "is no image", hint);
    }
    if !(1.0..=40.0).contains(&source.deviation) {
        let value = source.deviation.to_string();
        return refused(
            "deviation",
            value,
            "is not from 1 to 40",
            "give levels of 256, usually 10",
        );
    }
    if source.images == 0 {
        let hint = "give at least the images of the longest run, or it repeats them";
        return refused("images", "0".to_owned(), "is no data", hint);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(side: u32, channels: u32) -> Glyphs {
        Glyphs { side, channels, images: 100, deviation: 10.0, seed: 3 }
    }

    fn drawn(density: &GlyphDensity, count: u64) -> Vec<(Vec<u8>, usize)> {
        (0..count)
            .map(|image| {
                let mut pixels = Vec::new();
                let digit = density.draw(3, image, &mut pixels);
                (pixels, digit)
            })
            .collect()
    }

    /// The closed form against the mean of -ln p over draws, which is an unbiased estimate of it.
    #[test]
    fn the_entropy_is_that_of_the_draws() {
        for (side, channels) in [(8, 1), (16, 1), (12, 3)] {
            let density = GlyphDensity::new(&source(side, channels));
            let nats: Vec<f64> =
                drawn(&density, 1000).iter().map(|(x, _)| -density.log_density(x).0).collect();
            let mean = nats.iter().sum::<f64>() / 1000.0;
            let variance = nats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 999.0;
            let error = (variance / 1000.0).sqrt();
            let exact = density.entropy_nats();
            assert!((mean - exact).abs() < 4.0 * error, "{side}: {mean} +- {error}, {exact}");
        }
    }

    /// The masses of the levels of one value are a distribution.
    #[test]
    fn the_density_of_a_value_sums_to_one() {
        for mean in [0.0, 48.0, 133.3, 208.0, 255.0] {
            let sum: f64 = (0..=255).map(|level| level_nats(level, mean, 10.0).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{mean}: {sum}");
        }
    }

    #[test]
    fn weights_sum_to_one_and_fall_with_the_digit() {
        for channels in [1, 3] {
            let density = GlyphDensity::new(&source(16, channels));
            assert_eq!(density.modes(), if channels == 1 { 180 } else { 1080 });
            let weights = density.digit_weights();
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(weights.windows(2).all(|pair| pair[1] < pair[0]));
        }
    }

    #[test]
    fn draws_are_recognised_and_come_with_their_frequency() {
        let density = GlyphDensity::new(&source(8, 1));
        let images = drawn(&density, 2000);
        let wrong = images.iter().filter(|(x, digit)| density.log_density(x).1 != *digit).count();
        assert!(wrong <= 2, "{wrong} of 2000");
        let near = images.iter().filter(|(x, _)| density.nearest(x).1 < 2.0).count();
        assert!(near >= 1998, "{near} of 2000");
        let zeros = images.iter().filter(|(_, digit)| *digit == 0).count() as f64 / 2000.0;
        let expected = density.digit_weights()[0];
        // Four standard errors of a share of 0.34 at 2,000 draws.
        assert!((zeros - expected).abs() < 0.043, "{zeros} {expected}");
    }

    /// With the noise known to be all of the state there is nothing better than the state itself,
    /// and on real triples the expected noise is nearer than that of any template alone.
    #[test]
    fn the_expected_noise_is_the_best_prediction() {
        let density = GlyphDensity::new(&source(8, 1));
        let state: Vec<f32> = (0_u8..64).map(|i| f32::from(i) / 32.0 - 1.0).collect();
        let all = density.expected_noise(&state, 0.0, 1.0);
        assert!(all.iter().zip(&state).all(|(e, &x)| (e - f64::from(x)).abs() < 1e-9));
        let mut draws = Stream::new(1, Purpose::Noise, 0);
        // So little noise that the mode shows: what is left is the noise of the image itself.
        let (signal, noise) = (0.99_f64.sqrt(), 0.01_f64.sqrt());
        let (mut best, mut naive) = (0.0, 0.0);
        for (pixels, _) in drawn(&density, 200) {
            let e: Vec<f64> = pixels.iter().map(|_| draws.normal()).collect();
            let x = pixels.iter().map(|&v| f64::from(v) / 127.5 - 1.0);
            #[expect(clippy::cast_possible_truncation, reason = "states are f32")]
            let state: Vec<f32> = x.zip(&e).map(|(x, e)| (signal * x + noise * e) as f32).collect();
            let square = |predicted: &[f64], e: &[f64]| -> f64 {
                predicted.iter().zip(e).map(|(a, b)| (a - b).powi(2)).sum()
            };
            best += square(&density.expected_noise(&state, signal, noise), &e);
            naive += square(&vec![0.0; e.len()], &e);
        }
        // The image's own noise cannot be told from e: its share of the variance is what is left.
        let spread = (10.0 * 10.0 + 1.0 / 12.0) / (127.5 * 127.5);
        let floor = signal * signal * spread / (signal * signal * spread + noise * noise);
        let found = best / (200.0 * 64.0);
        assert!((found / floor - 1.0).abs() < 0.05, "{found} {floor}");
        assert!(naive > 2.0 * best);
    }

    /// The drawn images are what their id says: a change of the construction must change it.
    #[test]
    fn images_are_golden() {
        let density = GlyphDensity::new(&source(16, 3));
        let mut hasher = blake3::Hasher::new();
        for (pixels, digit) in drawn(&density, 20) {
            hasher.update(&[u8::try_from(digit).expect("below 10")]);
            hasher.update(&pixels);
        }
        insta::assert_snapshot!(&hasher.finalize().to_hex()[..16], @"ea6948ac9852fca5");
    }
}
