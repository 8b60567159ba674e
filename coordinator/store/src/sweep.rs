//! Sweeps: handing in, finding, counting.

use sqlx::{Row as _, Transaction, sqlite::SqliteRow};
use sweep_spec::{attempt::RunState, id::SweepId};

use crate::{
    error::StoreError,
    record::{Facts, NewRun, NewSweep, StateCount, Submitted, SweepRecord},
    run::{count, int, role_name, state},
    sqlite::Sqlite,
};

type Tx = Transaction<'static, sqlx::Sqlite>;

impl Sqlite {
    pub(crate) async fn submit(&self, sweep: &NewSweep) -> Result<Submitted, StoreError> {
        let mut tx = self.begin().await?;
        let submitted = insert_sweep(&mut tx, sweep).await.map_err(|error| self.failed(error))?;
        tx.commit().await.map_err(|error| self.failed(error))?;
        Ok(submitted)
    }

    pub(crate) async fn mark_sweep(
        &self,
        sweep: &SweepId,
        cancelled: bool,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE sweep SET cancelled = ? WHERE id = ?")
            .bind(cancelled)
            .bind(sweep.as_str())
            .execute(&self.writer)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    pub(crate) async fn sweeps(&self) -> Result<Vec<SweepRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, submitted_unix_ms, cancelled FROM sweep ORDER BY sweep_no DESC",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.sweep_record(row)).collect()
    }

    pub(crate) async fn find_sweep(&self, selector: &str) -> Result<SweepRecord, StoreError> {
        let sweeps = self.sweeps().await?;
        // Latest first, so that a name means the latest sweep of that name.
        if let Some(found) =
            sweeps.iter().find(|sweep| sweep.id.as_str() == selector || sweep.name == selector)
        {
            return Ok(found.clone());
        }
        let matching: Vec<&SweepRecord> = sweeps
            .iter()
            .filter(|sweep| !selector.is_empty() && sweep.id.as_str().starts_with(selector))
            .collect();
        let selector = selector.to_owned();
        match matching.as_slice() {
            [] => Err(StoreError::NotFound { kind: "sweep", selector }),
            [found] => Ok((*found).clone()),
            many => Err(StoreError::Ambiguous { kind: "sweep", selector, count: many.len() }),
        }
    }

    pub(crate) async fn recipe(&self, sweep: &SweepId) -> Result<String, StoreError> {
        sqlx::query("SELECT recipe FROM sweep WHERE id = ?")
            .bind(sweep.as_str())
            .fetch_one(&self.reader)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| self.failed(error))
    }

    pub(crate) async fn counts(&self, sweep: &SweepId) -> Result<Vec<StateCount>, StoreError> {
        let rows = sqlx::query(
            "SELECT run.state, count(*) AS runs, total(run.tokens) AS tokens, \
                 total(run.flops) AS flops, total(run.flops_6nd) AS flops_6nd, \
                 total((SELECT sum(measured_seconds) FROM attempt \
                        WHERE attempt.run_no = run.run_no)) AS seconds \
             FROM sweep JOIN sweep_run USING (sweep_no) JOIN run USING (run_no) \
             WHERE sweep.id = ? GROUP BY run.state",
        )
        .bind(sweep.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| {
                let name: String = row.try_get("state").map_err(|error| self.failed(error))?;
                let read = || -> Result<StateCount, sqlx::Error> {
                    Ok(StateCount {
                        state: RunState::Queued,
                        runs: count(row.try_get("runs")?),
                        tokens: row.try_get("tokens")?,
                        flops: row.try_get("flops")?,
                        flops_6nd: row.try_get("flops_6nd")?,
                        measured_seconds: row.try_get("seconds")?,
                    })
                };
                let counted = read().map_err(|error| self.failed(error))?;
                Ok(StateCount { state: state(&name)?, ..counted })
            })
            .collect()
    }

    fn sweep_record(&self, row: &SqliteRow) -> Result<SweepRecord, StoreError> {
        let read = || -> Result<(String, String, i64, bool), sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (id, name, submitted_unix_ms, cancelled) =
            read().map_err(|error| self.failed(error))?;
        let id = id.parse().map_err(|_| StoreError::Damaged { what: "sweep id", value: id })?;
        Ok(SweepRecord { id, name, submitted_unix_ms, cancelled })
    }
}

async fn insert_sweep(tx: &mut Tx, sweep: &NewSweep) -> Result<Submitted, sqlx::Error> {
    // The recipe of an equal sweep may differ in comments and in its fit: the latest counts.
    let sweep_no: i64 = sqlx::query(
        "INSERT INTO sweep (id, name, recipe, submitted_unix_ms) VALUES (?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET recipe = excluded.recipe, cancelled = 0 \
         RETURNING sweep_no",
    )
    .bind(sweep.id.as_str())
    .bind(&sweep.name)
    .bind(&sweep.recipe)
    .bind(sweep.unix_ms)
    .fetch_one(&mut **tx)
    .await?
    .try_get(0)?;
    let mut submitted = Submitted::default();
    for (position, new) in (0_i64..).zip(&sweep.runs) {
        let run_no = insert_run(tx, new, &mut submitted).await?;
        sqlx::query(
            "INSERT INTO sweep_run (sweep_no, run_no, position, role, budget_flops, \
             tokens_requested) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sweep_no, run_no) DO NOTHING",
        )
        .bind(sweep_no)
        .bind(run_no)
        .bind(position)
        .bind(role_name(new.role))
        .bind(new.budget_flops)
        .bind(new.tokens_requested)
        .execute(&mut **tx)
        .await?;
    }
    let earlier = sqlx::query(
        "SELECT id FROM sweep WHERE name = ? AND sweep_no <> ? AND cancelled = 0 ORDER BY sweep_no",
    )
    .bind(&sweep.name)
    .bind(sweep_no)
    .fetch_all(&mut **tx)
    .await?;
    for row in earlier {
        let id: String = row.try_get(0)?;
        let id = id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        submitted.earlier.push(id);
    }
    Ok(submitted)
}

/// Stores a run that is new; one that is known keeps its state, except that a run nobody wanted is
/// wanted again.
async fn insert_run(
    tx: &mut Tx,
    new: &NewRun,
    submitted: &mut Submitted,
) -> Result<i64, sqlx::Error> {
    let id = new.run.config.id();
    let json = sweep_spec::hash::canonical_json(&new.run);
    let known = sqlx::query("SELECT run_no, state FROM run WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let Some(known) = known else {
        submitted.runs_new += 1;
        return insert_facts(tx, id.as_str(), &json, &Facts::of(&new.run)).await;
    };
    let run_no: i64 = known.try_get(0)?;
    let state: String = known.try_get(1)?;
    match state.as_str() {
        "finished" | "diverged" => {
            submitted.runs_finished += 1;
            return Ok(run_no);
        }
        "failed" => submitted.runs_failed += 1,
        _ => {}
    }
    submitted.runs_known += 1;
    // Where the data lies and how it is evaluated are no part of the identity: the latest counts.
    sqlx::query("UPDATE run SET run_json = ? WHERE run_no = ? AND state <> 'running'")
        .bind(&json)
        .bind(run_no)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "UPDATE run SET state = 'queued', reason = NULL, failures_program = 0, \
         failures_infrastructure = 0, failures_without_checkpoint = 0 \
         WHERE run_no = ? AND state = 'cancelled'",
    )
    .bind(run_no)
    .execute(&mut **tx)
    .await?;
    Ok(run_no)
}

async fn insert_facts(
    tx: &mut Tx,
    id: &str,
    json: &str,
    facts: &Facts,
) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "INSERT INTO run (id, run_json, family, n_total, n_non_embedding, n_with_head, tokens, \
         unique_tokens, flops, flops_6nd, steps, batch, sequence, width, layers, heads, vocabulary, \
         mlp, seed, data_id, training_revision, learning_rate, base_width, weight_decay, \
         warmup_steps, decay, decay_parameter) \
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING run_no",
    )
    .bind(id)
    .bind(json)
    .bind(&facts.family)
    .bind(int(facts.n_total))
    .bind(int(facts.n_non_embedding))
    .bind(int(facts.n_with_head))
    .bind(int(facts.tokens))
    .bind(int(facts.unique_tokens))
    .bind(facts.flops)
    .bind(facts.flops_6nd)
    .bind(int(facts.steps))
    .bind(facts.batch)
    .bind(facts.sequence)
    .bind(facts.width)
    .bind(facts.layers)
    .bind(facts.heads)
    .bind(facts.vocabulary)
    .bind(&facts.mlp)
    .bind(facts.seed.to_string())
    .bind(&facts.data_id)
    .bind(facts.training_revision)
    .bind(facts.learning_rate)
    .bind(facts.base_width)
    .bind(facts.weight_decay)
    .bind(int(facts.warmup_steps))
    .bind(&facts.decay)
    .bind(facts.decay_parameter)
    .fetch_one(&mut **tx)
    .await?
    .try_get(0)
}
