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
    Shape(#[from] sweep_spec::shape::lm::ShapeError),
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
    /// A device name that is not known, or a backend that this program was built without.
    #[error("no device is called `{name}`; hint: {hint}")]
    Device {
        /// The name asked for.
        name: String,
        /// What to do.
        hint: String,
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
