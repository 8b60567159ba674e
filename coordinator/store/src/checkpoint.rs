//! Checkpoints: a row is the pointer to files that lie on a worker.

use sqlx::Row as _;
use sweep_spec::id::RunId;

use crate::{
    error::StoreError,
    record::{Applied, CheckpointRecord, CheckpointRow},
    run::{count, int},
    sqlite::Sqlite,
};

impl Sqlite {
    pub(crate) async fn commit_checkpoint(
        &self,
        row: &CheckpointRow,
    ) -> Result<Applied, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let attempt = sqlx::query(
            "SELECT attempt.attempt_no, attempt.run_no, attempt.worker_no, \
             coalesce(ingest_cursor.last_seq, 0) \
             FROM run JOIN attempt USING (run_no) LEFT JOIN ingest_cursor USING (attempt_no) \
             WHERE run.id = ? AND attempt.number = ? AND attempt.number = run.attempts \
             AND (attempt.outcome IS NULL OR attempt.outcome NOT IN ('lost', 'cancelled'))",
        )
        .bind(row.key.run.as_str())
        .bind(row.key.number)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        let Some(attempt) = attempt else { return Ok(Applied::Fenced) };
        let number = |index: usize| attempt.try_get::<i64, _>(index);
        let last_seq = count(number(3).map_err(failed)?);
        // No gap before a committed checkpoint: what it needs must be on the disk.
        if last_seq < row.requires_seq {
            return Ok(Applied::PointsMissing(last_seq));
        }
        let run_no = number(1).map_err(failed)?;
        sqlx::query(
            "INSERT INTO checkpoint (run_no, step, attempt_no, hash, bytes, worker_no, \
             committed_unix_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(run_no)
        .bind(int(row.step))
        .bind(number(0).map_err(failed)?)
        .bind(&row.hash)
        .bind(row.bytes.map(int))
        .bind(number(2).map_err(failed)?)
        .bind(row.unix_ms)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE run SET failures_without_checkpoint = 0 WHERE run_no = ?")
            .bind(run_no)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(Applied::Done)
    }

    pub(crate) async fn newest_checkpoint(
        &self,
        run: &RunId,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        let failed = |error| self.failed(error);
        let row = sqlx::query(
            "SELECT checkpoint.step, checkpoint.hash, worker.id FROM run \
             JOIN checkpoint USING (run_no) JOIN worker USING (worker_no) \
             WHERE run.id = ? ORDER BY checkpoint.step DESC, checkpoint.attempt_no DESC LIMIT 1",
        )
        .bind(run.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(CheckpointRecord {
            step: count(row.try_get(0).map_err(failed)?),
            hash: row.try_get(1).map_err(failed)?,
            worker: row.try_get(2).map_err(failed)?,
        }))
    }
}
