//! A turn of a coordinator: what it ends, changes and grants, in one commit. A commit waits for the
//! disk, which takes longer than all that is written.

use sweep_spec::id::{RunId, SweepId};

use crate::{
    database::{Database, Retry},
    error::StoreError,
    record::{Applied, EndRow, GrantRow, Granted, StateRow},
    sql::{Query, Tx, query},
};

/// What a coordinator decided in one turn. It is stored in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Sweeps that are given up, or wanted again.
    pub marks: Vec<(SweepId, bool)>,
    /// Runs that are given up by themselves, or no longer.
    pub drops: Vec<(RunId, bool)>,
    /// Attempts that ended.
    pub ends: Vec<EndRow>,
    /// Changes of runs without a live attempt.
    pub states: Vec<StateRow>,
    /// Attempts to open.
    pub grants: Vec<GrantRow>,
}

/// What became of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// Of each end.
    pub ends: Vec<Applied>,
    /// Of each grant; `None` for one that came too late.
    pub grants: Vec<Option<Granted>>,
}

impl Database {
    /// Stores a turn. While the database is away for a moment it is tried again, unless an attempt
    /// may have been opened: whether a commit whose answer was lost took place is unknown, and the
    /// second of two equal grants is refused.
    pub(crate) async fn turn(&self, turn: &Turn) -> Result<Turned, StoreError> {
        let mut retry = Retry::default();
        loop {
            let (done, repeatable) = match self.write(turn).await {
                Ok((tx, turned)) => {
                    let done = tx.commit().await.map_err(|error| self.failed(error));
                    (done.map(|()| turned), turn.grants.is_empty())
                }
                Err(error) => (Err(error), true),
            };
            match done {
                Err(error) if repeatable && retry.again(&error).await => {}
                done => return done,
            }
        }
    }

    /// Writes a turn and does not commit it.
    async fn write(&self, turn: &Turn) -> Result<(Tx, Turned), StoreError> {
        let mut tx = self.begin().await?;
        self.mark_sweeps(&mut tx, &turn.marks).await?;
        self.set_dropped(&mut tx, &turn.drops).await?;
        let ends = self.end_all(&mut tx, &turn.ends).await?;
        self.set_states(&mut tx, &turn.states).await?;
        let grants = self.grant_all(&mut tx, &turn.grants).await?;
        Ok((tx, Turned { ends, grants }))
    }

    async fn mark_sweeps(&self, tx: &mut Tx, marks: &[(SweepId, bool)]) -> Result<(), StoreError> {
        for (sweep, cancelled) in marks {
            query("UPDATE sweep SET cancelled = $1 WHERE id = $2")
                .bind(*cancelled)
                .bind(sweep.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// One statement for each of the two: many runs are given up at once.
    async fn set_dropped(&self, tx: &mut Tx, drops: &[(RunId, bool)]) -> Result<(), StoreError> {
        for dropped in [true, false] {
            let ids: Vec<String> = drops
                .iter()
                .filter(|(_, to)| *to == dropped)
                .map(|(run, _)| run.to_string())
                .collect();
            if ids.is_empty() {
                continue;
            }
            Query::of(
                "UPDATE run SET dropped = $1 WHERE id IN (SELECT value FROM json_each($2))",
                "UPDATE run SET dropped = $1 WHERE id = ANY ($2)",
            )
            .bind(dropped)
            .bind(ids)
            .execute(&mut *tx)
            .await
            .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }
}
