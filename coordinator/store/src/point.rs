//! Ingest: batches of points, once each, many to a commit.

use std::collections::{BTreeMap, HashMap};

use sweep_spec::{
    attempt::AttemptKey,
    metric::{Metric, Point},
};

use crate::{
    attempt::{keys_of, packed},
    database::{Database, metric_no},
    error::StoreError,
    lineage::{self, Beginning},
    record::{Batch, Ingested},
    run::{count, int},
    sql::{Query, Tx, query},
};

/// What is asked of attempts; the list of keys that follows differs between the databases.
macro_rules! target_columns {
    () => {
        "SELECT run.id, attempt.number, attempt.attempt_no, attempt.run_no, \
             attempt.outcome IS NULL AND run.attempts = attempt.number AS open, \
             coalesce(ingest_cursor.last_seq, 0) AS last_seq, attempt.resume_step FROM "
    };
}

/// Where an attempt has come to; without a newer loss, the latest stays.
macro_rules! cursor_columns {
    () => {
        "INSERT INTO ingest_cursor (attempt_no, last_seq, latest_step, latest_loss, latest_class) "
    };
}

macro_rules! on_known {
    () => {
        " ON CONFLICT (attempt_no) DO UPDATE SET last_seq = excluded.last_seq, \
         latest_loss = CASE WHEN excluded.latest_step IS NULL \
                       THEN ingest_cursor.latest_loss ELSE excluded.latest_loss END, \
         latest_step = coalesce(excluded.latest_step, ingest_cursor.latest_step), \
         latest_class = coalesce(excluded.latest_class, ingest_cursor.latest_class)"
    };
}

macro_rules! target_joins {
    () => {
        " JOIN run ON run.id = key.id \
         JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
         LEFT JOIN ingest_cursor ON ingest_cursor.attempt_no = attempt.attempt_no"
    };
}

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

/// What the answer to a batch depends on.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// Lives, and is the last one of its run.
    pub(crate) open: bool,
    /// Last durable batch.
    pub(crate) last_seq: u64,
    /// Step it began after, once it is known.
    pub(crate) resume_step: Option<u64>,
}

/// The answer to a batch of an attempt that was never granted.
pub(crate) const NEVER_GRANTED: Ingested =
    Ingested::Fenced("the coordinator never granted this attempt");

/// The answer to a batch that is not to be stored; `None` for one that is.
pub(crate) fn judge(mark: &Mark, batch: &Batch) -> Option<Ingested> {
    if batch.seq <= mark.last_seq {
        return Some(Ingested::Durable(mark.last_seq));
    }
    #[cfg(feature = "simulation")]
    let mark = &crate::simulation::faulted(*mark);
    if !mark.open {
        return Some(Ingested::Fenced("the attempt has ended, or a later one owns the run"));
    }
    if batch.seq > mark.last_seq + 1 {
        return Some(Ingested::Resend(mark.last_seq));
    }
    refuse(mark, batch).map(Ingested::Refused)
}

/// Why a batch contradicts what is known of its attempt.
fn refuse(mark: &Mark, batch: &Batch) -> Option<String> {
    let resume = mark.resume_step.unwrap_or(batch.resume_step);
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

/// The training loss that a batch leaves as the latest of its run.
pub(crate) fn latest_loss(points: &[Point]) -> Option<&Point> {
    let losses = points.iter().filter(|point| point.metric == Metric::TrainLoss);
    losses.max_by_key(|point| point.step)
}

/// An attempt as the batches of one commit see it.
#[derive(Clone, Copy)]
struct Target {
    attempt_no: i64,
    run_no: i64,
    mark: Mark,
}

impl Database {
    pub(crate) async fn ingest(&self, batches: &[Batch]) -> Result<Vec<Ingested>, StoreError> {
        // The same batches again are dropped by their numbers, so that a commit whose answer was
        // lost may be repeated.
        let mut tx = self.begin().await?;
        let replies = store_batches(&mut tx, batches).await.map_err(|error| self.failed(error))?;
        tx.commit().await.map_err(|error| self.failed(error))?;
        Ok(replies)
    }
}

/// Decides about each batch, then writes what all of them bring in as few statements as can be.
async fn store_batches(tx: &mut Tx, batches: &[Batch]) -> Result<Vec<Ingested>, sqlx::Error> {
    let mut targets = find_targets(tx, batches).await?;
    let mut replies = Vec::with_capacity(batches.len());
    let mut points = Vec::new();
    let mut cursors = BTreeMap::new();
    for batch in batches {
        let Some(target) = targets.get_mut(&batch.key) else {
            replies.push(NEVER_GRANTED);
            continue;
        };
        if let Some(answer) = judge(&target.mark, batch) {
            replies.push(answer);
            continue;
        }
        if target.mark.resume_step.is_none() {
            let (number, step) = (batch.key.number, batch.resume_step);
            let (attempt_no, run_no) = (target.attempt_no, target.run_no);
            lineage::begin(tx, Beginning { attempt_no, run_no, number, step }).await?;
            target.mark.resume_step = Some(batch.resume_step);
        }
        points.extend(batch.points.iter().map(|point| (target.attempt_no, point)));
        let cursor: &mut Cursor = cursors.entry(target.attempt_no).or_default();
        cursor.last_seq = batch.seq;
        cursor.latest = latest_loss(&batch.points).or(cursor.latest);
        target.mark.last_seq = batch.seq;
        replies.push(Ingested::Durable(batch.seq));
    }
    insert_points(tx, &points).await?;
    set_cursors(tx, &cursors).await?;
    Ok(replies)
}

/// What the attempts of these batches are known by.
async fn find_targets(
    tx: &mut Tx,
    batches: &[Batch],
) -> Result<HashMap<AttemptKey, Target>, sqlx::Error> {
    // Batches of one attempt come one after another, mostly.
    let mut keys: Vec<&AttemptKey> = batches.iter().map(|batch| &batch.key).collect();
    keys.sort();
    keys.dedup();
    let rows = Query::of(
        concat!(target_columns!(), keys_of!("json_each($1)"), target_joins!()),
        concat!(target_columns!(), keys_of!("unnest($1) AS packed (value)"), target_joins!()),
    )
    .bind(packed(keys))
    .fetch_all(&mut *tx)
    .await?;
    let mut targets = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key = AttemptKey { run: row.try_get("id")?, number: row.try_get("number")? };
        let target = Target {
            attempt_no: row.try_get("attempt_no")?,
            run_no: row.try_get("run_no")?,
            mark: Mark {
                open: row.try_get("open")?,
                last_seq: count(row.try_get("last_seq")?),
                resume_step: row.try_get::<Option<i64>>("resume_step")?.map(count),
            },
        };
        targets.insert(key, target);
    }
    Ok(targets)
}

/// How far an attempt has come by the batches of one commit.
#[derive(Default)]
struct Cursor<'a> {
    last_seq: u64,
    latest: Option<&'a Point>,
}

async fn set_cursors(tx: &mut Tx, cursors: &BTreeMap<i64, Cursor<'_>>) -> Result<(), sqlx::Error> {
    let latest = |cursor: &Cursor<'_>| {
        let columns = cursor.latest.map(|point| columns_of(point.value));
        let step = cursor.latest.map(|point| int(point.step));
        (step, columns.and_then(|(value, _)| value), columns.map(|(_, class)| class))
    };
    if let Tx::Postgres(_) = tx {
        let (mut steps, mut values, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for (step, value, class) in cursors.values().map(latest) {
            steps.push(step);
            values.push(value);
            classes.push(class);
        }
        query(concat!(cursor_columns!(), "SELECT * FROM unnest($1, $2, $3, $4, $5)", on_known!()))
            .bind(cursors.keys().copied().collect::<Vec<_>>())
            .bind(cursors.values().map(|cursor| int(cursor.last_seq)).collect::<Vec<_>>())
            .bind(steps)
            .bind(values)
            .bind(classes)
            .execute(&mut *tx)
            .await?;
        return Ok(());
    }
    for (&attempt_no, cursor) in cursors {
        let (step, value, class) = latest(cursor);
        query(concat!(cursor_columns!(), "VALUES ($1, $2, $3, $4, $5)", on_known!()))
            .bind(attempt_no)
            .bind(int(cursor.last_seq))
            .bind(step)
            .bind(value)
            .bind(class)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Rows of one statement: a statement costs about as much as ten rows.
const ROWS: usize = 100;

/// Rows of the statement for what is left of them.
const ROWS_FEW: usize = 10;

macro_rules! ten {
    ($row:literal) => {
        concat!(
            $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",", $row, ",",
            $row, ",", $row
        )
    };
}

/// One row, [`ROWS_FEW`] rows, and [`ROWS`] rows. A value that is there already stays: a curve is never overwritten.
const INSERT_ONE: &str = "INSERT INTO point (attempt_no, metric_no, step, value, class) \
     VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING";
const INSERT_FEW: &str = concat!(
    "INSERT INTO point (attempt_no, metric_no, step, value, class) VALUES ",
    ten!("(?,?,?,?,?)"),
    " ON CONFLICT DO NOTHING"
);
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

/// Stores points. A value that is there already stays: a curve is never overwritten.
async fn insert_points(tx: &mut Tx, points: &[(i64, &Point)]) -> Result<(), sqlx::Error> {
    if let Tx::Postgres(_) = tx {
        return insert_lists(tx, points).await;
    }
    let mut chunks = points.chunks_exact(ROWS);
    for chunk in &mut chunks {
        insert_rows(tx, INSERT_MANY, chunk).await?;
    }
    let mut chunks = chunks.remainder().chunks_exact(ROWS_FEW);
    for chunk in &mut chunks {
        insert_rows(tx, INSERT_FEW, chunk).await?;
    }
    for row in chunks.remainder() {
        insert_rows(tx, INSERT_ONE, std::slice::from_ref(row)).await?;
    }
    Ok(())
}

async fn insert_rows(
    tx: &mut Tx,
    statement: &'static str,
    points: &[(i64, &Point)],
) -> Result<(), sqlx::Error> {
    let mut query = query(statement);
    for (attempt_no, point) in points {
        let (value, class) = columns_of(point.value);
        query = query
            .bind(*attempt_no)
            .bind(metric_no(point.metric))
            .bind(int(point.step))
            .bind(value)
            .bind(class);
    }
    query.execute(&mut *tx).await?;
    Ok(())
}

/// All points in one statement. Only Postgres has parameters that are lists of numbers.
async fn insert_lists(tx: &mut Tx, points: &[(i64, &Point)]) -> Result<(), sqlx::Error> {
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for (_, point) in points {
        let (value, class) = columns_of(point.value);
        values.push(value);
        classes.push(class);
    }
    query(
        "INSERT INTO point (attempt_no, metric_no, step, value, class) \
         SELECT * FROM unnest($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(points.iter().map(|(attempt_no, _)| *attempt_no).collect::<Vec<_>>())
    .bind(points.iter().map(|(_, point)| metric_no(point.metric)).collect::<Vec<_>>())
    .bind(points.iter().map(|(_, point)| int(point.step)).collect::<Vec<_>>())
    .bind(values)
    .bind(classes)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
