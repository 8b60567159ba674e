//! The store: sweeps, runs, attempts, points, checkpoints and workers in one SQLite file, on a
//! Postgres server, or in memory for simulations.
//!
//! The only user of sqlx. It knows no policy: it stores what it is told, or says why not. What it
//! answers is durable. Every write of an attempt is guarded in SQL by the attempt's number.
//!
//! [`Store`] is an enum; each of its variants is held to the same tests. Both databases share one
//! SQL text (`sql.rs`); what differs between them stands beside each other.

mod attempt;
mod audit;
mod checkpoint;
mod curve;
mod database;
mod doctor;
mod downsample;
mod end;
mod error;
mod file_system;
mod grant;
mod history;
mod lineage;
mod lines;
mod load;
mod memory;
mod point;
mod policy;
mod postgres;
mod record;
mod run;
mod select;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sql;
mod sqlite;
mod sweep;
#[cfg(test)]
mod tests;
mod trunk;
mod turn;
mod worker;

pub use audit::AuditRow;
pub use checkpoint::Kept;
pub use database::Database;
pub use doctor::Finding;
pub use downsample::{Bucket, downsample};
pub use error::StoreError;
pub use file_system::refuse_network_file_system;
pub use history::{Event, Happened};
pub use memory::Memory;
pub use postgres::Postgres;
pub use record::{
    Applied, AttemptRecord, AttemptStatus, Batch, CheckpointRecord, CheckpointRow, EndRow, Facts,
    Failures, GrantRow, Granted, Ingested, LiveAttempt, MeasuredAttempt, NewRun, NewSweep, Outcome,
    RunRecord, Saved, SavedRun, SavedSweep, Spent, StateCount, StateRow, Submitted, SweepRecord,
    WorkerRecord,
};
pub use select::{Datum, Selected, VIEWS};
pub use sqlite::{Sqlite, schema};
pub use turn::{Turn, Turned};

/// A store, by what is under it.
#[derive(Clone, Debug)]
pub enum Store {
    /// A database.
    Database(Database),
    /// Memory, for simulations.
    Memory(Memory),
}

impl Store {
    /// Opens a store for writing from its address, `sqlite:PATH` or `postgres://...`; makes it when
    /// there is none. A password never stands in the address.
    ///
    /// # Errors
    /// [`StoreError`] names the address or the file, and the cure.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        Ok(Self::Database(match Place::of(address)? {
            Place::Sqlite(path) => Database::Sqlite(Sqlite::open(path).await?),
            Place::Postgres => Database::Postgres(Postgres::open(address).await?),
        }))
    }

    /// Opens a store for reading only, beside whoever writes it.
    ///
    /// # Errors
    /// [`StoreError`] names the address or the file, and the cure.
    pub async fn open_to_read(address: &str) -> Result<Self, StoreError> {
        Ok(Self::Database(Database::open_to_read(address).await?))
    }

    /// Ends, with the reason, when another coordinator has taken the store; on a store that cannot
    /// be taken, never.
    pub async fn superseded(&self) -> StoreError {
        match self {
            Self::Database(Database::Postgres(postgres)) => postgres.superseded().await,
            _ => std::future::pending().await,
        }
    }

    /// Where an attempt stands; `None` for one that never was.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn attempt_status(
        &self,
        key: &AttemptKey,
    ) -> Result<Option<AttemptStatus>, StoreError> {
        Ok(self.attempt_statuses(std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// Stores what a coordinator decided in one turn, in one commit.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails. Whether the commit took place is then unknown: load
    /// the runs again.
    pub async fn turn(&self, turn: &Turn) -> Result<Turned, StoreError> {
        match self {
            Self::Database(database) => database.turn(turn).await,
            Self::Memory(memory) => memory.turn(turn).await,
        }
    }
}

impl Database {
    /// Opens a database for reading only, beside whoever writes it.
    ///
    /// # Errors
    /// [`StoreError`] names the address or the file, and the cure.
    pub async fn open_to_read(address: &str) -> Result<Self, StoreError> {
        Ok(match Place::of(address)? {
            Place::Sqlite(path) => Self::Sqlite(Sqlite::open_to_read(path).await?),
            Place::Postgres => Self::Postgres(Postgres::open_to_read(address).await?),
        })
    }
}

/// What an address names.
enum Place<'a> {
    Sqlite(&'a Path),
    Postgres,
}

impl<'a> Place<'a> {
    fn of(address: &'a str) -> Result<Self, StoreError> {
        if postgres::is_address(address) {
            return Ok(Self::Postgres);
        }
        match address.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.as_ref())),
            // A misspelt address is not shown with a password in it.
            _ if postgres::has_password(address) => Err(StoreError::Password),
            _ => Err(StoreError::Address(address.to_owned())),
        }
    }
}

use database::Retry;

/// Passes calls on. One line each: what they mean stands at the definition. Each of them may be
/// made twice with the same result, so it is repeated while a database is away for a moment.
macro_rules! delegate {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $reply:ty;)*) => {
        impl Store {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`StoreError`] when the database fails.
                pub async fn $name(&self, $($arg: $type),*) -> Result<$reply, StoreError> {
                    match self {
                        Self::Database(database) => {
                            let mut retry = Retry::default();
                            loop {
                                match database.$name($($arg),*).await {
                                    Err(error) if retry.again(&error).await => {}
                                    done => return done,
                                }
                            }
                        }
                        Self::Memory(memory) => memory.$name($($arg),*).await,
                    }
                }
            )*
        }
    };
}

use std::path::Path;

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    id::{RunId, SweepId},
    metric::{Metric, Point},
    policy::Policy,
};

delegate! {
    /// Finishes what is under way and closes the files.
    fn close() -> ();
    /// Stores a sweep and its runs; runs that are known keep their state.
    fn submit(sweep: &NewSweep) -> Submitted;
    /// Stores the terms of a sweep, which may come after them.
    fn set_policy(sweep: &SweepId, policy: &Policy) -> ();
    /// The terms of all sweeps that have some.
    fn policies() -> Vec<(SweepId, Policy)>;
    /// Everything a scheduler has to know after a start.
    fn load() -> Saved;
    /// The same of some runs only.
    fn load_runs(runs: &[RunId]) -> Vec<SavedRun>;
    /// All sweeps, latest first.
    fn sweeps() -> Vec<SweepRecord>;
    /// The sweep of this id, unique beginning of an id, or name (the latest of that name).
    fn find_sweep(selector: &str) -> SweepRecord;
    /// The recipe of a sweep.
    fn recipe(sweep: &SweepId) -> String;
    /// Numbers of runs by state with their totals.
    fn counts(sweep: &SweepId) -> Vec<StateCount>;
    /// Runs of a sweep after a position, in the order of submission.
    fn runs_page(sweep: &SweepId, after: i64, limit: u32) -> Vec<RunRecord>;
    /// One run, without its place in a sweep.
    fn run(run: &RunId) -> RunRecord;
    /// The run of this id or unique beginning of at least four digits.
    fn find_run(selector: &str) -> RunId;
    /// Holds runs back by themselves, or lets them go on.
    fn set_paused(runs: &[RunId], paused: bool) -> ();
    /// Where each of these attempts stands; `None` for one that never was.
    fn attempt_statuses(keys: &[AttemptKey]) -> Vec<Option<AttemptStatus>>;
    /// The attempts of a run, first to last.
    fn attempts(run: &RunId) -> Vec<AttemptRecord>;
    /// What happened to the attempts at a run, in the order of time.
    fn history(run: &RunId) -> Vec<Event>;
    /// What was spent on each run with an attempt that ended, by id.
    fn spent() -> Vec<Spent>;
    /// Attempts with measured seconds, for the cost model, oldest first.
    fn measured() -> Vec<MeasuredAttempt>;
    /// Stores batches in one commit; a repeated one is dropped.
    fn ingest(batches: &[Batch]) -> Vec<Ingested>;
    /// Makes a checkpoint known, once the points it needs are durable.
    fn commit_checkpoint(row: &CheckpointRow) -> Applied;
    /// Notes that the coordinator keeps the files of a checkpoint; nothing for one that was never
    /// committed, or had another hash.
    fn keep_checkpoint(key: &AttemptKey, step: u64, hash: &str) -> Option<Kept>;
    /// Notes where checkpoints are kept from now on. Where those that are kept already lie elsewhere,
    /// that place is the answer and nothing changes, unless they are to be forgotten.
    fn keep_in(place: &str, forget: bool) -> Option<String>;
    /// The checkpoint of a run at a step, where the coordinator keeps it.
    fn kept_checkpoint(run: &RunId, step: u64) -> Option<CheckpointRecord>;
    /// The newest checkpoint of a run before a step that the coordinator keeps.
    fn kept_before(run: &RunId, step: u64) -> Option<CheckpointRecord>;
    /// Hashes of the manifests of a run's checkpoints that the coordinator keeps.
    fn kept_hashes(run: &RunId) -> Vec<String>;
    /// Number of checkpoints that the coordinator keeps, and their bytes.
    fn kept_totals() -> (u64, u64);
    /// The newest checkpoint of a run that the coordinator keeps.
    fn newest_kept(run: &RunId) -> Option<CheckpointRecord>;
    /// Metrics that a run has points of.
    fn metrics_of(run: &RunId) -> Vec<Metric>;
    /// Points of a curve beyond a step (-1 for all), along the canonical lineage, in step order.
    fn curve(run: &RunId, metric: Metric, after: i64, limit: u32) -> Vec<Point>;
    /// Registers a worker with its devices; false when a later incarnation is known.
    fn join_worker(id: &str, host: &str, incarnation: u64, devices: &[Device], unix_ms: i64) -> bool;
    /// Replaces the devices of a worker.
    fn set_devices(worker: &str, devices: &[Device]) -> ();
    /// Every worker that ever joined, latest first.
    fn workers() -> Vec<WorkerRecord>;
    /// Keeps what an operator asked for; the oldest beyond 10,000 is dropped.
    fn note_audit(row: &AuditRow) -> ();
    /// What operators asked for, newest first.
    fn audit(limit: u32) -> Vec<AuditRow>;
    /// Number of runs by state in the whole store.
    fn totals() -> Vec<(RunState, u64)>;
}
