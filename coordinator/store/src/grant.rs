//! Grants: many at once, each to a run that waits for the very number of the attempt.

use std::collections::HashMap;

use sweep_spec::attempt::AttemptKey;

use crate::{
    attempt::{keys_of, packed},
    database::Database,
    error::StoreError,
    lines::{COLUMN, Columns, LINE, lines},
    record::{GrantRow, Granted},
    run::int,
    sql::{Query, Tx, all_of},
};

/// A run that waits for the attempt of a grant.
struct Opening<'a> {
    row: &'a GrantRow,
    run_no: i64,
}

impl Database {
    /// Opens attempts within a turn; `None` for those that came too late.
    pub(crate) async fn grant_all(
        &self,
        tx: &mut Tx,
        rows: &[GrantRow],
    ) -> Result<Vec<Option<Granted>>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut waiting = self.find_waiting(tx, rows).await?;
        let mut granted = Vec::with_capacity(rows.len());
        let mut opening = Vec::with_capacity(rows.len());
        for row in rows {
            // Once: a second grant of the same number came too late.
            let run = waiting.remove(&row.key);
            opening.extend(run.iter().map(|&(run_no, _)| Opening { row, run_no }));
            granted.push(run.map(|(_, run_json)| Granted { run_json, checkpoint: None }));
        }
        if opening.is_empty() {
            return Ok(granted);
        }
        open(tx, &opening).await.map_err(|error| self.failed(error))?;
        // A first attempt has nothing to go on from.
        let later = opening.iter().map(|one| &one.row.key).filter(|key| key.number > 1);
        let mut checkpoints = self.offer_checkpoints(tx, later).await?;
        for (row, granted) in rows.iter().zip(&mut granted) {
            if let Some(granted) = granted {
                granted.checkpoint = checkpoints.remove(&row.key.run);
            }
        }
        Ok(granted)
    }

    /// The runs that wait for these numbers, with their content.
    async fn find_waiting(
        &self,
        tx: &mut Tx,
        rows: &[GrantRow],
    ) -> Result<HashMap<AttemptKey, (i64, String)>, StoreError> {
        // `|| ''` keeps the index of states out of it: SQLite would walk all queued runs for each
        // key.
        macro_rules! waiting {
            ($list:literal) => {
                concat!(
                    "SELECT string_agg(run.id || $2 || CAST(key.number AS TEXT) || $2 \
                     || CAST(run.run_no AS TEXT) || $2 || run.run_json, $3) FROM ",
                    keys_of!($list),
                    " JOIN run ON run.id = key.id AND run.attempts = key.number - 1 \
                     WHERE run.state || '' = 'queued'"
                )
            };
        }
        let row = Query::of(waiting!("json_each($1)"), waiting!("unnest($1) AS packed (value)"))
            .bind(packed(rows.iter().map(|row| &row.key)))
            .bind(COLUMN)
            .bind(LINE)
            .fetch_one(tx)
            .await
            .map_err(|error| self.failed(error))?;
        let waiting: Option<String> = row.try_get(0).map_err(|error| self.failed(error))?;
        let read = |mut columns: Columns<'_>| -> Result<_, StoreError> {
            Ok((columns.key()?, (columns.value()?, columns.text()?.to_owned())))
        };
        lines(waiting.as_deref()).map(read).collect()
    }
}

/// The rows `opened` of what [`columns_of`] packed.
macro_rules! opened {
    ($list:literal) => {
        concat!(
            "(SELECT CAST(value ->> 0 AS BIGINT) AS run_no, \
             CAST(value ->> 1 AS BIGINT) AS number, value ->> 2 AS worker, \
             CAST(value ->> 3 AS BIGINT) AS incarnation, CAST(value ->> 4 AS BIGINT) AS slot, \
             value ->> 5 AS device_id, value ->> 6 AS device_name, value ->> 7 AS backend, \
             CAST(value ->> 8 AS BIGINT) AS unix_ms, value ->> 9 AS canary FROM ",
            $list,
            ") AS opened"
        )
    };
}

fn columns_of(&Opening { row, run_no }: &Opening<'_>) -> serde_json::Value {
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
}

/// Moves the runs to their next attempts.
async fn open(tx: &mut Tx, opening: &[Opening<'_>]) -> Result<(), sqlx::Error> {
    macro_rules! run {
        ($list:literal) => {
            concat!(
                "UPDATE run SET state = 'running', attempts = opened.number, reason = NULL FROM ",
                opened!($list),
                " WHERE run.run_no = opened.run_no AND run.attempts = opened.number - 1 \
                 AND run.state || '' = 'queued'"
            )
        };
    }
    macro_rules! attempt {
        ($list:literal) => {
            concat!(
                "INSERT INTO attempt (run_no, number, worker_no, incarnation, slot, device_id, \
                 device_name, backend, started_unix_ms, canary) \
                 SELECT run_no, number, (SELECT worker_no FROM worker WHERE worker.id = opened.worker), \
                 incarnation, slot, device_id, device_name, backend, unix_ms, canary FROM ",
                opened!($list)
            )
        };
    }
    let list = serde_json::Value::from(opening.iter().map(columns_of).collect::<Vec<_>>());
    let list = list.to_string();
    let statements = [
        Query::of(
            run!("json_each($1)"),
            run!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
        ),
        Query::of(
            attempt!("json_each($1)"),
            attempt!("json_array_elements(CAST($1 AS json)) AS packed (value)"),
        ),
    ];
    for statement in statements {
        let changed = statement.bind(list.as_str()).execute(&mut *tx).await?;
        all_of(opening.len(), changed)?;
    }
    Ok(())
}
