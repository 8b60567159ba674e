//! The samples that diffusion runs left beside their checkpoints, read where they lie on this
//! machine. They are pictures for a report; no number comes from them.

use std::{fs, path::Path};

use serde::Deserialize;
use sweep_plot::input::SampleSheet;

/// The layout that is read.
const FORMAT: u32 = 1;

/// The file in the folder of a run.
const FILE: &str = "samples.json";

#[derive(Deserialize)]
struct File {
    format: u32,
    side: u32,
    channels: u32,
    sampler: String,
    steps: usize,
    images: Vec<String>,
    path: Vec<State>,
}

#[derive(Deserialize)]
struct State {
    t: usize,
    image: String,
}

/// The samples of a run whose folder lies in `checkpoints`; absent where there are none.
///
/// # Errors
/// The file and what is wrong with it, where it does not read.
pub(crate) fn read(checkpoints: &Path, run: &str) -> Result<Option<SampleSheet>, String> {
    let path = checkpoints.join(run).join(FILE);
    let Ok(text) = fs::read(&path) else { return Ok(None) };
    parse(&text).map(Some).map_err(|reason| format!("{}: {reason}", path.display()))
}

fn parse(text: &[u8]) -> Result<SampleSheet, String> {
    let file: File = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("format {} where {FORMAT} is read", file.format));
    }
    let pixels = file.side as usize * file.side as usize * file.channels as usize;
    let image = |digits: &String| {
        bytes(digits).filter(|bytes| bytes.len() == pixels).ok_or("an image of another size")
    };
    let images = file.images.iter().map(image).collect::<Result<_, _>>()?;
    let path =
        file.path.iter().map(|s| Ok((s.t, image(&s.image)?))).collect::<Result<_, &str>>()?;
    Ok(SampleSheet {
        side: file.side,
        channels: file.channels,
        sampler: format!("{}, {} steps", file.sampler, file.steps),
        images,
        path,
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let values = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
    values.collect::<Option<_>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"format":1,"side":2,"channels":1,"sampler":"ddim","steps":50,
        "images":["00ff7f80"],"path":[{"t":1000,"image":"01020304"}]}"#;

    #[test]
    fn samples_are_read_and_damage_is_named() {
        let sheet = parse(TEXT.as_bytes()).expect("reads");
        assert_eq!(sheet.images, [[0, 255, 127, 128]]);
        assert_eq!(sheet.path, [(1000, vec![1, 2, 3, 4])]);
        assert_eq!(sheet.sampler, "ddim, 50 steps");
        for (from, to) in
            [("00ff7f80", "00ff7f"), ("00ff", "00fg"), ("\"format\":1", "\"format\":9")]
        {
            assert!(parse(TEXT.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path(), "run"), Ok(None));
        fs::create_dir(folder.path().join("run")).expect("writable");
        fs::write(folder.path().join("run").join(FILE), "{").expect("writable");
        assert!(read(folder.path(), "run").expect_err("damaged").contains("samples.json"));
    }
}
