//! Ends of attempts: many at once, each guarded by the number of the attempt.

use std::collections::{HashMap, HashSet};

use sweep_spec::{attempt::AttemptKey, metric::Metric};

use crate::{
    database::{Database, metric_no},
    error::StoreError,
    lineage::{self, Beginning},
    record::{Applied, EndRow, Outcome},
    run::int,
    sql::{Query, Row, Tx, query},
};

/// Training times are kept to the microsecond: SQLite reads a whole number of a JSON text exactly,
/// and a fraction without its last bit.
pub(crate) fn whole_micros(seconds: f64) -> Option<i64> {
    let micros = (seconds * MICROS_PER_SECOND).round();
    #[expect(clippy::cast_possible_truncation, reason = "it was checked")]
    (micros.abs() < MICROS_MAX).then_some(micros as i64)
}

/// Seconds as they are read back.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub(crate) fn of_micros(micros: i64) -> f64 {
    micros as f64 / MICROS_PER_SECOND
}

const MICROS_PER_SECOND: f64 = 1e6;

/// 2^53: every whole number below has a floating-point number of its own.
const MICROS_MAX: f64 = 9_007_199_254_740_992.0;

/// The rows `ended` of what [`packed`] made: a statement costs about as much as ten rows.
macro_rules! ended {
    ($list:literal) => {
        concat!(
            "(SELECT value ->> 0 AS id, CAST(value ->> 1 AS BIGINT) AS number, \
             value ->> 2 AS outcome, CAST(value ->> 3 AS BIGINT) AS unix_ms, \
             value ->> 4 AS reason, CAST(value ->> 5 AS BIGINT) AS end_step, \
             CAST(value ->> 6 AS BIGINT) AS micros, \
             CAST(value ->> 7 AS BIGINT) AS peak_memory_bytes, \
             CAST(value ->> 8 AS BIGINT) AS points_thinned, \
             CAST(value ->> 9 AS BIGINT) AS resume_step, \
             CAST(value ->> 10 AS BIGINT) AS lineage_after, value ->> 11 AS state, \
             value ->> 12 AS state_reason, CAST(value ->> 13 AS BIGINT) AS program, \
             CAST(value ->> 14 AS BIGINT) AS infrastructure, \
             CAST(value ->> 15 AS BIGINT) AS without_checkpoint FROM ",
            $list,
            ") AS ended"
        )
    };
}

fn packed(rows: &[&EndRow]) -> String {
    let columns = |row: &&EndRow| {
        let begun = begun(row);
        serde_json::json!([
            row.key.run,
            row.key.number,
            row.outcome.name(),
            row.unix_ms,
            row.reason,
            row.end_step.map(int),
            row.seconds.and_then(whole_micros),
            row.peak_memory_bytes.map(int),
            int(row.points_thinned),
            begun.map(int),
            begun.map(lineage::after),
            row.state.name(),
            row.state_reason,
            row.failures.program,
            row.failures.infrastructure,
            row.failures.without_checkpoint,
        ])
    };
    serde_json::Value::from(rows.iter().map(columns).collect::<Vec<_>>()).to_string()
}

/// Where an attempt began that has no lineage to look up, because it is the first of its run.
fn begun(row: &EndRow) -> Option<u64> {
    row.resume_step.filter(|_| row.key.number == 1)
}

impl Database {
    pub(crate) async fn end(&self, rows: &[EndRow]) -> Result<Vec<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        let applied = end_all(&mut tx, rows).await.map_err(|error| self.failed(error))?;
        tx.commit().await.map_err(|error| self.failed(error))?;
        Ok(applied)
    }
}

async fn end_all(tx: &mut Tx, rows: &[EndRow]) -> Result<Vec<Applied>, sqlx::Error> {
    let mut seen = HashSet::new();
    let first: Vec<&EndRow> = rows.iter().filter(|row| seen.insert(&row.key)).collect();
    let list = packed(&first);
    let mut closed = close_attempts(tx, list.clone()).await?;
    for row in &first {
        if let Some(&(attempt_no, run_no)) = closed.get(&row.key)
            && let Some(step) = row.resume_step.filter(|_| row.key.number > 1)
        {
            let number = row.key.number;
            lineage::begin(tx, Beginning { attempt_no, run_no, number, step }).await?;
        }
    }
    if !closed.is_empty() {
        let runs = closed.values().map(|&(_, run_no)| run_no).collect();
        move_runs(tx, list, runs).await?;
    }
    let mut applied = Vec::with_capacity(rows.len());
    for row in rows {
        applied.push(match closed.remove(&row.key) {
            Some(_) => Applied::Done,
            None => repeated_end(tx, row).await?,
        });
    }
    Ok(applied)
}

/// Ends the attempts that still own their runs; gives the numbers of them and of their runs.
async fn close_attempts(
    tx: &mut Tx,
    list: String,
) -> Result<HashMap<AttemptKey, (i64, i64)>, sqlx::Error> {
    macro_rules! close {
        ($list:literal) => {
            concat!(
                "UPDATE attempt SET outcome = ended.outcome, ended_unix_ms = ended.unix_ms, \
                 reason = ended.reason, end_step = ended.end_step, \
                 measured_seconds = CAST(ended.micros AS DOUBLE PRECISION) / 1e6, \
                 peak_memory_bytes = ended.peak_memory_bytes, \
                 points_thinned = ended.points_thinned, \
                 resume_step = coalesce(attempt.resume_step, ended.resume_step), \
                 lineage_after = CASE WHEN attempt.resume_step IS NULL \
                     THEN coalesce(ended.lineage_after, attempt.lineage_after) \
                     ELSE attempt.lineage_after END FROM ",
                ended!($list),
                " JOIN run ON run.id = ended.id AND run.attempts = ended.number \
                 WHERE attempt.run_no = run.run_no AND attempt.number = ended.number \
                 AND attempt.outcome IS NULL \
                 RETURNING (SELECT owner.id FROM run owner WHERE owner.run_no = attempt.run_no), \
                 attempt.number, attempt.attempt_no, attempt.run_no"
            )
        };
    }
    let rows = Query::of(
        close!("json_each($1)"),
        close!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
    )
    .bind(list)
    .fetch_all(tx)
    .await?;
    let read = |row: &Row| -> Result<_, sqlx::Error> {
        let key = AttemptKey { run: row.try_get(0)?, number: row.try_get(1)? };
        Ok((key, (row.try_get(2)?, row.try_get(3)?)))
    };
    rows.iter().map(read).collect()
}

// The last finite value of a metric along the lineage of a run that finished.
macro_rules! last_value {
    ($metric_no:literal) => {
        concat!(
            "CASE WHEN ended.outcome = $3 THEN (SELECT point.value FROM attempt \
             JOIN point USING (attempt_no) \
             WHERE attempt.run_no = run.run_no AND point.metric_no = ",
            $metric_no,
            " AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until \
             ORDER BY point.step DESC LIMIT 1) END"
        )
    };
}

/// Puts the runs whose attempts were closed where the ends say.
async fn move_runs(tx: &mut Tx, list: String, runs: Vec<i64>) -> Result<(), sqlx::Error> {
    macro_rules! moved {
        ($list:literal, $runs:literal) => {
            concat!(
                "UPDATE run SET state = ended.state, reason = ended.state_reason, \
                 failures_program = ended.program, \
                 failures_infrastructure = ended.infrastructure, \
                 failures_without_checkpoint = ended.without_checkpoint, \
                 final_validation_loss = ",
                last_value!("$4"),
                ", final_validation_bits_per_byte = ",
                last_value!("$5"),
                " FROM ",
                ended!($list),
                " WHERE run.id = ended.id AND run.run_no IN (SELECT value FROM ",
                $runs,
                ")"
            )
        };
    }
    Query::of(
        moved!("json_each($1)", "json_each($2)"),
        moved!(
            "json_array_elements(CAST($1 AS json)) AS packed (value)",
            "unnest($2) AS closed (value)"
        ),
    )
    .bind(list)
    .bind(runs)
    .bind(Outcome::Finished.name())
    .bind(metric_no(Metric::ValidationLoss))
    .bind(metric_no(Metric::ValidationBitsPerByte))
    .execute(tx)
    .await?;
    Ok(())
}

/// An end that changed nothing: the same one again, or one that came too late.
async fn repeated_end(tx: &mut Tx, row: &EndRow) -> Result<Applied, sqlx::Error> {
    let same = query(
        "SELECT 1 FROM attempt JOIN run USING (run_no) \
         WHERE run.id = $1 AND attempt.number = $2 AND attempt.outcome = $3",
    )
    .bind(row.key.run.as_str())
    .bind(row.key.number)
    .bind(row.outcome.name())
    .fetch_optional(&mut *tx)
    .await?;
    Ok(if same.is_some() { Applied::Done } else { Applied::Fenced })
}
