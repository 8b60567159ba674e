//! Ends of attempts: many at once, each guarded by the number of the attempt. They are looked up by
//! the ids of their runs once, and written by numbers, which costs a third of it.

use std::collections::{HashMap, HashSet};

use sweep_spec::{attempt::AttemptKey, metric::Metric};

use crate::{
    attempt::{self, keys_of},
    database::{Database, metric_no},
    error::StoreError,
    lineage::{self, Beginning},
    lines::{COLUMN, Columns, LINE, lines},
    record::{Applied, EndRow, Outcome},
    run::int,
    sql::{Query, Tx, all_of, query},
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

/// An attempt that ends, with its number and its run's.
struct Closing<'a> {
    row: &'a EndRow,
    attempt_no: i64,
    run_no: i64,
}

impl Closing<'_> {
    /// Where it began, if it has no lineage to look up because it is the first of its run.
    fn begun(&self) -> Option<u64> {
        self.row.resume_step.filter(|_| self.row.key.number == 1)
    }
}

/// The rows `ended` of what [`packed`] made: a statement costs about as much as ten rows.
macro_rules! ended {
    ($list:literal) => {
        concat!(
            "(SELECT CAST(value ->> 0 AS BIGINT) AS attempt_no, \
             CAST(value ->> 1 AS BIGINT) AS run_no, CAST(value ->> 2 AS BIGINT) AS number, \
             value ->> 3 AS outcome, CAST(value ->> 4 AS BIGINT) AS unix_ms, \
             value ->> 5 AS reason, CAST(value ->> 6 AS BIGINT) AS end_step, \
             CAST(value ->> 7 AS BIGINT) AS micros, \
             CAST(value ->> 8 AS BIGINT) AS peak_memory_bytes, \
             CAST(value ->> 9 AS BIGINT) AS points_thinned, \
             CAST(value ->> 10 AS BIGINT) AS resume_step, \
             CAST(value ->> 11 AS BIGINT) AS lineage_after, value ->> 12 AS state, \
             value ->> 13 AS state_reason, CAST(value ->> 14 AS BIGINT) AS program, \
             CAST(value ->> 15 AS BIGINT) AS infrastructure, \
             CAST(value ->> 16 AS BIGINT) AS without_checkpoint FROM ",
            $list,
            ") AS ended"
        )
    };
}

fn packed(closing: &[Closing<'_>]) -> String {
    let columns = |one: &Closing<'_>| {
        let (row, begun) = (one.row, one.begun());
        serde_json::json!([
            one.attempt_no,
            one.run_no,
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
    serde_json::Value::from(closing.iter().map(columns).collect::<Vec<_>>()).to_string()
}

impl Database {
    /// Ends attempts within a turn.
    pub(crate) async fn end_all(
        &self,
        tx: &mut Tx,
        rows: &[EndRow],
    ) -> Result<Vec<Applied>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let closing = self.find_open(tx, rows).await?;
        if !closing.is_empty() {
            close(tx, &closing).await.map_err(|error| self.failed(error))?;
        }
        let mut done: HashSet<&AttemptKey> = closing.iter().map(|one| &one.row.key).collect();
        let mut applied = Vec::with_capacity(rows.len());
        for row in rows {
            applied.push(if done.remove(&row.key) {
                Applied::Done
            } else {
                repeated_end(tx, row).await.map_err(|error| self.failed(error))?
            });
        }
        Ok(applied)
    }

    /// The attempts that are live and the last of their runs, each with its first end.
    async fn find_open<'a>(
        &self,
        tx: &mut Tx,
        rows: &'a [EndRow],
    ) -> Result<Vec<Closing<'a>>, StoreError> {
        macro_rules! open {
            ($list:literal) => {
                concat!(
                    "SELECT string_agg(run.id || $2 || CAST(attempt.number AS TEXT) || $2 \
                     || CAST(attempt.attempt_no AS TEXT) || $2 || CAST(run.run_no AS TEXT), $3) \
                     FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id AND run.attempts = key.number \
                     JOIN attempt ON attempt.run_no = run.run_no AND attempt.number = key.number \
                     WHERE attempt.outcome IS NULL"
                )
            };
        }
        let row = Query::of(open!("json_each($1)"), open!("unnest($1) AS packed (value)"))
            .bind(attempt::packed(rows.iter().map(|row| &row.key)))
            .bind(COLUMN)
            .bind(LINE)
            .fetch_one(tx)
            .await
            .map_err(|error| self.failed(error))?;
        let open: Option<String> = row.try_get(0).map_err(|error| self.failed(error))?;
        let read = |mut columns: Columns<'_>| -> Result<_, StoreError> {
            Ok((columns.key()?, (columns.value()?, columns.value()?)))
        };
        let mut open: HashMap<AttemptKey, (i64, i64)> =
            lines(open.as_deref()).map(read).collect::<Result<_, _>>()?;
        let closing = rows.iter().filter_map(|row| {
            let (attempt_no, run_no) = open.remove(&row.key)?;
            Some(Closing { row, attempt_no, run_no })
        });
        Ok(closing.collect())
    }
}

/// Ends the attempts that still own their runs, and puts the runs where the ends say.
async fn close(tx: &mut Tx, closing: &[Closing<'_>]) -> Result<(), sqlx::Error> {
    let list = packed(closing);
    close_attempts(tx, list.clone(), closing.len()).await?;
    for &Closing { row, attempt_no, run_no } in closing {
        if let Some(step) = row.resume_step.filter(|_| row.key.number > 1) {
            let number = row.key.number;
            lineage::begin(tx, Beginning { attempt_no, run_no, number, step }).await?;
        }
    }
    move_runs(tx, list, closing.len()).await
}

/// A wall clock may have been set back since the grant: no attempt ends before it began.
async fn close_attempts(tx: &mut Tx, list: String, expected: usize) -> Result<(), sqlx::Error> {
    macro_rules! close {
        ($list:literal) => {
            concat!(
                "UPDATE attempt SET outcome = ended.outcome, \
                 ended_unix_ms = CASE WHEN ended.unix_ms < attempt.started_unix_ms \
                     THEN attempt.started_unix_ms ELSE ended.unix_ms END, \
                 reason = ended.reason, end_step = ended.end_step, \
                 measured_seconds = CAST(ended.micros AS DOUBLE PRECISION) / 1e6, \
                 peak_memory_bytes = ended.peak_memory_bytes, \
                 points_thinned = ended.points_thinned, \
                 resume_step = coalesce(attempt.resume_step, ended.resume_step), \
                 lineage_after = CASE WHEN attempt.resume_step IS NULL \
                     THEN coalesce(ended.lineage_after, attempt.lineage_after) \
                     ELSE attempt.lineage_after END FROM ",
                ended!($list),
                " JOIN run ON run.run_no = ended.run_no AND run.attempts = ended.number \
                 WHERE attempt.attempt_no = ended.attempt_no \
                 AND attempt.number = ended.number AND attempt.outcome IS NULL"
            )
        };
    }
    let changed = Query::of(
        close!("json_each($1)"),
        close!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
    )
    .bind(list)
    .execute(tx)
    .await?;
    all_of(expected, changed)
}

// The last finite value of a metric along the lineage of a run that finished.
macro_rules! last_value {
    ($metric_no:literal) => {
        concat!(
            "CASE WHEN ended.outcome = $2 THEN (SELECT point.value FROM attempt \
             JOIN point USING (attempt_no) \
             WHERE attempt.run_no = run.run_no AND point.metric_no = ",
            $metric_no,
            " AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until \
             ORDER BY point.step DESC LIMIT 1) END"
        )
    };
}

async fn move_runs(tx: &mut Tx, list: String, expected: usize) -> Result<(), sqlx::Error> {
    macro_rules! moved {
        ($list:literal) => {
            concat!(
                "UPDATE run SET state = ended.state, reason = ended.state_reason, \
                 failures_program = ended.program, \
                 failures_infrastructure = ended.infrastructure, \
                 failures_without_checkpoint = ended.without_checkpoint, \
                 final_validation_loss = ",
                last_value!("$3"),
                ", final_validation_bits_per_byte = ",
                last_value!("$4"),
                " FROM ",
                ended!($list),
                " WHERE run.run_no = ended.run_no AND run.attempts = ended.number"
            )
        };
    }
    let changed = Query::of(
        moved!("json_each($1)"),
        moved!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
    )
    .bind(list)
    .bind(Outcome::Finished.name())
    .bind(metric_no(Metric::ValidationLoss))
    .bind(metric_no(Metric::ValidationBitsPerByte))
    .execute(tx)
    .await?;
    all_of(expected, changed)
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
