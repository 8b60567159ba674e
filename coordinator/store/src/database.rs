//! A store in a database: where its readers read, and how a write begins.

use std::time::Duration;

use sweep_spec::metric::Metric;

use crate::{
    error::StoreError,
    postgres::Postgres,
    sql::{Pool, Tx},
    sqlite::Sqlite,
};

/// A database that holds a store.
#[derive(Clone, Debug)]
pub enum Database {
    /// One file, owned by one coordinator.
    Sqlite(Sqlite),
    /// A server; the coordinator that opened it last owns it.
    Postgres(Postgres),
}

impl Database {
    /// A write transaction.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(Tx::Sqlite(sqlite.begin().await?)),
            Self::Postgres(postgres) => Ok(Tx::Postgres(postgres.begin().await?)),
        }
    }

    /// Connections that only read.
    pub(crate) fn reader(&self) -> Pool {
        match self {
            Self::Sqlite(sqlite) => Pool::Sqlite(sqlite.reader.clone()),
            Self::Postgres(postgres) => Pool::Postgres(postgres.reader.clone()),
        }
    }

    /// The connection that writes, for a look at what it wrote last: it has the pages at hand that
    /// each reader would have to read again.
    pub(crate) fn writer(&self) -> Pool {
        match self {
            Self::Sqlite(sqlite) => Pool::Sqlite(sqlite.writer.clone()),
            Self::Postgres(postgres) => Pool::Postgres(postgres.writer.clone()),
        }
    }

    /// What an error of the database means.
    pub(crate) fn failed(&self, error: sqlx::Error) -> StoreError {
        match self {
            Self::Sqlite(sqlite) => sqlite.failed(error),
            Self::Postgres(postgres) => postgres.failed(error),
        }
    }

    /// Finishes what is under way and closes the connections.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => {
                postgres.close().await;
                Ok(())
            }
        }
    }
}

/// First wait before a call is repeated; it doubles each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// How often a call is repeated: with the waits and the pool's own patience, a server may be away
/// for half a minute before a caller hears of it.
const RETRIES: u32 = 5;

/// Repeats a call while the database is away for a moment. Only for calls that may be made twice:
/// whether a commit whose answer was lost took place is unknown.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    done: u32,
}

impl Retry {
    /// Whether to call again; waits before it says so.
    pub(crate) async fn again(&mut self, error: &StoreError) -> bool {
        if !matches!(error, StoreError::Away { .. }) || self.done == RETRIES {
            return false;
        }
        tracing::warn!(%error, "trying again");
        tokio::time::sleep(RETRY_FIRST * 2_u32.pow(self.done)).await;
        self.done += 1;
        true
    }
}

/// The number of a metric in the store. Never changes for a name: new ones go to the end.
pub(crate) const fn metric_no(metric: Metric) -> i64 {
    match metric {
        Metric::TrainLoss => 1,
        Metric::ValidationLoss => 2,
        Metric::ValidationBitsPerByte => 3,
        Metric::GradientNorm => 4,
        Metric::LearningRate => 5,
        Metric::Tokens => 6,
        Metric::Flops => 7,
        Metric::TokensPerSecond => 8,
        Metric::Seconds => 9,
        // From 40 on: diffusion.
        Metric::NoiseLossBin1 => 40,
        Metric::NoiseLossBin2 => 41,
        Metric::NoiseLossBin3 => 42,
        Metric::NoiseLossBin4 => 43,
        Metric::NoiseLossBin5 => 44,
        Metric::NoiseLossFloor => 45,
        Metric::BoundBits => 46,
        Metric::BoundBitsError => 47,
        Metric::TrueBits => 48,
        Metric::FrechetDistance => 49,
        Metric::FrechetFloor => 50,
        Metric::Coverage => 51,
        Metric::Duplicates => 52,
        Metric::ModeCoverage => 53,
        Metric::InMode => 54,
        Metric::ModeDistance => 55,
        // The plain ones stay below a thousand.
        Metric::Task(metric) => 1000 + metric.index() as i64,
    }
}
