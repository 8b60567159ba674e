//! What happened to the attempts at a run, as messages.

use sweep_proto::v1;
use sweep_store::{Event, Happened};
use tonic::Status;

use super::Shared;
use crate::actor::store_status;

/// Everything that is known of a run's attempts.
pub(super) async fn get(
    shared: &Shared,
    message: v1::GetHistoryRequest,
) -> Result<v1::GetHistoryReply, Status> {
    let run = shared.store.find_run(&message.run).await.map_err(store_status)?;
    let record = shared.store.run(&run).await.map_err(store_status)?;
    let events = shared.store.history(&run).await.map_err(store_status)?;
    Ok(v1::GetHistoryReply {
        run_id: run.to_string(),
        state: v1::RunState::from(record.state).into(),
        events: events.into_iter().map(event).collect(),
    })
}

fn event(event: Event) -> v1::Event {
    use v1::event::{Checkpointed, Ended, Granted, What};
    let what = match event.what {
        Happened::Granted {
            worker,
            host,
            device_id,
            device_name,
            backend,
            canary,
            resume_step,
            resume_attempt,
        } => What::Granted(Granted {
            worker_id: worker,
            host,
            device_id,
            device_name,
            backend,
            canary,
            resume_step,
            resume_attempt,
        }),
        Happened::Checkpoint { step, bytes, kept } => {
            What::Checkpointed(Checkpointed { step, bytes, kept })
        }
        Happened::Ended { outcome, reason, step, seconds, peak_memory_bytes, points_thinned } => {
            What::Ended(Ended { outcome, reason, step, seconds, peak_memory_bytes, points_thinned })
        }
    };
    v1::Event { unix_ms: event.unix_ms, attempt: event.attempt, what: Some(what) }
}
