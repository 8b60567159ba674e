//! How long a worker may stay: as it is told, or as the batch system that started it says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Second since 1970 at which Slurm ends the job of this process.
const SLURM_END: &str = "SLURM_JOB_END_TIME";

/// Before its end a worker leaves by itself, so that its runs stop with a checkpoint that is handed
/// in: a minute, and of a short life at most a quarter.
const MARGIN_MAX: Duration = Duration::from_mins(1);

/// Time until the machine is taken away; absent when it stays.
pub(crate) fn lifetime(given: Option<Duration>) -> Option<Duration> {
    given.or_else(|| slurm(&std::env::var(SLURM_END).ok()?, since_1970()?))
}

fn slurm(end: &str, now: Duration) -> Option<Duration> {
    let end = Duration::from_secs(end.trim().parse().ok()?);
    Some(end.saturating_sub(now))
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads what Slurm's time means")]
fn since_1970() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

/// When a worker of such a lifetime leaves by itself.
pub(crate) fn leaves_after(lifetime: Duration) -> Duration {
    lifetime - MARGIN_MAX.min(lifetime / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_tells_the_end_of_its_job() {
        let now = Duration::from_secs(1_700_000_000);
        assert_eq!(slurm("1700003600", now), Some(Duration::from_hours(1)));
        assert_eq!(slurm("1600000000", now), Some(Duration::ZERO));
        assert_eq!(slurm("Unknown", now), None);
        assert_eq!(lifetime(Some(Duration::from_secs(5))), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_worker_leaves_before_its_end() {
        assert_eq!(leaves_after(Duration::from_hours(4)), Duration::from_mins(239));
        assert_eq!(leaves_after(Duration::from_secs(40)), Duration::from_secs(30));
        assert_eq!(leaves_after(Duration::ZERO), Duration::ZERO);
    }
}
