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
    /// Tells the log who asks for a change and for which, under the target `audit`, as `Debug`, so that a
    /// name cannot break a line; gives what tells the store of its outcome.
    pub(super) fn asks(self, shared: &Shared, what: &dyn fmt::Debug) -> Pending {
        let Self { call, address, client, .. } = &self;
        tracing::info!(target: "audit", call, ?address, ?client, ?what, "asked for");
        let entry = Entry { caller: self, subject: format!("{what:?}") };
        Pending { shared: shared.clone(), entry: Some(entry) }
    }
}

/// A change under way. A client that leaves takes its call with it, but what the call has set off goes
/// on: the store has it all the same.
pub(super) struct Pending {
    shared: Shared,
    /// Until its outcome is told.
    entry: Option<Entry>,
}

impl Pending {
    /// Keeps what came of it. The change is made by then: where it cannot be kept, the log has it.
    pub(super) async fn done(mut self, outcome: Result<String, &Status>) {
        let Some(entry) = self.entry.take() else { return };
        let outcome = match outcome {
            Ok(reply) => format!("done {reply}"),
            Err(status) => entry.refused(status),
        };
        // A task of its own ends, whoever leaves. Its answer waits for it: who asks again finds the row.
        let _ = tokio::spawn(entry.keep(self.shared.clone(), outcome)).await;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let outcome = "not known: the client left before it was answered".to_owned();
            tokio::spawn(entry.keep(self.shared.clone(), outcome));
        }
    }
}

/// A change and who asks for it.
struct Entry {
    caller: Caller,
    subject: String,
}

impl Entry {
    fn refused(&self, status: &Status) -> String {
        let Caller { call, address, .. } = &self.caller;
        let why = status.message();
        tracing::warn!(target: "audit", call, ?address, why, "refused");
        format!("refused: {why:?}")
    }

    async fn keep(self, shared: Shared, outcome: String) {
        let Caller { call, role, address, client } = self.caller;
        let row = AuditRow {
            unix_ms: unix_ms(),
            role: role.to_string(),
            client,
            address: address.map(|address| address.ip().to_string()),
            call: call.to_owned(),
            subject: cut(&self.subject),
            outcome: cut(&outcome),
        };
        if let Err(error) = shared.store.note_audit(&row).await {
            tracing::error!(target: "audit", call, %error, "not kept");
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Makes a change that an operator asks for; the log knows of it before, the store of its outcome.
pub(super) async fn audited<T: fmt::Debug, R: fmt::Debug, F>(
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
    let pending = caller.asks(shared, &message);
    let result = act(message).await;
    pending.done(result.as_ref().map(|reply| format!("{reply:?}"))).await;
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
