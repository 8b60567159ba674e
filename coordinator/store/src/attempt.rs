//! Attempts: what is known of them.

use std::collections::HashMap;

use sweep_spec::{attempt::AttemptKey, id::RunId, run::Run};

use crate::{
    database::Database,
    error::StoreError,
    lines::{COLUMN, Columns, LINE, lines},
    record::{AttemptRecord, AttemptStatus, MeasuredAttempt, Outcome, Spent},
    run::count,
    sql::{Query, Row, query},
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
    pub(crate) async fn attempt_statuses(
        &self,
        keys: &[AttemptKey],
    ) -> Result<Vec<Option<AttemptStatus>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // What follows stands in one line for each attempt.
        macro_rules! statuses {
            ($list:literal) => {
                concat!(
                    "SELECT string_agg(run.id || $2 || CAST(attempt.number AS TEXT) || $2 \
                     || coalesce(attempt.outcome, '') || $2 || CAST(run.attempts AS TEXT) || $2 \
                     || CAST(coalesce(ingest_cursor.last_seq, 0) AS TEXT), $3) FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id \
                     JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
                     LEFT JOIN ingest_cursor ON ingest_cursor.attempt_no = attempt.attempt_no"
                )
            };
        }
        let row = Query::of(statuses!("json_each($1)"), statuses!("unnest($1) AS packed (value)"))
            .bind(packed(keys))
            .bind(COLUMN)
            .bind(LINE)
            .fetch_one(self.writer())
            .await
            .map_err(|error| self.failed(error))?;
        let found: Option<String> = row.try_get(0).map_err(|error| self.failed(error))?;
        let read = |mut columns: Columns<'_>| -> Result<(AttemptKey, AttemptStatus), StoreError> {
            let (key, outcome) = (columns.key()?, columns.text()?);
            let status = AttemptStatus {
                ended: !outcome.is_empty(),
                reported: !outcome.is_empty() && outcome != Outcome::Lost.name(),
                current: key.number == columns.value::<u32>()?,
                last_seq: columns.value()?,
            };
            Ok((key, status))
        };
        let found: HashMap<_, _> = lines(found.as_deref()).map(read).collect::<Result<_, _>>()?;
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
                slot: row.try_get("slot")?,
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
