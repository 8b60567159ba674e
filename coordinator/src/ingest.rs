//! Ingest: batches of all workers, many to a commit, acknowledged after it.
//!
//! One future owns the way to the store's points. It decides nothing: whether a batch is stored is
//! decided in SQL by the attempt's number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sweep_proto::fault::Fault;
use sweep_spec::{id::RunId, metric::Metric};
use sweep_store::{Batch, Ingested, Store};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::Status;

use crate::{clock::Clock, metrics::Metrics};

/// Batches that wait for a commit; beyond it the workers' streams wait. About 6 MB.
const WAITING_MAX: usize = 256;

/// Rows that make a commit worth its fsync: one row each gives 247 rows/s, 1,000 give 146,000.
const COMMIT_ROWS: usize = 1000;

/// Longest wait for more rows.
const COMMIT_WAIT: Duration = Duration::from_millis(20);

/// Rows of one commit at most, so that no acknowledgement waits long for those of others.
const COMMIT_ROWS_MAX: usize = 20_000;

type Reply = Result<Ingested, Status>;

struct Waiting {
    batch: Batch,
    /// When it came.
    since: Duration,
    reply: oneshot::Sender<Reply>,
}

/// The latest training loss of each run since the start, for progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest(Arc<Mutex<HashMap<RunId, f64>>>);

impl Latest {
    pub(crate) fn of(&self, run: &RunId) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(run).copied()
    }

    fn note(&self, batch: &Batch) {
        let losses = batch.points.iter().filter(|point| point.metric == Metric::TrainLoss);
        if let Some(last) = losses.max_by_key(|point| point.step) {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.insert(batch.key.run.clone(), last.value);
        }
    }
}

/// The way into the store for points; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    sender: mpsc::Sender<Waiting>,
    clock: Clock,
}

impl Ingest {
    /// Starts the writer; it ends, with everything committed, when the last clone is dropped.
    pub(crate) fn start(
        store: Store,
        latest: Latest,
        metrics: Metrics,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let clock = Clock::start();
        (Self { sender, clock }, tokio::spawn(write(store, latest, metrics, clock, receiver)))
    }

    /// Batches that wait for the next commit.
    pub(crate) fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Hands in a batch; the receiver hears of it once it is durable.
    pub(crate) async fn send(&self, batch: Batch) -> Result<oneshot::Receiver<Reply>, Status> {
        let (reply, receiver) = oneshot::channel();
        let waiting = Waiting { batch, since: self.clock.now(), reply };
        let stopping = |_| Fault::Busy.status("the coordinator is going down");
        self.sender.send(waiting).await.map_err(stopping)?;
        Ok(receiver)
    }
}

async fn write(
    store: Store,
    latest: Latest,
    metrics: Metrics,
    clock: Clock,
    mut receiver: mpsc::Receiver<Waiting>,
) {
    while let Some(first) = receiver.recv().await {
        let mut rows = first.batch.points.len();
        let (mut batches, mut replies) = (vec![first.batch], vec![first.reply]);
        let mut since = vec![first.since];
        let gather = async {
            while rows < COMMIT_ROWS
                && let Some(next) = receiver.recv().await
            {
                rows += next.batch.points.len();
                batches.push(next.batch);
                replies.push(next.reply);
                since.push(next.since);
            }
        };
        // Running out of time is the usual end.
        let _ = timeout(COMMIT_WAIT, gather).await;
        while rows < COMMIT_ROWS_MAX
            && let Ok(next) = receiver.try_recv()
        {
            rows += next.batch.points.len();
            batches.push(next.batch);
            replies.push(next.reply);
            since.push(next.since);
        }
        #[cfg(feature = "simulation")]
        let replies = crate::simulation::acknowledge_early(&batches, replies);
        let began = clock.now();
        let result = store.ingest(&batches).await;
        if let Ok(answers) = &result {
            let sizes = batches.iter().map(|batch| batch.points.len());
            metrics.committed((clock.now() - began).as_secs_f64(), sizes.zip(answers));
            metrics.waited(since.iter().map(|&since| (clock.now() - since).as_secs_f64()));
        }
        answer(&latest, &batches, replies, result);
    }
}

fn answer(
    latest: &Latest,
    batches: &[Batch],
    replies: Vec<oneshot::Sender<Reply>>,
    result: Result<Vec<Ingested>, sweep_store::StoreError>,
) {
    match result {
        Ok(ingested) => {
            for ((batch, reply), ingested) in batches.iter().zip(replies).zip(ingested) {
                if matches!(ingested, Ingested::Durable(_)) {
                    latest.note(batch);
                }
                // A worker that went away asks again when it is back.
                let _ = reply.send(Ok(ingested));
            }
        }
        Err(error) => {
            tracing::error!(%error, batches = batches.len(), "points were not stored");
            for reply in replies {
                let _ = reply.send(Err(Fault::Store.status(error.to_string())));
            }
        }
    }
}
