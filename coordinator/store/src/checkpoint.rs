//! Checkpoints: a row is the pointer to files that lie on a worker.

use std::collections::HashMap;

use sweep_spec::{attempt::AttemptKey, id::RunId};

use crate::{
    attempt::{keys_of, packed},
    database::Database,
    error::StoreError,
    record::{Applied, CheckpointRecord, CheckpointRow},
    run::{count, int},
    sql::{Query, Row, query},
};

impl Database {
    pub(crate) async fn commit_checkpoint(
        &self,
        row: &CheckpointRow,
    ) -> Result<Applied, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let attempt = query(
            "SELECT attempt.attempt_no, attempt.run_no, attempt.worker_no, \
             coalesce(ingest_cursor.last_seq, 0) \
             FROM run JOIN attempt USING (run_no) LEFT JOIN ingest_cursor USING (attempt_no) \
             WHERE run.id = $1 AND attempt.number = $2 AND attempt.number = run.attempts \
             AND (attempt.outcome IS NULL OR attempt.outcome NOT IN ('lost', 'cancelled'))",
        )
        .bind(row.key.run.as_str())
        .bind(row.key.number)
        .fetch_optional(&mut tx)
        .await
        .map_err(failed)?;
        let Some(attempt) = attempt else { return Ok(Applied::Fenced) };
        let number = |index: usize| attempt.try_get::<i64>(index);
        let last_seq = count(number(3).map_err(failed)?);
        // No gap before a committed checkpoint: what it needs must be on the disk.
        if last_seq < row.requires_seq {
            return Ok(Applied::PointsMissing(last_seq));
        }
        let run_no = number(1).map_err(failed)?;
        query(
            "INSERT INTO checkpoint (run_no, step, attempt_no, hash, bytes, worker_no, \
             committed_unix_ms) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(run_no)
        .bind(int(row.step))
        .bind(number(0).map_err(failed)?)
        .bind(&row.hash)
        .bind(row.bytes.map(int))
        .bind(number(2).map_err(failed)?)
        .bind(row.unix_ms)
        .execute(&mut tx)
        .await
        .map_err(failed)?;
        query("UPDATE run SET failures_without_checkpoint = 0 WHERE run_no = $1")
            .bind(run_no)
            .execute(&mut tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(Applied::Done)
    }

    /// For each of these attempts' runs the newest checkpoint that lies on the attempt's worker:
    /// nobody else's files are there.
    pub(crate) async fn checkpoints_here<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a AttemptKey>,
    ) -> Result<HashMap<RunId, CheckpointRecord>, StoreError> {
        macro_rules! newest {
            ($list:literal) => {
                concat!(
                    "SELECT run.id, checkpoint.step, checkpoint.hash FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id \
                     JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
                     JOIN checkpoint ON checkpoint.run_no = run.run_no \
                         AND checkpoint.worker_no = attempt.worker_no AND checkpoint.step = \
                         (SELECT max(newer.step) FROM checkpoint newer \
                          WHERE newer.run_no = run.run_no AND newer.worker_no = attempt.worker_no) \
                     ORDER BY checkpoint.attempt_no"
                )
            };
        }
        let rows = Query::of(newest!("json_each($1)"), newest!("unnest($1) AS packed (value)"))
            .bind(packed(keys))
            .fetch_all(self.reader())
            .await
            .map_err(|error| self.failed(error))?;
        // Of those at one step the one of the latest attempt counts: it comes last.
        let read = |row: &Row| -> Result<_, sqlx::Error> {
            let run: String = row.try_get(0)?;
            let run: RunId = run.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((run, CheckpointRecord { step: count(row.try_get(1)?), hash: row.try_get(2)? }))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }
}
