//! The file of samples that a finished run leaves beside its checkpoints, for the report.

use std::{fs, path::Path};

use serde::Serialize;
use sweep_spec::{data::ImageFacts, run::Sampler};

use super::{frame::level, sampler::Samples};
use crate::error::TrainError;

/// Name of the file in the folder of a run.
pub(crate) const FILE: &str = "samples.json";

/// Raised when the layout changes.
const FORMAT: u32 = 1;

/// Samples that are kept: a row of a picture.
const KEPT: usize = 8;

/// States of the path that are kept, from noise to image.
const PATH_KEPT: usize = 10;

#[derive(Serialize)]
struct File {
    format: u32,
    side: u32,
    channels: u32,
    sampler: Sampler,
    steps: usize,
    /// Levels of each sample as hexadecimal digits, row by row, channels together.
    images: Vec<String>,
    path: Vec<State>,
}

#[derive(Serialize)]
struct State {
    t: usize,
    image: String,
}

/// Writes the first samples and the path of the first one.
pub(crate) fn write(
    folder: &Path,
    samples: &Samples,
    facts: ImageFacts,
    sampler: Sampler,
    steps: usize,
) -> Result<(), TrainError> {
    let images = samples.images.chunks_exact(facts.values() as usize).take(KEPT);
    let last = samples.path.len() - 1;
    let kept = PATH_KEPT.min(samples.path.len());
    let places = (0..kept).map(|place| place * last / (kept - 1).max(1));
    let file = File {
        format: FORMAT,
        side: facts.side,
        channels: facts.channels,
        sampler,
        steps,
        images: images.map(hexadecimal).collect(),
        path: places
            .map(|place| &samples.path[place])
            .map(|(t, image)| State { t: *t, image: hexadecimal(image) })
            .collect(),
    };
    let path = folder.join(FILE);
    let staged = folder.join(".samples.part");
    let text = serde_json::to_vec(&file).expect("samples serialise");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&staged, text))
        .and_then(|()| fs::rename(&staged, &path))
        .map_err(|source| TrainError::Samples { path, source })
}

fn hexadecimal(image: &[f32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    image.iter().map(|&v| level(v)).flat_map(|v| [digit(v >> 4), digit(v & 15)]).collect()
}
