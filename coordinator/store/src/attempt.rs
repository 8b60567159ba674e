//! Attempts: grants, ends, and what the cost model learns from them. Each write is guarded by the
//! number of the attempt.

use sqlx::{Row as _, Transaction, sqlite::SqliteRow};
use sweep_spec::{attempt::AttemptKey, id::RunId, metric::Metric, run::Run};

use crate::{
    error::StoreError,
    record::{
        Applied, AttemptRecord, AttemptStatus, EndRow, GrantRow, Granted, MeasuredAttempt, Outcome,
    },
    run::{count, int},
    sqlite::{Sqlite, metric_no},
};

type Tx = Transaction<'static, sqlx::Sqlite>;

impl Sqlite {
    pub(crate) async fn grant(
        &self,
        rows: &[GrantRow],
    ) -> Result<Vec<Option<Granted>>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let mut granted = Vec::with_capacity(rows.len());
        for row in rows {
            let json = open_attempt(&mut tx, row).await.map_err(failed)?;
            granted.push(json.map(|run_json| Granted { run_json, checkpoint: None }));
        }
        tx.commit().await.map_err(failed)?;
        for (row, granted) in rows.iter().zip(&mut granted) {
            if let Some(granted) = granted {
                granted.checkpoint = self.newest_checkpoint(&row.key.run).await?;
            }
        }
        Ok(granted)
    }

    pub(crate) async fn end(&self, rows: &[EndRow]) -> Result<Vec<Applied>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let mut applied = Vec::with_capacity(rows.len());
        for row in rows {
            applied.push(end_attempt(&mut tx, row).await.map_err(failed)?);
        }
        tx.commit().await.map_err(failed)?;
        Ok(applied)
    }

    pub(crate) async fn attempt_status(
        &self,
        key: &AttemptKey,
    ) -> Result<Option<AttemptStatus>, StoreError> {
        let row = sqlx::query(
            "SELECT attempt.outcome, attempt.number = run.attempts AS current, \
             coalesce(ingest_cursor.last_seq, 0) AS last_seq \
             FROM run JOIN attempt USING (run_no) LEFT JOIN ingest_cursor USING (attempt_no) \
             WHERE run.id = ? AND attempt.number = ?",
        )
        .bind(key.run.as_str())
        .bind(key.number)
        .fetch_optional(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: SqliteRow| -> Result<AttemptStatus, sqlx::Error> {
            let outcome: Option<String> = row.try_get(0)?;
            Ok(AttemptStatus {
                ended: outcome.is_some(),
                reported: outcome.is_some_and(|outcome| outcome != Outcome::Lost.name()),
                current: row.try_get(1)?,
                last_seq: count(row.try_get(2)?),
            })
        };
        row.map(read).transpose().map_err(|error| self.failed(error))
    }

    pub(crate) async fn attempts(&self, run: &RunId) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT attempt.*, worker.id AS worker, worker.host FROM run \
             JOIN attempt USING (run_no) JOIN worker USING (worker_no) \
             WHERE run.id = ? ORDER BY attempt.number",
        )
        .bind(run.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &SqliteRow| -> Result<AttemptRecord, sqlx::Error> {
            Ok(AttemptRecord {
                number: row.try_get("number")?,
                worker: row.try_get("worker")?,
                host: row.try_get("host")?,
                device_name: row.try_get("device_name")?,
                started_unix_ms: row.try_get("started_unix_ms")?,
                ended_unix_ms: row.try_get("ended_unix_ms")?,
                outcome: row.try_get("outcome")?,
                reason: row.try_get("reason")?,
                resume_step: row.try_get::<Option<i64>, _>("resume_step")?.map(count),
                end_step: row.try_get::<Option<i64>, _>("end_step")?.map(count),
                measured_seconds: row.try_get("measured_seconds")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    pub(crate) async fn measured(&self) -> Result<Vec<MeasuredAttempt>, StoreError> {
        let rows = sqlx::query(
            "SELECT run.run_json, attempt.device_name, attempt.end_step - attempt.resume_step, \
             attempt.measured_seconds FROM attempt JOIN run USING (run_no) \
             WHERE attempt.measured_seconds > 0 AND attempt.end_step > attempt.resume_step \
             ORDER BY attempt.attempt_no",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &SqliteRow| -> Result<(String, MeasuredParts), sqlx::Error> {
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

/// Opens an attempt if its number is the next one of a run that waits; gives the run.
async fn open_attempt(tx: &mut Tx, row: &GrantRow) -> Result<Option<String>, sqlx::Error> {
    let run = sqlx::query(
        "UPDATE run SET state = 'running', attempts = ?1, reason = NULL \
         WHERE id = ?2 AND attempts = ?1 - 1 AND state = 'queued' RETURNING run_no, run_json",
    )
    .bind(row.key.number)
    .bind(row.key.run.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(run) = run else { return Ok(None) };
    sqlx::query(
        "INSERT INTO attempt (run_no, number, worker_no, incarnation, slot, device_id, \
         device_name, backend, started_unix_ms) \
         VALUES (?, ?, (SELECT worker_no FROM worker WHERE id = ?), ?, ?, ?, ?, ?, ?)",
    )
    .bind(run.try_get::<i64, _>(0)?)
    .bind(row.key.number)
    .bind(&row.worker)
    .bind(int(row.incarnation))
    .bind(row.slot)
    .bind(&row.device_id)
    .bind(&row.device_name)
    .bind(&row.backend)
    .bind(row.unix_ms)
    .execute(&mut **tx)
    .await?;
    Ok(Some(run.try_get(1)?))
}

async fn end_attempt(tx: &mut Tx, row: &EndRow) -> Result<Applied, sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE attempt SET outcome = ?, ended_unix_ms = ?, reason = ?, end_step = ?, \
         measured_seconds = ?, peak_memory_bytes = ?, points_thinned = ? \
         WHERE run_no = (SELECT run_no FROM run WHERE id = ? AND attempts = attempt.number) \
         AND number = ? AND outcome IS NULL RETURNING attempt_no, run_no",
    )
    .bind(row.outcome.name())
    .bind(row.unix_ms)
    .bind(&row.reason)
    .bind(row.end_step.map(int))
    .bind(row.seconds.filter(|seconds| seconds.is_finite()))
    .bind(row.peak_memory_bytes.map(int))
    .bind(int(row.points_thinned))
    .bind(row.key.run.as_str())
    .bind(row.key.number)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(ended) = ended else { return repeated_end(tx, row).await };
    let (attempt_no, run_no): (i64, i64) = (ended.try_get(0)?, ended.try_get(1)?);
    if let Some(step) = row.resume_step {
        set_resume_step(tx, attempt_no, run_no, row.key.number, step).await?;
    }
    let (loss, bits) = if row.outcome == Outcome::Finished {
        let loss = last_value(tx, run_no, Metric::ValidationLoss).await?;
        (loss, last_value(tx, run_no, Metric::ValidationBitsPerByte).await?)
    } else {
        (None, None)
    };
    sqlx::query(
        "UPDATE run SET state = ?, reason = ?, failures_program = ?, failures_infrastructure = ?, \
         failures_without_checkpoint = ?, final_validation_loss = ?, \
         final_validation_bits_per_byte = ? WHERE run_no = ? AND attempts = ?",
    )
    .bind(row.state.name())
    .bind(&row.state_reason)
    .bind(row.failures.program)
    .bind(row.failures.infrastructure)
    .bind(row.failures.without_checkpoint)
    .bind(loss)
    .bind(bits)
    .bind(run_no)
    .bind(row.key.number)
    .execute(&mut **tx)
    .await?;
    Ok(Applied::Done)
}

/// An end that changed nothing: the same one again, or one that came too late.
async fn repeated_end(tx: &mut Tx, row: &EndRow) -> Result<Applied, sqlx::Error> {
    let same = sqlx::query(
        "SELECT 1 FROM attempt JOIN run USING (run_no) \
         WHERE run.id = ? AND attempt.number = ? AND attempt.outcome = ?",
    )
    .bind(row.key.run.as_str())
    .bind(row.key.number)
    .bind(row.outcome.name())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(if same.is_some() { Applied::Done } else { Applied::Fenced })
}

/// Records where an attempt began, once, and so which steps of the curve are its own: those beyond
/// it. What earlier attempts have beyond it leaves the lineage and stays stored.
pub(crate) async fn set_resume_step(
    tx: &mut Tx,
    attempt_no: i64,
    run_no: i64,
    number: u32,
    step: u64,
) -> Result<(), sqlx::Error> {
    // From the beginning, step 0 itself is the attempt's own too.
    let after = if step == 0 { -1 } else { int(step) };
    let set = sqlx::query(
        "UPDATE attempt SET resume_step = ?, lineage_after = ? \
         WHERE attempt_no = ? AND resume_step IS NULL",
    )
    .bind(int(step))
    .bind(after)
    .bind(attempt_no)
    .execute(&mut **tx)
    .await?;
    if set.rows_affected() == 1 {
        sqlx::query(
            "UPDATE attempt SET lineage_until = min(lineage_until, ?) \
             WHERE run_no = ? AND number < ?",
        )
        .bind(after)
        .bind(run_no)
        .bind(number)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// The last finite value of a metric along the lineage.
async fn last_value(tx: &mut Tx, run_no: i64, metric: Metric) -> Result<Option<f64>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT point.value FROM attempt JOIN point USING (attempt_no) \
         WHERE attempt.run_no = ? AND point.metric_no = ? AND point.step > attempt.lineage_after \
         AND point.step <= attempt.lineage_until ORDER BY point.step DESC LIMIT 1",
    )
    .bind(run_no)
    .bind(metric_no(metric))
    .fetch_optional(&mut **tx)
    .await?;
    row.map_or(Ok(None), |row| row.try_get(0))
}
