//! What a simulation needs of the coordinator: to serve over a network of its own, a wall clock that
//! it can set, and one deliberate fault to show that the simulation finds it. Built only with the
//! feature `simulation`.
//!
//! Clock and fault belong to a thread, as a simulation does.

use std::{cell::Cell, io};

use sweep_proto::access::Access;
use sweep_store::{Batch, Ingested, Store};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{oneshot, watch},
};
use tokio_stream::Stream;
use tonic::{
    Status,
    transport::{Server, server::Connected},
};

use crate::{
    actor::Actor,
    auth::{Accesses, Gate},
    clients::Revoked,
    clock::Clock,
    error::CoordinatorError,
    grpc::Shared,
    ingest::{Ingest, Latest},
    limits::Limits,
    metrics::Metrics,
    quota::Quotas,
    serve::{limited, router},
};

thread_local! {
    static ACKNOWLEDGES_EARLY: Cell<bool> = const { Cell::new(false) };
    static WALL_CLOCK_OFFSET_MS: Cell<i64> = const { Cell::new(0) };
}

/// Sets the wall clock so many milliseconds ahead of the true time, or behind it.
pub fn set_wall_clock(offset_ms: i64) {
    WALL_CLOCK_OFFSET_MS.set(offset_ms);
}

pub(crate) fn wall_clock_offset_ms() -> i64 {
    WALL_CLOCK_OFFSET_MS.get()
}

/// The deliberate fault of the coordinator: batches are acknowledged before they are committed.
pub fn acknowledge_before_commit() {
    ACKNOWLEDGES_EARLY.set(true);
}

type Replies = Vec<oneshot::Sender<Result<Ingested, Status>>>;

/// Answers batches as durable that are not, if that is the fault; gives the replies that the
/// commit still owes.
pub(crate) fn acknowledge_early(batches: &[Batch], replies: Replies) -> Replies {
    if !ACKNOWLEDGES_EARLY.get() {
        return replies;
    }
    let mut open = Vec::new();
    for (batch, reply) in batches.iter().zip(replies) {
        let _ = reply.send(Ok(Ingested::Durable(batch.seq)));
        open.push(oneshot::channel().0);
    }
    open
}

/// Serves a store over the connections of `incoming`, until it is dropped or fails. Without
/// `keep_alive` a connection that nothing comes through stays open, as one to a proxy does.
///
/// # Errors
/// [`CoordinatorError`] when the store cannot be read or the network fails.
pub async fn serve<IO>(
    store: Store,
    access: &Access,
    keep_alive: bool,
    incoming: impl Stream<Item = io::Result<IO>>,
) -> Result<(), CoordinatorError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (clock, latest, metrics) = (Clock::start(), Latest::default(), Metrics::default());
    let (actor, handle) = Actor::load(store.clone(), clock, metrics.clone(), false).await?;
    let actor = tokio::spawn(actor.run());
    let (ingest, writer) = Ingest::start(store.clone(), latest.clone(), metrics.clone());
    let (stop, stopped) = watch::channel(false);
    let address = "memory".to_owned();
    let revoked = Revoked::none();
    let gate = Gate::new(&Accesses::only(access), revoked.clone());
    let shared = Shared {
        store,
        actor: handle,
        ingest,
        latest,
        clock,
        address,
        artifacts: None,
        revoked,
        quotas: Quotas::new(&Limits::default()),
        limits: Limits::default(),
        metrics,
        stopped,
    };
    let mut server = limited(Server::builder(), &shared.limits);
    if !keep_alive {
        server = server.http2_keepalive_interval(None);
    }
    let services = router(server, shared, gate).await?;
    let served = services.serve_with_incoming(incoming).await;
    stop.send_replace(true);
    let _ = tokio::join!(actor, writer);
    served.map_err(|error| CoordinatorError::Serve(error.to_string()))
}
