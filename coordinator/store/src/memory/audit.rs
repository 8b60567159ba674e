//! What operators asked for, in memory.

use super::Memory;
use crate::{
    audit::{AUDIT_MAX, AuditRow},
    error::StoreError,
};

impl Memory {
    pub(crate) async fn note_audit(&self, row: &AuditRow) -> Result<(), StoreError> {
        self.commit(|content| {
            content.audit.push_back(row.clone());
            if content.audit.len() > usize::try_from(AUDIT_MAX).unwrap_or(usize::MAX) {
                content.audit.pop_front();
            }
            Ok(())
        })
        .await
    }

    #[expect(clippy::unused_async, reason = "the same interface as the databases")]
    pub(crate) async fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.content().audit.iter().rev().take(limit as usize).cloned().collect())
    }
}
