//! The terms of sweeps.

use sweep_spec::{id::SweepId, policy::Policy};

use crate::{database::Database, error::StoreError, sql::query};

/// The text in the column, and back.
pub(crate) fn text_of(policy: &Policy) -> String {
    serde_json::to_string(policy).expect("numbers and flags have a JSON form")
}

/// A row of the table.
pub(crate) fn read(id: String, text: &str) -> Result<(SweepId, Policy), StoreError> {
    let damaged = |what, value| StoreError::Damaged { what, value };
    let policy = serde_json::from_str(text)
        .map_err(|error| damaged("policy", format!("{text}: {error}")))?;
    let id = id.parse().map_err(|_| damaged("sweep id", id))?;
    Ok((id, policy))
}

impl Database {
    pub(crate) async fn set_policy(
        &self,
        sweep: &SweepId,
        policy: &Policy,
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        query(
            "INSERT INTO sweep_policy (sweep_id, policy) VALUES ($1, $2) \
             ON CONFLICT (sweep_id) DO UPDATE SET policy = excluded.policy",
        )
        .bind(sweep.as_str())
        .bind(text_of(policy))
        .execute(&mut tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    pub(crate) async fn policies(&self) -> Result<Vec<(SweepId, Policy)>, StoreError> {
        let failed = |error| self.failed(error);
        let rows = query("SELECT sweep_id, policy FROM sweep_policy ORDER BY sweep_id")
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get(1).map_err(failed)?;
                read(row.try_get(0).map_err(failed)?, &text)
            })
            .collect()
    }
}
