//! The one place where the daemon reads a clock. Everything else is handed the time.

use std::time::Instant;

/// Monotonic time. Under a paused test clock it follows that clock.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
