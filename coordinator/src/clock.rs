//! The two clocks of the coordinator. Nothing else here reads one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Time since the start, monotonic: leases are counted with it. It is the runtime's clock, so that
/// a test can stop it and a simulation own it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Duration {
        self.start.elapsed()
    }
}

/// Wall time in milliseconds, for display and for the dates of certificates. It may be set forward or
/// back at any moment, so nothing that is decided, ordered or counted may come from it.
#[expect(clippy::disallowed_methods, reason = "wall time is for display and for dates")]
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0);
    #[cfg(feature = "simulation")]
    let now = now + crate::simulation::wall_clock_offset_ms();
    now
}
