//! The two calls of this crate, and the cache behind them.
//!
//! `CACHE/data/ID/` holds `train.tokens`, `validation.tokens` and `manifest.json`, and the tokenizer
//! where tokens are no bytes. A folder is made
//! under another name and renamed, so it is whole or absent; two processes that make the same one
//! make the same bytes, and the later one drops its own. A damaged folder is made again.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use sweep_spec::{
    data::{DataManifest, DataSource},
    id::DataId,
};

use crate::{
    bin,
    error::DataError,
    glyphs, images,
    shard::TokenFile,
    synthetic,
    text::{self, TextSource},
};

const MANIFEST: &str = "manifest.json";

/// The two parts of a data set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Trained on.
    Train,
    /// Held out.
    Validation,
}

impl Part {
    /// Name of the shard in the folder of the data set.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Train => "train.tokens",
            Self::Validation => "validation.tokens",
        }
    }
}

/// Tokens for training and validation, with their facts.
#[derive(Debug)]
pub struct Dataset {
    manifest: DataManifest,
    train: TokenFile,
    validation: TokenFile,
}

impl Dataset {
    /// Joins the two parts.
    pub(crate) fn new(manifest: DataManifest, train: TokenFile, validation: TokenFile) -> Self {
        let record = record_tokens(&manifest);
        let (trained, held_out) = (manifest.train_tokens, manifest.validation_tokens);
        assert_eq!(trained * record, train.len(), "the manifest counts the training tokens");
        assert_eq!(held_out * record, validation.len(), "and the held-out ones");
        Self { manifest, train, validation }
    }

    /// The facts of the data as it was read.
    #[must_use]
    pub fn manifest(&self) -> &DataManifest {
        &self.manifest
    }

    /// Tokens to train on.
    #[must_use]
    pub fn train(&self) -> &TokenFile {
        &self.train
    }

    /// Held-out tokens, of documents that no training token comes from.
    #[must_use]
    pub fn validation(&self) -> &TokenFile {
        &self.validation
    }
}

/// Tokens in a shard for each one that the manifest counts: an image has its label and its values.
fn record_tokens(manifest: &DataManifest) -> u64 {
    manifest.image.map_or(1, |image| 1 + u64::from(image.values()))
}

/// Reads what a source holds now and tells its facts; token shards are made on the way.
///
/// # Errors
/// [`DataError`] names the glob, file, line or key and the cure.
pub fn resolve(source: &DataSource, cache: &Path) -> Result<DataManifest, DataError> {
    match source {
        DataSource::Text { globs, tokenizer, max_bytes, held_out } => {
            let source =
                TextSource { globs, tokenizer, max_bytes: *max_bytes, held_out: *held_out };
            text::resolve(&source, cache)
        }
        DataSource::Bin { train, validation, vocabulary } => {
            Ok(bin::resolve(train, validation, *vocabulary, cache)?.manifest)
        }
        DataSource::Synthetic(source) => synthetic::manifest(source),
        DataSource::Images { globs, held_out } => {
            images::resolve(globs, *held_out, cache).map_err(images::explain)
        }
        DataSource::Glyphs(source) => glyphs::manifest(source),
    }
}

/// Opens the data that a run names. Where the cache holds it, the source is not looked at: the id
/// names the content.
///
/// # Errors
/// [`DataError::OtherData`] when the source no longer reads as `expected`, else as [`resolve`].
pub fn open(source: &DataSource, cache: &Path, expected: &DataId) -> Result<Dataset, DataError> {
    if let DataSource::Bin { train, validation, vocabulary } = source {
        let resolved = bin::resolve(train, validation, *vocabulary, cache)?;
        check(expected, &resolved.manifest.id)?;
        return resolved.open();
    }
    let folder = folder(cache, expected);
    if folder.exists() {
        match load(&folder) {
            Ok(dataset) => return Ok(dataset),
            // A damaged copy is worth nothing; a reader that has it open keeps its files.
            Err(_) => fs::remove_dir_all(&folder)
                .or_else(|error| if folder.exists() { Err(error) } else { Ok(()) })
                .map_err(DataError::io("remove", &folder))?,
        }
    }
    check(expected, &resolve(source, cache)?.id)?;
    match source {
        DataSource::Synthetic(source) => {
            store(cache, expected, |folder| synthetic::build(folder, source))?;
        }
        DataSource::Glyphs(source) => {
            store(cache, expected, |folder| glyphs::build(folder, source))?;
        }
        // Made by `resolve`.
        DataSource::Text { .. } | DataSource::Bin { .. } | DataSource::Images { .. } => {}
    }
    load(&folder)
}

fn check(expected: &DataId, found: &DataId) -> Result<(), DataError> {
    if expected == found {
        Ok(())
    } else {
        Err(DataError::OtherData { expected: expected.clone(), found: found.clone() })
    }
}

/// The folder of a data set in the cache.
pub(crate) fn folder(cache: &Path, id: &DataId) -> PathBuf {
    cache.join("data").join(id.as_str())
}

/// Opens a folder of the cache and checks all of it.
fn load(folder: &Path) -> Result<Dataset, DataError> {
    let manifest = read_manifest(folder)?;
    let part = |part: Part| TokenFile::open(&folder.join(part.file()), manifest.vocabulary);
    let (train, validation) = (part(Part::Train)?, part(Part::Validation)?);
    let record = record_tokens(&manifest);
    let announced = (manifest.train_tokens * record, manifest.validation_tokens * record);
    if (train.len(), validation.len()) != announced {
        let reason = "its shards hold other numbers of tokens".to_owned();
        return Err(DataError::Damaged { path: folder.join(MANIFEST), reason });
    }
    Ok(Dataset::new(manifest, train, validation))
}

fn read_manifest(folder: &Path) -> Result<DataManifest, DataError> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(DataError::io("read", &path))?;
    let damaged = |reason: String| DataError::Damaged { path: path.clone(), reason };
    let manifest: DataManifest =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let named = folder.file_name().is_some_and(|name| name == manifest.id.as_str());
    if named && (2..=1 << 16).contains(&manifest.vocabulary) {
        Ok(manifest)
    } else {
        Err(damaged("it belongs to another data set".to_owned()))
    }
}

/// The facts of a data set in the cache. Its shards are checked when they are opened, not here.
pub(crate) fn cached(cache: &Path, id: &DataId) -> Option<DataManifest> {
    let folder = folder(cache, id);
    let whole = [Part::Train, Part::Validation].iter().all(|p| folder.join(p.file()).is_file());
    if whole { read_manifest(&folder).ok() } else { None }
}

/// Makes the folder of a data set by `build`, which writes the shards and tells the facts.
pub(crate) fn store(
    cache: &Path,
    id: &DataId,
    build: impl FnOnce(&Path) -> Result<DataManifest, DataError>,
) -> Result<DataManifest, DataError> {
    let parent = cache.join("data");
    fs::create_dir_all(&parent).map_err(DataError::io("create the folder", &parent))?;
    let new = tempfile::Builder::new()
        .prefix("new-")
        .tempdir_in(&parent)
        .map_err(DataError::io("write in", &parent))?;
    let manifest = build(new.path())?;
    assert_eq!(&manifest.id, id, "a data set is kept under its own id");
    let path = new.path().join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest has finite numbers");
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(&text))
        .map_err(DataError::io("write", &path))?;
    let target = folder(cache, id);
    match fs::rename(new.path(), &target) {
        Ok(()) => {
            // Renamed: there is nothing left to remove under the old name.
            let _ = new.keep();
        }
        // Another process was first, with the same bytes.
        Err(_) if cached(cache, id).is_some() => {}
        // What lies there is not whole.
        Err(_) => {
            let replaced =
                fs::remove_dir_all(&target).and_then(|()| fs::rename(new.path(), &target));
            replaced.map_err(DataError::io("replace", &target))?;
            let _ = new.keep();
        }
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests;
