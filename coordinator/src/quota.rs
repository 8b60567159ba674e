//! What one worker may send: points and their bytes in a second, bytes of checkpoints for an attempt.
//!
//! Points are never dropped for it: a worker that sends more waits, because its next batch is not taken
//! before it may be, and keeps the rest in its spool. Its heartbeats have a stream of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sweep_proto::fault::Fault;
use sweep_spec::attempt::AttemptKey;
use tonic::Status;

use crate::limits::Limits;

/// Seconds of its rate that a worker may send at once, after it was silent for as long.
const BURST_SECONDS: f64 = 2.0;

/// Workers and attempts that are remembered; 100 bytes each.
const REMEMBERED_MAX: usize = 10_000;

/// A token bucket that may be overdrawn: who takes more than is there waits until it is paid back.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    filled: Duration,
}

impl Bucket {
    fn full(now: Duration, rate: u32) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, level: rate * BURST_SECONDS, filled: now }
    }

    /// Takes an amount; how long to wait before the next is taken.
    fn take(&mut self, now: Duration, amount: f64) -> Duration {
        self.fill(now);
        self.level -= amount;
        Duration::from_secs_f64((-self.level).max(0.0) / self.rate)
    }

    fn fill(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.filled).as_secs_f64();
        self.level = (self.level + seconds * self.rate).min(self.rate * BURST_SECONDS);
        self.filled = now;
    }

    /// Whether it is as it began.
    fn is_full(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level >= self.rate * BURST_SECONDS
    }
}

/// The buckets of a worker: points, and their bytes.
type Pair = [Bucket; 2];

/// What workers have sent; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Quotas {
    points_per_second: u32,
    point_bytes_per_second: u32,
    artifact_bytes_per_attempt: u64,
    workers: Arc<Mutex<BTreeMap<String, Pair>>>,
    /// Bytes of files by attempt, since the start.
    artifacts: Arc<Mutex<BTreeMap<AttemptKey, u64>>>,
}

impl Quotas {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            points_per_second: limits.points_per_second,
            point_bytes_per_second: limits.point_bytes_per_second,
            artifact_bytes_per_attempt: limits.artifact_bytes_per_attempt,
            workers: Arc::default(),
            artifacts: Arc::default(),
        }
    }

    /// Books a batch of a worker; how long to wait before its next one is taken.
    pub(crate) fn book(
        &self,
        now: Duration,
        worker: &str,
        points: usize,
        bytes: usize,
    ) -> Duration {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() >= REMEMBERED_MAX && !workers.contains_key(worker) {
            // One that is forgotten with a full bucket loses nothing.
            workers.retain(|_, pair| !pair.iter_mut().all(|bucket| bucket.is_full(now)));
        }
        let pair = workers.entry(worker.to_owned()).or_insert_with(|| {
            [self.points_per_second, self.point_bytes_per_second]
                .map(|rate| Bucket::full(now, rate))
        });
        #[expect(clippy::cast_precision_loss, reason = "a message has at most 4 MiB")]
        let amounts = [points as f64, bytes as f64];
        let waits = pair.iter_mut().zip(amounts).map(|(bucket, amount)| bucket.take(now, amount));
        waits.max().unwrap_or_default()
    }

    /// Sets bytes of a file of an attempt aside.
    ///
    /// # Errors
    /// [`Fault::Limit`] where they are more than an attempt may hand in.
    pub(crate) fn reserve(&self, key: &AttemptKey, bytes: u64) -> Result<Reserved<'_>, Status> {
        let mut artifacts = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        let had = artifacts.get(key).copied().unwrap_or(0);
        let most = self.artifact_bytes_per_attempt;
        if had.saturating_add(bytes) > most {
            let message = format!(
                "{key} has handed in {had} bytes of checkpoints; {bytes} more are above {most} of an \
                 attempt"
            );
            return Err(Fault::Limit.status(message));
        }
        if artifacts.len() >= REMEMBERED_MAX && !artifacts.contains_key(key) {
            // Some attempt that may have ended long ago; one that has not begins anew.
            artifacts.pop_first();
        }
        artifacts.insert(key.clone(), had + bytes);
        Ok(Reserved { quotas: self, key: key.clone(), bytes })
    }

    fn release(&self, key: &AttemptKey, bytes: u64) {
        let mut artifacts = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(had) = artifacts.get_mut(key) {
            *had = had.saturating_sub(bytes);
        }
    }
}

/// Bytes that are set aside for a file. They come back when it is dropped, also with a call whose client
/// has gone, unless the file was taken.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reserved<'a> {
    quotas: &'a Quotas,
    key: AttemptKey,
    bytes: u64,
}

impl Reserved<'_> {
    /// The file was taken.
    pub(crate) fn spend(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.quotas.release(&self.key, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas() -> Quotas {
        Quotas::new(&Limits {
            points_per_second: 100,
            point_bytes_per_second: 1000,
            artifact_bytes_per_attempt: 10,
            ..Limits::default()
        })
    }

    #[test]
    fn who_sends_more_than_its_rate_waits_for_it() {
        let quotas = quotas();
        let at = Duration::from_secs;
        assert_eq!(quotas.book(at(0), "w", 200, 0), Duration::ZERO, "two seconds at once");
        assert_eq!(quotas.book(at(0), "w", 50, 0), Duration::from_millis(500));
        assert_eq!(quotas.book(at(0), "v", 50, 0), Duration::ZERO, "each has its own");
        // Half a second of it is paid back, and half a second is saved up.
        assert_eq!(quotas.book(at(1), "w", 50, 0), Duration::ZERO);
        assert_eq!(quotas.book(at(1), "w", 100, 0), at(1));
        // Bytes count by themselves, and nobody saves up more than two seconds.
        assert_eq!(quotas.book(at(100), "w", 1, 3000), at(1));
        // Over a long time it is the rate that holds.
        let mut now = Duration::from_secs(200);
        for _ in 0..100 {
            now += quotas.book(now, "w", 50, 0);
        }
        assert_eq!(now, Duration::from_secs(200) + Duration::from_secs(48));
    }

    #[test]
    fn files_of_an_attempt_are_limited_and_what_was_not_taken_is_given_back() {
        let quotas = quotas();
        let run = "0123456789abcdef".repeat(2).parse().unwrap();
        let key = AttemptKey { run, number: 1 };
        let lost = quotas.reserve(&key, 7).unwrap();
        let refused = quotas.reserve(&key, 4).unwrap_err();
        assert_eq!(Fault::of(&refused), Some(Fault::Limit));
        assert!(refused.message().contains("7 bytes") && refused.message().contains("above 10"));
        quotas.reserve(&AttemptKey { number: 2, ..key.clone() }, 10).unwrap().spend();
        drop(lost);
        quotas.reserve(&key, 10).unwrap().spend();
        assert!(quotas.reserve(&key, u64::MAX).is_err());
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let quotas = quotas();
        let now = Duration::ZERO;
        for number in 0..=REMEMBERED_MAX {
            quotas.book(now, &number.to_string(), 1, 1);
        }
        assert_eq!(quotas.workers.lock().unwrap().len(), REMEMBERED_MAX + 1, "none is full yet");
        quotas.book(Duration::from_secs(9), "one more", 1, 1);
        assert_eq!(quotas.workers.lock().unwrap().len(), 1);
    }
}
