//! What is known of the attempts at a run, in the order of time: grants, checkpoints and ends.

use sweep_spec::id::RunId;

use crate::{
    database::Database,
    error::StoreError,
    run::count,
    sql::{Row, query},
};

/// Something that happened to an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Wall time of the coordinator.
    pub unix_ms: i64,
    /// Number of the attempt.
    pub attempt: u32,
    /// What it was.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// The attempt was granted.
    Granted {
        /// Its worker.
        worker: String,
        /// The machine.
        host: String,
        /// The device by its id.
        device_id: String,
        /// The device by its name.
        device_name: String,
        /// What drives it.
        backend: String,
        /// What the canary of the device had found.
        canary: Option<String>,
        /// Step it began after, once that is known; 0 is the beginning.
        resume_step: Option<u64>,
        /// Number of the attempt whose checkpoint that was.
        resume_attempt: Option<u32>,
    },
    /// A checkpoint was committed.
    Checkpoint {
        /// Steps it holds.
        step: u64,
        /// Size.
        bytes: Option<u64>,
        /// The coordinator keeps its files now.
        kept: bool,
    },
    /// The attempt ended.
    Ended {
        /// How.
        outcome: String,
        /// Why.
        reason: Option<String>,
        /// Step at the end.
        step: Option<u64>,
        /// Seconds of training.
        seconds: Option<f64>,
        /// Largest memory of its trainer.
        peak_memory_bytes: Option<u64>,
        /// Points that a full spool left out.
        points_thinned: u64,
    },
}

impl Event {
    /// Puts events into the order of time: attempts follow one another, and each goes from its grant
    /// through its checkpoints to its end. The stamps do not decide: a wall clock may be set back.
    pub(crate) fn sorted(mut events: Vec<Self>) -> Vec<Self> {
        events.sort_by_key(|event| {
            let rank = match event.what {
                Happened::Granted { .. } => (0, 0),
                Happened::Checkpoint { step, .. } => (1, step),
                Happened::Ended { .. } => (2, 0),
            };
            (event.attempt, rank)
        });
        events
    }
}

impl Database {
    pub(crate) async fn history(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        let failed = |error| self.failed(error);
        let attempts = query(
            "SELECT attempt.*, worker.id AS worker, worker.host FROM run \
             JOIN attempt USING (run_no) JOIN worker USING (worker_no) WHERE run.id = $1",
        );
        let checkpoints = query(
            "SELECT attempt.number, checkpoint.step, checkpoint.bytes, checkpoint.kept, \
             checkpoint.committed_unix_ms FROM run JOIN checkpoint USING (run_no) \
             JOIN attempt ON attempt.attempt_no = checkpoint.attempt_no WHERE run.id = $1",
        );
        let attempts =
            attempts.bind(run.as_str()).fetch_all(self.reader()).await.map_err(failed)?;
        let checkpoints =
            checkpoints.bind(run.as_str()).fetch_all(self.reader()).await.map_err(failed)?;
        let mut events = Vec::new();
        for row in &attempts {
            events.push(granted(row).map_err(failed)?);
            events.extend(ended(row).map_err(failed)?);
        }
        for row in &checkpoints {
            events.push(committed(row).map_err(failed)?);
        }
        Ok(Event::sorted(events))
    }
}

fn granted(row: &Row) -> Result<Event, sqlx::Error> {
    Ok(Event {
        unix_ms: row.try_get("started_unix_ms")?,
        attempt: row.try_get("number")?,
        what: Happened::Granted {
            worker: row.try_get("worker")?,
            host: row.try_get("host")?,
            device_id: row.try_get("device_id")?,
            device_name: row.try_get("device_name")?,
            backend: row.try_get("backend")?,
            canary: row.try_get("canary")?,
            resume_step: row.try_get::<Option<i64>>("resume_step")?.map(count),
            resume_attempt: row.try_get("resume_attempt")?,
        },
    })
}

fn ended(row: &Row) -> Result<Option<Event>, sqlx::Error> {
    let (Some(unix_ms), Some(outcome)) =
        (row.try_get::<Option<i64>>("ended_unix_ms")?, row.try_get("outcome")?)
    else {
        return Ok(None);
    };
    let what = Happened::Ended {
        outcome,
        reason: row.try_get("reason")?,
        step: row.try_get::<Option<i64>>("end_step")?.map(count),
        seconds: row.try_get("measured_seconds")?,
        peak_memory_bytes: row.try_get::<Option<i64>>("peak_memory_bytes")?.map(count),
        points_thinned: count(row.try_get("points_thinned")?),
    };
    Ok(Some(Event { unix_ms, attempt: row.try_get("number")?, what }))
}

fn committed(row: &Row) -> Result<Event, sqlx::Error> {
    Ok(Event {
        unix_ms: row.try_get(4)?,
        attempt: row.try_get(0)?,
        what: Happened::Checkpoint {
            step: count(row.try_get(1)?),
            bytes: row.try_get::<Option<i64>>(2)?.map(count),
            kept: row.try_get(3)?,
        },
    })
}
