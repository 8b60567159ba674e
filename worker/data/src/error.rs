//! What can be wrong with training data, each with its cure.

use std::{
    io,
    path::{Path, PathBuf},
};

use sweep_spec::id::DataId;

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A glob names an environment variable that is not set.
    #[error(
        "glob `{glob}`: the environment variable `{name}` is not set; \
         hint: set it, or write `${{{name}:-DEFAULT}}`"
    )]
    UnknownVariable {
        /// The glob as written.
        glob: String,
        /// The variable.
        name: String,
    },
    /// A glob that is malformed, before or after expansion.
    #[error("glob `{glob}`: {reason}; hint: write `$NAME`, `${{NAME:-DEFAULT}}`, `*`, `**` or `?`")]
    BadGlob {
        /// The glob as written.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A glob that matches no file.
    #[error(
        "glob `{glob}` matches no file (expanded to `{expanded}`); \
         hint: list that path on the machine that reads the data"
    )]
    NoMatch {
        /// The glob as written.
        glob: String,
        /// What was looked for.
        expanded: String,
    },
    /// A file or folder that could not be read or written.
    #[error("cannot {action} `{}`: {source}; hint: check that it exists, its permissions and the \
             free space", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Bytes that are not UTF-8 where text is needed.
    #[error("`{}` is not UTF-8 {place}; hint: {hint}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line or byte.
        place: String,
        /// The cure.
        hint: &'static str,
    },
    /// A line of a JSON-lines file that is not an object with a `text` field.
    #[error("{}:{line}: {reason}; hint: every line is an object with a string field `text`",
            path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a file of task items that is no item.
    #[error(
        "{}:{line}: {reason}; hint: every line is {{\"prompt\": \"...\", \"answer\": \"...\"}}, or has \
         \"choices\": [...] and the place of the right one, from 0, as \"answer\"",
        path.display()
    )]
    BadItem {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A document or a decoded file beyond its limit.
    #[error("`{}` holds more than {limit_bytes} bytes {place}; hint: {hint}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// The limit.
        limit_bytes: u64,
        /// The cure.
        hint: &'static str,
    },
    /// A compressed file that does not decode.
    #[error("`{}` does not decode as {format}: {source}; hint: test it with `{format} -t`",
            path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// Its format by its ending.
        format: &'static str,
        /// The decoder's reason.
        source: io::Error,
    },
    /// A share of held-out documents that is no share.
    #[error("held_out = {0} is not between 0 and 1; hint: 0.05 holds out every twentieth document")]
    HeldOut(f64),
    /// Too few documents to hold one out and train on another.
    #[error(
        "{documents} document(s) cannot be split into training and validation (files read: \
         {files}; empty documents and exact copies do not count); hint: whole documents are held \
         out, so give at least two, or raise `max_bytes`"
    )]
    TooFewDocuments {
        /// Distinct documents that are not empty, within `max_bytes`.
        documents: usize,
        /// Files that were read.
        files: usize,
    },
    /// A tokenizer that cannot be made, read or used.
    #[error("tokenizer {name}: {reason}; hint: {hint}")]
    Tokenizer {
        /// Which one.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// The cure.
        hint: &'static str,
    },
    /// A token file of u16 with an odd number of bytes.
    #[error(
        "`{}` has {bytes} bytes, which is no whole number of u16 tokens; hint: write it as \
         little-endian u16 without a header, and check that it was copied whole",
        path.display()
    )]
    OddLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A token at or above the vocabulary.
    #[error(
        "`{}`: token {token} at byte {offset} is not below the vocabulary of {vocabulary}; hint: \
         raise `vocabulary`, or strip a header (files of some trainers begin with 1024 bytes)",
        path.display()
    )]
    TokenOutOfRange {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// The token.
        token: u32,
        /// The vocabulary.
        vocabulary: u32,
    },
    /// A file that is asked to serve for training and for validation.
    #[error(
        "`{}` is both training and validation data; hint: let the globs `train` and `validation` \
         match different files",
        path.display()
    )]
    Shared {
        /// The file.
        path: PathBuf,
    },
    /// Parameters of the synthetic source that have no process.
    #[error("synthetic source: {key} = {value} {reason}; hint: {hint}")]
    Synthetic {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// The cure.
        hint: &'static str,
    },
    /// A file of images that cannot be used.
    #[error("`{}`: {reason}; hint: {hint}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The cure.
        hint: &'static str,
    },
    /// A file whose content changed between two looks at it.
    #[error("`{}` changed while it was read; hint: start again when it is whole", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Data that is not what a run was planned with.
    #[error(
        "the source now reads as data {found}, the run needs {expected}; hint: restore the files, \
         or submit the recipe again to plan runs on the new data"
    )]
    OtherData {
        /// What the run names.
        expected: DataId,
        /// What was read.
        found: DataId,
    },
    /// A file of task items that is not what a run was planned with.
    #[error(
        "`{}` no longer holds the items that the run was planned with; hint: restore it, or submit \
         the recipe again",
        path.display()
    )]
    OtherItems {
        /// The file.
        path: PathBuf,
    },
    /// A file of the cache that is damaged or of another version.
    #[error("`{}`: {reason}; hint: remove it, it is made again from the source", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl DataError {
    /// A file of images that cannot be used.
    pub(crate) fn image(path: &Path, reason: String, hint: &'static str) -> Self {
        Self::Image { path: path.to_owned(), reason, hint }
    }

    /// For `map_err` on input and output: what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
