//! Streams of a call, of which neither end may wait for ever for the other.

use std::time::Duration;

use tokio::{
    sync::mpsc::{self, OwnedPermit, Sender},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Shared, Streamed};

/// The next message of a client; one that sends nothing for too long has gone.
///
/// # Errors
/// DEADLINE_EXCEEDED then, and what the network says.
pub(super) async fn next<T>(
    shared: &Shared,
    stream: &mut Streaming<T>,
) -> Result<Option<T>, Status> {
    let idle = shared.limits.stream_idle;
    timeout(idle, stream.message()).await.map_err(|_| {
        shared.metrics.refused("idle");
        Status::deadline_exceeded(format!("the next message did not come for {} s", idle.as_secs()))
    })?
}

/// Messages to a client. Where it takes none for too long, the stream ends with an error, so that what
/// it has is not taken for all there is.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    sender: Sender<Result<T, Status>>,
    /// Room for the error.
    last: Option<OwnedPermit<Result<T, Status>>>,
    idle: Duration,
    metrics: crate::metrics::Metrics,
}

impl<T: Send + 'static> Outlet<T> {
    /// One in which so many messages may wait, and the stream that they come out of.
    pub(super) fn open(shared: &Shared, waiting_max: usize) -> (Self, Streamed<T>) {
        let (sender, receiver) = mpsc::channel(waiting_max + 1);
        let last = sender.clone().try_reserve_owned().ok();
        let (idle, metrics) = (shared.limits.stream_idle, shared.metrics.clone());
        (Self { sender, last, idle, metrics }, Box::pin(ReceiverStream::new(receiver)))
    }

    /// Sends a message; false once nobody reads any more.
    pub(super) async fn send(&mut self, message: T) -> bool {
        match timeout(self.idle, self.sender.send(Ok(message))).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.metrics.refused("idle");
                let seconds = self.idle.as_secs();
                let message = format!("nothing was read for {seconds} s; hint: ask again");
                self.fail(Status::deadline_exceeded(message));
                false
            }
        }
    }

    /// Ends the stream with an error.
    pub(super) fn fail(&mut self, status: Status) {
        if let Some(last) = self.last.take() {
            last.send(Err(status));
        }
    }

    /// Ends once nobody reads any more.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
