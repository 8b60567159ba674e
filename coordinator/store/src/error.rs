//! Why the store could not do what it was told.

use std::{cmp::Ordering, io, path::PathBuf};

/// An error of the store. It names the file, and ends in a hint where there is a cure.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not an address of a store.
    #[error(
        "`{0}` is no address of a store; hint: write it as sqlite:PATH or \
         postgres://USER@HOST/DATABASE"
    )]
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
    /// An address of Postgres that cannot be used.
    #[error(
        "`{address}` cannot be used: {reason}; hint: postgres://USER@HOST/DATABASE?sslmode=require"
    )]
    PostgresAddress {
        /// The address; it has no password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A password in an address, which other users can read among the arguments of a process.
    #[error(
        "the address of the store has a password in it; hint: leave it out, and give it in the \
         environment as PGPASSWORD or in the file that PGPASSFILE names (else ~/.pgpass)"
    )]
    Password,
    /// No server answers.
    #[error("no Postgres server answers at {store}: {reason}; hint: see that it runs and listens")]
    NoServer {
        /// Its address.
        store: String,
        /// What the system said.
        reason: String,
    },
    /// The server does not let us in.
    #[error(
        "the Postgres server refused {store}: {reason}; hint: check user, database and rights; a \
         password comes from PGPASSWORD or PGPASSFILE"
    )]
    Refused {
        /// Its address.
        store: String,
        /// What it said.
        reason: String,
    },
    /// The database is away or busy for now.
    #[error("the store {store} does not answer for now: {reason}; hint: see that it is up")]
    Away {
        /// Its address or file.
        store: String,
        /// What was said last.
        reason: String,
    },
    /// Two machines may write there at once, and SQLite would not know.
    #[error(
        "the store {} lies on a network file system ({kind}), where the locks of SQLite do not hold; \
         hint: name a file on a local disk with --store sqlite:PATH, or a Postgres server; \
         --allow-network-filesystem goes on at your own risk",
        path.display()
    )]
    NetworkFileSystem {
        /// The database.
        path: PathBuf,
        /// Which one.
        kind: &'static str,
    },
    /// A later coordinator has the store.
    #[error(
        "another coordinator has taken the store {store}; hint: let one coordinator serve a store, \
         or give this one a database of its own"
    )]
    Superseded {
        /// Its address.
        store: String,
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
        "{store} is no store, or is damaged: {reason}; hint: name another file, or restore a backup"
    )]
    NotAStore {
        /// Its address or file.
        store: String,
        /// What the database said.
        reason: String,
    },
    /// Made by another version.
    #[error(
        "the store {store} has a schema that this version does not know ({reason}); hint: use the \
         version that made it, or a later one"
    )]
    Schema {
        /// Its address or file.
        store: String,
        /// Which migration.
        reason: String,
    },
    /// Made by an earlier version, where only reading is allowed.
    #[error(
        "the store {store} is at schema {found}, and this version reads schema {known}; hint: start a \
         coordinator on it once, which brings it up to date"
    )]
    Earlier {
        /// Its address or file.
        store: String,
        /// What it is at.
        found: i64,
        /// What is read.
        known: i64,
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
        "the disk of the store {store} is full; hint: free some space, nothing that was acknowledged \
         is lost and workers keep what is not"
    )]
    Full {
        /// Its address or file.
        store: String,
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
    /// Something else than one statement that reads.
    #[error(
        "a store is only read: {0}; hint: give one statement that begins with SELECT, WITH or VALUES"
    )]
    NotAQuery(String),
    /// A statement that the database does not understand.
    #[error(
        "the statement was refused: {0}; hint: read from v_run and v_point, whose columns `sweep \
         query` lists"
    )]
    Statement(String),
    /// The copy of a store cannot be written.
    #[error(
        "cannot write the copy {}: {source}; hint: name a new file in a folder of yours with room \
         for the whole store",
        path.display()
    )]
    Backup {
        /// The copy.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else the database said.
    #[error("the store {store} failed: {source}; hint: `sweep doctor --store` examines it")]
    Database {
        /// Its address or file.
        store: String,
        /// What it said.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Refuses a store that is read without being brought up to date, unless it is.
    pub(crate) fn unless_readable(store: &str, found: i64, known: i64) -> Result<(), Self> {
        let store = store.to_owned();
        match found.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Self::Earlier { store, found, known }),
            Ordering::Greater => {
                let reason = format!("it is at {found}, this version at {known}");
                Err(Self::Schema { store, reason })
            }
        }
    }
}
