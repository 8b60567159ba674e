//! What operators asked for, newest kept.

use crate::{database::Database, error::StoreError, sql::query};

/// A change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Wall time, for display.
    pub unix_ms: i64,
    /// What the caller's token opens.
    pub role: String,
    /// The name that its certificate was made for, where it showed one.
    pub client: Option<String>,
    /// Where it came from.
    pub address: Option<String>,
    /// What it asked for.
    pub call: String,
    /// Of what.
    pub subject: String,
    /// What came of it.
    pub outcome: String,
}

/// Rows that are kept: years of an operator's changes, and a megabyte or two.
pub(crate) const AUDIT_MAX: i64 = 10_000;

impl Database {
    pub(crate) async fn note_audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        query(
            "INSERT INTO audit (unix_ms, role, client, address, call, subject, outcome) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.unix_ms)
        .bind(&row.role)
        .bind(&row.client)
        .bind(&row.address)
        .bind(&row.call)
        .bind(&row.subject)
        .bind(&row.outcome)
        .execute(&mut tx)
        .await
        .map_err(failed)?;
        query("DELETE FROM audit WHERE audit_no <= (SELECT max(audit_no) FROM audit) - $1")
            .bind(AUDIT_MAX)
            .execute(&mut tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    pub(crate) async fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let failed = |error| self.failed(error);
        let rows = query(
            "SELECT unix_ms, role, client, address, call, subject, outcome FROM audit \
             ORDER BY audit_no DESC LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(failed)?;
        let read = |row: &crate::sql::Row| -> Result<AuditRow, sqlx::Error> {
            Ok(AuditRow {
                unix_ms: row.try_get(0)?,
                role: row.try_get(1)?,
                client: row.try_get(2)?,
                address: row.try_get(3)?,
                call: row.try_get(4)?,
                subject: row.try_get(5)?,
                outcome: row.try_get(6)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}
