//! Text to tokens: bytes, our own byte-pair encoding, or a `tokenizer.json`.
//!
//! Byte-pair encoding is trained on the training documents only (the held-out ones must not shape
//! the vocabulary), over the GPT-2 byte alphabet, so that every text has tokens and none is
//! unknown. The trainer breaks ties by token number, so the same documents give the same file;
//! nevertheless the hash of that file, not the recipe for it, enters the data id.
//!
//! The separator after a document is byte 0 for bytes and for our own encoding. A
//! `tokenizer.json` brings its own where it has one of [`END_TOKENS`], else an empty line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sweep_spec::data::Tokenizer as Choice;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    TokenizerImpl,
    decoders::byte_level::ByteLevel as ByteLevelDecoder,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::{error::DataError, globs, index::write_atomically, select::Chosen, text::Spool};

/// Raised when the same documents would give another vocabulary.
const BPE_REVISION: u32 = 1;

/// Names under which tokenizers keep the end of a document, the commonest first.
const END_TOKENS: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

/// Tokens go into u16.
const VOCABULARY_MAX: u32 = 1 << 16;

/// All bytes and at least one merge.
const BPE_VOCABULARY_MIN: u32 = 257;

/// Documents are encoded in pieces cut after a line of at least this many bytes: the tokenizer
/// keeps some 50 bytes per byte of text, and words do not reach across lines.
const PIECE_BYTES: usize = 64 << 10;

/// Turns documents into tokens.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// A byte is a token.
    Bytes,
    /// A loaded or trained tokenizer.
    Model(Box<Model>),
}

/// A tokenizer with what is known of it.
#[derive(Debug)]
pub(crate) struct Model {
    name: String,
    tokenizer: Tokenizer,
    vocabulary: u32,
    separator: Vec<u32>,
    /// Whether the separator stands for the end of a document and for nothing else.
    ends: bool,
    /// Trained by us.
    own: bool,
    /// Its `tokenizer.json`, whose hash enters the data id.
    file: Vec<u8>,
}

impl Encoder {
    /// The tokenizer of a recipe; byte-pair encoding is trained on `train`, or read from `cache`.
    pub(crate) fn new(
        choice: &Choice,
        cache: &Path,
        train: &[Chosen],
        spool: &mut dyn FnMut() -> Result<Spool, DataError>,
    ) -> Result<Self, DataError> {
        match choice {
            Choice::Bytes => Ok(Self::Bytes),
            Choice::Bpe(vocabulary) => {
                let name = format!("bpe = {vocabulary}");
                let text = trained(&name, *vocabulary, cache, train, spool)?;
                Ok(Self::Model(Box::new(Model::parse(name, text, true)?)))
            }
            Choice::File(path) => {
                let path = PathBuf::from(globs::expand(path, &|name| std::env::var(name).ok())?);
                let text = fs::read(&path).map_err(DataError::io("read the tokenizer", &path))?;
                let name = format!("`{}`", path.display());
                Ok(Self::Model(Box::new(Model::parse(name, text, false)?)))
            }
        }
    }

    /// Size of the vocabulary: every token is below it.
    pub(crate) fn vocabulary(&self) -> u32 {
        match self {
            Self::Bytes => 256,
            Self::Model(model) => model.vocabulary,
        }
    }

    /// What enters the data id.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Bytes => "bytes/0".to_owned(),
            Self::Model(model) => {
                format!("{}/{:?}", blake3::hash(&model.file).to_hex(), model.separator)
            }
        }
    }

    /// What follows every document.
    pub(crate) fn separator(&self) -> &[u32] {
        match self {
            Self::Bytes => &[0],
            Self::Model(model) => &model.separator,
        }
    }

    /// The token that ends a document and occurs nowhere else, where there is one.
    pub(crate) fn end_token(&self) -> Option<u32> {
        match self {
            Self::Bytes => Some(0),
            Self::Model(model) => match model.separator[..] {
                [token] if model.ends => Some(token),
                _ => None,
            },
        }
    }
}

impl Model {
    /// Encodes a document of the file `path` and gives its tokens piece by piece.
    pub(crate) fn encode(
        &self,
        document: &[u8],
        path: &Path,
        each: &mut dyn FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        for piece in pieces(as_text(document, path)?) {
            let encoding = self.tokenizer.encode_fast(piece, false);
            each(encoding.map_err(|error| self.error(&error))?.get_ids())?;
        }
        Ok(())
    }

    /// The tokens of a text, as those of a document without its end.
    pub(crate) fn tokens(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        Ok(encoding.map_err(|error| self.error(&error))?.get_ids().to_vec())
    }

    /// The text of tokens.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String, DataError> {
        self.tokenizer.decode(tokens, false).map_err(|error| self.error(&error))
    }

    /// Whether it was trained on the documents themselves.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// Its `tokenizer.json`.
    pub(crate) fn file(&self) -> &[u8] {
        &self.file
    }

    fn error(&self, reason: &impl ToString) -> DataError {
        unusable(&self.name, reason.to_string())
    }

    /// Reads a `tokenizer.json`; `own` says that it was trained by us.
    pub(crate) fn parse(name: String, file: Vec<u8>, own: bool) -> Result<Self, DataError> {
        let mut tokenizer =
            Tokenizer::from_bytes(&file).map_err(|error| unusable(&name, error.to_string()))?;
        // A file made for inference may cut or pad; training text is neither.
        tokenizer.with_truncation(None).map_err(|error| unusable(&name, error.to_string()))?;
        tokenizer.with_padding(None);
        let largest = tokenizer.get_vocab(true).into_values().max();
        let vocabulary = largest.map_or(0, |id| id.saturating_add(1));
        if !(2..=VOCABULARY_MAX).contains(&vocabulary) {
            return Err(unusable(
                &name,
                format!("a vocabulary of {vocabulary}, where 2 to {VOCABULARY_MAX} are possible"),
            ));
        }
        let encode = |text: &str| -> Result<Vec<u32>, DataError> {
            let encoding = tokenizer.encode_fast(text, false);
            Ok(encoding.map_err(|error| unusable(&name, error.to_string()))?.get_ids().to_vec())
        };
        let end = END_TOKENS.iter().find_map(|token| tokenizer.token_to_id(token));
        let separator = match end {
            _ if own => encode("\0")?,
            Some(id) => vec![id],
            None => encode("\n\n")?,
        };
        let ends = own || end.is_some();
        Ok(Self { name, tokenizer, vocabulary, separator, ends, own, file })
    }
}

fn unusable(name: &str, reason: String) -> DataError {
    DataError::Tokenizer {
        name: name.to_owned(),
        reason,
        hint: "give a whole tokenizer.json, `bpe = N`, or leave the tokenizer away for bytes",
    }
}

fn as_text<'a>(document: &'a [u8], path: &Path) -> Result<&'a str, DataError> {
    std::str::from_utf8(document).map_err(|error| DataError::NotUtf8 {
        path: path.to_owned(),
        place: format!("at byte {}", error.valid_up_to() + 1),
        hint: "leave the tokenizer away to train on bytes, or narrow the globs to text files",
    })
}

/// A text cut after lines into pieces of at least [`PIECE_BYTES`].
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = PIECE_BYTES.min(rest.len());
        let line = rest.as_bytes()[from..].iter().position(|&byte| byte == b'\n');
        let (piece, tail) = rest.split_at(line.map_or(rest.len(), |at| from + at + 1));
        rest = tail;
        Some(piece)
    })
}

/// The `tokenizer.json` of a byte-pair encoding, from the cache or trained.
fn trained(
    name: &str,
    vocabulary: u32,
    cache: &Path,
    train: &[Chosen],
    spool: &mut dyn FnMut() -> Result<Spool, DataError>,
) -> Result<Vec<u8>, DataError> {
    if !(BPE_VOCABULARY_MIN..=VOCABULARY_MAX).contains(&vocabulary) {
        return Err(DataError::Tokenizer {
            name: name.to_owned(),
            reason: format!("{vocabulary} is not from {BPE_VOCABULARY_MIN} to {VOCABULARY_MAX}"),
            hint: "256 tokens are the bytes, the rest are merges",
        });
    }
    let mut key = blake3::Hasher::new();
    key.update(format!("sweep.bpe/{BPE_REVISION}/{vocabulary}").as_bytes());
    for document in train {
        key.update(document.facts.hash.as_bytes());
    }
    let folder = cache.join("tokenizers");
    let path = folder.join(format!("{}.json", &key.finalize().to_hex()[..32]));
    if let Ok(text) = fs::read(&path)
        && Tokenizer::from_bytes(&text).is_ok()
    {
        return Ok(text);
    }
    let text = train_bpe(name, vocabulary, train, &spool()?)?;
    write_atomically(&folder, &path, text.as_bytes())?;
    Ok(text.into_bytes())
}

type ByteLevelBpe = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

fn train_bpe(
    name: &str,
    vocabulary: u32,
    train: &[Chosen],
    spool: &Spool,
) -> Result<String, DataError> {
    let failed = |error: tokenizers::Error| unusable(name, error.to_string());
    // No space is put before a document, and words are cut as GPT-2 cuts them.
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = ByteLevelBpe::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level));
    tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary as usize)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut failure = None;
    let texts = train.iter().map_while(|document| {
        let read = spool.read(document).and_then(|bytes| {
            as_text(&bytes, spool.path(document))?;
            Ok(String::from_utf8(bytes).expect("checked on the line before"))
        });
        read.map_err(|error| failure = Some(error)).ok()
    });
    let pieces = texts.flat_map(|text| pieces(&text).map(str::to_owned).collect::<Vec<_>>());
    tokenizer.train(&mut trainer, pieces).map_err(failed)?;
    match failure {
        Some(error) => Err(error),
        None => tokenizer.to_string(false).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text_and_end_with_lines() {
        let line = format!("{}\n", "word ".repeat(3000));
        let text = format!("{}tail", line.repeat(20));
        let cut: Vec<&str> = pieces(&text).collect();
        assert_eq!(cut.concat(), text);
        assert!(cut.len() > 2);
        assert!(cut[..cut.len() - 1].iter().all(|p| p.ends_with('\n') && p.len() > PIECE_BYTES));
        assert_eq!(pieces("").count(), 0);
        // No line ends within a character.
        let wide = "ä".repeat(100_000);
        assert_eq!(pieces(&wide).collect::<Vec<_>>(), [wide.as_str()]);
    }

    #[test]
    fn a_vocabulary_without_merges_or_beyond_u16_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        for vocabulary in [0, 256, 65_537] {
            let choice = Choice::Bpe(vocabulary);
            let error = Encoder::new(&choice, cache.path(), &[], &mut || unreachable!());
            let error = error.err().unwrap().to_string();
            assert!(error.contains(&format!("bpe = {vocabulary}")), "{error}");
        }
    }

    #[test]
    fn a_tokenizer_file_that_is_missing_or_damaged_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().join("tokenizer.json");
        let choice = Choice::File(path.display().to_string());
        let error = || {
            let made = Encoder::new(&choice, cache.path(), &[], &mut || unreachable!());
            made.err().unwrap().to_string()
        };
        assert!(error().contains("tokenizer.json"), "{}", error());
        fs::write(&path, "{}").unwrap();
        assert!(error().contains("tokenizer.json"), "{}", error());
    }
}
