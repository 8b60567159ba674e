//! Sweeps: handing in, finding, counting.

use sweep_spec::{attempt::RunState, id::SweepId};

use crate::{
    database::Database,
    error::StoreError,
    record::{Facts, NewRun, NewSweep, StateCount, Submitted, SweepRecord},
    run::{count, int, role_name, state},
    sql::{Row, Tx, query},
    trunk::extend,
};

impl Database {
    pub(crate) async fn submit(&self, sweep: &NewSweep) -> Result<Submitted, StoreError> {
        let mut tx = self.begin().await?;
        let submitted = insert_sweep(&mut tx, sweep).await.map_err(|error| self.failed(error))?;
        tx.commit().await.map_err(|error| self.failed(error))?;
        Ok(submitted)
    }

    pub(crate) async fn sweeps(&self) -> Result<Vec<SweepRecord>, StoreError> {
        let rows = query(
            "SELECT id, name, submitted_unix_ms, cancelled, planned_seconds FROM sweep \
             ORDER BY sweep_no DESC",
        )
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter().map(|row| self.sweep_record(row)).collect()
    }

    pub(crate) async fn find_sweep(&self, selector: &str) -> Result<SweepRecord, StoreError> {
        choose_sweep(&self.sweeps().await?, selector)
    }

    pub(crate) async fn recipe(&self, sweep: &SweepId) -> Result<String, StoreError> {
        query("SELECT recipe FROM sweep WHERE id = $1")
            .bind(sweep.as_str())
            .fetch_one(self.reader())
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| self.failed(error))
    }

    pub(crate) async fn counts(&self, sweep: &SweepId) -> Result<Vec<StateCount>, StoreError> {
        let rows = query(
            "SELECT run.state, count(*) AS runs, CAST(sum(run.own_tokens) AS DOUBLE PRECISION) AS tokens, \
                 sum(run.own_flops) AS flops, sum(run.own_flops_6nd) AS flops_6nd, \
                 coalesce(sum((SELECT sum(measured_seconds) FROM attempt \
                        WHERE attempt.run_no = run.run_no)), 0.0) AS seconds, \
                 max((SELECT max(ended_unix_ms) FROM attempt \
                      WHERE attempt.run_no = run.run_no)) AS ended_unix_ms \
             FROM sweep JOIN sweep_run USING (sweep_no) JOIN run USING (run_no) \
             WHERE sweep.id = $1 GROUP BY run.state ORDER BY run.state",
        )
        .bind(sweep.as_str())
        .fetch_all(self.reader())
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
                        ended_unix_ms: row.try_get("ended_unix_ms")?,
                    })
                };
                let counted = read().map_err(|error| self.failed(error))?;
                Ok(StateCount { state: state(&name)?, ..counted })
            })
            .collect()
    }

    fn sweep_record(&self, row: &Row) -> Result<SweepRecord, StoreError> {
        let failed = |error| self.failed(error);
        let id: String = row.try_get(0).map_err(failed)?;
        Ok(SweepRecord {
            id: id.parse().map_err(|_| StoreError::Damaged { what: "sweep id", value: id })?,
            name: row.try_get(1).map_err(failed)?,
            submitted_unix_ms: row.try_get(2).map_err(failed)?,
            cancelled: row.try_get(3).map_err(failed)?,
            planned_seconds: row.try_get(4).map_err(failed)?,
        })
    }
}

/// The sweep of this id, unique beginning of an id, or name. Sweeps come latest first, so that a
/// name means the latest of that name.
pub(crate) fn choose_sweep(
    sweeps: &[SweepRecord],
    selector: &str,
) -> Result<SweepRecord, StoreError> {
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

async fn insert_sweep(tx: &mut Tx, sweep: &NewSweep) -> Result<Submitted, sqlx::Error> {
    // The recipe of an equal sweep may differ in comments and in its fit: the latest counts.
    let sweep_no: i64 = query(
        "INSERT INTO sweep (id, name, recipe, submitted_unix_ms, planned_seconds) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET recipe = excluded.recipe, cancelled = FALSE, \
         planned_seconds = coalesce(sweep.planned_seconds, excluded.planned_seconds) \
         RETURNING sweep_no",
    )
    .bind(sweep.id.as_str())
    .bind(&sweep.name)
    .bind(&sweep.recipe)
    .bind(sweep.unix_ms)
    .bind(sweep.planned_seconds.filter(|seconds| seconds.is_finite()))
    .fetch_one(&mut *tx)
    .await?
    .try_get(0)?;
    let mut submitted = Submitted::default();
    for (position, new) in (0_i64..).zip(&sweep.runs) {
        let run_no = insert_run(tx, new, &mut submitted).await?;
        query(
            "INSERT INTO sweep_run (sweep_no, run_no, position, role, budget_flops, \
             tokens_requested) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (sweep_no, run_no) DO NOTHING",
        )
        .bind(sweep_no)
        .bind(run_no)
        .bind(position)
        .bind(role_name(new.role))
        .bind(new.budget_flops)
        .bind(new.tokens_requested)
        .execute(&mut *tx)
        .await?;
    }
    let earlier = query(
        "SELECT id FROM sweep WHERE name = $1 AND sweep_no <> $2 AND NOT cancelled ORDER BY sweep_no",
    )
    .bind(&sweep.name)
    .bind(sweep_no)
    .fetch_all(&mut *tx)
    .await?;
    for row in earlier {
        submitted.earlier.push(row.try_get(0)?);
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
    let known = query("SELECT run_no, state, run_json, dropped FROM run WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    let Some(known) = known else {
        submitted.runs_new += 1;
        return insert_facts(tx, id.as_str(), &json, &Facts::of(&new.run)).await;
    };
    let run_no: i64 = known.try_get(0)?;
    let mut state: String = known.try_get(1)?;
    if known.try_get::<bool>(3)? {
        query("UPDATE run SET dropped = FALSE WHERE run_no = $1")
            .bind(run_no)
            .execute(&mut *tx)
            .await?;
    }
    if new.run.config.is_trunk() {
        let stored: String = known.try_get(2)?;
        state = extend(tx, run_no, &state, &stored, &new.run).await?;
    }
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
    if !new.run.config.is_trunk() {
        query("UPDATE run SET run_json = $1 WHERE run_no = $2 AND state <> 'running'")
            .bind(&json)
            .bind(run_no)
            .execute(&mut *tx)
            .await?;
    }
    query(
        "UPDATE run SET state = 'queued', reason = NULL, failures_program = 0, \
         failures_infrastructure = 0, failures_without_checkpoint = 0 \
         WHERE run_no = $1 AND state = 'cancelled'",
    )
    .bind(run_no)
    .execute(&mut *tx)
    .await?;
    Ok(run_no)
}

async fn insert_facts(
    tx: &mut Tx,
    id: &str,
    json: &str,
    facts: &Facts,
) -> Result<i64, sqlx::Error> {
    query(
        "INSERT INTO run (id, run_json, family, n_total, n_non_embedding, n_with_head, tokens, \
         unique_tokens, flops, flops_6nd, steps, batch, sequence, width, layers, heads, vocabulary, \
         mlp, seed, data_id, training_revision, learning_rate, base_width, weight_decay, \
         warmup_steps, decay, decay_parameter, parent_run, parent_step, own_tokens, own_flops, \
         own_flops_6nd) \
         VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29,$30,$31,$32) RETURNING run_no",
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
    .bind(&facts.parent_run)
    .bind(facts.parent_step.map(int))
    .bind(int(facts.own_tokens))
    .bind(facts.own_flops)
    .bind(facts.own_flops_6nd)
    .fetch_one(&mut *tx)
    .await?
    .try_get(0)
}
