//! Ingest: batches of points, once each, many to a commit.

use std::collections::HashMap;

use sqlx::{Row as _, Transaction};
use sweep_spec::{
    attempt::AttemptKey,
    metric::{Metric, Point},
};

use crate::{
    attempt::set_resume_step,
    error::StoreError,
    record::{Batch, Ingested},
    run::{count, int},
    sqlite::{Sqlite, metric_no},
};

type Tx = Transaction<'static, sqlx::Sqlite>;

/// Rows of one statement: a statement costs about as much as ten rows.
const ROWS: usize = 100;

macro_rules! ten {
    ($row:literal) => {
        concat!(
            $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",",
            $row, ",", $row
        )
    };
}

/// One row, and [`ROWS`] rows. A value that is there already stays: a curve is never overwritten.
const INSERT_ONE: &str = "INSERT INTO point (attempt_no, metric_no, step, value, class) \
     VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING";
const INSERT_MANY: &str = concat!(
    "INSERT INTO point (attempt_no, metric_no, step, value, class) VALUES ",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    ",",
    ten!("(?,?,?,?,?)"),
    " ON CONFLICT DO NOTHING"
);

/// What the columns `value` and `class` hold: SQLite would turn a NaN into NULL by itself.
pub(crate) fn columns_of(value: f64) -> (Option<f64>, i64) {
    if value.is_finite() {
        (Some(value), 0)
    } else if value.is_nan() {
        (None, 1)
    } else if value > 0.0 {
        (None, 2)
    } else {
        (None, 3)
    }
}

/// The value of the columns `value` and `class`.
pub(crate) fn value_of(value: Option<f64>, class: i64) -> f64 {
    match (value, class) {
        (Some(value), 0) => value,
        (_, 2) => f64::INFINITY,
        (_, 3) => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

/// An attempt as the batches of one commit see it.
#[derive(Clone, Copy)]
struct Target {
    attempt_no: i64,
    run_no: i64,
    /// Lives, and is the last one of its run.
    open: bool,
    last_seq: u64,
    resume_step: Option<u64>,
}

impl Sqlite {
    pub(crate) async fn ingest(&self, batches: &[Batch]) -> Result<Vec<Ingested>, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let mut targets: HashMap<AttemptKey, Option<Target>> = HashMap::new();
        let mut replies = Vec::with_capacity(batches.len());
        for batch in batches {
            if !targets.contains_key(&batch.key) {
                let target = find_target(&mut tx, &batch.key).await.map_err(failed)?;
                targets.insert(batch.key.clone(), target);
            }
            let reply = match targets.get_mut(&batch.key) {
                Some(Some(target)) => store_batch(&mut tx, target, batch).await.map_err(failed)?,
                _ => Ingested::Fenced("the coordinator never granted this attempt"),
            };
            replies.push(reply);
        }
        tx.commit().await.map_err(failed)?;
        Ok(replies)
    }
}

async fn find_target(tx: &mut Tx, key: &AttemptKey) -> Result<Option<Target>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT attempt.attempt_no, attempt.run_no, \
         attempt.outcome IS NULL AND run.attempts = attempt.number, \
         coalesce(ingest_cursor.last_seq, 0), attempt.resume_step \
         FROM run JOIN attempt USING (run_no) LEFT JOIN ingest_cursor USING (attempt_no) \
         WHERE run.id = ? AND attempt.number = ?",
    )
    .bind(key.run.as_str())
    .bind(key.number)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Target {
        attempt_no: row.try_get(0)?,
        run_no: row.try_get(1)?,
        open: row.try_get(2)?,
        last_seq: count(row.try_get(3)?),
        resume_step: row.try_get::<Option<i64>, _>(4)?.map(count),
    }))
}

async fn store_batch(
    tx: &mut Tx,
    target: &mut Target,
    batch: &Batch,
) -> Result<Ingested, sqlx::Error> {
    if batch.seq <= target.last_seq {
        return Ok(Ingested::Durable(target.last_seq));
    }
    if !target.open {
        return Ok(Ingested::Fenced("the attempt has ended, or a later one owns the run"));
    }
    if batch.seq > target.last_seq + 1 {
        return Ok(Ingested::Resend(target.last_seq));
    }
    if let Some(refusal) = refuse(target, batch) {
        return Ok(Ingested::Refused(refusal));
    }
    if target.resume_step.is_none() {
        let (attempt_no, run_no) = (target.attempt_no, target.run_no);
        set_resume_step(tx, attempt_no, run_no, batch.key.number, batch.resume_step).await?;
        target.resume_step = Some(batch.resume_step);
    }
    insert_points(tx, target.attempt_no, &batch.points).await?;
    sqlx::query(
        "INSERT INTO ingest_cursor (attempt_no, last_seq) VALUES (?, ?) \
         ON CONFLICT (attempt_no) DO UPDATE SET last_seq = excluded.last_seq",
    )
    .bind(target.attempt_no)
    .bind(int(batch.seq))
    .execute(&mut **tx)
    .await?;
    target.last_seq = batch.seq;
    let losses = batch.points.iter().filter(|point| point.metric == Metric::TrainLoss);
    if let Some(latest) = losses.max_by_key(|point| point.step) {
        let (value, class) = columns_of(latest.value);
        sqlx::query(
            "UPDATE run SET latest_step = ?, latest_loss = ?, latest_class = ? WHERE run_no = ?",
        )
        .bind(int(latest.step))
        .bind(value)
        .bind(class)
        .bind(target.run_no)
        .execute(&mut **tx)
        .await?;
    }
    Ok(Ingested::Durable(batch.seq))
}

/// Why a batch contradicts what is known of its attempt.
fn refuse(target: &Target, batch: &Batch) -> Option<String> {
    let resume = target.resume_step.unwrap_or(batch.resume_step);
    if resume != batch.resume_step {
        let now = batch.resume_step;
        return Some(format!("the attempt resumed from step {resume}, not from {now}"));
    }
    // A curve has one value per step: those up to the resume step belong to earlier attempts.
    let early = batch.points.iter().find(|point| resume > 0 && point.step <= resume)?;
    Some(format!(
        "{} at step {} belongs to an earlier attempt; this one resumed from step {resume}",
        early.metric.name(),
        early.step
    ))
}

async fn insert_points(tx: &mut Tx, attempt_no: i64, points: &[Point]) -> Result<(), sqlx::Error> {
    let mut chunks = points.chunks_exact(ROWS);
    for chunk in &mut chunks {
        insert_rows(tx, INSERT_MANY, attempt_no, chunk).await?;
    }
    for point in chunks.remainder() {
        insert_rows(tx, INSERT_ONE, attempt_no, std::slice::from_ref(point)).await?;
    }
    Ok(())
}

async fn insert_rows(
    tx: &mut Tx,
    statement: &'static str,
    attempt_no: i64,
    points: &[Point],
) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query(statement);
    for point in points {
        let (value, class) = columns_of(point.value);
        query = query
            .bind(attempt_no)
            .bind(metric_no(point.metric))
            .bind(int(point.step))
            .bind(value)
            .bind(class);
    }
    query.execute(&mut **tx).await?;
    Ok(())
}
