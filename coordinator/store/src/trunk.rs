//! Trunks: what handing one in again makes of it, and where its checkpoints lie.
//!
//! The end and the forks of a trunk are no part of its identity, so that a larger D that is asked
//! for later extends the trunk that is there.

use sweep_spec::{attempt::RunState, id::RunId, run::Run};

use crate::{
    database::Database,
    error::StoreError,
    record::Facts,
    run::{count, int},
    sql::{Tx, query},
};

/// A known trunk once it is handed in again, and its state: the later end and the forks of both,
/// everything else as it was handed in last. One that was finished and now ends later waits again;
/// a live attempt goes on to the end it was granted.
pub(crate) fn extended(stored: &Run, state: RunState, new: &Run) -> (Run, RunState) {
    let merged = new.extended_by(stored);
    let waits = state == RunState::Finished && merged.config.steps > stored.config.steps;
    (merged, if waits { RunState::Queued } else { state })
}

/// Stores what [`extended`] makes of a trunk; gives its state.
pub(crate) async fn extend(
    tx: &mut Tx,
    run_no: i64,
    state: &str,
    stored: &str,
    new: &Run,
) -> Result<String, sqlx::Error> {
    let stored: Run =
        serde_json::from_str(stored).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let known = RunState::from_name(state)
        .ok_or_else(|| sqlx::Error::Decode(format!("`{state}` is no state of a run").into()))?;
    let (merged, now) = extended(&stored, known, new);
    let facts = Facts::of(&merged);
    query(
        "UPDATE run SET run_json = $1, state = $2, steps = $3, tokens = $4, flops = $5, \
         flops_6nd = $6, own_tokens = $7, own_flops = $8, own_flops_6nd = $9 WHERE run_no = $10",
    )
    .bind(sweep_spec::hash::canonical_json(&merged))
    .bind(now.name())
    .bind(int(facts.steps))
    .bind(int(facts.tokens))
    .bind(facts.flops)
    .bind(facts.flops_6nd)
    .bind(int(facts.own_tokens))
    .bind(facts.own_flops)
    .bind(facts.own_flops_6nd)
    .bind(run_no)
    .execute(&mut *tx)
    .await?;
    Ok(now.name().to_owned())
}

impl Database {
    /// Committed steps of a run in step order, each with every worker that wrote its checkpoint.
    pub(crate) async fn checkpoint_holders(
        &self,
        run: &RunId,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let rows = query(
            "SELECT DISTINCT checkpoint.step, worker.id FROM run \
             JOIN checkpoint USING (run_no) JOIN worker USING (worker_no) \
             WHERE run.id = $1 ORDER BY checkpoint.step, worker.id",
        )
        .bind(run.as_str())
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|row| Ok((count(row.try_get(0)?), row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| self.failed(error))
    }
}
