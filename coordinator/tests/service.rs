//! A real client over a real loopback socket against a coordinator on SQLite in a scratch folder.

mod leftovers;
mod limits;
mod monitoring;
mod noise;
mod postgres;
mod restart;
mod support;
mod tls;

use support::{FakeWorker, Served, attempt, batch, grid, submit};
use sweep_proto::{access::Access, client::Connection, fault::Fault, v1};
use sweep_spec::attempt::Ending;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_goes_from_submission_to_results_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    let grid = grid(&[100, 300], &[900]);
    let reply = submit(&mut control, "first", &grid).await.unwrap();
    assert_eq!((reply.runs_new, reply.runs_finished), (3, 0));
    // Again: nothing new.
    let again = submit(&mut control, "first", &grid).await.unwrap();
    assert_eq!((again.runs_new, again.runs_known, again.sweep_id.clone()), (0, 3, reply.sweep_id));

    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..3 {
        let grant = worker.next_grant().await;
        let key = grant.key.clone().unwrap();
        let run: sweep_spec::run::Run = serde_json::from_str(&grant.run_json).unwrap();
        assert_eq!(run.config.id().to_string(), key.run_id);
        order.push(run.config.steps);
        worker.train(&key, run.config.steps).await;
    }
    assert_eq!(order, [300, 100, 900], "longest first, the check last");

    let rows = support::rows(&mut control, "first").await;
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row.state, i32::from(v1::RunState::Finished));
        assert_eq!(row.final_validation_loss, Some(2.5));
        assert_eq!((row.attempts, row.measured_seconds), (1, Some(1.5)));
        assert_eq!(row.device_name.as_deref(), Some("AMD EPYC"));
    }
    let mut watch =
        control.watch_sweep(v1::WatchSweepRequest { sweep: "first".into() }).await.unwrap();
    let progress = watch.get_mut().message().await.unwrap().unwrap();
    assert!(progress.done);
    assert_eq!(progress.counts.unwrap().finished, 3);
    served.stop().await;

    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    // As text: a NaN is a value here, and does not equal itself.
    let kept = support::rows(&mut control, "first").await;
    assert_eq!(format!("{kept:?}"), format!("{rows:?}"), "a restart keeps everything");
    let again = submit(&mut control, "first", &grid).await.unwrap();
    assert_eq!((again.runs_new, again.runs_finished), (0, 3));
    let curves = support::curves(&mut control, "first", "train/loss", None).await;
    assert_eq!(curves.len(), 3);
    assert!(curves.iter().all(|curve| curve.steps == [1, 2] && curve.values[1].is_nan()));
    // Its worker handed no checkpoint in.
    let request = v1::GetCheckpointRequest { run: rows[0].run_id.clone() };
    let refused = control.get_checkpoint(request).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::NotFound));
    assert!(refused.message().contains("hint:"), "{}", refused.message());
    let few = support::curves(&mut control, "first", "train/loss", Some(1)).await;
    assert_eq!((few[0].buckets.len(), few[0].buckets[0].not_finite), (1, 1));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    submit(&mut control, "points", &grid(&[100], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();

    use v1::point_ack::Kind;
    let acks = worker
        .report(vec![
            batch(&key, 1, &[(1, 5.0), (2, 4.0)]),
            batch(&key, 1, &[(1, 9.0), (2, 9.0)]),
            batch(&key, 3, &[(4, 3.0)]),
            batch(&key, 2, &[(3, 3.5)]),
            batch(&attempt(&key, 7), 1, &[(1, 1.0)]),
        ])
        .await;
    let kinds: Vec<(i32, u64)> = acks.iter().map(|ack| (ack.kind, ack.seq)).collect();
    let expected = [
        (Kind::Durable, 1),
        (Kind::Durable, 1),
        (Kind::Resend, 1),
        (Kind::Durable, 2),
        (Kind::Fenced, 0),
    ];
    assert_eq!(kinds, expected.map(|(kind, seq)| (i32::from(kind), seq)));
    let curve = support::curves(&mut control, "points", "train/loss", None).await.remove(0);
    assert_eq!((curve.steps, curve.values), (vec![1, 2, 3], vec![5.0, 4.0, 3.5]));

    // A checkpoint or an end that needs points beyond them has to wait.
    let early = worker.checkpoint(&key, 3, 9).await.unwrap_err();
    assert_eq!(Fault::of(&early), Some(Fault::PointsMissing));
    worker.checkpoint(&key, 3, 2).await.unwrap();
    let early = worker.finish(&key, Ending::Finished { step: 100 }, 9).await.unwrap_err();
    assert_eq!(Fault::of(&early), Some(Fault::PointsMissing));
    worker.finish(&key, Ending::Finished { step: 100 }, 2).await.unwrap();
    worker.finish(&key, Ending::Finished { step: 100 }, 2).await.unwrap();
    let never = attempt(&key, 2);
    let late = worker.finish(&never, Ending::Finished { step: 100 }, 0).await.unwrap_err();
    assert_eq!(Fault::of(&late), Some(Fault::Fenced));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_attempt_owns_the_steps_beyond_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    submit(&mut control, "resume", &grid(&[100], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let first = worker.next_grant().await.key.unwrap();
    worker.report(vec![batch(&first, 1, &[(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.9)])]).await;
    worker.checkpoint(&first, 2, 1).await.unwrap();
    // The daemon starts anew and holds nothing.
    drop(worker);
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 2, Vec::new()).await.unwrap();
    let grant = worker.next_grant().await;
    let second = grant.key.clone().unwrap();
    assert_eq!(second.attempt, 2);
    assert_eq!(grant.checkpoint.map(|found| found.step), Some(2));
    let mut resumed = batch(&second, 1, &[(3, 3.1), (4, 3.0)]);
    resumed.resume_step = 2;
    let stale = batch(&first, 2, &[(5, 1.0)]);
    let mut wrong = batch(&second, 2, &[(2, 7.0)]);
    wrong.resume_step = 2;
    let acks = worker.report(vec![resumed, stale, wrong]).await;
    use v1::point_ack::Kind;
    let kinds: Vec<i32> = acks.iter().map(|ack| ack.kind).collect();
    assert_eq!(kinds, [Kind::Durable, Kind::Fenced, Kind::Refused].map(i32::from));
    let curve = support::curves(&mut control, "resume", "train/loss", None).await.remove(0);
    assert_eq!((curve.steps, curve.values), (vec![1, 2, 3, 4], vec![5.0, 4.0, 3.1, 3.0]));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_or_another_version_stays_out() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut wrong = served.access.clone();
    wrong.token = "0".repeat(64);
    let mut control = Connection::open(&wrong).await.unwrap().control();
    let refused = control.get_info(v1::GetInfoRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), Fault::of(&refused)), (Code::Unauthenticated, Some(Fault::Token)));
    assert!(refused.message().contains("hint:"), "{refused}");

    let other = Connection::open_as(&served.access, "9.9.9+r7").await.unwrap();
    let refused = FakeWorker::join(other, "w-1", 1, Vec::new()).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(Fault::of(&refused), Some(Fault::Version));
    let ours = sweep_proto::version();
    assert!(refused.message().contains("9.9.9+r7") && refused.message().contains(&ours));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_coordinator_and_a_used_port_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let listener = coordinator::bind("127.0.0.1:0").await.unwrap();
    let second = coordinator::Coordinator::prepare(served.config.clone(), listener).await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("belongs to a running coordinator"), "{error}");
    // The access file is still that of the first.
    assert!(served.connect().await.control().get_info(v1::GetInfoRequest {}).await.is_ok());

    let port = served.access.address.rsplit(':').next().unwrap();
    let error = coordinator::bind(port).await.unwrap_err().to_string();
    assert!(error.contains("is in use") && error.contains("hint:"), "{error}");
    let error = coordinator::bind("nowhere").await.unwrap_err().to_string();
    assert!(error.contains("is no address"), "{error}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_submissions_name_their_field() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    let grid = grid(&[100], &[]);
    let mut parts = support::parts("bad", &grid);
    if let Some(v1::submit_sweep_request::Part::Run(run)) = &mut parts[1].part {
        run.run_json = run.run_json.replace("\"batch\":16", "\"batch\":17");
    }
    let refused = control.submit_sweep(tokio_stream::iter(parts)).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::Field));
    assert!(refused.message().starts_with("run[0].run_json: is run"), "{refused}");
    let refused =
        control.get_sweep(v1::GetSweepRequest { sweep: "none".into() }).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::NotFound));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_and_an_explanation_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    let grid = grid(&[100, 300], &[]);
    submit(&mut control, "cancel", &grid).await.unwrap();
    let waiting = grid.runs[0].run.config.id().to_string();
    let explain = v1::ExplainRunRequest { run: waiting[..8].to_owned() };
    let reply = control.explain_run(explain).await.unwrap().into_inner();
    assert!(reply.lines[0].contains("No worker is online"), "{:?}", reply.lines);

    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();
    let request = v1::CancelSweepRequest { sweep: "cancel".into(), runs: Vec::new() };
    let reply = control.cancel_sweep(request).await.unwrap().into_inner();
    assert_eq!((reply.runs_cancelled, reply.runs_stopping), (2, 1));
    assert_eq!(worker.next_kill().await.key, Some(key.clone()));
    worker.finish(&key, Ending::Stopped { step: 7 }, 0).await.unwrap();
    let rows = support::rows(&mut control, "cancel").await;
    assert!(rows.iter().all(|row| row.state == i32::from(v1::RunState::Cancelled)));
    // Handing it in again takes it up.
    submit(&mut control, "cancel", &grid).await.unwrap();
    worker.beat(&[], true).await;
    assert_eq!(worker.next_grant().await.key, Some(attempt(&key, 2)));
    let workers = control.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
    let worker = &workers.workers[0];
    assert_eq!(worker.state, i32::from(v1::WorkerState::Online));
    assert_eq!(worker.devices[1].refused.as_deref(), Some("its canary failed"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_role_needs_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let of = |file: &str| Access::read(&folder.path().join("state").join(file)).unwrap();
    let reader = Connection::open(&of("reader-access.json")).await.unwrap();
    let worker = Connection::open(&of("worker-access.json")).await.unwrap();

    let mut operator = served.connect().await.control();
    let grid = grid(&[100], &[]);
    submit(&mut operator, "first", &grid).await.unwrap();
    assert_eq!(support::rows(&mut reader.control(), "first").await.len(), 1);

    let refused = |status: &tonic::Status, file: &str| {
        assert_eq!(Fault::of(status), Some(Fault::Role), "{status:?}");
        assert!(status.message().contains(file), "{status:?}");
    };
    let denied = submit(&mut reader.control(), "second", &grid).await.unwrap_err();
    refused(&denied, "access.json");
    let cancel = v1::CancelSweepRequest { sweep: "first".into(), ..Default::default() };
    refused(&reader.control().cancel_sweep(cancel).await.unwrap_err(), "access.json");
    let update = v1::UpdateSweepRequest { sweep: "first".into(), ..Default::default() };
    refused(&reader.control().update_sweep(update).await.unwrap_err(), "access.json");
    let retry = v1::RetryRunsRequest { sweep: "first".into(), ..Default::default() };
    refused(&reader.control().retry_runs(retry).await.unwrap_err(), "access.json");
    let drain = v1::DrainWorkerRequest { worker_id: "w-1".into() };
    refused(&reader.control().drain_worker(drain).await.unwrap_err(), "access.json");
    let info = worker.control().get_info(v1::GetInfoRequest {}).await.unwrap_err();
    refused(&info, "reader-access.json");
    let join = v1::JoinRequest { worker_id: "spy".into(), ..Default::default() };
    refused(&reader.work().join(join).await.unwrap_err(), "worker-access.json");

    let absent = v1::CancelSweepRequest { sweep: "absent".into(), ..Default::default() };
    operator.cancel_sweep(absent).await.unwrap_err();
    // What operators ask for is kept, and shown to them alone.
    let list = v1::ListAuditRequest { rows_max: 0 };
    refused(&reader.control().list_audit(list).await.unwrap_err(), "access.json");
    let kept = operator.list_audit(list).await.unwrap().into_inner().entries;
    let told: Vec<_> =
        kept.iter().map(|entry| (entry.role.as_str(), entry.call.as_str())).collect();
    // Who is refused by role stands in the log, and pushes nothing out of the store.
    assert_eq!(told, [("operator", "cancel"), ("operator", "submit")]);
    assert!(kept[0].outcome.starts_with("refused") && kept[0].address.is_some(), "{kept:?}");
    assert!(kept[1].outcome.starts_with("done") && kept[1].subject.contains("first"), "{kept:?}");

    let mut trainer = FakeWorker::join(worker, "w-1", 1, Vec::new()).await.unwrap();
    let grant = trainer.next_grant().await;
    trainer.train(&grant.key.clone().unwrap(), 100).await;
    let rows = support::rows(&mut reader.control(), "first").await;
    assert_eq!(rows[0].state, i32::from(v1::RunState::Finished));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_worker_is_refused_while_the_worker_lives() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut work = served.connect().await.work();
    let join = |start_id: &str| v1::JoinRequest {
        worker_id: "w-1".into(),
        incarnation: 1,
        start_id: start_id.into(),
        host: "box".into(),
        ..Default::default()
    };
    work.join(join("one")).await.unwrap();
    work.join(join("one")).await.unwrap();
    let refused = work.join(join("two")).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::Fenced));
    assert!(refused.message().contains("hint: give each worker a --state folder"), "{refused:?}");
    let refused = work.join(join("t\0wo")).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::Field), "{refused:?}");
    served.stop().await;
}
