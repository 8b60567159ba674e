//! What happened to the attempts at a run.

use sweep_spec::id::RunId;

use super::{AttemptEntry, CheckpointEntry, Content, Memory};
use crate::{
    error::StoreError,
    history::{Event, Happened},
};

impl Memory {
    pub(crate) async fn history(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        let content = self.content();
        let Some(run) = content.run(run) else { return Ok(Vec::new()) };
        let attempts =
            (1..).zip(&run.attempts).flat_map(|(number, attempt)| of(&content, number, attempt));
        let events = attempts.chain(run.checkpoints.iter().map(committed)).collect();
        Ok(Event::sorted(events))
    }
}

fn of(content: &Content, attempt: u32, entry: &AttemptEntry) -> Vec<Event> {
    let worker = &content.workers[entry.worker];
    let granted = Happened::Granted {
        worker: worker.id.clone(),
        host: worker.host.clone(),
        device_id: entry.device_id.clone(),
        device_name: entry.device_name.clone(),
        backend: entry.backend.clone(),
        canary: entry.canary.clone(),
        resume_step: entry.start.map(|start| start.step),
        resume_attempt: entry.start.and_then(|start| start.attempt),
    };
    let mut events = vec![Event { unix_ms: entry.started_unix_ms, attempt, what: granted }];
    events.extend(entry.end.as_ref().map(|end| Event {
        unix_ms: end.unix_ms,
        attempt,
        what: Happened::Ended {
            outcome: end.outcome.name().to_owned(),
            reason: end.reason.clone(),
            step: end.step,
            seconds: end.seconds,
            peak_memory_bytes: end.peak_memory_bytes,
            points_thinned: end.points_thinned,
        },
    }));
    events
}

fn committed(entry: &CheckpointEntry) -> Event {
    Event {
        unix_ms: entry.unix_ms,
        attempt: entry.attempt,
        what: Happened::Checkpoint { step: entry.step, bytes: entry.bytes, kept: entry.kept },
    }
}
