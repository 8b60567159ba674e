//! Documents out of files: a plain file is one document of any bytes, a line of a JSON-lines file
//! is one document, its `text`. `.gz` and `.zst` are decoded first, by the ending of the name.
//!
//! Reading is a stream with limits: one document is held in memory at a time, and a small
//! compressed file cannot grow without bound.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use serde::Deserialize;

use crate::error::DataError;

/// How large things may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One document, since it is held in memory as a whole.
    pub(crate) document_bytes: u64,
    /// One decoded file of JSON lines.
    pub(crate) decoded_bytes: u64,
}

impl Limits {
    /// A document of 512 MiB is fifty times a long book collection and still fits beside a
    /// trainer; 64 GiB of decoded lines are more than a sweep's largest run reads, and stop a
    /// compressed bomb before it has kept a machine busy for an hour.
    pub(crate) const DEFAULT: Self = Self { document_bytes: 512 << 20, decoded_bytes: 64 << 30 };
}

/// What a file's name says about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    compression: Option<Compression>,
    lines: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl Format {
    fn of(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name = name.unwrap_or_default();
        let (bare, compression) = if let Some(bare) = name.strip_suffix(".gz") {
            (bare, Some(Compression::Gzip))
        } else if let Some(bare) = name.strip_suffix(".zst") {
            (bare, Some(Compression::Zstd))
        } else {
            (name.as_str(), None)
        };
        Self { compression, lines: bare.ends_with(".jsonl") }
    }
}

/// Takes a document with its place in the file.
pub(crate) type Each<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<(), DataError>;

/// Gives every document of a file to `each`, with its place in the file (0 first), empty ones too.
pub(crate) fn read(path: &Path, limits: Limits, each: Each<'_>) -> Result<(), DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let format = Format::of(path);
    let failed = |source| match format.compression {
        Some(compression) => {
            DataError::Compressed { path: path.to_owned(), format: compression.name(), source }
        }
        None => DataError::Io { action: "read", path: path.to_owned(), source },
    };
    let decoded: Box<dyn Read> = match format.compression {
        None => Box::new(file),
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(file).map_err(failed)?),
    };
    if format.lines {
        // One byte over the limit is read, so that a file of exactly the limit passes.
        let lines = BufReader::with_capacity(1 << 20, decoded.take(limits.decoded_bytes + 1));
        read_lines(path, lines, limits, &failed, each)
    } else {
        let mut document = Vec::new();
        let mut bounded = decoded.take(limits.document_bytes + 1);
        bounded.read_to_end(&mut document).map_err(failed)?;
        if document.len() as u64 > limits.document_bytes {
            return Err(too_large(path, "in one document", limits.document_bytes));
        }
        each(0, &document)
    }
}

fn too_large(path: &Path, place: impl Into<String>, limit_bytes: u64) -> DataError {
    DataError::TooLarge {
        path: path.to_owned(),
        place: place.into(),
        limit_bytes,
        hint: "split the file",
    }
}

/// A line of a JSON-lines file; other fields are of no concern.
#[derive(Deserialize)]
struct Line {
    text: Option<String>,
}

fn read_lines(
    path: &Path,
    mut lines: impl BufRead,
    limits: Limits,
    failed: &dyn Fn(io::Error) -> DataError,
    each: Each<'_>,
) -> Result<(), DataError> {
    let mut line = Vec::new();
    let mut decoded = 0;
    let mut place = 0;
    for number in 1.. {
        line.clear();
        // The limit holds for the JSON of a line, which is never shorter than its text.
        let mut bounded = (&mut lines).take(limits.document_bytes + 1);
        decoded += bounded.read_until(b'\n', &mut line).map_err(failed)? as u64;
        if line.is_empty() {
            break;
        }
        if line.len() as u64 > limits.document_bytes {
            return Err(too_large(path, format!("in line {number}"), limits.document_bytes));
        }
        if decoded > limits.decoded_bytes {
            return Err(too_large(path, "when decoded", limits.decoded_bytes));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        each(place, parse_line(path, number, &line)?.as_bytes())?;
        place += 1;
    }
    Ok(())
}

fn parse_line(path: &Path, number: u64, line: &[u8]) -> Result<String, DataError> {
    let text = std::str::from_utf8(line).map_err(|error| DataError::NotUtf8 {
        path: path.to_owned(),
        place: format!("in line {number}, byte {}", error.valid_up_to() + 1),
        hint: "JSON lines are UTF-8 by definition; convert the file, or give it as plain text, \
               whose bytes are free",
    })?;
    let bad = |reason: String| DataError::BadLine { path: path.to_owned(), line: number, reason };
    let parsed: Line = serde_json::from_str(text).map_err(|error| {
        // The parser saw one line, so its own line number says nothing.
        let message = error.to_string();
        let reason = message.split(" at line ").next().unwrap_or_default();
        bad(format!("{reason} (column {})", error.column()))
    })?;
    parsed.text.ok_or_else(|| bad("no field `text`".to_owned()))
}

#[cfg(test)]
mod tests;
