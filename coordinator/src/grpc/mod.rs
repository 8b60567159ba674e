//! The services: messages in, requests to actor and store, messages out. They decide nothing.

mod artifacts;
mod audit;
mod control;
mod history;
mod outlet;
mod progress;
mod rows;
mod submission;
mod work;

use std::pin::Pin;

use sweep_store::Store;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

use crate::{
    actor::Handle,
    artifact::Artifacts,
    clients::Revoked,
    clock::Clock,
    ingest::{Ingest, Latest},
    limits::Limits,
    metrics::Metrics,
    quota::Quotas,
};

pub(crate) use control::ControlService;
pub(crate) use work::WorkService;

/// What both services work with.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) actor: Handle,
    pub(crate) ingest: Ingest,
    pub(crate) latest: Latest,
    pub(crate) clock: Clock,
    /// Address of the store, for people.
    pub(crate) address: String,
    /// Where checkpoints are kept, if they are.
    pub(crate) artifacts: Option<Artifacts>,
    /// Certificates that open nothing any more.
    pub(crate) revoked: Revoked,
    /// What is borne of clients.
    pub(crate) limits: Limits,
    /// What each worker has sent of what it may.
    pub(crate) quotas: Quotas,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Turns true when the coordinator goes down; streams end then.
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Shared {
    /// Ends when the coordinator goes down.
    pub(crate) async fn going_down(&self) {
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// Messages that wait in a stream to a client; the producer waits.
const STREAM_MESSAGES_MAX: usize = 16;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
