//! Attempts: grants, and what is known of them. Each write is guarded by the number of the attempt.

use std::collections::HashMap;

use sweep_spec::{attempt::AttemptKey, id::RunId, run::Run};

use crate::{
    database::Database,
    error::StoreError,
    record::{AttemptRecord, AttemptStatus, GrantRow, Granted, MeasuredAttempt, Outcome, Spent},
    run::{count, int},
    sql::{Query, Row, Tx, query},
};

/// Attempts as one parameter: 32 digits, a colon, the number. A list of them is read in one pass,
/// where two lists beside each other would be joined row by row.
pub(crate) fn packed<'a>(keys: impl IntoIterator<Item = &'a AttemptKey>) -> Vec<String> {
    keys.into_iter().map(|key| format!("{}:{}", key.run, key.number)).collect()
}

/// The rows `key (id, number)` of what [`packed`] made.
macro_rules! keys_of {
    ($list:literal) => {
        concat!(
            "(SELECT substr(value, 1, 32) AS id, CAST(substr(value, 34) AS BIGINT) AS number FROM ",
            $list,
            ") AS key"
        )
    };
}
pub(crate) use keys_of;

impl Database {
    pub(crate) async fn grant(
        &self,
        rows: &[GrantRow],
    ) -> Result<Vec<Option<Granted>>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let mut opened = open_runs(&mut tx, rows).await.map_err(failed)?;
        let mut granted = Vec::with_capacity(rows.len());
        let mut attempts = Vec::with_capacity(rows.len());
        for row in rows {
            // Once: a second grant of the same number came too late.
            let run = opened.remove(&row.key);
            attempts.extend(run.iter().map(|(run_no, _)| (*run_no, row)));
            granted.push(run.map(|(_, run_json)| Granted { run_json, checkpoint: None }));
        }
        insert_attempts(&mut tx, &attempts).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        let keys = rows.iter().map(|row| &row.key);
        let mut checkpoints = self.offer_checkpoints(keys).await?;
        for (row, granted) in rows.iter().zip(&mut granted) {
            if let Some(granted) = granted {
                granted.checkpoint = checkpoints.remove(&row.key.run);
            }
        }
        Ok(granted)
    }

    pub(crate) async fn attempt_statuses(
        &self,
        keys: &[AttemptKey],
    ) -> Result<Vec<Option<AttemptStatus>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        macro_rules! statuses {
            ($list:literal) => {
                concat!(
                    "SELECT run.id, attempt.number, attempt.outcome, \
                     attempt.number = run.attempts AS current, \
                     coalesce(ingest_cursor.last_seq, 0) AS last_seq FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id \
                     JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
                     LEFT JOIN ingest_cursor ON ingest_cursor.attempt_no = attempt.attempt_no"
                )
            };
        }
        let rows = Query::of(statuses!("json_each($1)"), statuses!("unnest($1) AS packed (value)"))
            .bind(packed(keys))
            .fetch_all(self.reader())
            .await
            .map_err(|error| self.failed(error))?;
        let read = |row: &Row| -> Result<(AttemptKey, AttemptStatus), sqlx::Error> {
            let outcome: Option<String> = row.try_get(2)?;
            let status = AttemptStatus {
                ended: outcome.is_some(),
                reported: outcome.is_some_and(|outcome| outcome != Outcome::Lost.name()),
                current: row.try_get(3)?,
                last_seq: count(row.try_get(4)?),
            };
            Ok((AttemptKey { run: row.try_get(0)?, number: row.try_get(1)? }, status))
        };
        let found: Result<HashMap<_, _>, _> = rows.iter().map(read).collect();
        let found = found.map_err(|error| self.failed(error))?;
        Ok(keys.iter().map(|key| found.get(key).copied()).collect())
    }

    pub(crate) async fn attempts(&self, run: &RunId) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows = query(
            "SELECT attempt.*, worker.id AS worker, worker.host FROM run \
             JOIN attempt USING (run_no) JOIN worker USING (worker_no) \
             WHERE run.id = $1 ORDER BY attempt.number",
        )
        .bind(run.as_str())
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &Row| -> Result<AttemptRecord, sqlx::Error> {
            Ok(AttemptRecord {
                number: row.try_get("number")?,
                worker: row.try_get("worker")?,
                host: row.try_get("host")?,
                device_name: row.try_get("device_name")?,
                started_unix_ms: row.try_get("started_unix_ms")?,
                ended_unix_ms: row.try_get("ended_unix_ms")?,
                outcome: row.try_get("outcome")?,
                reason: row.try_get("reason")?,
                resume_step: row.try_get::<Option<i64>>("resume_step")?.map(count),
                resume_attempt: row.try_get("resume_attempt")?,
                end_step: row.try_get::<Option<i64>>("end_step")?.map(count),
                measured_seconds: row.try_get("measured_seconds")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    pub(crate) async fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        // How far an attempt came that did not live to tell, its last loss says.
        let rows = query(
            "SELECT run.id, \
             CAST(sum(CASE WHEN attempt.resume_step IS NULL THEN 0 ELSE \
                 coalesce(attempt.end_step, ingest_cursor.latest_step, attempt.resume_step) \
                 - attempt.resume_step END) AS BIGINT), \
             CAST(sum(attempt.ended_unix_ms - attempt.started_unix_ms) AS BIGINT) \
             FROM attempt JOIN run USING (run_no) LEFT JOIN ingest_cursor USING (attempt_no) \
             WHERE attempt.outcome IS NOT NULL GROUP BY run.id ORDER BY run.id",
        )
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &Row| -> Result<Spent, sqlx::Error> {
            let (steps, held_ms) = (count(row.try_get(1)?), count(row.try_get(2)?));
            Ok(Spent { run: row.try_get(0)?, steps, held_ms })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    pub(crate) async fn measured(&self) -> Result<Vec<MeasuredAttempt>, StoreError> {
        let rows = query(
            "SELECT run.run_json, attempt.device_name, attempt.end_step - attempt.resume_step, \
             attempt.measured_seconds FROM attempt JOIN run USING (run_no) \
             WHERE attempt.measured_seconds > 0 AND attempt.end_step > attempt.resume_step \
             ORDER BY attempt.attempt_no",
        )
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &Row| -> Result<(String, MeasuredParts), sqlx::Error> {
            Ok((row.try_get(0)?, (row.try_get(1)?, count(row.try_get(2)?), row.try_get(3)?)))
        };
        rows.iter()
            .map(|row| {
                let (json, (device_name, steps, seconds)) =
                    read(row).map_err(|error| self.failed(error))?;
                let run: Run = serde_json::from_str(&json).map_err(|error| {
                    StoreError::Damaged { what: "run", value: error.to_string() }
                })?;
                Ok(MeasuredAttempt { config: run.config, device_name, steps, seconds })
            })
            .collect()
    }
}

/// Device, steps, seconds.
type MeasuredParts = (String, u64, f64);

/// Moves the runs that wait for this number to their next attempt; gives their content.
async fn open_runs(
    tx: &mut Tx,
    rows: &[GrantRow],
) -> Result<HashMap<AttemptKey, (i64, String)>, sqlx::Error> {
    // `|| ''` keeps the index of states out of it: SQLite would walk all queued runs for each key.
    macro_rules! update {
        ($list:literal) => {
            concat!(
                "UPDATE run SET state = 'running', attempts = key.number, reason = NULL FROM ",
                keys_of!($list),
                " WHERE run.id = key.id AND run.attempts = key.number - 1 \
                 AND run.state || '' = 'queued' \
                 RETURNING run.id, run.attempts, run.run_no, run.run_json"
            )
        };
    }
    let opened = Query::of(update!("json_each($1)"), update!("unnest($1) AS packed (value)"))
        .bind(packed(rows.iter().map(|row| &row.key)))
        .fetch_all(tx)
        .await?;
    let read = |row: &Row| -> Result<_, sqlx::Error> {
        let key = AttemptKey { run: row.try_get(0)?, number: row.try_get(1)? };
        Ok((key, (row.try_get(2)?, row.try_get(3)?)))
    };
    opened.iter().map(read).collect()
}

/// One statement for all of them: a statement costs about as much as ten rows.
async fn insert_attempts(tx: &mut Tx, attempts: &[(i64, &GrantRow)]) -> Result<(), sqlx::Error> {
    macro_rules! insert {
        ($list:literal) => {
            concat!(
                "INSERT INTO attempt (run_no, number, worker_no, incarnation, slot, device_id, \
                 device_name, backend, started_unix_ms, canary) \
                 SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
                 (SELECT worker_no FROM worker WHERE id = value ->> 2), \
                 CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), value ->> 5, \
                 value ->> 6, value ->> 7, CAST(value ->> 8 AS BIGINT), value ->> 9 FROM ",
                $list
            )
        };
    }
    if attempts.is_empty() {
        return Ok(());
    }
    let columns = |&(run_no, row): &(i64, &GrantRow)| {
        serde_json::json!([
            run_no,
            row.key.number,
            row.worker,
            int(row.incarnation),
            row.slot,
            row.device_id,
            row.device_name,
            row.backend,
            row.unix_ms,
            row.canary,
        ])
    };
    let packed: Vec<_> = attempts.iter().map(columns).collect();
    let list = serde_json::Value::from(packed).to_string();
    Query::of(
        insert!("json_each($1)"),
        insert!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
    )
    .bind(list)
    .execute(tx)
    .await?;
    Ok(())
}
