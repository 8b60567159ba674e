//! Log lines, for people or machines, and the span that marks what is done for an attempt.

use sweep_spec::attempt::AttemptKey;
use tracing::{Span, Subscriber};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Takes log lines: for people, or each a JSON object.
pub(crate) fn subscriber(
    json: bool,
    filter: EnvFilter,
    ansi: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false);
    if json { Box::new(builder.json().finish()) } else { Box::new(builder.finish()) }
}

/// The span of an attempt on a slot. It is there at every level of the log.
pub(crate) fn on_slot(key: &AttemptKey, slot: usize, device: &str) -> Span {
    tracing::error_span!("attempt", run = key.run.short(), attempt = key.number, slot, device)
}

/// The span of an attempt that has left its slot.
pub(crate) fn off_slot(key: &AttemptKey) -> Span {
    tracing::error_span!("attempt", run = key.run.short(), attempt = key.number)
}
