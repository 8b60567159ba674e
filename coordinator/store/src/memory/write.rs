//! What changes the store. Each call is one commit.

use std::collections::BTreeSet;

use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    hash::canonical_json,
    metric::Metric,
};

use super::{
    AttemptEntry, CheckpointEntry, Content, EndEntry, Member, Memory, RunEntry, SweepEntry,
    WorkerEntry,
};
use crate::{
    checkpoint::{KEPT, Kept},
    database::metric_no,
    end::{of_micros, whole_micros},
    error::StoreError,
    lineage::Part,
    point::{NEVER_GRANTED, judge, latest_loss},
    record::{
        Applied, Batch, CheckpointRecord, CheckpointRow, EndRow, Facts, Failures, GrantRow,
        Granted, Ingested, NewRun, NewSweep, Outcome, StateRow, Submitted,
    },
    trunk::extended,
    turn::{Turn, Turned},
};

impl Memory {
    pub(crate) async fn submit(&self, sweep: &NewSweep) -> Result<Submitted, StoreError> {
        self.commit(|content| Ok(content.submit(sweep))).await
    }

    pub(crate) async fn turn(&self, turn: &Turn) -> Result<Turned, StoreError> {
        self.commit(|content| {
            let workers = turn.grants.iter().map(|row| content.worker(&row.worker));
            let workers: Vec<usize> = workers.collect::<Result<_, _>>()?;
            for (sweep, cancelled) in &turn.marks {
                let marked = content.sweeps.iter_mut().filter(|entry| entry.id == *sweep);
                marked.for_each(|entry| entry.cancelled = *cancelled);
            }
            for (run, dropped) in &turn.drops {
                if let Some(run) = content.run_mut(run) {
                    run.dropped = *dropped;
                }
            }
            let ends = turn.ends.iter().map(|row| content.end_attempt(row)).collect();
            turn.states.iter().for_each(|row| content.set_state(row));
            let granted = turn.grants.iter().zip(workers);
            let granted = granted.map(|(row, worker)| content.open_attempt(row, worker));
            Ok(Turned { ends, grants: granted.collect() })
        })
        .await
    }

    pub(crate) async fn ingest(&self, batches: &[Batch]) -> Result<Vec<Ingested>, StoreError> {
        self.commit(|content| Ok(batches.iter().map(|batch| content.store_batch(batch)).collect()))
            .await
    }

    pub(crate) async fn commit_checkpoint(
        &self,
        row: &CheckpointRow,
    ) -> Result<Applied, StoreError> {
        self.commit(|content| Ok(content.commit_checkpoint(row))).await
    }

    pub(crate) async fn keep_checkpoint(
        &self,
        key: &AttemptKey,
        step: u64,
        hash: &str,
    ) -> Result<Option<Kept>, StoreError> {
        self.commit(|content| Ok(content.keep_checkpoint(key, step, hash))).await
    }

    pub(crate) async fn keep_in(
        &self,
        place: &str,
        forget: bool,
    ) -> Result<Option<String>, StoreError> {
        self.commit(|content| {
            let mut kept: Vec<_> = content
                .runs
                .iter_mut()
                .flat_map(|run| &mut run.checkpoints)
                .filter(|checkpoint| checkpoint.kept)
                .collect();
            if let Some(before) = content.kept_place.clone().filter(|before| before != place) {
                if !kept.is_empty() && !forget {
                    return Ok(Some(before));
                }
                kept.iter_mut().for_each(|checkpoint| checkpoint.kept = false);
            }
            content.kept_place = Some(place.to_owned());
            Ok(None)
        })
        .await
    }

    pub(crate) async fn join_worker(
        &self,
        id: &str,
        host: &str,
        incarnation: u64,
        devices: &[Device],
        unix_ms: i64,
    ) -> Result<bool, StoreError> {
        self.commit(|content| {
            let joined = WorkerEntry {
                id: id.to_owned(),
                host: host.to_owned(),
                incarnation,
                joined_unix_ms: unix_ms,
                devices: once_each(devices),
            };
            match content.workers.iter_mut().find(|worker| worker.id == id) {
                None => content.workers.push(joined),
                Some(known) if known.incarnation <= incarnation => *known = joined,
                Some(_) => return Ok(false),
            }
            Ok(true)
        })
        .await
    }

    pub(crate) async fn set_devices(
        &self,
        worker: &str,
        devices: &[Device],
    ) -> Result<(), StoreError> {
        self.commit(|content| {
            let worker = content.worker(worker)?;
            content.workers[worker].devices = once_each(devices);
            Ok(())
        })
        .await
    }
}

/// Of devices with one id the last counts.
fn once_each(devices: &[Device]) -> Vec<Device> {
    let last = |(place, device): &(usize, &Device)| {
        devices[place + 1..].iter().all(|later| later.id != device.id)
    };
    devices.iter().enumerate().filter(last).map(|(_, device)| device.clone()).collect()
}

impl Content {
    fn submit(&mut self, sweep: &NewSweep) -> Submitted {
        let place = self.sweeps.iter().position(|entry| entry.id == sweep.id);
        let place = place.unwrap_or_else(|| {
            self.sweeps.push(SweepEntry {
                id: sweep.id.clone(),
                name: sweep.name.clone(),
                recipe: String::new(),
                submitted_unix_ms: sweep.unix_ms,
                planned_seconds: None,
                cancelled: false,
                members: Vec::new(),
            });
            self.sweeps.len() - 1
        });
        let mut submitted = Submitted::default();
        for (position, new) in (0_i64..).zip(&sweep.runs) {
            let run = self.add_run(new, &mut submitted);
            let members = &mut self.sweeps[place].members;
            if members.iter().all(|member| member.run != run) {
                members.push(Member {
                    run,
                    position,
                    role: new.role,
                    budget_flops: new.budget_flops,
                    tokens_requested: new.tokens_requested,
                });
            }
        }
        let entry = &mut self.sweeps[place];
        entry.recipe.clone_from(&sweep.recipe);
        entry.cancelled = false;
        let planned = sweep.planned_seconds.filter(|seconds| seconds.is_finite());
        entry.planned_seconds = entry.planned_seconds.or(planned);
        submitted.earlier = self
            .sweeps
            .iter()
            .filter(|entry| entry.name == sweep.name && entry.id != sweep.id && !entry.cancelled)
            .map(|entry| entry.id.clone())
            .collect();
        submitted
    }

    /// Stores a run that is new; one that is known keeps its state, except that a run nobody
    /// wanted is wanted again.
    fn add_run(&mut self, new: &NewRun, submitted: &mut Submitted) -> usize {
        let id = new.run.config.id();
        let json = canonical_json(&new.run);
        let Some(&place) = self.places.get(id.as_str()) else {
            submitted.runs_new += 1;
            self.places.insert(id.as_str().to_owned(), self.runs.len());
            self.runs.push(RunEntry {
                id,
                json,
                facts: Facts::of(&new.run),
                run: new.run.clone(),
                state: RunState::Queued,
                failures: Failures::default(),
                reason: None,
                paused: false,
                dropped: false,
                latest: None,
                final_validation_loss: None,
                final_validation_bits_per_byte: None,
                attempts: Vec::new(),
                checkpoints: Vec::new(),
            });
            return self.runs.len() - 1;
        };
        let run = &mut self.runs[place];
        run.dropped = false;
        if new.run.config.is_trunk() {
            (run.run, run.state) = extended(&run.run, run.state, &new.run);
            (run.json, run.facts) = (canonical_json(&run.run), Facts::of(&run.run));
        }
        match run.state {
            RunState::Finished | RunState::Diverged => {
                submitted.runs_finished += 1;
                return place;
            }
            RunState::Failed => submitted.runs_failed += 1,
            _ => {}
        }
        submitted.runs_known += 1;
        if run.state != RunState::Running && !new.run.config.is_trunk() {
            run.json = json;
            run.run = new.run.clone();
        }
        if run.state == RunState::Cancelled {
            run.state = RunState::Queued;
            run.reason = None;
            run.failures = Failures::default();
        }
        place
    }

    fn set_state(&mut self, row: &StateRow) {
        let Some(run) = self.run_mut(&row.run) else { return };
        // Never over a live attempt or a finished run.
        if matches!(run.state, RunState::Queued | RunState::Failed | RunState::Cancelled) {
            run.state = row.state;
            run.reason.clone_from(&row.reason);
            run.failures = row.failures;
        }
    }

    fn open_attempt(&mut self, row: &GrantRow, worker: usize) -> Option<Granted> {
        let made = self.attempts_made;
        let place = *self.places.get(row.key.run.as_str())?;
        let run = &mut self.runs[place];
        if row.key.number != run.current() + 1 || run.state != RunState::Queued {
            return None;
        }
        let checkpoint = run.checkpoint_for(worker).map(|at| {
            if at.worker != worker {
                at.copies.insert(worker);
            }
            CheckpointRecord { step: at.step, hash: at.hash.clone(), kept: at.kept }
        });
        run.state = RunState::Running;
        run.reason = None;
        run.attempts.push(AttemptEntry {
            made,
            worker,
            incarnation: row.incarnation,
            slot: row.slot,
            device_id: row.device_id.clone(),
            device_name: row.device_name.clone(),
            backend: row.backend.clone(),
            canary: row.canary.clone(),
            started_unix_ms: row.unix_ms,
            end: None,
            start: None,
            part: Part::OPEN,
            last_seq: 0,
            latest_step: None,
            points: std::collections::BTreeMap::new(),
        });
        self.attempts_made += 1;
        Some(Granted { run_json: run.json.clone(), checkpoint })
    }

    fn end_attempt(&mut self, row: &EndRow) -> Applied {
        let Some(run) = self.run_mut(&row.key.run) else { return Applied::Fenced };
        let current = run.current() == row.key.number;
        let Some(attempt) = run.attempt_mut(&row.key) else { return Applied::Fenced };
        if let Some(end) = &attempt.end {
            // The same one again, or one that came too late.
            let same = end.outcome == row.outcome;
            return if same { Applied::Done } else { Applied::Fenced };
        }
        if !current {
            return Applied::Fenced;
        }
        attempt.end = Some(EndEntry {
            // A wall clock may have been set back since: no attempt ends before it began.
            unix_ms: row.unix_ms.max(attempt.started_unix_ms),
            outcome: row.outcome,
            reason: row.reason.clone(),
            step: row.end_step,
            seconds: row.seconds.and_then(whole_micros).map(of_micros),
            peak_memory_bytes: row.peak_memory_bytes,
            points_thinned: row.points_thinned,
        });
        if let Some(step) = row.resume_step {
            run.begin(row.key.number, step);
        }
        run.state = row.state;
        run.reason.clone_from(&row.state_reason);
        run.failures = row.failures;
        let finished = row.outcome == Outcome::Finished;
        let last = |metric| finished.then(|| run.last_finite(metric)).flatten();
        let (loss, bits) = (last(Metric::ValidationLoss), last(Metric::ValidationBitsPerByte));
        run.final_validation_loss = loss;
        run.final_validation_bits_per_byte = bits;
        Applied::Done
    }

    fn store_batch(&mut self, batch: &Batch) -> Ingested {
        let AttemptKey { run, number } = &batch.key;
        let Some(run) = self.run_mut(run) else { return NEVER_GRANTED };
        let current = run.current() == *number;
        let Some(attempt) = run.attempt(&batch.key) else { return NEVER_GRANTED };
        if let Some(answer) = judge(&attempt.mark(current), batch) {
            return answer;
        }
        run.begin(*number, batch.resume_step);
        let latest = latest_loss(&batch.points);
        run.latest = latest.map(|latest| (latest.step, latest.value)).or(run.latest);
        let Some(attempt) = run.attempt_mut(&batch.key) else { return NEVER_GRANTED };
        attempt.latest_step = latest.map(|latest| latest.step).or(attempt.latest_step);
        for point in &batch.points {
            // A value that is there already stays: a curve is never overwritten.
            attempt.points.entry((metric_no(point.metric), point.step)).or_insert(point.value);
        }
        attempt.last_seq = batch.seq;
        Ingested::Durable(batch.seq)
    }

    fn commit_checkpoint(&mut self, row: &CheckpointRow) -> Applied {
        let Some(run) = self.run_mut(&row.key.run) else { return Applied::Fenced };
        let current = run.current() == row.key.number;
        let Some(attempt) = run.attempt(&row.key) else { return Applied::Fenced };
        let given_up = attempt
            .end
            .as_ref()
            .is_some_and(|end| matches!(end.outcome, Outcome::Lost | Outcome::Cancelled));
        if !current || given_up {
            return Applied::Fenced;
        }
        // No gap before a committed checkpoint: what it needs must be stored.
        if attempt.last_seq < row.requires_seq {
            return Applied::PointsMissing(attempt.last_seq);
        }
        let (worker, number) = (attempt.worker, row.key.number);
        let known = |entry: &CheckpointEntry| entry.step == row.step && entry.attempt == number;
        if !run.checkpoints.iter().any(known) {
            run.checkpoints.push(CheckpointEntry {
                step: row.step,
                attempt: number,
                hash: row.hash.clone(),
                bytes: row.bytes,
                unix_ms: row.unix_ms,
                worker,
                kept: false,
                copies: BTreeSet::new(),
            });
        }
        run.failures.without_checkpoint = 0;
        Applied::Done
    }

    fn keep_checkpoint(&mut self, key: &AttemptKey, step: u64, hash: &str) -> Option<Kept> {
        let forks: BTreeSet<u64> = self
            .runs
            .iter()
            .filter_map(|run| run.run.config.parent.as_ref())
            .filter(|edge| edge.run == key.run)
            .map(|edge| edge.step)
            .collect();
        let run = self.run_mut(&key.run)?;
        let mut made = run.checkpoints.iter_mut();
        let fits = |at: &&mut CheckpointEntry| {
            at.step == step && at.attempt == key.number && at.hash == hash
        };
        made.find(fits)?.kept = true;
        let mut kept: Vec<_> = run.checkpoints.iter_mut().filter(|at| at.kept).collect();
        kept.sort_unstable_by_key(|at| std::cmp::Reverse((at.step, at.attempt)));
        let mut answer = Kept::default();
        for (place, at) in kept.into_iter().enumerate() {
            at.kept = place < KEPT || forks.contains(&at.step);
            let list = if at.kept { &mut answer.kept } else { &mut answer.dropped };
            list.push(at.hash.clone());
        }
        Some(answer)
    }
}

impl RunEntry {
    /// The last value of a metric along the lineage; absent where it is not finite.
    fn last_finite(&self, metric: Metric) -> Option<f64> {
        let (_, value) = self.curve(metric_no(metric)).pop_last()?;
        value.is_finite().then_some(value)
    }
}
