//! Runs: what lists show, and changes of state.

use sweep_spec::{
    attempt::RunState,
    id::{RunId, SweepId},
    run::RunRole,
};

use crate::{
    database::Database,
    error::StoreError,
    point::value_of,
    record::{Facts, RunRecord, StateRow},
    sql::{Query, Row, Tx, query},
};

/// SQLite's integers are signed. Counts stay far below 2^63; one beyond it stays there.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count that was written by [`int`].
pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn role_name(role: RunRole) -> &'static str {
    match role {
        RunRole::Fit => "fit",
        RunRole::Check => "check",
        RunRole::Trunk => "trunk",
        RunRole::Sensitivity => "sensitivity",
    }
}

pub(crate) fn role(name: &str) -> Result<RunRole, StoreError> {
    match name {
        "fit" => Ok(RunRole::Fit),
        "check" => Ok(RunRole::Check),
        "trunk" => Ok(RunRole::Trunk),
        "sensitivity" => Ok(RunRole::Sensitivity),
        _ => Err(StoreError::Damaged { what: "role", value: name.to_owned() }),
    }
}

pub(crate) fn state(name: &str) -> Result<RunState, StoreError> {
    RunState::from_name(name)
        .ok_or_else(|| StoreError::Damaged { what: "state", value: name.to_owned() })
}

pub(crate) fn run_id(text: String) -> Result<RunId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "run id", value: text })
}

/// Whether a text can be the beginning of a run's id. Fewer digits are a typing error rather than a
/// choice.
pub(crate) fn may_begin_run(selector: &str) -> bool {
    const DIGITS_MIN: usize = 4;
    selector.len() >= DIGITS_MIN && selector.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The one run among those whose ids begin with the selector.
pub(crate) fn choose_run(selector: &str, mut ids: Vec<String>) -> Result<RunId, StoreError> {
    let selector = selector.to_owned();
    match ids.len() {
        0 => Err(StoreError::NotFound { kind: "run", selector }),
        1 => run_id(ids.remove(0)),
        count => Err(StoreError::Ambiguous { kind: "run", selector, count }),
    }
}

/// What lists show of a run; the sweep's part is joined before it.
macro_rules! record_columns {
    () => {
        "run.*, \
         (SELECT sum(measured_seconds) FROM attempt WHERE attempt.run_no = run.run_no) AS seconds, \
         (SELECT CAST(sum(points_thinned) AS BIGINT) FROM attempt \
          WHERE attempt.run_no = run.run_no) AS thinned, \
         (SELECT max(peak_memory_bytes) FROM attempt WHERE attempt.run_no = run.run_no) AS peak, \
         (SELECT max(step) FROM checkpoint WHERE checkpoint.run_no = run.run_no) AS checkpoint_step, \
         last.device_id, last.device_name, last.backend, last.canary, \
         device.refused AS device_refused, worker.id AS worker, worker.host, \
         latest.latest_step, latest.latest_loss, latest.latest_class \
         FROM run \
         LEFT JOIN attempt last ON last.run_no = run.run_no AND last.number = run.attempts \
         LEFT JOIN worker ON worker.worker_no = last.worker_no \
         LEFT JOIN device ON device.worker_no = last.worker_no AND device.id = last.device_id \
         LEFT JOIN ingest_cursor latest ON latest.attempt_no = \
             (SELECT attempt.attempt_no FROM attempt JOIN ingest_cursor USING (attempt_no) \
              WHERE attempt.run_no = run.run_no AND ingest_cursor.latest_class IS NOT NULL \
              ORDER BY attempt.number DESC LIMIT 1) "
    };
}

impl Database {
    pub(crate) async fn runs_page(
        &self,
        sweep: &SweepId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let rows = query(concat!(
            "SELECT page.position, page.role, page.budget_flops, page.tokens_requested, ",
            record_columns!(),
            "JOIN (SELECT sweep_run.* FROM sweep_run JOIN sweep USING (sweep_no) \
                   WHERE sweep.id = $1 AND sweep_run.position > $2 \
                   ORDER BY sweep_run.position LIMIT $3) page ON page.run_no = run.run_no \
             ORDER BY page.position"
        ))
        .bind(sweep.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.run_record(row)).collect()
    }

    pub(crate) async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        let row = query(concat!(
            "SELECT CAST(-1 AS BIGINT) AS position, NULL AS role, NULL AS budget_flops, NULL AS tokens_requested, ",
            record_columns!(),
            "WHERE run.id = $1"
        ))
        .bind(run.as_str())
        .fetch_optional(self.reader())
        .await
        .map_err(|error| self.failed(error))?
        .ok_or_else(|| StoreError::NotFound { kind: "run", selector: run.to_string() })?;
        self.run_record(&row)
    }

    pub(crate) async fn find_run(&self, selector: &str) -> Result<RunId, StoreError> {
        if !may_begin_run(selector) {
            return choose_run(selector, Vec::new());
        }
        // A range, so that the index serves it; `g` sorts behind every digit.
        let rows = query("SELECT id FROM run WHERE id >= $1 AND id < $1 || 'g' LIMIT 100")
            .bind(selector)
            .fetch_all(self.reader())
            .await
            .map_err(|error| self.failed(error))?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        choose_run(selector, ids.map_err(|error| self.failed(error))?)
    }

    /// Changes runs without a live attempt within a turn.
    pub(crate) async fn set_states(
        &self,
        tx: &mut Tx,
        rows: &[StateRow],
    ) -> Result<(), StoreError> {
        for row in rows {
            // Never over a live attempt or a finished run.
            query(
                "UPDATE run SET state = $1, reason = $2, failures_program = $3, \
                 failures_infrastructure = $4, failures_without_checkpoint = $5 \
                 WHERE id = $6 AND state IN ('queued', 'failed', 'cancelled')",
            )
            .bind(row.state.name())
            .bind(&row.reason)
            .bind(row.failures.program)
            .bind(row.failures.infrastructure)
            .bind(row.failures.without_checkpoint)
            .bind(row.run.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    pub(crate) async fn set_paused(&self, runs: &[RunId], paused: bool) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let ids: Vec<String> = runs.iter().map(RunId::to_string).collect();
        Query::of(
            "UPDATE run SET paused = $1 WHERE id IN (SELECT value FROM json_each($2))",
            "UPDATE run SET paused = $1 WHERE id = ANY ($2)",
        )
        .bind(paused)
        .bind(ids)
        .execute(&mut tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    pub(crate) async fn totals(&self) -> Result<Vec<(RunState, u64)>, StoreError> {
        let rows = query("SELECT state, count(*) FROM run GROUP BY state ORDER BY state")
            .fetch_all(self.reader())
            .await
            .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| {
                let name: String = row.try_get(0).map_err(|error| self.failed(error))?;
                let runs: i64 = row.try_get(1).map_err(|error| self.failed(error))?;
                Ok((state(&name)?, count(runs)))
            })
            .collect()
    }

    fn run_record(&self, row: &Row) -> Result<RunRecord, StoreError> {
        let failed = |error| self.failed(error);
        let id: String = row.try_get("id").map_err(failed)?;
        let state_text: String = row.try_get("state").map_err(failed)?;
        let role_text: Option<String> = row.try_get("role").map_err(failed)?;
        let (state, id) = (state(&state_text)?, run_id(id)?);
        let role = role_text.map(|text| role(&text)).transpose()?;
        let facts = read_facts(row).map_err(failed)?;
        read_record(row, id, state, role, facts).map_err(failed)
    }
}

fn read_record(
    row: &Row,
    id: RunId,
    state: RunState,
    role: Option<RunRole>,
    facts: Facts,
) -> Result<RunRecord, sqlx::Error> {
    let class: Option<i64> = row.try_get("latest_class")?;
    let thinned: Option<i64> = row.try_get("thinned")?;
    let optional = |column: &str| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>>(column)?.map(count))
    };
    Ok(RunRecord {
        id,
        position: row.try_get("position")?,
        role,
        budget_flops: row.try_get("budget_flops")?,
        tokens_requested: row.try_get("tokens_requested")?,
        facts,
        run_json: row.try_get("run_json")?,
        state,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("reason")?,
        paused: row.try_get("paused")?,
        latest_step: optional("latest_step")?,
        latest_loss: match class {
            None => None,
            Some(class) => Some(value_of(row.try_get("latest_loss")?, class)),
        },
        final_validation_loss: row.try_get("final_validation_loss")?,
        final_validation_bits_per_byte: row.try_get("final_validation_bits_per_byte")?,
        measured_seconds: row.try_get("seconds")?,
        points_thinned: thinned.map_or(0, count),
        worker: row.try_get("worker")?,
        host: row.try_get("host")?,
        device_id: row.try_get("device_id")?,
        device_name: row.try_get("device_name")?,
        backend: row.try_get("backend")?,
        canary: row.try_get("canary")?,
        device_refused: row.try_get("device_refused")?,
        peak_memory_bytes: optional("peak")?,
        checkpoint_step: optional("checkpoint_step")?,
    })
}

pub(crate) fn read_facts(row: &Row) -> Result<Facts, sqlx::Error> {
    let number = |column: &str| -> Result<u64, sqlx::Error> { Ok(count(row.try_get(column)?)) };
    let seed: String = row.try_get("seed")?;
    Ok(Facts {
        family: row.try_get("family")?,
        n_total: number("n_total")?,
        n_non_embedding: number("n_non_embedding")?,
        n_with_head: number("n_with_head")?,
        tokens: number("tokens")?,
        unique_tokens: number("unique_tokens")?,
        flops: row.try_get("flops")?,
        flops_6nd: row.try_get("flops_6nd")?,
        steps: number("steps")?,
        batch: row.try_get("batch")?,
        sequence: row.try_get("sequence")?,
        width: row.try_get("width")?,
        layers: row.try_get("layers")?,
        heads: row.try_get("heads")?,
        vocabulary: row.try_get("vocabulary")?,
        mlp: row.try_get("mlp")?,
        seed: seed.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        data_id: row.try_get("data_id")?,
        training_revision: row.try_get("training_revision")?,
        learning_rate: row.try_get("learning_rate")?,
        base_width: row.try_get("base_width")?,
        weight_decay: row.try_get("weight_decay")?,
        warmup_steps: number("warmup_steps")?,
        decay: row.try_get("decay")?,
        decay_parameter: row.try_get("decay_parameter")?,
        parent_run: row.try_get("parent_run")?,
        parent_step: row.try_get::<Option<i64>>("parent_step")?.map(count),
        own_tokens: number("own_tokens")?,
        own_flops: row.try_get("own_flops")?,
        own_flops_6nd: row.try_get("own_flops_6nd")?,
    })
}
