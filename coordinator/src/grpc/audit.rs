//! Changes that operators ask for: who may, and what the log and the store keep of them.

use std::{fmt, net::SocketAddr};

use sweep_proto::v1;
use sweep_store::AuditRow;
use tonic::{Extensions, Request, Response, Status};

use super::Shared;
use crate::{
    actor::store_status,
    auth::operators_only,
    clock::unix_ms,
    connection::{Peer, certificate_of},
    role::Role,
};

/// Longest subject and outcome that are kept. Who names 10,000 runs is known by the first of them.
const WORDS_MAX: usize = 500;

/// Rows of one answer: what is kept in all.
const ROWS_MAX: u32 = 10_000;

/// Who asks for a change.
pub(super) struct Caller {
    call: &'static str,
    role: Role,
    address: Option<SocketAddr>,
    /// The name that its certificate was made for.
    client: Option<String>,
}

/// Who asks for a change; one of anybody but an operator is refused. The log has that; in the store it
/// would let whoever is refused often enough push out what is kept.
pub(super) fn operator(
    shared: &Shared,
    call: &'static str,
    extensions: &Extensions,
) -> Result<Caller, Status> {
    let address = Peer::of(extensions).map(|peer| peer.address);
    let role = operators_only(extensions).inspect_err(|status| {
        shared.metrics.refused("role");
        tracing::warn!(target: "audit", call, ?address, why = status.message(), "refused");
    })?;
    let client = shared.revoked.name_of(certificate_of(extensions).as_deref())?;
    Ok(Caller { call, role, address, client })
}

impl Caller {
    /// Tells the log who asks for a change and for which, under the target `audit`. As `Debug`, so that a
    /// name cannot break a line.
    pub(super) fn log(&self, what: &dyn fmt::Debug) {
        let Self { call, address, client, .. } = self;
        tracing::info!(target: "audit", call, ?address, ?client, ?what, "asked for");
    }

    /// Keeps what came of it. The change is made by then: where it cannot be kept, the log has it.
    pub(super) async fn done(
        &self,
        shared: &Shared,
        subject: String,
        outcome: Result<String, &Status>,
    ) {
        if let Err(status) = self.keep(shared, &subject, outcome).await {
            tracing::error!(target: "audit", call = self.call, %status, "not kept");
        }
    }

    async fn keep(
        &self,
        shared: &Shared,
        subject: &str,
        result: Result<String, &Status>,
    ) -> Result<(), Status> {
        let outcome = match result {
            Ok(reply) => cut(&format!("done {reply}")),
            Err(status) => {
                let why = status.message();
                tracing::warn!(target: "audit", call = self.call, address = ?self.address, why, "refused");
                cut(&format!("refused: {why:?}"))
            }
        };
        let row = AuditRow {
            unix_ms: unix_ms(),
            role: self.role.to_string(),
            client: self.client.clone(),
            address: self.address.map(|address| address.ip().to_string()),
            call: self.call.to_owned(),
            subject: cut(subject),
            outcome,
        };
        shared.store.note_audit(&row).await.map_err(store_status)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Makes a change that an operator asks for; the log knows of it before, the store of its outcome.
pub(super) async fn audited<T: fmt::Debug + Clone, R: fmt::Debug, F>(
    shared: &Shared,
    call: &'static str,
    request: Request<T>,
    act: impl FnOnce(T) -> F,
) -> Result<Response<R>, Status>
where
    F: Future<Output = Result<R, Status>>,
{
    let caller = operator(shared, call, request.extensions())?;
    let message = request.into_inner();
    caller.log(&message);
    let result = act(message.clone()).await;
    let outcome = result.as_ref().map(|reply| format!("{reply:?}"));
    caller.done(shared, format!("{message:?}"), outcome).await;
    result.map(Response::new)
}

/// What was asked for, newest first.
pub(super) async fn list(
    shared: &Shared,
    request: Request<v1::ListAuditRequest>,
) -> Result<Response<v1::ListAuditReply>, Status> {
    operators_only(request.extensions())?;
    let limit = match request.into_inner().rows_max {
        0 => ROWS_MAX,
        limit => limit.min(ROWS_MAX),
    };
    let rows = shared.store.audit(limit).await.map_err(store_status)?;
    // Half of a message at most: what does not fit is older than what does.
    let entries = rows.into_iter().map(|row| v1::AuditEntry {
        unix_ms: row.unix_ms,
        role: row.role,
        client: row.client,
        address: row.address,
        call: row.call,
        subject: row.subject,
        outcome: row.outcome,
    });
    let mut bytes = 0;
    let fits = |entry: &v1::AuditEntry| {
        bytes += entry.subject.len() + entry.outcome.len() + 200;
        bytes <= sweep_proto::MESSAGE_BYTES_MAX / 2
    };
    Ok(Response::new(v1::ListAuditReply { entries: entries.take_while(fits).collect() }))
}
