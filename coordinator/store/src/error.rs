//! Why the store could not do what it was told.

use std::{io, path::PathBuf};

/// An error of the store. It names the file, and ends in a hint where there is a cure.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not an address of a store.
    #[error("`{0}` is no address of a store; hint: write it as sqlite:PATH")]
    Address(String),
    /// The folder cannot be made or written.
    #[error(
        "cannot write to the store's folder {}: {source}; hint: choose a folder of yours with \
         --store sqlite:PATH",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another coordinator has it.
    #[error(
        "the store {} belongs to a running coordinator; hint: stop that one, or give this one \
         another --store",
        path.display()
    )]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// There is nothing to read.
    #[error(
        "there is no store at {}; hint: name the file that the coordinator was started with",
        path.display()
    )]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{} is no store, or is damaged: {reason}; hint: name another file, or restore a backup",
        path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// Made by another version.
    #[error(
        "the store {} has a schema that this version does not know ({reason}); hint: use the \
         version that made it, or a later one",
        path.display()
    )]
    Schema {
        /// The database.
        path: PathBuf,
        /// Which migration.
        reason: String,
    },
    /// The bundled SQLite is too old.
    #[error("SQLite {found} is older than {needed}; hint: build with the bundled SQLite")]
    TooOld {
        /// What is linked.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// No room.
    #[error(
        "the disk of the store {} is full; hint: free some space, nothing that was acknowledged \
         is lost and workers keep what is not",
        path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Nothing is known by this id or name.
    #[error("no {kind} is called `{selector}`; hint: list them with `sweep status`")]
    NotFound {
        /// `sweep` or `run`.
        kind: &'static str,
        /// What was asked for.
        selector: String,
    },
    /// More than one has this beginning.
    #[error("`{selector}` is the beginning of {count} {kind}s; hint: give more digits")]
    Ambiguous {
        /// `sweep` or `run`.
        kind: &'static str,
        /// What was asked for.
        selector: String,
        /// How many.
        count: usize,
    },
    /// A stored value that no version of this program writes.
    #[error("the store holds a {what} that cannot be: {value}; hint: restore a backup")]
    Damaged {
        /// Which column.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Anything else the database said.
    #[error("the store {} failed: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        source: sqlx::Error,
    },
}
