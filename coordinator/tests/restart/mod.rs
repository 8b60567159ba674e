//! What was asked for before a restart holds after it.

use sweep_proto::v1;

use crate::support::{self, FakeWorker, Served, grid, submit};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_that_was_cancelled_stays_so_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    submit(&mut control, "single", &grid(&[100], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();
    let runs = vec![key.run_id.clone()];
    let request = v1::CancelSweepRequest { sweep: "single".into(), runs };
    let reply = control.cancel_sweep(request).await.unwrap().into_inner();
    assert_eq!((reply.runs_cancelled, reply.runs_stopping), (1, 1));
    assert_eq!(worker.next_kill().await.key, Some(key.clone()));
    drop((worker, control));
    served.stop().await;

    // It stopped in between, and its worker starts anew without it.
    let served = Served::start(folder.path()).await;
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 2, Vec::new()).await.unwrap();
    let mut control = served.connect().await.control();
    let rows = support::rows(&mut control, "single").await;
    assert_eq!(rows[0].state, i32::from(v1::RunState::Cancelled));
    let explain = v1::ExplainRunRequest { run: key.run_id.clone() };
    let lines = control.explain_run(explain).await.unwrap().into_inner().lines;
    assert!(!lines[0].contains("no reason is kept"), "{lines:?}");
    let retry = v1::RetryRunsRequest { sweep: "single".into(), ..Default::default() };
    control.retry_runs(retry).await.unwrap();
    assert_eq!(worker.next_grant().await.key, Some(support::attempt(&key, 2)));
    served.stop().await;
}
