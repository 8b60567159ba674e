//! Pauses between two tries at something that failed for now, and which of many things is to be
//! tried again.
//!
//! A pause doubles with each failure up to a limit and is drawn from 0 to that (full jitter), so
//! that 1,000 workers do not return at once. It is drawn without a generator: whose pause it is and
//! its number decide. Nothing here sleeps or reads a clock.

use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{Duration, Instant},
};

/// How long pauses are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// Limit of the first one.
    pub(crate) first: Duration,
    /// Limit of the longest.
    pub(crate) max: Duration,
}

impl Pauses {
    /// The pause after so many failures in a row, from 1 on.
    pub(crate) fn after(self, failures: u32, whose: &str) -> Duration {
        let limit = self.first.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let hash = blake3::hash(format!("{whose} {failures}").as_bytes());
        let draw = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
        limit.min(self.max).mul_f64(f64::from(draw) / f64::from(u32::MAX))
    }
}

/// Things that failed for now, each with its own pause: none holds up another.
#[derive(Debug)]
pub(crate) struct Retries<K> {
    pauses: Pauses,
    /// Of this worker, for the draws.
    whose: String,
    troubles: BTreeMap<K, Trouble>,
}

#[derive(Debug)]
struct Trouble {
    failures: u32,
    since: Instant,
    due: Instant,
}

/// What is known of something that failed for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// Until the next try.
    pub(crate) pause: Duration,
    /// Since the first failure in a row.
    pub(crate) lasted: Duration,
}

impl<K: Ord + Clone + Display> Retries<K> {
    pub(crate) fn new(pauses: Pauses, whose: String) -> Self {
        Self { pauses, whose, troubles: BTreeMap::new() }
    }

    /// Whether something may be tried now.
    pub(crate) fn is_due(&self, what: &K, now: Instant) -> bool {
        self.troubles.get(what).is_none_or(|trouble| trouble.due <= now)
    }

    /// Notes that something failed for now.
    pub(crate) fn failed(&mut self, what: &K, now: Instant) -> Failing {
        let fresh = Trouble { failures: 0, since: now, due: now };
        let trouble = self.troubles.entry(what.clone()).or_insert(fresh);
        trouble.failures = trouble.failures.saturating_add(1);
        let pause = self.pauses.after(trouble.failures, &format!("{} {what}", self.whose));
        trouble.due = now + pause;
        Failing { pause, lasted: now.duration_since(trouble.since) }
    }

    /// Forgets all but these.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&K) -> bool) {
        self.troubles.retain(|what, _| wanted(what));
    }

    /// Until the first of them is due; absent where nothing failed.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let first = self.troubles.values().map(|trouble| trouble.due).min()?;
        Some(first.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn pauses_grow_to_their_limit_and_differ_by_owner() {
        let all: Vec<Duration> = (1..40).map(|failures| PAUSES.after(failures, "w 1")).collect();
        assert!(all[0] <= PAUSES.first);
        assert!(all.iter().all(|pause| *pause <= PAUSES.max));
        assert!(all.iter().any(|pause| *pause > PAUSES.max / 3));
        assert_ne!(PAUSES.after(5, "w 1"), PAUSES.after(5, "v 1"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test owns its start of time")]
    fn what_failed_holds_up_nothing_else_and_is_due_again() {
        let now = Instant::now();
        let mut retries = Retries::new(PAUSES, "w".to_owned());
        assert_eq!(retries.wait(now), None);
        let first = retries.failed(&"a", now);
        assert_eq!(first.lasted, Duration::ZERO);
        assert_eq!((retries.is_due(&"a", now), retries.is_due(&"b", now)), (false, true));
        assert_eq!(retries.wait(now), Some(first.pause));
        let later = now + first.pause;
        assert!(retries.is_due(&"a", later));
        assert_eq!(retries.failed(&"a", later).lasted, first.pause);
        // What is done with begins anew.
        retries.keep(|what| *what != "a");
        assert!(retries.is_due(&"a", now));
        assert_eq!(retries.wait(now), None);
    }
}
