//! Text from a trained model: several texts at once, token by token, with a key-value cache.
//!
//! The next token is drawn from softmax(logits / temperature) cut to the `top_k` most probable
//! tokens and then to the fewest whose probabilities sum to `top_p` (Holtzman et al. 2020,
//! 1904.09751). At temperature 0 it is the most probable one. Draws come from the counter-based
//! generator, keyed by the seed and the number of the text, so a text does not depend on how many
//! are drawn beside it.

use std::path::Path;

use burn::tensor::{Int, Tensor};
use sweep_spec::{
    random::{Purpose, Stream},
    run::RunConfig,
    shape::Shape,
};

use crate::{
    checkpoint,
    device::{self, DeviceId},
    error::TrainError,
    model::lm::{Cache, Lm},
    task::{largest, log_softmax},
    timer::Timer,
};

/// What to write.
#[derive(Clone, Debug)]
pub struct SampleRequest<'a> {
    /// The run.
    pub config: &'a RunConfig,
    /// Folder of its checkpoints; the newest whole one is taken.
    pub checkpoints: &'a Path,
    /// The device.
    pub device: &'a DeviceId,
    /// Tokens that every text begins with, at least one.
    pub prompt: &'a [i32],
    /// Tokens to write after it.
    pub tokens: usize,
    /// Texts to write.
    pub count: usize,
    /// How tokens are drawn.
    pub draw: Draw,
    /// Seed of the draws.
    pub seed: u64,
}

/// How a token is drawn from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// The most probable tokens that are drawn from; all when absent.
    pub top_k: Option<usize>,
    /// Least sum of the probabilities of the tokens drawn from, above 0, at most 1.
    pub top_p: f64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Tokens of each text after the prompt.
    pub texts: Vec<Vec<u32>>,
    /// Step of the checkpoint.
    pub step: u64,
    /// Tokens written per second, all texts together, without the time to load the model.
    pub tokens_per_second: f64,
    /// Newer checkpoints that failed their check, a line each.
    pub passed_over: Vec<String>,
}

/// Writes texts with a run's newest checkpoint.
///
/// # Errors
/// [`TrainError`]: no whole checkpoint, a prompt that leaves no room in a window or has tokens that
/// the model has no row for, a device that failed.
pub fn sample(request: &SampleRequest<'_>) -> Result<Samples, TrainError> {
    let Shape::Lm(shape) = &request.config.shape else {
        return Err(TrainError::Wordless);
    };
    let sequence = shape.sequence as usize;
    if request.prompt.is_empty() || request.prompt.len() > sequence {
        let tokens = request.prompt.len();
        return Err(TrainError::Prompt { tokens, sequence });
    }
    let vocabulary = shape.vocabulary;
    let outside = |token: &&i32| u32::try_from(**token).map_or(true, |token| token >= vocabulary);
    if let Some(&token) = request.prompt.iter().find(outside) {
        return Err(TrainError::Vocabulary { token, vocabulary });
    }
    let device = device::open(request.device)?;
    let mut model = Lm::new(shape, request.config.seed, &device);
    let id = request.config.id();
    let (found, passed_over) = checkpoint::newest(request.checkpoints, id.as_str(), u64::MAX);
    let Some(found) = found else {
        let path = request.checkpoints.to_owned();
        return Err(TrainError::NoCheckpoint { path, passed_over: passed_over.join("; ") });
    };
    found.load_model(&mut model, &device)?;
    let timer = Timer::start();
    let texts = write(&model, request, sequence)?;
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let tokens_per_second = (request.count * request.tokens) as f64 / timer.seconds();
    Ok(Samples { texts, step: found.manifest.step, tokens_per_second, passed_over })
}

/// Writes all texts side by side. When a window is full, the later half of it is read anew as the
/// beginning of the next one.
fn write(
    model: &Lm,
    request: &SampleRequest<'_>,
    sequence: usize,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let mut texts: Vec<Vec<i32>> = vec![request.prompt.to_vec(); request.count];
    let (mut cache, mut logits) = read(model, &texts, 0)?;
    for place in 0..request.tokens {
        if place > 0 {
            if cache.length() == sequence {
                let kept = texts[0].len() - sequence.div_ceil(2);
                (cache, logits) = read(model, &texts, kept)?;
            } else {
                let last = texts[0].len() - 1;
                logits = next(model, &texts, last, &mut cache)?;
            }
        }
        let vocabulary = logits.len() / texts.len();
        for ((text, logits), stream) in
            texts.iter_mut().zip(logits.chunks_exact(vocabulary)).zip(0..)
        {
            let mut draws = Stream::new(request.seed, Purpose::Sampling, stream);
            // Two words a draw: a place of its own for every token.
            draws.seek(2 * place as u64);
            let token = pick(logits, request.draw, draws.uniform());
            text.push(i32::try_from(token).expect("a vocabulary is at most 65,536"));
        }
    }
    let written = |text: &Vec<i32>| -> Vec<u32> {
        text[request.prompt.len()..].iter().map(|token| token.unsigned_abs()).collect()
    };
    Ok(texts.iter().map(written).collect())
}

/// Reads all texts from a place on; gives the logits after their last token.
fn read(model: &Lm, texts: &[Vec<i32>], from: usize) -> Result<(Cache, Vec<f32>), TrainError> {
    let mut cache = model.cache();
    let mut logits = Vec::new();
    for place in from..texts[0].len() {
        logits = next(model, texts, place, &mut cache)?;
    }
    Ok((cache, logits))
}

fn next(
    model: &Lm,
    texts: &[Vec<i32>],
    place: usize,
    cache: &mut Cache,
) -> Result<Vec<f32>, TrainError> {
    let tokens: Vec<i32> = texts.iter().map(|text| text[place]).collect();
    let device = model.device();
    row_values(model.decode(Tensor::<1, Int>::from_data(&tokens[..], &device), cache))
}

/// The token at a uniform draw from [0, 1).
fn pick(logits: &[f32], draw: Draw, uniform: f64) -> usize {
    if draw.temperature == 0.0 {
        return largest(logits);
    }
    let logs = log_softmax(logits);
    let mut order: Vec<usize> = (0..logs.len()).collect();
    // Equal ones by number, so that the order is one.
    order.sort_by(|&a, &b| logs[b].total_cmp(&logs[a]).then(a.cmp(&b)));
    order.truncate(draw.top_k.unwrap_or(logs.len()).max(1));
    let most = logs[order[0]];
    let weight = |token: usize| libm::exp((logs[token] - most) / draw.temperature);
    let weights: Vec<f64> = order.iter().map(|&token| weight(token)).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0;
    let mut sum = 0.0;
    while kept < weights.len() && (kept == 0 || sum < draw.top_p * total) {
        sum += weights[kept];
        kept += 1;
    }
    let mut left = uniform * sum;
    for (&token, weight) in order.iter().zip(&weights[..kept]) {
        if left < *weight {
            return token;
        }
        left -= weight;
    }
    // Rounding used the sum up.
    order[kept - 1]
}

/// Reads a matrix from its device, row after row.
pub(crate) fn row_values(tensor: Tensor<2>) -> Result<Vec<f32>, TrainError> {
    let data = tensor.try_into_data().map_err(|error| TrainError::Read(format!("{error:?}")))?;
    data.try_to_vec::<f32>().map_err(|error| TrainError::Read(format!("{error:?}")))
}

#[cfg(test)]
mod tests;
