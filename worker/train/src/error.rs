//! Why a training could not go on.

use std::path::PathBuf;

/// What went wrong in the trainer; a diverged loss is no error but an outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The run was planned for another revision of the trainer.
    #[error(
        "the run was planned for training revision {found}, this trainer has {expected}; hint: plan the sweep again with this version"
    )]
    Revision {
        /// Revision in the run's configuration.
        found: u32,
        /// Revision of this trainer.
        expected: u32,
    },
    /// The shape cannot be built.
    #[error("the model cannot be built: {0}")]
    Shape(#[from] sweep_spec::shape::ShapeError),
    /// Fewer training tokens than one window needs.
    #[error(
        "the corpus has {tokens} training tokens, one window needs {needed}; hint: widen the globs or shorten `sequence`"
    )]
    CorpusTooSmall {
        /// Tokens there are.
        tokens: u64,
        /// Tokens one window needs.
        needed: u64,
    },
    /// A token that the model has no row for.
    #[error(
        "token {token} of the corpus is outside the vocabulary of {vocabulary}; hint: the data and the model disagree, plan the sweep again"
    )]
    Vocabulary {
        /// The token.
        token: i32,
        /// Size of the model's vocabulary.
        vocabulary: u32,
    },
    /// Images of another form than the model was planned for.
    #[error(
        "the data are {found}, the model is for images of {side} x {side} with {channels} channel(s); hint: the data and the model disagree, plan the sweep again"
    )]
    Images {
        /// What the data are.
        found: String,
        /// Side that the model is for.
        side: u32,
        /// Channels that the model is for.
        channels: u32,
    },
    /// The samples could not be written.
    #[error(
        "cannot write the samples to {path}: {source}; hint: check that the folder is writable and the disk has room"
    )]
    Samples {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A device name that is not known, or a backend that this program was built without.
    #[error("no device is called `{name}`; hint: {hint}")]
    Device {
        /// The name asked for.
        name: String,
        /// What to do.
        hint: String,
    },
    /// Items of a task that could not be drawn or read.
    #[error("task: {0}")]
    Items(#[from] sweep_data::DataError),
    /// A mixture that does not belong to its run.
    #[error("{0}; hint: plan the sweep again with this version")]
    Tasks(String),
    /// A model that writes no text.
    #[error(
        "the run is no language model, so it writes no text; hint: its samples are images, and stand in the report of `sweep run`"
    )]
    Wordless,
    /// A prompt that does not go into a window.
    #[error(
        "the prompt has {tokens} tokens, the context of the model takes 1 to {sequence}; hint: {}",
        if *tokens == 0 { "give some text" } else { "shorten it" }
    )]
    Prompt {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of a window.
        sequence: usize,
    },
    /// A run without a whole checkpoint.
    #[error(
        "there is no whole checkpoint in {}{}; hint: the run has not ended yet, or was trained \
         elsewhere",
        path.display(),
        if passed_over.is_empty() { String::new() } else { format!(" ({passed_over})") }
    )]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
        /// Those that failed their check.
        passed_over: String,
    },
    /// A checkpoint could not be written.
    #[error(
        "cannot write the checkpoint in {path}: {source}; hint: check that the folder is writable and the disk has room"
    )]
    Write {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A device that failed while training.
    #[error("reading from the device failed: {0}")]
    Read(String),
}
