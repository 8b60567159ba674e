//! The trainer's one look at the clock: seconds since it was made.

use std::time::Instant;

/// Measures seconds of training.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer(Instant);

impl Timer {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "speed is measured here and nowhere else")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
