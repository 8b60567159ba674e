//! A database on a Postgres server: the address, the epoch against a second coordinator, and what
//! the server's errors mean.
//!
//! One connection writes, others only read. A coordinator that opens the store raises the epoch;
//! every write transaction first reads it under a lock that the next raise waits for, so that
//! nothing of an earlier coordinator is stored after a later one has opened the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection as _, PgPool, Row as _, Transaction,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode},
};
use sweep_spec::metric::Metric;

use crate::{database::metric_no, error::StoreError};

/// All migrations of this version, in order.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Readers at a time.
const READERS_MAX: u32 = 4;

/// Wait for a connection before the caller hears that the server is away.
const ACQUIRE_WAIT: Duration = Duration::from_secs(5);

/// A coordinator that stands still in the middle of a write lets go of its locks after this, so
/// that the one that follows it can begin. Milliseconds, as the server takes it.
const IDLE_IN_TRANSACTION_MS: &str = "10000";

/// How often a coordinator that writes nothing looks whether another one has taken the store.
const EPOCH_WATCH: Duration = Duration::from_secs(5);

/// A store on a Postgres server.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Without a password.
    address: Arc<str>,
    /// One connection, so that writes are one after another.
    pub(crate) writer: PgPool,
    pub(crate) reader: PgPool,
    /// The number of this opening; absent in a store open to read.
    epoch: Option<i64>,
    /// Set once a later epoch was seen.
    superseded: Arc<AtomicBool>,
}

impl Postgres {
    /// Opens a database for writing, brings its schema up to date, and takes it over from any
    /// coordinator that has it.
    ///
    /// # Errors
    /// [`StoreError`]: no address, no server, no database, refused, a schema of a later version.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        let options = options(address)?;
        check(address, &options).await?;
        let writer = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE_WAIT)
            .after_connect(|connection, _| Box::pin(make_durable(connection)))
            .connect_lazy_with(writer_options(options.clone()));
        let mut store = Self::with(address, writer, reader_pool(options), None);
        MIGRATIONS.run(&store.writer).await.map_err(|error| store.migration_error(error))?;
        store.name_metrics().await.map_err(|error| store.failed(error))?;
        let epoch = store.take_over().await.map_err(|error| store.failed(error))?;
        store.epoch = Some(epoch);
        Ok(store)
    }

    /// Opens a database for reading, beside a coordinator or without one.
    ///
    /// # Errors
    /// [`StoreError`]: as [`Self::open`], or there is no store in the database.
    pub async fn open_to_read(address: &str) -> Result<Self, StoreError> {
        let options = options(address)?;
        check(address, &options).await?;
        let reader = reader_pool(options);
        let store = Self::with(address, reader.clone(), reader, None);
        let last: i64 = sqlx::query("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&store.reader)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(|error| StoreError::NotAStore {
                store: address.to_owned(),
                reason: error.to_string(),
            })?
            .unwrap_or(0);
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        StoreError::unless_readable(address, last, known)?;
        Ok(store)
    }

    fn with(address: &str, writer: PgPool, reader: PgPool, epoch: Option<i64>) -> Self {
        let superseded = Arc::default();
        Self { address: address.into(), writer, reader, epoch, superseded }
    }

    /// Raises the epoch, behind whatever an earlier coordinator is writing.
    async fn take_over(&self) -> Result<i64, sqlx::Error> {
        sqlx::query("UPDATE coordinator SET epoch = epoch + 1 RETURNING epoch")
            .fetch_one(&self.writer)
            .await?
            .try_get(0)
    }

    /// A write transaction of this epoch.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, sqlx::Postgres>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.writer.begin().await.map_err(failed)?;
        let epoch: i64 = sqlx::query("SELECT epoch FROM coordinator FOR SHARE")
            .fetch_one(&mut *tx)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(failed)?;
        if Some(epoch) == self.epoch {
            return Ok(tx);
        }
        self.superseded.store(true, Ordering::Relaxed);
        Err(StoreError::Superseded { store: self.address.to_string() })
    }

    /// Ends when another coordinator has taken the store.
    pub(crate) async fn superseded(&self) -> StoreError {
        loop {
            tokio::time::sleep(EPOCH_WATCH).await;
            let epoch = sqlx::query("SELECT epoch FROM coordinator")
                .fetch_one(&self.reader)
                .await
                .and_then(|row| row.try_get::<i64, _>(0));
            // A server that is away for a moment says nothing about who has the store.
            let taken = epoch.is_ok_and(|epoch| Some(epoch) != self.epoch);
            if taken || self.superseded.load(Ordering::Relaxed) {
                return StoreError::Superseded { store: self.address.to_string() };
            }
        }
    }

    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> StoreError {
        classify(&self.address, error)
    }

    fn migration_error(&self, error: MigrateError) -> StoreError {
        match error {
            MigrateError::VersionMissing(_)
            | MigrateError::VersionMismatch(_)
            | MigrateError::VersionTooOld(..)
            | MigrateError::VersionTooNew(..) => {
                StoreError::Schema { store: self.address.to_string(), reason: error.to_string() }
            }
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                self.failed(source)
            }
            other => self.failed(sqlx::Error::Migrate(Box::new(other))),
        }
    }

    /// Points name their metric by number; the table gives the names.
    async fn name_metrics(&self) -> Result<(), sqlx::Error> {
        for &metric in Metric::ALL {
            sqlx::query(
                "INSERT INTO metric (metric_no, name, unit) VALUES ($1, $2, $3) \
                 ON CONFLICT (metric_no) DO UPDATE SET name = excluded.name, unit = excluded.unit",
            )
            .bind(metric_no(metric))
            .bind(metric.name())
            .bind(metric.unit())
            .execute(&self.writer)
            .await?;
        }
        Ok(())
    }
}

/// The options of an address, without a connection.
fn options(address: &str) -> Result<PgConnectOptions, StoreError> {
    if has_password(address) {
        return Err(StoreError::Password);
    }
    // Nobody's password is in it, so that its own text may be shown.
    let wrong =
        |reason: String| StoreError::PostgresAddress { address: address.to_owned(), reason };
    let options: PgConnectOptions =
        address.parse().map_err(|error: sqlx::Error| wrong(error.to_string()))?;
    let options = options.application_name("sweep");
    let local = options.get_socket().is_some() || is_loopback(options.get_host());
    let encrypted = matches!(
        options.get_ssl_mode(),
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
    );
    if local || encrypted {
        return Ok(options);
    }
    Err(wrong("a server on another machine needs sslmode=require or stricter".to_owned()))
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || host.starts_with('/') || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether an address has a password in it, in either of the places where it can stand.
pub(crate) fn has_password(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = place.split('/').next().unwrap_or("");
    let user = host.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':'))
        || query.split('&').any(|pair| pair.starts_with("password="))
}

fn writer_options(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS)])
}

fn reader_pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(ACQUIRE_WAIT)
        .connect_lazy_with(options.options([("default_transaction_read_only", "on")]))
}

/// An answered commit must be on the server's disk, whatever the server's own default is.
async fn make_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = sqlx::query("SHOW synchronous_commit").fetch_one(&mut *connection).await?;
    if row.try_get::<String, _>(0)? == "off" {
        sqlx::query("SET synchronous_commit = on").execute(&mut *connection).await?;
    }
    let row = sqlx::query("SHOW fsync").fetch_one(&mut *connection).await?;
    if row.try_get::<String, _>(0)? == "off" {
        tracing::warn!("the Postgres server runs with fsync=off: a power cut can lose points");
    }
    Ok(())
}

/// One connection, so that a wrong address is told at once and not after the pool's patience.
async fn check(address: &str, options: &PgConnectOptions) -> Result<(), StoreError> {
    let failed = |error| match classify(address, error) {
        // Nobody waits for a server that was never there.
        StoreError::Away { store, reason } => StoreError::NoServer { store, reason },
        other => other,
    };
    let connect = PgConnection::connect_with(options);
    let connection = match tokio::time::timeout(ACQUIRE_WAIT, connect).await {
        Ok(connected) => connected.map_err(failed)?,
        Err(_) => return Err(failed(sqlx::Error::PoolTimedOut)),
    };
    connection.close().await.map_err(failed)
}

/// What an error of Postgres means to a person.
fn classify(address: &str, error: sqlx::Error) -> StoreError {
    let (store, reason) = (address.to_owned(), error.to_string());
    let code = match &error {
        sqlx::Error::Database(database) => database.code().unwrap_or_default().into_owned(),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => return StoreError::Away { store, reason },
        _ => String::new(),
    };
    match code.as_str() {
        // Disk full.
        "53100" => StoreError::Full { store },
        // Wrong user, password or database, or a user without rights.
        "28000" | "28P01" | "3D000" | "42501" => StoreError::Refused { store, reason },
        // A damaged file.
        "XX001" | "XX002" => StoreError::NotAStore { store, reason },
        // Shutting down, crashed, starting up, too many connections, a transaction that the server
        // ended (idle, deadlock, serialization): gone with the next attempt.
        "57P01" | "57P02" | "57P03" | "53300" | "25P03" | "40001" | "40P01" => {
            StoreError::Away { store, reason }
        }
        _ if code.starts_with("08") => StoreError::Away { store, reason },
        _ => StoreError::Database { store, source: error },
    }
}

/// Whether an address means Postgres.
pub(crate) fn is_address(address: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_wherever_it_stands() {
        for address in [
            "postgres://me:secret@host/db",
            "postgresql://me:@host/db",
            "postgres://host/db?user=me&password=secret",
        ] {
            assert!(has_password(address));
            let error = options(address).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.to_string().contains("PGPASSWORD"), "{error}");
        }
        assert!(!has_password("postgres://me@[::1]:5432/db?sslmode=require"));
    }

    #[test]
    fn other_machines_are_reached_encrypted_only() {
        for local in [
            "postgres://127.0.0.1/db",
            "postgres://[::1]:5433/db",
            "postgres://localhost/db",
            "postgres:///db?host=/var/run/postgresql",
            "postgres://me@far.example/db?sslmode=verify-full",
        ] {
            options(local).unwrap();
        }
        for plain in ["postgres://far.example/db", "postgres://10.0.0.1/db?sslmode=prefer"] {
            let error = options(plain).unwrap_err();
            assert!(error.to_string().contains("sslmode=require"), "{error}");
        }
        let error = options("postgres://far.example/db?sslmode=always").unwrap_err();
        assert!(matches!(error, StoreError::PostgresAddress { .. }), "{error}");
    }
}
