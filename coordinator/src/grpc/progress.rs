//! Progress and workers as messages: views of the scheduler, joined with what the store has.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use sweep_proto::{fault::Fault, v1};
use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::{RunId, SweepId},
    run::RunRole,
};
use sweep_store::{AttemptRecord, WorkerRecord};
use tonic::Status;

use super::{
    Shared,
    control::{counts, slot_view},
    outlet::Outlet,
};
use crate::{
    actor::store_status,
    scheduler::{Scheduler, WorkerView},
};

/// How often a watcher looks: faster than that nobody reads.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Bytes of one message of progress or of workers: reasons are texts of up to 4 KiB.
pub(super) const MESSAGE_BYTES: usize = sweep_proto::MESSAGE_BYTES_MAX / 2;

/// What a part of a message takes beside itself: its tag and its length.
const LENGTH_BYTES: usize = 8;

/// Workers that fit a message, of a list that begins with those that matter most; the others are counted.
pub(super) fn fitting(workers: Vec<v1::Worker>) -> v1::ListWorkersReply {
    let all = workers.len();
    let mut bytes = 0;
    let fits = |worker: &v1::Worker| {
        bytes += worker.encoded_len() + LENGTH_BYTES;
        bytes <= MESSAGE_BYTES
    };
    let workers: Vec<v1::Worker> = workers.into_iter().take_while(fits).collect();
    let left_off = u32::try_from(all - workers.len()).unwrap_or(u32::MAX);
    v1::ListWorkersReply { workers, left_off }
}

/// Workers and slots online.
pub(super) fn online(scheduler: &Scheduler) -> (u32, u32) {
    let online = scheduler.workers().values().filter(|worker| worker.session);
    online.fold((0, 0), |(workers, slots), worker| {
        (workers + 1, slots + u32::try_from(worker.slots.len()).unwrap_or(u32::MAX))
    })
}

/// A worker with its slots.
pub(super) fn worker(
    scheduler: &Scheduler,
    now: Duration,
    record: WorkerRecord,
    view: Option<&WorkerView>,
) -> v1::Worker {
    let state = match view {
        Some(view) if view.session && view.draining => v1::WorkerState::Draining,
        Some(view) if view.session => v1::WorkerState::Online,
        _ => v1::WorkerState::Offline,
    };
    let silent_ms = view
        .and_then(|view| view.last_beat)
        .map(|beat| u64::try_from(now.saturating_sub(beat).as_millis()).unwrap_or(u64::MAX));
    v1::Worker {
        worker_id: record.id,
        host: record.host,
        state: state.into(),
        devices: record.devices.iter().map(Into::into).collect(),
        slots: view
            .map(|view| slot_view(view, |index| scheduler.attempt_at(index)))
            .unwrap_or_default(),
        silent_ms,
    }
}

/// Whether a selector names a worker in one of its ways.
type NamedBy<'a> = dyn Fn(&str, &WorkerView) -> bool + 'a;

/// The worker online that a selector names, and what it trains: its id goes before beginnings of
/// ids, and these before names of machines.
pub(super) fn leaving(
    scheduler: &Scheduler,
    selector: &str,
) -> Result<v1::DrainWorkerReply, Status> {
    let online = || scheduler.workers().iter().filter(|(_, worker)| worker.session);
    let whole_id = |id: &str, _: &WorkerView| id == selector;
    let beginning = |id: &str, _: &WorkerView| !selector.is_empty() && id.starts_with(selector);
    let machine = |_: &str, worker: &WorkerView| worker.host == selector;
    let ways: [&NamedBy<'_>; 3] = [&whole_id, &beginning, &machine];
    for named in ways {
        let found: Vec<_> = online().filter(|(id, worker)| named(id, worker)).collect();
        match found.as_slice() {
            [] => {}
            [(id, worker)] => {
                let held = worker.slots.iter().filter_map(|slot| slot.holder);
                return Ok(v1::DrainWorkerReply {
                    worker_id: (*id).clone(),
                    host: worker.host.clone(),
                    stopping: held.map(|run| (&scheduler.attempt_at(run)).into()).collect(),
                    was_draining: worker.draining,
                });
            }
            many => {
                let ids: Vec<&str> = many.iter().map(|(id, _)| id.as_str()).collect();
                let message = format!(
                    "`{selector}` names {} workers; hint: one of {}",
                    many.len(),
                    ids.join(", ")
                );
                return Err(Fault::Ambiguous.status(message));
            }
        }
    }
    let message =
        format!("no worker `{selector}` is online; hint: `sweep status --workers` lists them all");
    Err(Fault::NotFound.status(message))
}

/// One attempt in a sentence.
pub(super) fn attempt_line(attempt: &AttemptRecord) -> String {
    let AttemptRecord { number, worker, host, device_name, .. } = attempt;
    let start = match (attempt.resume_step, attempt.resume_attempt) {
        (Some(step), Some(writer)) => format!(" from step {step} of attempt {writer}"),
        (Some(step), None) if step > 0 => format!(" from step {step}"),
        _ => String::new(),
    };
    let outcome = attempt.outcome.as_deref().unwrap_or("running");
    let reason = attempt.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("Attempt {number} on {worker} ({host}, {device_name}){start}: {outcome}{reason}.")
}

/// Sends progress until the sweep is done, the client leaves or the coordinator goes down.
pub(super) async fn watch(shared: Shared, sweep: SweepId, mut outlet: Outlet<v1::SweepProgress>) {
    let mut sent: HashMap<RunId, v1::RunProgress> = HashMap::new();
    let mut finals: HashMap<RunId, Option<f64>> = HashMap::new();
    loop {
        let (mut message, whole) = match look(&shared, &sweep, &mut sent, &mut finals).await {
            Ok(found) => found,
            Err(status) => return outlet.fail(status),
        };
        // The last message is the one after which nothing is left to be said.
        message.done &= whole;
        let done = message.done;
        if !outlet.send(message).await || done {
            return;
        }
        if !whole {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            () = outlet.closed() => return,
            () = shared.going_down() => return,
        }
    }
}

/// What changed since the last look, as much of it as fits a message, and whether that is all.
async fn look(
    shared: &Shared,
    sweep: &SweepId,
    sent: &mut HashMap<RunId, v1::RunProgress>,
    finals: &mut HashMap<RunId, Option<f64>>,
) -> Result<(v1::SweepProgress, bool), Status> {
    let id = sweep.clone();
    let (mut message, mut runs) =
        shared.actor.view(move |scheduler, now| snapshot(scheduler, now, &id)).await?;
    for (id, run) in &mut runs {
        run.latest_loss = shared.latest.of(id);
        if run.state == i32::from(v1::RunState::Finished) {
            if !finals.contains_key(id) {
                let record = shared.store.run(id).await.map_err(store_status)?;
                finals.insert(id.clone(), record.final_validation_loss);
            }
            run.final_validation_loss = finals.get(id).copied().flatten();
        }
    }
    let mut bytes = 0;
    for (id, run) in runs {
        if sent.get(&id) == Some(&run) {
            continue;
        }
        bytes += run.encoded_len() + LENGTH_BYTES;
        if bytes > MESSAGE_BYTES {
            return Ok((message, false));
        }
        message.runs.push(run.clone());
        sent.insert(id, run);
    }
    Ok((message, true))
}

type Snapshot = (v1::SweepProgress, Vec<(RunId, v1::RunProgress)>);

fn snapshot(scheduler: &Scheduler, now: Duration, sweep: &SweepId) -> Snapshot {
    let members = scheduler.members(sweep);
    let states = members.iter().map(|(run, _)| (run.state, 1));
    let (workers_online, slots) = online(scheduler);
    let speed = |run: &crate::scheduler::RunEntry| run.live.as_ref()?.tokens_per_second;
    let message = v1::SweepProgress {
        counts: Some(counts(states)),
        runs: Vec::new(),
        tokens_per_second: members.iter().filter_map(|(run, _)| speed(run)).sum(),
        remaining_seconds: scheduler.remaining_of_sweep(sweep),
        done: members.iter().all(|(run, _)| run.state.is_ended()),
        workers_online,
        slots,
        held_back: scheduler.stuck(sweep).or_else(|| scheduler.lacks_memory(now, sweep)),
    };
    let runs = members
        .into_iter()
        .map(|(run, role)| (run.id.clone(), run_progress(scheduler, run, role)))
        .collect();
    (message, runs)
}

fn run_progress(
    scheduler: &Scheduler,
    run: &crate::scheduler::RunEntry,
    role: RunRole,
) -> v1::RunProgress {
    let live = run.live.as_ref();
    let step = match run.state {
        RunState::Finished => run.config.steps,
        _ => live.map_or(0, |live| live.step),
    };
    v1::RunProgress {
        run_id: run.id.to_string(),
        role: v1::RunRole::from(role).into(),
        state: v1::RunState::from(run.state).into(),
        attempt: run.attempts,
        step,
        steps: run.config.steps,
        tokens_per_second: live.and_then(|live| live.tokens_per_second),
        latest_loss: None,
        final_validation_loss: None,
        remaining_seconds: live.and_then(|_| scheduler.remaining(run)),
        reason: run.reason.clone(),
    }
}

impl Scheduler {
    /// The last attempt of the run at an index.
    fn attempt_at(&self, index: usize) -> AttemptKey {
        let run = self.run_at(index);
        AttemptKey { run: run.id.clone(), number: run.attempts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_workers_fits_a_message_and_counts_the_others() {
        let worker = |number: usize| v1::Worker {
            worker_id: format!("w-{number}"),
            host: "h".repeat(100),
            ..v1::Worker::default()
        };
        let few = fitting((0..3).map(worker).collect());
        assert_eq!((few.workers.len(), few.left_off), (3, 0));
        let many = fitting((0..100_000).map(worker).collect());
        assert!(many.encoded_len() < sweep_proto::MESSAGE_BYTES_MAX, "{}", many.encoded_len());
        assert!(many.workers.len() > 10_000, "{}", many.workers.len());
        assert_eq!(many.workers.len() + many.left_off as usize, 100_000);
        assert_eq!(many.workers[0].worker_id, "w-0");
    }
}
