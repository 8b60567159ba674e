//! Items of a user's file: JSON lines of `{"prompt": "...", "answer": "..."}`, or of a prompt with
//! `choices` and the place of the right one, from 0, as `answer`.

use std::{fs, path::Path};

use serde::Deserialize;

use super::Item;
use crate::{error::DataError, globs};

/// Largest file of items; 100,000 items of half a KiB.
const BYTES_MAX: u64 = 50 << 20;

/// The first eight bytes of the content hash of a text.
pub(super) fn hash_of(text: &[u8]) -> u64 {
    let hash = blake3::hash(text);
    let (bytes, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
    u64::from_le_bytes(*bytes)
}

/// Reads a file of items and tells its content hash, which names it in a run. Every line is
/// checked against a window of this many tokens.
///
/// # Errors
/// [`DataError`] names file and line.
pub fn content_of(path: &str, window: usize) -> Result<String, DataError> {
    let (shown, bytes) = load(path)?;
    parse(&shown, &bytes, window)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Items to train on and items held out, of the file with this content.
pub(super) fn read(
    path: &str,
    content: &str,
    held_out: f64,
    window: usize,
) -> Result<(Vec<Item>, Vec<Item>), DataError> {
    let (shown, bytes) = load(path)?;
    if blake3::hash(&bytes).to_hex().as_str() != content {
        return Err(DataError::OtherItems { path: shown.into() });
    }
    let mut items = parse(&shown, &bytes, window)?;
    // By hash of the prompt: neither the order of the lines nor a line added later moves an item
    // that is far from the edge.
    items.sort_by_key(|item| hash_of(&item.prompt));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of fewer than 2^32 items"
    )]
    let count = (items.len() as f64 * held_out).ceil() as usize;
    // One at least is left to train on: the file has two.
    let count = count.min(items.len() - 1);
    let train = items.split_off(count);
    Ok((train, items))
}

fn load(path: &str) -> Result<(String, Vec<u8>), DataError> {
    let expanded = globs::expand(path, &|name| std::env::var(name).ok())?;
    let place = Path::new(&expanded);
    let length = fs::metadata(place).map_err(DataError::io("read the items", place))?.len();
    if length > BYTES_MAX {
        return Err(DataError::TooLarge {
            path: place.to_owned(),
            place: "of items".to_owned(),
            limit_bytes: BYTES_MAX,
            hint: "keep a sample of it: 10,000 items resolve a rate of 1e-4",
        });
    }
    let bytes = fs::read(place).map_err(DataError::io("read the items", place))?;
    Ok((expanded, bytes))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    answer: Option<serde_json::Value>,
    choices: Option<Vec<String>>,
}

fn parse(path: &str, bytes: &[u8], window: usize) -> Result<Vec<Item>, DataError> {
    let refused =
        |line: u64, reason: String| DataError::BadItem { path: path.into(), line, reason };
    let mut items: Vec<Item> = Vec::new();
    let lines = bytes.split(|&byte| byte == b'\n');
    for (number, line) in (1..).zip(lines).filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| refused(number, format!("no item: {error}")))?;
        let item = item(line).map_err(|reason| refused(number, reason))?;
        if item.window() > window {
            let reason = format!(
                "prompt and answer have {} tokens, the window of the model has {window}",
                item.window()
            );
            return Err(refused(number, reason));
        }
        if items.iter().any(|other| other.prompt == item.prompt) {
            return Err(refused(number, "an earlier item has the same prompt".to_owned()));
        }
        items.push(item);
    }
    if items.len() < 2 {
        return Err(refused(1, format!("the file has {} item(s), two are the least", items.len())));
    }
    Ok(items)
}

fn item(line: Line) -> Result<Item, String> {
    let prompt = line.prompt.into_bytes();
    if prompt.is_empty() {
        return Err("`prompt` is empty".to_owned());
    }
    let text = |answer: &str| match answer {
        "" => Err("`answer` is empty".to_owned()),
        text => Ok(text.as_bytes().to_vec()),
    };
    match (line.answer, line.choices) {
        (None, _) => Err("there is no `answer`".to_owned()),
        (Some(serde_json::Value::String(answer)), None) => {
            Ok(Item { prompt, answer: text(&answer)?, choices: Vec::new(), chance: None })
        }
        (Some(answer), None) => Err(format!("`answer` is {answer}, not a text")),
        (Some(answer), Some(choices)) => chosen(prompt, &answer, choices),
    }
}

fn chosen(
    prompt: Vec<u8>,
    answer: &serde_json::Value,
    choices: Vec<String>,
) -> Result<Item, String> {
    let choices: Vec<Vec<u8>> = choices.into_iter().map(String::into_bytes).collect();
    if choices.len() < 2 || choices.iter().any(Vec::is_empty) {
        return Err("`choices` are not two or more texts".to_owned());
    }
    if choices.iter().enumerate().any(|(place, choice)| choices[..place].contains(choice)) {
        return Err("`choices` hold one text twice".to_owned());
    }
    let place = answer.as_u64().and_then(|place| usize::try_from(place).ok());
    let right = place.and_then(|place| choices.get(place)).ok_or_else(|| {
        format!("`answer` is {answer}, not the place of a choice from 0 to {}", choices.len() - 1)
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a line has few choices")]
    let chance = Some(1.0 / choices.len() as f64);
    Ok(Item { prompt, answer: right.clone(), choices, chance })
}
