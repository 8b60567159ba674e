//! A store in memory, for simulations: the same answers as the databases, in the same order, and
//! nothing of it depends on threads, on a clock or on chance.
//!
//! Clones share the content, as processes share a disk: what a simulated crash leaves behind is
//! read through another clone. A commit takes time, so that a crash can fall before it (nothing is
//! stored) and after it (all is stored and nobody heard of it).

mod audit;
mod history;
#[cfg(feature = "simulation")]
mod look;
mod policy;
mod read;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    id::{RunId, SweepId},
    run::{Run, RunRole},
};

use crate::{
    audit::AuditRow,
    error::StoreError,
    lineage::{self, Part, Start},
    point::Mark,
    record::{Facts, Failures, Outcome},
};

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    content: Arc<Mutex<Content>>,
    /// Writers are one after another, as on a database.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Half of the time that a commit takes.
    half_commit: Duration,
}

impl Memory {
    /// An empty store whose commits take this time of the runtime's clock.
    #[must_use]
    pub fn new(commit: Duration) -> Self {
        Self { half_commit: commit / 2, ..Self::default() }
    }

    /// Applies a change as a whole or, where it gives an error, not at all: `change` checks before
    /// it writes.
    async fn commit<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _writer = self.writer.lock().await;
        self.wait().await;
        #[cfg(feature = "simulation")]
        if crate::simulation::is_full() {
            return Err(StoreError::Full { store: "memory".into() });
        }
        let reply = change(&mut self.content());
        self.wait().await;
        reply
    }

    async fn wait(&self) {
        if !self.half_commit.is_zero() {
            tokio::time::sleep(self.half_commit).await;
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is stored. Indexes stand for keys: nothing is ever removed.
#[derive(Debug, Default)]
struct Content {
    sweeps: Vec<SweepEntry>,
    runs: Vec<RunEntry>,
    /// Place of a run by its id.
    places: BTreeMap<String, usize>,
    workers: Vec<WorkerEntry>,
    /// Terms by sweep, as text.
    policies: BTreeMap<String, String>,
    /// Attempts so far, in all.
    attempts_made: u64,
    /// Where the files of kept checkpoints lie.
    kept_place: Option<String>,
    /// What operators asked for, oldest first.
    audit: VecDeque<AuditRow>,
}

#[derive(Debug)]
struct SweepEntry {
    id: SweepId,
    name: String,
    recipe: String,
    submitted_unix_ms: i64,
    planned_seconds: Option<f64>,
    cancelled: bool,
    members: Vec<Member>,
}

/// A run in a sweep.
#[derive(Debug)]
struct Member {
    run: usize,
    position: i64,
    role: RunRole,
    budget_flops: Option<f64>,
    tokens_requested: f64,
}

#[derive(Debug)]
struct RunEntry {
    id: RunId,
    json: String,
    run: Run,
    facts: Facts,
    state: RunState,
    failures: Failures,
    reason: Option<String>,
    paused: bool,
    dropped: bool,
    latest: Option<(u64, f64)>,
    final_validation_loss: Option<f64>,
    final_validation_bits_per_byte: Option<f64>,
    /// Attempt n is at n - 1: the fence is their number.
    attempts: Vec<AttemptEntry>,
    checkpoints: Vec<CheckpointEntry>,
}

#[derive(Debug)]
struct AttemptEntry {
    /// Its place among all attempts.
    made: u64,
    worker: usize,
    incarnation: u64,
    slot: u32,
    device_id: String,
    device_name: String,
    backend: String,
    canary: Option<String>,
    started_unix_ms: i64,
    end: Option<EndEntry>,
    start: Option<Start>,
    /// Its part of the canonical curve.
    part: Part,
    last_seq: u64,
    /// Step of the training loss that came last.
    latest_step: Option<u64>,
    /// By metric number and step.
    points: BTreeMap<(i64, u64), f64>,
}

#[derive(Debug)]
struct EndEntry {
    unix_ms: i64,
    outcome: Outcome,
    reason: Option<String>,
    step: Option<u64>,
    seconds: Option<f64>,
    peak_memory_bytes: Option<u64>,
    points_thinned: u64,
}

#[derive(Debug)]
struct CheckpointEntry {
    step: u64,
    attempt: u32,
    hash: String,
    bytes: Option<u64>,
    unix_ms: i64,
    worker: usize,
    /// The coordinator keeps its files.
    kept: bool,
    /// Workers that were sent to fetch it.
    copies: BTreeSet<usize>,
}

impl CheckpointEntry {
    fn is_on(&self, worker: usize) -> bool {
        self.worker == worker || self.copies.contains(&worker)
    }
}

#[derive(Debug)]
struct WorkerEntry {
    id: String,
    host: String,
    incarnation: u64,
    joined_unix_ms: i64,
    devices: Vec<Device>,
}

impl Content {
    fn run(&self, id: &RunId) -> Option<&RunEntry> {
        Some(&self.runs[*self.places.get(id.as_str())?])
    }

    fn run_mut(&mut self, id: &RunId) -> Option<&mut RunEntry> {
        Some(&mut self.runs[*self.places.get(id.as_str())?])
    }

    fn worker(&self, id: &str) -> Result<usize, StoreError> {
        let place = self.workers.iter().position(|worker| worker.id == id);
        place.ok_or_else(|| StoreError::NotFound { kind: "worker", selector: id.to_owned() })
    }
}

impl RunEntry {
    /// Number of the last attempt.
    fn current(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    fn attempt(&self, key: &AttemptKey) -> Option<&AttemptEntry> {
        self.attempts.get(usize::try_from(key.number).ok()?.checked_sub(1)?)
    }

    fn attempt_mut(&mut self, key: &AttemptKey) -> Option<&mut AttemptEntry> {
        self.attempts.get_mut(usize::try_from(key.number).ok()?.checked_sub(1)?)
    }

    fn live(&self) -> Option<&AttemptEntry> {
        self.attempts.iter().find(|attempt| attempt.end.is_none())
    }

    /// The newest checkpoint; of those at one step, the one of the latest attempt.
    fn newest_checkpoint(&self) -> Option<&CheckpointEntry> {
        self.checkpoints.iter().max_by_key(|checkpoint| (checkpoint.step, checkpoint.attempt))
    }

    /// The newest checkpoint that a worker has or can fetch.
    fn checkpoint_for(&mut self, worker: usize) -> Option<&mut CheckpointEntry> {
        let reached = self.checkpoints.iter_mut().filter(|at| at.kept || at.is_on(worker));
        reached.max_by_key(|at| (at.step, at.is_on(worker), at.attempt))
    }

    /// Values of a metric along the canonical lineage, in step order.
    fn curve(&self, metric_no: i64) -> BTreeMap<u64, f64> {
        let mut curve = BTreeMap::new();
        for attempt in &self.attempts {
            let own = attempt.points.range((metric_no, 0)..=(metric_no, u64::MAX));
            for (&(_, step), &value) in own {
                let place = i64::try_from(step).unwrap_or(i64::MAX);
                if place > attempt.part.after && place <= attempt.part.until {
                    curve.insert(step, value);
                }
            }
        }
        curve
    }

    /// Records where an attempt began, once, and so which steps of the curve belong to whom.
    fn begin(&mut self, number: u32, step: u64) {
        let Ok(place) = usize::try_from(number).map(|number| number.saturating_sub(1)) else {
            return;
        };
        let begins = self.attempts.get(place).filter(|own| own.start.is_none());
        let Some(worker) = begins.map(|own| own.worker) else { return };
        let fits = |at: &&CheckpointEntry| {
            at.step == step && at.is_on(worker) && at.attempt < number && step > 0
        };
        let writer = self.checkpoints.iter().filter(fits).map(|at| at.attempt).max();
        self.attempts[place].start = Some(Start { step, attempt: writer });
        let starts: Vec<_> = self.attempts[..=place].iter().map(|attempt| attempt.start).collect();
        let fork = self.run.config.parent.as_ref().map_or(0, |edge| edge.step);
        for (attempt, part) in self.attempts.iter_mut().zip(lineage::parts(&starts, fork)) {
            attempt.part = part;
        }
    }
}

impl AttemptEntry {
    fn mark(&self, current: bool) -> Mark {
        Mark {
            open: self.end.is_none() && current,
            last_seq: self.last_seq,
            resume_step: self.start.map(|start| start.step),
        }
    }
}
