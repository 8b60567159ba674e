//! The scheduler as the store has it: at a start, and after the store was not what the actor took it
//! for.

use std::{collections::HashMap, time::Duration};

use sweep_spec::{cost::CostModel, id::SweepId, policy::Policy};
use sweep_store::{Spent, Store, StoreError};

use crate::scheduler::{Event, Scheduler};

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
    Ok(scheduler)
}
