//! Why a table could not be read.

use std::{io, path::PathBuf};

use crate::exit::Exit;

/// A table that could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot open {}: {error}; hint: give a CSV, JSON-lines or Parquet file", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("{}: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("{} is empty; hint: the first line names the columns", .0.display())]
    Empty(PathBuf),
    #[error(
        "{}: more than {rows} rows; hint: take fewer checkpoints, or choose rows with --where",
        path.display()
    )]
    TooLong { path: PathBuf, rows: usize },
    #[error("`{option}` is not {shape}; hint: {hint}")]
    Option { option: String, shape: &'static str, hint: String },
    #[error("{}: there is no column `{name}`; hint: the columns are {existing}", path.display())]
    UnknownColumn { path: PathBuf, name: String, existing: String },
    #[error(
        "{}: no --map is given, and there are no columns N, D or C, and loss; hint: --map N=COLUMN --map \
         D=COLUMN --map loss=COLUMN; the columns are {existing}",
        path.display()
    )]
    Unmapped { path: PathBuf, existing: String },
    #[error(
        "{}: {}{}; hint: every N, D, C, unique, seconds and loss must be a finite number above 0; leave rows \
         out with --where",
        path.display(), rows.join("; "), and_more(*more)
    )]
    BadRows { path: PathBuf, rows: Vec<String>, more: usize },
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!("; and {more} more rows") }
}

impl SourceError {
    /// The exit code of this refusal: 2 for usage, 5 for the data.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Open { .. }
            | Self::Option { .. }
            | Self::UnknownColumn { .. }
            | Self::Unmapped { .. } => Exit::Usage,
            Self::Malformed { .. }
            | Self::Empty(_)
            | Self::TooLong { .. }
            | Self::BadRows { .. } => Exit::FitRefused,
        }
    }
}
