//! A coordinator on a Postgres server that crashes under load, and two coordinators on one database.
//! Without an installed server these tests say that they are skipped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coordinator::CoordinatorError;
use sweep_proto::{client::Connection, fault::Fault, v1};
use sweep_spec::{attempt::Ending, metric::Metric};
use sweep_store::{Database, Store, StoreError};
use sweep_tests::PostgresServer;
use tokio::time::{sleep, timeout};

use crate::support::{FakeWorker, Served, batch, grid, submit};

const PATIENCE: Duration = Duration::from_secs(120);

#[expect(clippy::print_stderr, reason = "the reader of a test run has to know")]
fn server(test: &str) -> Option<PostgresServer> {
    match PostgresServer::start().expect("a server that is installed starts") {
        Ok(server) => Some(server),
        Err(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            None
        }
    }
}

/// Batches of one run, and points of one batch.
const BATCHES: u64 = 120;
const POINTS: u64 = 40;

/// Steps of the runs; all batches have their points within them.
const STEPS: [u64; 4] = [5_000, 5_100, 5_200, 5_300];

/// The losses of a batch: each value tells where it belongs.
fn losses(run: u64, seq: u64) -> Vec<(u64, f64)> {
    let steps = (seq - 1) * POINTS + 1..=seq * POINTS;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    steps.map(|step| (step, (run * 1_000_000 + step) as f64 / 7.0)).collect()
}

/// A worker with one attempt. Whatever fails, it joins again with what it holds and goes on.
struct Steady {
    connection: Connection,
    name: String,
    key: v1::AttemptKey,
    worker: FakeWorker,
}

impl Steady {
    async fn granted(connection: Connection, name: &str) -> Self {
        let mut worker = FakeWorker::join(connection.clone(), name, 1, Vec::new())
            .await
            .expect("the coordinator lets a worker with its token in");
        let key = worker.next_grant().await.key.expect("a grant names its attempt");
        Self { connection, name: name.to_owned(), key, worker }
    }

    async fn again(&mut self) {
        sleep(Duration::from_millis(50)).await;
        let held =
            v1::HeldAttempt { key: Some(self.key.clone()), slot: Some(0), ..Default::default() };
        let joined = FakeWorker::join(self.connection.clone(), &self.name, 1, vec![held]).await;
        if let Ok(worker) = joined {
            self.worker = worker;
        }
    }

    /// Sends a batch until it is acknowledged as durable.
    async fn deliver(&mut self, batch: &v1::PointBatch) {
        loop {
            if let Ok(acks) = self.worker.try_report(vec![batch.clone()]).await
                && let Some(ack) = acks.first()
            {
                assert_eq!(ack.kind, i32::from(v1::point_ack::Kind::Durable), "{ack:?}");
                return;
            }
            self.again().await;
        }
    }

    /// Says that it is alive: a server that recovers for long must cost no lease.
    async fn beat(&mut self) {
        while !self.worker.try_beat(&[&self.key], false).await {
            self.again().await;
        }
    }

    /// Reports the end until it is stored.
    async fn finish(&mut self, steps: u64) {
        let ending = Ending::Finished { step: steps };
        while let Err(status) = self.worker.finish(&self.key, ending.clone(), BATCHES).await {
            assert!(Fault::is_transient(&status), "{status}");
            self.again().await;
        }
    }
}

/// A run from its grant to its end, whatever the server does.
async fn train(mut worker: Steady, steps: u64, acknowledged: Arc<AtomicU64>) {
    for seq in 1..=BATCHES {
        worker.beat().await;
        worker.deliver(&batch(&worker.key, seq, &losses(steps, seq))).await;
        acknowledged.fetch_add(POINTS, Ordering::SeqCst);
    }
    worker.finish(steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_point_is_lost_when_the_server_crashes_under_load() {
    let Some(server) = server("no_acknowledged_point_is_lost") else { return };
    let address = server.database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start_on(folder.path(), address.clone()).await;
    // One run for each worker, so that a worker knows its run by its steps.
    let mut trained = Vec::new();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for steps in STEPS {
        let name = format!("w-{steps}");
        let mut control = served.connect().await.control();
        submit(&mut control, &name, &grid(&[steps], &[])).await.unwrap();
        // It has its run before the next one is handed in.
        let worker = Steady::granted(served.connect().await, &name).await;
        trained.push(tokio::spawn(train(worker, steps, Arc::clone(&acknowledged))));
    }
    let mut crashes = 0;
    while !trained.iter().all(tokio::task::JoinHandle::is_finished) && crashes < 5 {
        let before = acknowledged.load(Ordering::SeqCst);
        server.crash().unwrap();
        sleep(Duration::from_millis(300)).await;
        server.restart().unwrap();
        crashes += 1;
        // On with it until points flow again.
        while acknowledged.load(Ordering::SeqCst) <= before + 4 * POINTS
            && !trained.iter().all(tokio::task::JoinHandle::is_finished)
        {
            sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(crashes >= 2, "the load ended before the server could crash under it");
    for run in trained {
        timeout(PATIENCE, run).await.unwrap().unwrap();
    }
    served.stop().await;

    let store = Store::open_to_read(&address).await.unwrap();
    for steps in STEPS {
        let run = grid(&[steps], &[]).runs.remove(0).run.config.id();
        let curve = store.curve(&run, Metric::TrainLoss, -1, 100_000).await.unwrap();
        let expected: Vec<(u64, f64)> = (1..=BATCHES).flat_map(|seq| losses(steps, seq)).collect();
        let kept: Vec<(u64, f64)> = curve.iter().map(|point| (point.step, point.value)).collect();
        assert!(kept == expected, "run of {steps} steps: {} of its points", kept.len());
        assert_eq!(store.run(&run).await.unwrap().attempts, 1, "no run was begun twice");
    }
    let Store::Database(database) = &store else { panic!("no database") };
    let findings = Database::doctor(database).await.unwrap();
    assert!(findings.iter().all(|finding| finding.broken.is_empty()), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_coordinator_on_a_database_ends_the_first() {
    let Some(server) = server("the_second_coordinator_on_a_database") else { return };
    let address = server.database().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Served::start_on(folders[0].path(), address.clone()).await;
    let second = Served::start_on(folders[1].path(), address).await;
    let error = first.ended().await.unwrap_err();
    assert!(
        matches!(error, CoordinatorError::Store(StoreError::Superseded { .. })),
        "the first says why: {error}"
    );
    let mut control = second.connect().await.control();
    submit(&mut control, "sweep", &grid(&[100], &[])).await.unwrap();
    second.stop().await;
}
