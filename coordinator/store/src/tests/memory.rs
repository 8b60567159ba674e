//! What only the store in memory must do.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_cut_short_is_there_as_a_whole_or_not_at_all() {
    let memory = Memory::new(Duration::from_millis(10));
    let store = Store::Memory(memory.clone());
    let submission = sweep('a', &[100, 200]);
    timeout(Duration::from_millis(4), store.submit(&submission)).await.unwrap_err();
    assert!(store.sweeps().await.unwrap().is_empty(), "cut before it was stored");
    timeout(Duration::from_millis(7), store.submit(&submission)).await.unwrap_err();
    // Nobody heard of it, and it is there: also for whoever starts anew.
    let other = Store::Memory(memory);
    assert_eq!(other.load().await.unwrap().runs.len(), 2);
    assert_eq!(other.submit(&submission).await.unwrap().runs_known, 2);
}
