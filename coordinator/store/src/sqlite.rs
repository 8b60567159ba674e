//! One SQLite file: opening, the lock against a second coordinator, and what its errors mean.
//!
//! One connection writes, others only read, so a reader never blocks ingest. A commit is on the
//! disk when it returns (WAL with `synchronous=FULL`).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use sweep_spec::metric::Metric;

use crate::{database::metric_no, error::StoreError};

/// All migrations of this version, in order.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Before it, a WAL could be damaged when two connections checkpointed and wrote at once.
const SQLITE_NEEDED: (u32, u32, u32) = (3, 51, 3);

/// Wait for a lock of another process, a backup for example.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers at a time; each has a page cache of 2 MiB.
const READERS_MAX: u32 = 4;

/// A page is 4 KiB: the WAL goes back to its start every 4 MiB, unless a reader holds it open.
const AUTOCHECKPOINT_PAGES: &str = "1000";

/// What is left of a WAL that a slow reader made grow: some sixteen times its usual length.
const WAL_BYTES_KEPT: &str = "67108864";

/// A store in one SQLite file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    pub(crate) path: PathBuf,
    /// One connection, so that writes are one after another. Absent in a store open to read.
    pub(crate) writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    /// Held as long as the store is open; the system lets go of it with the process.
    lock: Option<Arc<File>>,
}

impl Sqlite {
    /// Opens the file for writing, makes it when there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`]: a folder that cannot be written, another coordinator on the same file, a
    /// file that is no store, a schema of another version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, |options| options).await
    }

    pub(crate) async fn open_with(
        path: &Path,
        adjust: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let options = adjust(writer_options(path));
        let failed = |error| classify(path, error);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(failed)?;
        check_version(&writer).await?;
        MIGRATIONS.run(&writer).await.map_err(|error| migration_error(path, error))?;
        let reader = reader_pool(path).await.map_err(failed)?;
        let store = Self { path: path.to_owned(), writer, reader, lock: Some(Arc::new(lock)) };
        store.name_metrics().await.map_err(failed)?;
        Ok(store)
    }

    /// Opens an existing file for reading, beside a coordinator or without one.
    ///
    /// # Errors
    /// [`StoreError`]: no such file, no store, a schema of another version.
    pub async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let reader = reader_pool(path).await.map_err(|error| classify(path, error))?;
        let last: i64 = sqlx::query("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&reader)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(|error| StoreError::NotAStore {
                store: path.display().to_string(),
                reason: error.to_string(),
            })?
            .unwrap_or(0);
        let known = schema();
        StoreError::unless_readable(&path.display().to_string(), last, known)?;
        Ok(Self { path: path.to_owned(), writer: reader.clone(), reader, lock: None })
    }

    /// Finishes what is under way, folds the WAL into the file and closes it.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.reader.close().await;
        if self.lock.is_some() && !self.writer.is_closed() {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&self.writer)
                .await
                .map_err(|error| self.failed(error))?;
        }
        self.writer.close().await;
        Ok(())
    }

    /// Copies the store into a new file, whole as of one moment, while it is written or not.
    ///
    /// # Errors
    /// [`StoreError`]: there is a file already, it cannot be written, or the store is damaged.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Backup { path: to.to_owned(), source };
        let exists = || failed(std::io::ErrorKind::AlreadyExists.into());
        let mut name = to.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let (Some(target), false) = (partial.to_str(), to.exists()) else { return Err(exists()) };
        if let Err(error) = fs::remove_file(&partial)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        let mut copier = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .connect()
            .await
            .map_err(|error| self.failed(error))?;
        let copied = sqlx::query("VACUUM INTO $1").bind(target).execute(&mut copier).await;
        let closed = copier.close().await;
        if let Err(error) = copied.and(closed) {
            // What there is of it is no copy.
            let _ = fs::remove_file(&partial);
            return Err(match self.failed(error) {
                StoreError::Full { .. } => failed(std::io::ErrorKind::StorageFull.into()),
                StoreError::Folder { source, .. } => failed(source),
                other => other,
            });
        }
        // On the disk before it has its name, and never over another file.
        File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::hard_link(&partial, to).and_then(|()| fs::remove_file(&partial)).map_err(failed)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// A write transaction. It takes the write lock at once: one that starts with a read cannot
    /// always be turned into a writer later.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, sqlx::Sqlite>, StoreError> {
        let begun = match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // On a full disk or a read error SQLite ends the transaction by itself. The rollback
            // that follows then fails, and sqlx counts the connection as inside a transaction for
            // ever: only a new one can begin again.
            Err(sqlx::Error::InvalidSavePointStatement) => self.begin_anew().await,
            begun => begun,
        };
        begun.map_err(|error| self.failed(error))
    }

    /// Begins on a new connection in place of the writer's.
    async fn begin_anew(&self) -> Result<Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
        self.writer.acquire().await?.close().await?;
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> StoreError {
        classify(&self.path, error)
    }

    /// Points name their metric by number; the table gives the names.
    async fn name_metrics(&self) -> Result<(), sqlx::Error> {
        // One commit for all of them: each would wait for the disk.
        let mut tx = self.writer.begin().await?;
        for &metric in Metric::ALL {
            sqlx::query(
                "INSERT INTO metric (metric_no, name, unit) VALUES (?, ?, ?) \
                 ON CONFLICT (metric_no) DO UPDATE SET name = excluded.name, unit = excluded.unit",
            )
            .bind(metric_no(metric))
            .bind(metric.name())
            .bind(metric.unit())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await
    }
}

/// Number of the schema that this version keeps a store at, in a file and on a server.
#[must_use]
pub fn schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Takes the file beside the database that says a coordinator has it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let unwritable = |source| StoreError::Folder { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(unwritable)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(name)
        .map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unwritable(source)),
    }
}

pub(crate) fn writer_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
        .pragma("journal_size_limit", WAL_BYTES_KEPT)
}

async fn reader_pool(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "on");
    SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(options).await
}

async fn check_version(pool: &SqlitePool) -> Result<(), StoreError> {
    let found: String = sqlx::query("SELECT sqlite_version()")
        .fetch_one(pool)
        .await
        .and_then(|row| row.try_get(0))
        .unwrap_or_default();
    let mut parts = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) >= SQLITE_NEEDED {
        return Ok(());
    }
    let (major, minor, patch) = SQLITE_NEEDED;
    Err(StoreError::TooOld { found, needed: format!("{major}.{minor}.{patch}") })
}

fn migration_error(path: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(_)
        | MigrateError::VersionMismatch(_)
        | MigrateError::VersionTooOld(..)
        | MigrateError::VersionTooNew(..) => {
            StoreError::Schema { store: path.display().to_string(), reason: error.to_string() }
        }
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            classify(path, source)
        }
        other => classify(path, sqlx::Error::Migrate(Box::new(other))),
    }
}

/// What an error of SQLite means to a person.
fn classify(path: &Path, error: sqlx::Error) -> StoreError {
    let store = path.display().to_string();
    let code = match &error {
        sqlx::Error::Database(database) => {
            database.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
        }
        _ => None,
    };
    match code {
        // SQLITE_FULL.
        Some(13) => StoreError::Full { store },
        // SQLITE_BUSY: another process holds the file, a backup for example.
        Some(5) => StoreError::Away { store, reason: error.to_string() },
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => StoreError::NotAStore { store, reason: error.to_string() },
        // SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN.
        Some(3 | 8 | 14) => StoreError::Folder {
            source: std::io::Error::other(error.to_string()),
            path: path.parent().map_or_else(|| path.to_owned(), Path::to_owned),
        },
        _ => StoreError::Database { store, source: error },
    }
}
