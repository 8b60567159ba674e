//! Changes that operators ask for: who may, and what the log keeps of them.

use std::{fmt, net::SocketAddr};

use tonic::{Request, Status};

use crate::{auth::operators_only, connection::Peer};

/// The message of a change that an operator asks for, once the log knows of it.
pub(super) fn audited<T: fmt::Debug>(call: &str, request: Request<T>) -> Result<T, Status> {
    let peer = operator(call, &request)?;
    let message = request.into_inner();
    audit(peer, call, &message);
    Ok(message)
}

/// Where an operator's call comes from; one of anybody else is refused, and the log knows of it too.
pub(super) fn operator<T>(call: &str, request: &Request<T>) -> Result<Option<SocketAddr>, Status> {
    let peer = Peer::of(request.extensions()).map(|peer| peer.address);
    operators_only(request).inspect_err(|status| {
        tracing::warn!(target: "audit", call, ?peer, why = status.message(), "refused");
    })?;
    Ok(peer)
}

/// Tells the log who asks for a change and for which, under the target `audit`. As `Debug`, so that a
/// name cannot break a line.
pub(super) fn audit(peer: Option<SocketAddr>, call: &str, what: &dyn fmt::Debug) {
    tracing::info!(target: "audit", call, ?peer, ?what, "asked for");
}
