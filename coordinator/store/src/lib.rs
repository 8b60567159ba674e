//! The store: sweeps, runs, attempts, points, checkpoints and workers in one SQLite file.
//!
//! The only user of sqlx. It knows no policy: it stores what it is told, or says why not. What it
//! answers is durable. Every write of an attempt is guarded in SQL by the attempt's number.
//!
//! [`Store`] is an enum, so that other databases become variants held to the same tests.

mod attempt;
mod checkpoint;
mod curve;
mod downsample;
mod error;
mod point;
mod record;
mod run;
mod sqlite;
mod sweep;
#[cfg(test)]
mod tests;
mod worker;

pub use downsample::{Bucket, downsample};
pub use error::StoreError;
pub use record::{
    Applied, AttemptRecord, AttemptStatus, Batch, CheckpointRecord, CheckpointRow, EndRow, Facts,
    Failures, GrantRow, Granted, Ingested, LiveAttempt, MeasuredAttempt, NewRun, NewSweep, Outcome,
    RunRecord, Saved, SavedRun, SavedSweep, StateCount, StateRow, Submitted, SweepRecord,
    WorkerRecord,
};
pub use sqlite::Sqlite;

/// A store, by the database under it.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file, owned by one coordinator.
    Sqlite(Sqlite),
}

impl Store {
    /// Opens a store for writing from its address, `sqlite:PATH`; makes it when there is none.
    ///
    /// # Errors
    /// [`StoreError`] names the address or the file, and the cure.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Sqlite::open(Self::path(address)?).await?))
    }

    /// Opens a store for reading only, beside whoever writes it.
    ///
    /// # Errors
    /// [`StoreError`] names the address or the file, and the cure.
    pub async fn open_to_read(address: &str) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Sqlite::open_to_read(Self::path(address)?).await?))
    }

    fn path(address: &str) -> Result<&std::path::Path, StoreError> {
        match address.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(path.as_ref()),
            _ => Err(StoreError::Address(address.to_owned())),
        }
    }
}

/// Passes calls on to the database. One line each: what they mean stands at the definition.
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
                        Self::Sqlite(sqlite) => sqlite.$name($($arg),*).await,
                    }
                }
            )*
        }
    };
}

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    id::{RunId, SweepId},
    metric::{Metric, Point},
};

delegate! {
    /// Finishes what is under way and closes the files.
    fn close() -> ();
    /// Stores a sweep and its runs; runs that are known keep their state.
    fn submit(sweep: &NewSweep) -> Submitted;
    /// Marks a sweep as given up, or as wanted again.
    fn mark_sweep(sweep: &SweepId, cancelled: bool) -> ();
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
    /// Opens attempts in one commit; `None` for those that came too late.
    fn grant(rows: &[GrantRow]) -> Vec<Option<Granted>>;
    /// Ends attempts in one commit.
    fn end(rows: &[EndRow]) -> Vec<Applied>;
    /// Changes runs without a live attempt in one commit.
    fn set_states(rows: &[StateRow]) -> ();
    /// Where an attempt stands; `None` for one that never was.
    fn attempt_status(key: &AttemptKey) -> Option<AttemptStatus>;
    /// The attempts of a run, first to last.
    fn attempts(run: &RunId) -> Vec<AttemptRecord>;
    /// Attempts with measured seconds, for the cost model, oldest first.
    fn measured() -> Vec<MeasuredAttempt>;
    /// Stores batches in one commit; a repeated one is dropped.
    fn ingest(batches: &[Batch]) -> Vec<Ingested>;
    /// Makes a checkpoint known, once the points it needs are durable.
    fn commit_checkpoint(row: &CheckpointRow) -> Applied;
    /// The newest checkpoint of a run.
    fn newest_checkpoint(run: &RunId) -> Option<CheckpointRecord>;
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
    /// Number of runs by state in the whole store.
    fn totals() -> Vec<(RunState, u64)>;
}
