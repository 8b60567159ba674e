//! The scheduler as the store has it: at a start, and after the store was not what the actor took it
//! for.

use std::{collections::HashMap, time::Duration};

use sweep_spec::{
    cost::CostModel,
    id::{RunId, SweepId},
    policy::Policy,
};
use sweep_store::{SavedRun, Spent, Store, StoreError};

use crate::{
    clock::unix_ms,
    scheduler::{Event, Scheduler},
};

pub(super) async fn scheduler(
    store: &Store,
    now: Duration,
    keeps_checkpoints: bool,
) -> Result<Scheduler, StoreError> {
    let mut cost = CostModel::default();
    for attempt in store.measured().await? {
        cost.observe_steps(&attempt.device_name, &attempt.config, attempt.steps, attempt.seconds);
    }
    let mut scheduler = Scheduler::new(cost);
    scheduler.set_keeps_checkpoints(keeps_checkpoints);
    let saved = store.load().await?;
    let held = held_so_far(&saved.runs, unix_ms());
    let mut runs = Some(saved.runs);
    let mut policies: HashMap<SweepId, Policy> = store.policies().await?.into_iter().collect();
    for sweep in saved.sweeps {
        scheduler.on_event(
            now,
            Event::Sweep {
                policy: policies.remove(&sweep.id).unwrap_or_default(),
                id: sweep.id,
                members: sweep.members,
                // All of them with the first sweep: a run is added once.
                runs: runs.take().unwrap_or_default(),
                cancelled: sweep.cancelled,
            },
        );
    }
    for Spent { run, steps, held_ms } in store.spent().await? {
        scheduler.book(&run, steps, Duration::from_millis(held_ms));
    }
    // From now on the scheduler counts them itself; their steps it sets aside as a whole.
    for (run, so_far) in held {
        scheduler.book(&run, 0, so_far);
    }
    Ok(scheduler)
}

/// How long live attempts have been held; none where the wall clock went back since.
fn held_so_far(runs: &[SavedRun], unix_ms: i64) -> Vec<(RunId, Duration)> {
    let held = |run: &SavedRun| {
        let live = run.live.as_ref()?;
        let held_ms = u64::try_from(unix_ms.saturating_sub(live.started_unix_ms)).unwrap_or(0);
        Some((run.id.clone(), Duration::from_millis(held_ms)))
    };
    runs.iter().filter_map(held).collect()
}

#[cfg(test)]
mod tests;
