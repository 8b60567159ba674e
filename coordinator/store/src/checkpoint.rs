//! Checkpoints: a row is the pointer to files that lie on the worker that wrote them and, where they
//! are kept, with the coordinator too.

use std::collections::HashMap;

use sweep_spec::{attempt::AttemptKey, id::RunId};

use crate::{
    attempt::{keys_of, packed},
    database::Database,
    error::StoreError,
    record::{Applied, CheckpointRecord, CheckpointRow},
    run::{count, int},
    sql::{Query, Row, Tx, query},
};

/// Checkpoints of a run that the coordinator keeps beside those that branches fork from: one to
/// fall back on.
pub(crate) const KEPT: usize = 2;

/// What the coordinator keeps of a run's checkpoints, as hashes of their manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that stay.
    pub kept: Vec<String>,
    /// Those that nobody will ask for any more.
    pub dropped: Vec<String>,
}

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

    pub(crate) async fn keep_in(
        &self,
        place: &str,
        forget: bool,
    ) -> Result<Option<String>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let before = query("SELECT place FROM kept_place").fetch_optional(&mut tx).await;
        let before: Option<String> = match before.map_err(failed)? {
            Some(row) => Some(row.try_get(0).map_err(failed)?),
            None => None,
        };
        if let Some(before) = before.filter(|before| before != place) {
            let kept = query("SELECT count(*) FROM checkpoint WHERE kept")
                .fetch_one(&mut tx)
                .await
                .and_then(|row| row.try_get::<i64>(0))
                .map_err(failed)?;
            if kept > 0 && !forget {
                return Ok(Some(before));
            }
            query("UPDATE checkpoint SET kept = $1 WHERE kept")
                .bind(false)
                .execute(&mut tx)
                .await
                .map_err(failed)?;
        }
        query("DELETE FROM kept_place").execute(&mut tx).await.map_err(failed)?;
        query("INSERT INTO kept_place (place) VALUES ($1)")
            .bind(place)
            .execute(&mut tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(None)
    }

    /// Notes that the coordinator keeps the files of a checkpoint, and which of the run's it need
    /// not keep any more; nothing for one that was never committed with this hash.
    pub(crate) async fn keep_checkpoint(
        &self,
        key: &AttemptKey,
        step: u64,
        hash: &str,
    ) -> Result<Option<Kept>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let marked = query(
            "UPDATE checkpoint SET kept = $1 WHERE step = $2 AND hash = $3 AND attempt_no = \
             (SELECT attempt.attempt_no FROM run JOIN attempt USING (run_no) \
              WHERE run.id = $4 AND attempt.number = $5)",
        )
        .bind(true)
        .bind(int(step))
        .bind(hash)
        .bind(key.run.as_str())
        .bind(key.number)
        .execute(&mut tx)
        .await
        .map_err(failed)?;
        if marked == 0 {
            return Ok(None);
        }
        let rows = query(
            "SELECT checkpoint.attempt_no, checkpoint.step, checkpoint.hash, \
             EXISTS (SELECT 1 FROM run branch WHERE branch.parent_run = run.id \
                     AND branch.parent_step = checkpoint.step) \
             FROM run JOIN checkpoint USING (run_no) WHERE run.id = $1 AND checkpoint.kept \
             ORDER BY checkpoint.step DESC, checkpoint.attempt_no DESC",
        )
        .bind(key.run.as_str())
        .fetch_all(&mut tx)
        .await
        .map_err(failed)?;
        let mut kept = Kept::default();
        for (place, row) in rows.iter().enumerate() {
            let hash: String = row.try_get(2).map_err(failed)?;
            let is_fork: bool = row.try_get(3).map_err(failed)?;
            if place < KEPT || is_fork {
                kept.kept.push(hash);
                continue;
            }
            query("UPDATE checkpoint SET kept = $1 WHERE attempt_no = $2 AND step = $3")
                .bind(false)
                .bind(row.try_get::<i64>(0).map_err(failed)?)
                .bind(row.try_get::<i64>(1).map_err(failed)?)
                .execute(&mut tx)
                .await
                .map_err(failed)?;
            kept.dropped.push(hash);
        }
        tx.commit().await.map_err(failed)?;
        Ok(Some(kept))
    }

    pub(crate) async fn kept_checkpoint(
        &self,
        run: &RunId,
        step: u64,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        let row = query(
            "SELECT checkpoint.hash FROM run JOIN checkpoint USING (run_no) \
             WHERE run.id = $1 AND checkpoint.step = $2 AND checkpoint.kept \
             ORDER BY checkpoint.attempt_no DESC",
        )
        .bind(run.as_str())
        .bind(int(step))
        .fetch_optional(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        row.map(|row| Ok(CheckpointRecord { step, hash: row.try_get(0)?, kept: true }))
            .transpose()
            .map_err(|error| self.failed(error))
    }

    pub(crate) async fn kept_hashes(&self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let rows = query(
            "SELECT DISTINCT checkpoint.hash FROM run JOIN checkpoint USING (run_no) \
             WHERE run.id = $1 AND checkpoint.kept ORDER BY checkpoint.hash",
        )
        .bind(run.as_str())
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| self.failed(error))
    }

    pub(crate) async fn kept_totals(&self) -> Result<(u64, u64), StoreError> {
        let row = query(
            "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM checkpoint WHERE kept",
        )
        .fetch_one(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let number = |index: usize| row.try_get::<i64>(index).map(count);
        let totals = number(0).and_then(|kept| Ok((kept, number(1)?)));
        totals.map_err(|error| self.failed(error))
    }

    pub(crate) async fn newest_kept(
        &self,
        run: &RunId,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        self.kept_before(run, u64::MAX).await
    }

    pub(crate) async fn kept_before(
        &self,
        run: &RunId,
        step: u64,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        let row = query(
            "SELECT checkpoint.step, checkpoint.hash FROM run JOIN checkpoint USING (run_no) \
             WHERE run.id = $1 AND checkpoint.step < $2 AND checkpoint.kept \
             ORDER BY checkpoint.step DESC, checkpoint.attempt_no DESC LIMIT 1",
        )
        .bind(run.as_str())
        .bind(int(step))
        .fetch_optional(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: Row| -> Result<CheckpointRecord, sqlx::Error> {
            let step = count(row.try_get(0)?);
            Ok(CheckpointRecord { step, hash: row.try_get(1)?, kept: true })
        };
        row.map(read).transpose().map_err(|error| self.failed(error))
    }

    /// Steps of a run whose checkpoints the coordinator keeps, in order.
    pub(crate) async fn kept_steps(&self, run: &RunId) -> Result<Vec<u64>, StoreError> {
        let rows = query(
            "SELECT DISTINCT checkpoint.step FROM run JOIN checkpoint USING (run_no) \
             WHERE run.id = $1 AND checkpoint.kept ORDER BY checkpoint.step",
        )
        .bind(run.as_str())
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| Ok(count(row.try_get(0)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| self.failed(error))
    }

    /// For each of these attempts' runs the newest checkpoint that its worker has or can fetch: of those
    /// at one step what lies there, then the latest attempt's. That a fetched one lies there is noted.
    pub(crate) async fn offer_checkpoints<'a>(
        &self,
        tx: &mut Tx,
        keys: impl IntoIterator<Item = &'a AttemptKey>,
    ) -> Result<HashMap<RunId, CheckpointRecord>, StoreError> {
        let keys = packed(keys);
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        macro_rules! within_reach {
            ($list:literal) => {
                concat!(
                    "SELECT id, step, hash, kept, run_no, attempt_no, worker_no, here FROM \
                     (SELECT reach.*, row_number() OVER (PARTITION BY run_no \
                          ORDER BY step DESC, here DESC, attempt_no DESC) AS place FROM \
                     (SELECT run.id, checkpoint.step, checkpoint.hash, checkpoint.kept, \
                     checkpoint.run_no, checkpoint.attempt_no, attempt.worker_no, \
                     checkpoint.worker_no = attempt.worker_no OR EXISTS \
                         (SELECT 1 FROM checkpoint_copy copy WHERE copy.run_no = checkpoint.run_no \
                          AND copy.step = checkpoint.step \
                          AND copy.attempt_no = checkpoint.attempt_no \
                          AND copy.worker_no = attempt.worker_no) AS here \
                     FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id \
                     JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
                     JOIN checkpoint ON checkpoint.run_no = run.run_no) AS reach \
                     WHERE kept OR here) AS ranked WHERE place = 1"
                )
            };
        }
        let rows = Query::of(
            within_reach!("json_each($1)"),
            within_reach!("unnest($1) AS packed (value)"),
        )
        .bind(keys)
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| self.failed(error))?;
        let best = rows.iter().map(Offer::read).collect::<Result<HashMap<RunId, Offer>, _>>();
        let best = best.map_err(|error| self.failed(error))?;
        let fetched = best.values().filter(|offer| !offer.here);
        note_copies(tx, fetched).await.map_err(|error| self.failed(error))?;
        Ok(best.into_iter().map(|(run, offer)| (run, offer.record)).collect())
    }
}

/// Notes that copies of checkpoints will lie with the workers that are sent to fetch them.
async fn note_copies(
    tx: &mut Tx,
    fetched: impl Iterator<Item = &Offer>,
) -> Result<(), sqlx::Error> {
    for offer in fetched {
        query(
            "INSERT INTO checkpoint_copy (run_no, step, attempt_no, worker_no) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(offer.run_no)
        .bind(int(offer.record.step))
        .bind(offer.attempt_no)
        .bind(offer.worker_no)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// A checkpoint that an attempt may begin after.
struct Offer {
    record: CheckpointRecord,
    run_no: i64,
    /// The attempt that wrote it.
    attempt_no: i64,
    /// The worker that it is offered to.
    worker_no: i64,
    /// It lies on that worker already.
    here: bool,
}

impl Offer {
    fn read(row: &Row) -> Result<(RunId, Self), sqlx::Error> {
        let (step, hash, kept) = (count(row.try_get(1)?), row.try_get(2)?, row.try_get(3)?);
        let offer = Self {
            record: CheckpointRecord { step, hash, kept },
            run_no: row.try_get(4)?,
            attempt_no: row.try_get(5)?,
            worker_no: row.try_get(6)?,
            here: row.try_get(7)?,
        };
        Ok((row.try_get(0)?, offer))
    }
}
