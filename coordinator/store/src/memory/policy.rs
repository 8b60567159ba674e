//! The terms of sweeps and the pauses of runs, in memory.

use sweep_spec::{
    id::{RunId, SweepId},
    policy::Policy,
};

use super::Memory;
use crate::{
    error::StoreError,
    policy::{read, text_of},
};

impl Memory {
    pub(crate) async fn set_policy(
        &self,
        sweep: &SweepId,
        policy: &Policy,
    ) -> Result<(), StoreError> {
        let (id, text) = (sweep.as_str().to_owned(), text_of(policy));
        self.commit(|content| {
            content.policies.insert(id, text);
            Ok(())
        })
        .await
    }

    pub(crate) async fn set_paused(&self, runs: &[RunId], paused: bool) -> Result<(), StoreError> {
        self.commit(|content| {
            for id in runs {
                if let Some(run) = content.run_mut(id) {
                    run.paused = paused;
                }
            }
            Ok(())
        })
        .await
    }

    #[expect(clippy::unused_async, reason = "the same interface as the databases")]
    pub(crate) async fn policies(&self) -> Result<Vec<(SweepId, Policy)>, StoreError> {
        let content = self.content();
        content.policies.iter().map(|(id, text)| read(id.clone(), text)).collect()
    }
}
