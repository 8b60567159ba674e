//! Text to tokens and back, for prompts and for what a model writes.
//!
//! The tokenizer of a data set lies beside its shards in the cache, so that a run can be read where
//! it was trained, whatever became of the sources. What a document ends with is no part of a text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sweep_spec::id::DataId;

use crate::{
    dataset,
    error::DataError,
    index::write_atomically,
    tokenizer::{Encoder, Model},
};

/// A trained byte-pair encoding beside the shards of its data set.
const TRAINED: &str = "bpe.json";

/// A tokenizer that the recipe named, as it was then.
const NAMED: &str = "tokenizer.json";

/// What is known of the tokens of a data set.
#[derive(Debug)]
pub enum Writing {
    /// They are text by this codec.
    Text(Codec),
    /// They never were text.
    Wordless,
    /// The cache does not hold the data, or holds it from before tokenizers were kept there.
    Unknown,
}

/// Turns text into tokens and tokens into text.
#[derive(Debug)]
pub struct Codec(Encoder);

impl Codec {
    /// A byte is a token.
    #[must_use]
    pub const fn bytes() -> Self {
        Self(Encoder::Bytes)
    }

    /// What the cache knows of the tokens of a data set.
    ///
    /// # Errors
    /// [`DataError`] for a tokenizer that cannot be read.
    pub fn of(cache: &Path, data: &DataId) -> Result<Writing, DataError> {
        let Some(manifest) = dataset::cached(cache, data) else { return Ok(Writing::Unknown) };
        let folder = dataset::folder(cache, data);
        for (name, own) in [(TRAINED, true), (NAMED, false)] {
            if let Some(codec) = Self::load(&folder.join(name), own)? {
                return Ok(Writing::Text(codec));
            }
        }
        Ok(match manifest.bytes_per_token {
            None => Writing::Wordless,
            Some(1.0) if manifest.vocabulary == 256 => Writing::Text(Self::bytes()),
            Some(_) => Writing::Unknown,
        })
    }

    /// A `tokenizer.json`, or a copy of what the cache keeps of a trained encoding under its name.
    ///
    /// # Errors
    /// [`DataError`] for a file that is missing or is none.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let missing = || DataError::io("read the tokenizer", path)(io::ErrorKind::NotFound.into());
        let own = path.file_name().is_some_and(|name| name == TRAINED);
        Self::load(path, own)?.ok_or_else(missing)
    }

    fn load(path: &Path, own: bool) -> Result<Option<Self>, DataError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataError::io("read the tokenizer", path)(error)),
        };
        let model = Model::parse(format!("`{}`", path.display()), text, own)?;
        Ok(Some(Self(Encoder::Model(Box::new(model)))))
    }

    /// Size of the vocabulary: every token is below it.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.0.vocabulary()
    }

    /// The tokens of a text; of an empty one what stands before every document.
    ///
    /// # Errors
    /// [`DataError`] for a text that the tokenizer does not take.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.0 {
            _ if text.is_empty() => Ok(self.0.separator().to_vec()),
            Encoder::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Encoder::Model(model) => model.tokens(text),
        }
    }

    /// The text of `written`, tokens that came after `prompt`, up to the end of the document. Bytes
    /// that are no UTF-8 are shown as such.
    ///
    /// # Errors
    /// [`DataError`] for tokens that the tokenizer does not know.
    pub fn decode(&self, prompt: &[u32], written: &[u32]) -> Result<String, DataError> {
        let end = self.0.end_token();
        let document: Vec<u32> =
            written.iter().copied().take_while(|token| Some(*token) != end).collect();
        let model = match &self.0 {
            Encoder::Bytes => {
                let bytes: Vec<u8> =
                    document.iter().map_while(|&token| u8::try_from(token).ok()).collect();
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Encoder::Model(model) => model,
        };
        // Some tokenizers write a word in the middle of a text otherwise than at its beginning.
        let before = model.text(prompt)?;
        let whole = model.text(&[prompt, &document].concat())?;
        match whole.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            None => model.text(&document),
        }
    }
}

/// Keeps the tokenizer of a data set in its folder, unless it is there.
pub(crate) fn keep(folder: &Path, encoder: &Encoder) -> Result<(), DataError> {
    let Encoder::Model(model) = encoder else { return Ok(()) };
    let path: PathBuf = folder.join(if model.is_own() { TRAINED } else { NAMED });
    if path.exists() { Ok(()) } else { write_atomically(folder, &path, model.file()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_end_with_their_document_and_need_not_be_utf8() {
        let codec = Codec::bytes();
        assert_eq!(codec.encode("hi").unwrap(), [104, 105]);
        assert_eq!(codec.encode("").unwrap(), [0]);
        assert_eq!(codec.decode(&[0], &[104, 105, 0, 120]).unwrap(), "hi");
        assert_eq!(codec.decode(&[], &[0xff, 97]).unwrap(), "\u{fffd}a");
    }

    #[test]
    fn data_that_is_not_in_the_cache_is_unknown_and_a_missing_file_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let data = DataId::from_hash(&blake3::hash(b"texts"));
        assert!(matches!(Codec::of(cache.path(), &data).unwrap(), Writing::Unknown));
        let error = Codec::read(&cache.path().join("x.json")).unwrap_err().to_string();
        assert!(error.contains("x.json") && error.contains("hint:"), "{error}");
    }
}
