//! Asking a model: the probability it gives to a right answer, and the answer it gives itself.
//!
//! An item is read alone, from the first position of a window. The soft scores are teacher-forced:
//! each token of the right answer is predicted after the right ones before it, in one pass over
//! whole windows. Greedy decoding gives the right answer exactly where each of them is the most
//! probable one, so only the other items are decoded, with a key-value cache and by groups of
//! equal prompt length.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use sweep_data::task::Item;

use crate::{error::TrainError, model::lm::Lm, sample::row_values};

/// Windows scored at once: their activations stay near those of a training batch.
const WINDOWS: usize = 32;

/// What a model made of one item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// ln p of the right answer, in nats; among the choices where there are some.
    pub(crate) log_probability: f64,
    /// Share of the answer's tokens that are the most probable one after the right ones before.
    pub(crate) token_accuracy: f64,
    /// Whether the model's own answer is the right one.
    pub(crate) right: bool,
    /// Levenshtein distance of the model's own answer from the right one, over the longer length.
    pub(crate) edit_distance: f64,
    /// Probability that the model gives its own answer; among the choices where there are some.
    pub(crate) confidence: f64,
}

/// One answer to one prompt, teacher-forced.
struct Forced {
    /// ln p of each token.
    logs: Vec<f64>,
    /// Whether each is the most probable one.
    best: Vec<bool>,
}

/// Asks a model every item.
pub(super) fn ask(
    model: &Lm,
    items: &[Item],
    sequence: usize,
    device: &Device,
) -> Result<Vec<Asked>, TrainError> {
    let mut texts: Vec<(&[u8], &[u8])> = Vec::new();
    for item in items {
        texts.push((&item.prompt, &item.answer));
        texts.extend(item.choices.iter().map(|choice| (&item.prompt[..], &choice[..])));
    }
    let mut forced = Vec::with_capacity(texts.len());
    for chunk in texts.chunks(WINDOWS) {
        forced.extend(force(model, chunk, sequence, device)?);
    }
    let mut forced = forced.into_iter();
    let mut asked: Vec<Asked> = Vec::with_capacity(items.len());
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let answer = forced.next().expect("one for the answer");
        let choices: Vec<Forced> = forced.by_ref().take(item.choices.len()).collect();
        asked.push(if !choices.is_empty() {
            chosen(item, &answer, &choices)
        } else if answer.best.iter().all(|&best| best) {
            exact(&answer)
        } else {
            open.entry(item.prompt.len()).or_default().push(index);
            missed(&answer)
        });
    }
    for indices in open.values() {
        decode(model, items, indices, device, &mut asked)?;
    }
    Ok(asked)
}

/// ln p and rank of every token of some answers, one window each.
fn force(
    model: &Lm,
    texts: &[(&[u8], &[u8])],
    sequence: usize,
    device: &Device,
) -> Result<Vec<Forced>, TrainError> {
    let mut inputs = vec![0_i32; texts.len() * sequence];
    let mut rows: Vec<i32> = Vec::new();
    for (window, (prompt, answer)) in texts.iter().enumerate() {
        let start = window * sequence;
        // The last token is predicted and not read.
        let read = prompt.iter().chain(&answer[..answer.len() - 1]);
        for (place, &byte) in read.enumerate() {
            inputs[start + place] = i32::from(byte);
        }
        let first = start + prompt.len() - 1;
        rows.extend((first..first + answer.len()).map(|row| i32::try_from(row).expect("few rows")));
    }
    let logits = model.logits(
        Tensor::<1, Int>::from_data(&inputs[..], device),
        Tensor::<1, Int>::from_data(&rows[..], device),
    );
    let values = row_values(logits)?;
    let vocabulary = values.len() / rows.len();
    let mut rows = values.chunks_exact(vocabulary);
    let of_answer = |(_, answer): &(&[u8], &[u8])| {
        let mut found = Forced { logs: Vec::new(), best: Vec::new() };
        for &byte in *answer {
            let logits = rows.next().expect("a row for every token");
            let logs = log_softmax(logits);
            found.logs.push(logs[usize::from(byte)]);
            found.best.push(largest(logits) == usize::from(byte));
        }
        found
    };
    Ok(texts.iter().map(of_answer).collect())
}

/// ln softmax of a row, in f64 around its largest value.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - most)).sum();
    let log_sum = most + libm::log(sum);
    logits.iter().map(|&logit| f64::from(logit) - log_sum).collect()
}

/// The place of the largest value, the first of equal ones.
pub(crate) fn largest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (place, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = place;
        }
    }
    best
}

#[expect(clippy::cast_precision_loss, reason = "an answer has at most 512 tokens")]
fn share(best: &[bool]) -> f64 {
    best.iter().filter(|&&best| best).count() as f64 / best.len() as f64
}

fn exact(answer: &Forced) -> Asked {
    let log_probability: f64 = answer.logs.iter().sum();
    Asked {
        log_probability,
        token_accuracy: 1.0,
        right: true,
        edit_distance: 0.0,
        confidence: libm::exp(log_probability),
    }
}

/// An item that is not answered right; distance and confidence are those of the answer that is
/// decoded later.
fn missed(answer: &Forced) -> Asked {
    Asked {
        log_probability: answer.logs.iter().sum(),
        token_accuracy: share(&answer.best),
        right: false,
        edit_distance: f64::NAN,
        confidence: f64::NAN,
    }
}

/// An item with choices: their probabilities are made to sum to one, and the most probable one is
/// the model's answer (the first of equal ones).
fn chosen(item: &Item, answer: &Forced, choices: &[Forced]) -> Asked {
    let sums: Vec<f64> = choices.iter().map(|choice| choice.logs.iter().sum()).collect();
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = most + libm::log(sums.iter().map(|sum| libm::exp(sum - most)).sum());
    let own = sums.iter().position(|&sum| sum == most).expect("there are choices");
    let right: f64 = answer.logs.iter().sum();
    let text = &item.choices[own];
    Asked {
        log_probability: right - total,
        token_accuracy: share(&answer.best),
        right: *text == item.answer,
        edit_distance: distance(text, &item.answer),
        confidence: libm::exp(most - total),
    }
}

/// Decodes greedy answers, as long as the right ones, to prompts of one length.
fn decode(
    model: &Lm,
    items: &[Item],
    indices: &[usize],
    device: &Device,
    asked: &mut [Asked],
) -> Result<(), TrainError> {
    let (mut cache, mut logs) = (model.cache(), vec![0.0; indices.len()]);
    let mut written: Vec<Vec<u8>> = vec![Vec::new(); indices.len()];
    let prompt = items[indices[0]].prompt.len();
    let longest = indices.iter().map(|&index| items[index].answer.len()).max().unwrap_or(0);
    for place in 0..prompt + longest - 1 {
        let read: Vec<i32> = indices
            .iter()
            .zip(&written)
            .map(|(&index, written)| match items[index].prompt.get(place) {
                Some(&byte) => i32::from(byte),
                None => i32::from(written[place - prompt]),
            })
            .collect();
        let logits = model.decode(Tensor::<1, Int>::from_data(&read[..], device), &mut cache);
        if place + 1 < prompt {
            continue;
        }
        let values = row_values(logits)?;
        let vocabulary = values.len() / indices.len();
        for (row, logits) in values.chunks_exact(vocabulary).enumerate() {
            let best = largest(logits);
            if written[row].len() < items[indices[row]].answer.len() {
                logs[row] += log_softmax(logits)[best];
            }
            // Tokens beyond the bytes cannot be: tasks need a vocabulary of bytes.
            written[row].push(u8::try_from(best).expect("a vocabulary of bytes"));
        }
    }
    for ((&index, mut written), log) in indices.iter().zip(written).zip(logs) {
        let answer = &items[index].answer;
        written.truncate(answer.len());
        asked[index].edit_distance = distance(&written, answer);
        asked[index].confidence = libm::exp(log);
        // Near a tie the cached logits may decide otherwise than the whole window did.
        asked[index].right = written == *answer;
    }
    Ok(())
}

/// Levenshtein's distance over the longer length: 0 for equal texts, at most 1.
#[expect(clippy::cast_precision_loss, reason = "answers have at most 512 tokens")]
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()] as f64 / a.len().max(b.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_is_that_of_the_textbook() {
        assert_eq!(distance(b"kitten", b"sitting"), 3.0 / 7.0);
        assert_eq!(distance(b"abc", b"abc"), 0.0);
        assert_eq!(distance(b"", b"ab"), 1.0);
        assert_eq!(distance(b"abcd", b"bcda"), 0.5);
    }

    #[test]
    fn a_log_softmax_sums_to_one() {
        let logs = log_softmax(&[1.0, -50.0, 700.0, 699.0]);
        let sum: f64 = logs.iter().map(|log| log.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{logs:?}");
        assert!((logs[2] - logs[3] - 1.0).abs() < 1e-9);
    }
}
