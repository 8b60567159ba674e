//! What looks at the store.

use std::collections::{BTreeMap, BTreeSet};

use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::{RunId, SweepId},
    metric::{Metric, Point},
};

use super::{AttemptEntry, Content, EndEntry, Member, Memory, RunEntry};
use crate::{
    database::metric_no,
    error::StoreError,
    record::{
        AttemptRecord, AttemptStatus, CheckpointRecord, LiveAttempt, MeasuredAttempt, Outcome,
        RunRecord, Saved, SavedRun, SavedSweep, Spent, StateCount, SweepRecord, WorkerRecord,
    },
    run::{choose_run, count, int, may_begin_run},
    sweep::choose_sweep,
};

// Asynchronous without waiting, since the databases wait at the same places.
#[expect(clippy::unused_async, reason = "the same interface as the databases")]
impl Memory {
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(crate) async fn load(&self) -> Result<Saved, StoreError> {
        let content = self.content();
        let sweeps = content.sweeps.iter().filter(|sweep| !sweep.members.is_empty());
        Ok(Saved {
            sweeps: sweeps
                .map(|sweep| SavedSweep {
                    id: sweep.id.clone(),
                    cancelled: sweep.cancelled,
                    members: sweep
                        .members
                        .iter()
                        .map(|member| (content.runs[member.run].id.clone(), member.role))
                        .collect(),
                })
                .collect(),
            runs: content.runs.iter().map(|run| content.saved_run(run)).collect(),
        })
    }

    pub(crate) async fn load_runs(&self, runs: &[RunId]) -> Result<Vec<SavedRun>, StoreError> {
        let content = self.content();
        let known = runs.iter().filter_map(|id| content.run(id));
        Ok(known.map(|run| content.saved_run(run)).collect())
    }

    pub(crate) async fn kept_checkpoint(
        &self,
        run: &RunId,
        step: u64,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        let content = self.content();
        let made = content.run(run).into_iter().flat_map(|run| &run.checkpoints);
        let kept = made.filter(|at| at.kept && at.step == step).max_by_key(|at| at.attempt);
        Ok(kept.map(|at| CheckpointRecord { step, hash: at.hash.clone(), kept: true }))
    }

    pub(crate) async fn kept_hashes(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let content = self.content();
        let made = content.run(run).into_iter().flat_map(|run| &run.checkpoints);
        let kept = made.filter(|at| at.kept).map(|at| at.hash.clone());
        Ok(kept.collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(crate) async fn kept_totals(&self) -> Result<(u64, u64), StoreError> {
        let content = self.content();
        let kept = content.runs.iter().flat_map(|run| &run.checkpoints).filter(|at| at.kept);
        let bytes = kept.clone().filter_map(|at| at.bytes).sum();
        Ok((kept.count() as u64, bytes))
    }

    pub(crate) async fn newest_kept(
        &self,
        run: &RunId,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        self.kept_before(run, u64::MAX).await
    }

    pub(crate) async fn kept_before(
        &self,
        run: &RunId,
        step: u64,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        let content = self.content();
        let made = content.run(run).into_iter().flat_map(|run| &run.checkpoints);
        let earlier = made.filter(|at| at.kept && at.step < step);
        let newest = earlier.max_by_key(|at| (at.step, at.attempt));
        Ok(newest.map(|at| CheckpointRecord { step: at.step, hash: at.hash.clone(), kept: true }))
    }

    pub(crate) async fn sweeps(&self) -> Result<Vec<SweepRecord>, StoreError> {
        let content = self.content();
        let latest_first = content.sweeps.iter().rev();
        Ok(latest_first
            .map(|sweep| SweepRecord {
                id: sweep.id.clone(),
                name: sweep.name.clone(),
                submitted_unix_ms: sweep.submitted_unix_ms,
                cancelled: sweep.cancelled,
                planned_seconds: sweep.planned_seconds,
            })
            .collect())
    }

    pub(crate) async fn find_sweep(&self, selector: &str) -> Result<SweepRecord, StoreError> {
        choose_sweep(&self.sweeps().await?, selector)
    }

    pub(crate) async fn recipe(&self, sweep: &SweepId) -> Result<String, StoreError> {
        let content = self.content();
        let found = content.sweeps.iter().find(|entry| entry.id == *sweep);
        found
            .map(|entry| entry.recipe.clone())
            .ok_or_else(|| StoreError::NotFound { kind: "sweep", selector: sweep.to_string() })
    }

    pub(crate) async fn counts(&self, sweep: &SweepId) -> Result<Vec<StateCount>, StoreError> {
        let content = self.content();
        let mut counts: Vec<StateCount> = Vec::new();
        let members = content.sweeps.iter().filter(|entry| entry.id == *sweep);
        for member in members.flat_map(|entry| &entry.members) {
            let run = &content.runs[member.run];
            if counts.iter().all(|count| count.state != run.state) {
                counts.push(StateCount {
                    state: run.state,
                    runs: 0,
                    tokens: 0.0,
                    flops: 0.0,
                    flops_6nd: 0.0,
                    measured_seconds: 0.0,
                    ended_unix_ms: None,
                });
            }
            for count in counts.iter_mut().filter(|count| count.state == run.state) {
                count.runs += 1;
                #[expect(clippy::cast_precision_loss, reason = "sums are kept in floating point")]
                let tokens = run.facts.own_tokens as f64;
                count.tokens += tokens;
                count.flops += run.facts.own_flops;
                count.flops_6nd += run.facts.own_flops_6nd;
                count.measured_seconds += run.seconds().unwrap_or(0.0);
                count.ended_unix_ms = count.ended_unix_ms.max(run.ended_unix_ms());
            }
        }
        counts.sort_by_key(|count| count.state.name());
        Ok(counts)
    }

    pub(crate) async fn runs_page(
        &self,
        sweep: &SweepId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let content = self.content();
        let mut members: Vec<&Member> = content
            .sweeps
            .iter()
            .filter(|entry| entry.id == *sweep)
            .flat_map(|entry| &entry.members)
            .filter(|member| member.position > after)
            .collect();
        members.sort_by_key(|member| member.position);
        members.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let record = |member: &&Member| RunRecord {
            position: member.position,
            role: Some(member.role),
            budget_flops: member.budget_flops,
            tokens_requested: Some(member.tokens_requested),
            ..content.run_record(&content.runs[member.run])
        };
        Ok(members.iter().map(record).collect())
    }

    pub(crate) async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        let content = self.content();
        let found = content.run(run).map(|entry| content.run_record(entry));
        found.ok_or_else(|| StoreError::NotFound { kind: "run", selector: run.to_string() })
    }

    pub(crate) async fn find_run(&self, selector: &str) -> Result<RunId, StoreError> {
        if !may_begin_run(selector) {
            return choose_run(selector, Vec::new());
        }
        let content = self.content();
        let behind = content.places.range(selector.to_owned()..);
        let matching = behind.map(|(id, _)| id).take_while(|id| id.starts_with(selector));
        choose_run(selector, matching.cloned().collect())
    }

    pub(crate) async fn totals(&self) -> Result<Vec<(RunState, u64)>, StoreError> {
        let content = self.content();
        let mut totals = BTreeMap::new();
        for run in &content.runs {
            totals.entry(run.state.name()).or_insert((run.state, 0)).1 += 1;
        }
        Ok(totals.into_values().collect())
    }

    pub(crate) async fn attempt_statuses(
        &self,
        keys: &[AttemptKey],
    ) -> Result<Vec<Option<AttemptStatus>>, StoreError> {
        let content = self.content();
        let status = |key: &AttemptKey| {
            let run = content.run(&key.run)?;
            let attempt = run.attempt(key)?;
            Some(AttemptStatus {
                ended: attempt.end.is_some(),
                reported: attempt.end.as_ref().is_some_and(|end| end.outcome != Outcome::Lost),
                current: run.current() == key.number,
                last_seq: attempt.last_seq,
            })
        };
        Ok(keys.iter().map(status).collect())
    }

    pub(crate) async fn attempts(&self, run: &RunId) -> Result<Vec<AttemptRecord>, StoreError> {
        let content = self.content();
        let attempts = content.run(run).into_iter().flat_map(|run| &run.attempts);
        Ok((1..)
            .zip(attempts)
            .map(|(number, attempt)| {
                let (worker, end) = (&content.workers[attempt.worker], attempt.end.as_ref());
                AttemptRecord {
                    number,
                    worker: worker.id.clone(),
                    host: worker.host.clone(),
                    slot: attempt.slot,
                    device_name: attempt.device_name.clone(),
                    started_unix_ms: attempt.started_unix_ms,
                    ended_unix_ms: end.map(|end| end.unix_ms),
                    outcome: end.map(|end| end.outcome.name().to_owned()),
                    reason: end.and_then(|end| end.reason.clone()),
                    resume_step: attempt.start.map(|start| start.step),
                    resume_attempt: attempt.start.and_then(|start| start.attempt),
                    end_step: end.and_then(|end| end.step),
                    measured_seconds: end.and_then(|end| end.seconds),
                }
            })
            .collect())
    }

    pub(crate) async fn measured(&self) -> Result<Vec<MeasuredAttempt>, StoreError> {
        let content = self.content();
        let mut measured: Vec<(u64, MeasuredAttempt)> = Vec::new();
        for run in &content.runs {
            for attempt in &run.attempts {
                let Some(end) = &attempt.end else { continue };
                if let (Some(seconds), Some(last), Some(first)) =
                    (end.seconds, end.step, attempt.start.map(|start| start.step))
                    && seconds > 0.0
                    && last > first
                {
                    let entry = MeasuredAttempt {
                        config: run.run.config.clone(),
                        device_name: attempt.device_name.clone(),
                        steps: last - first,
                        seconds,
                    };
                    measured.push((attempt.made, entry));
                }
            }
        }
        measured.sort_by_key(|&(made, _)| made);
        Ok(measured.into_iter().map(|(_, entry)| entry).collect())
    }

    pub(crate) async fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        let content = self.content();
        let all = content.runs.iter().filter_map(RunEntry::spent);
        let mut all: Vec<Spent> = all.collect();
        all.sort_by(|a, b| a.run.as_str().cmp(b.run.as_str()));
        Ok(all)
    }

    pub(crate) async fn metrics_of(&self, run: &RunId) -> Result<Vec<Metric>, StoreError> {
        let content = self.content();
        let Some(run) = content.run(run) else { return Ok(Vec::new()) };
        let has = |metric: Metric| {
            let no = metric_no(metric);
            let mut attempts = run.attempts.iter();
            attempts.any(|attempt| attempt.points.range((no, 0)..=(no, u64::MAX)).next().is_some())
        };
        Ok(Metric::ALL.iter().copied().filter(|&metric| has(metric)).collect())
    }

    pub(crate) async fn curve(
        &self,
        run: &RunId,
        metric: Metric,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Point>, StoreError> {
        let content = self.content();
        let Some(run) = content.run(run) else { return Ok(Vec::new()) };
        let first = u64::try_from(after.saturating_add(1)).unwrap_or(0);
        let curve = run.curve(metric_no(metric));
        let beyond = curve.range(first..).take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(beyond.map(|(&step, &value)| Point { metric, step, value }).collect())
    }

    pub(crate) async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let content = self.content();
        let mut workers: Vec<_> = content.workers.iter().collect();
        workers.sort_by_key(|worker| std::cmp::Reverse(worker.joined_unix_ms));
        let record = |worker: &&super::WorkerEntry| WorkerRecord {
            id: worker.id.clone(),
            host: worker.host.clone(),
            incarnation: worker.incarnation,
            devices: worker.devices.clone(),
        };
        Ok(workers.iter().map(record).collect())
    }
}

impl RunEntry {
    /// What the ended attempts took.
    fn spent(&self) -> Option<Spent> {
        let ended = || self.attempts.iter().filter_map(|one| Some((one, one.end.as_ref()?)));
        ended().next()?;
        let steps = |(attempt, end): (&AttemptEntry, &EndEntry)| {
            let first = attempt.start?.step;
            Some(int(end.step.or(attempt.latest_step).unwrap_or(first)) - int(first))
        };
        let held = ended().map(|(attempt, end)| end.unix_ms - attempt.started_unix_ms);
        Some(Spent {
            run: self.id.clone(),
            steps: count(ended().filter_map(steps).sum()),
            held_ms: count(held.sum()),
        })
    }

    /// When its last attempt ended.
    fn ended_unix_ms(&self) -> Option<i64> {
        let ends = self.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        ends.map(|end| end.unix_ms).max()
    }

    /// Seconds of all attempts; absent where none was measured.
    fn seconds(&self) -> Option<f64> {
        let ends = self.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        ends.filter_map(|end| end.seconds).reduce(|sum, seconds| sum + seconds)
    }
}

/// Of a trunk, the steps whose checkpoints the coordinator keeps, in order.
fn kept_steps(run: &RunEntry) -> Vec<u64> {
    if !run.run.config.is_trunk() {
        return Vec::new();
    }
    let kept = run.checkpoints.iter().filter(|at| at.kept);
    kept.map(|at| at.step).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Content {
    /// Of a trunk, committed steps in order with every worker that wrote their checkpoints.
    fn holders(&self, run: &RunEntry) -> Vec<(u64, String)> {
        if !run.run.config.is_trunk() {
            return Vec::new();
        }
        let made = run.checkpoints.iter();
        let pairs = made.map(|at| (at.step, self.workers[at.worker].id.clone()));
        pairs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn saved_run(&self, run: &RunEntry) -> SavedRun {
        let newest = run.newest_checkpoint();
        SavedRun {
            id: run.id.clone(),
            state: run.state,
            attempts: run.current(),
            config: run.run.config.clone(),
            failures: run.failures,
            checkpoint: newest.map(|at| (at.step, self.workers[at.worker].id.clone())),
            checkpoints: self.holders(run),
            kept: kept_steps(run),
            live: run.live().map(|live| LiveAttempt {
                worker: self.workers[live.worker].id.clone(),
                incarnation: live.incarnation,
                slot: live.slot,
                device_name: live.device_name.clone(),
                started_unix_ms: live.started_unix_ms,
            }),
            reason: run.reason.clone(),
            paused: run.paused,
            dropped: run.dropped,
        }
    }

    /// A run without its place in a sweep.
    fn run_record(&self, run: &RunEntry) -> RunRecord {
        let last = run.attempts.last();
        let worker = last.map(|attempt| &self.workers[attempt.worker]);
        let ends = || run.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        RunRecord {
            id: run.id.clone(),
            position: -1,
            role: None,
            budget_flops: None,
            tokens_requested: None,
            facts: run.facts.clone(),
            run_json: run.json.clone(),
            state: run.state,
            attempts: run.current(),
            reason: run.reason.clone(),
            paused: run.paused,
            latest_step: run.latest.map(|(step, _)| step),
            latest_loss: run.latest.map(|(_, loss)| loss),
            final_validation_loss: run.final_validation_loss,
            final_validation_bits_per_byte: run.final_validation_bits_per_byte,
            measured_seconds: run.seconds(),
            points_thinned: ends().map(|end| end.points_thinned).sum(),
            worker: worker.map(|worker| worker.id.clone()),
            host: worker.map(|worker| worker.host.clone()),
            device_id: last.map(|attempt| attempt.device_id.clone()),
            device_name: last.map(|attempt| attempt.device_name.clone()),
            backend: last.map(|attempt| attempt.backend.clone()),
            canary: last.and_then(|attempt| attempt.canary.clone()),
            device_refused: last.and_then(|attempt| {
                let devices = &self.workers[attempt.worker].devices;
                devices.iter().find(|device| device.id == attempt.device_id)?.refused.clone()
            }),
            peak_memory_bytes: ends().filter_map(|end| end.peak_memory_bytes).max(),
            checkpoint_step: run.newest_checkpoint().map(|newest| newest.step),
        }
    }
}
