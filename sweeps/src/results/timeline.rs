//! The attempts of a sweep as the figure of workers over time takes them.

use sweep_plot::input::{AttemptInput, Ending, TimelineInput};
use sweep_proto::v1;

use super::{RunResult, SweepResults};
use crate::exit::{Exit, Failure};

/// An attempt and the slot that it held, in the wall time of the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stay {
    /// Number of the attempt.
    pub(crate) attempt: u32,
    /// Its worker.
    pub(crate) worker: String,
    /// The machine.
    pub(crate) host: String,
    /// The slot there.
    pub(crate) slot: u32,
    /// The grant, in milliseconds since 1970; not above 0 where a clock was not set.
    pub(crate) granted_unix_ms: i64,
    /// The end; absent while it runs.
    pub(crate) ended_unix_ms: Option<i64>,
    /// How it ended.
    pub(crate) ending: Ending,
    /// Seconds of training.
    pub(crate) seconds: Option<f64>,
}

/// The ending of the word that a store keeps; absent while an attempt runs.
///
/// # Errors
/// Exit code 1 for a word that is none.
pub(crate) fn ending(outcome: Option<&str>) -> Result<Ending, Failure> {
    Ok(match outcome {
        None => Ending::Running,
        Some("finished") => Ending::Finished,
        Some("diverged") => Ending::Diverged,
        Some("stopped") => Ending::Stopped,
        Some("failed") => Ending::Failed,
        Some("lost") => Ending::Lost,
        Some("cancelled") => Ending::Cancelled,
        Some(other) => {
            return Err(Failure::message(
                Exit::Failed,
                format!("no attempt ends as `{other}`; hint: are both of one version?"),
            ));
        }
    })
}

/// Reads an attempt.
///
/// # Errors
/// Exit code 1 for an unknown ending.
pub(super) fn stay(message: v1::Stay) -> Result<Stay, Failure> {
    Ok(Stay {
        attempt: message.attempt,
        ending: ending(message.outcome.as_deref())?,
        worker: message.worker_id,
        host: message.host,
        slot: message.slot,
        granted_unix_ms: message.granted_unix_ms,
        ended_unix_ms: message.ended_unix_ms,
        seconds: message.seconds,
    })
}

impl SweepResults {
    /// The attempts at all runs, as far as they were asked for.
    pub(super) fn timeline(&self) -> TimelineInput {
        let since = |unix_ms: i64| (unix_ms > 0).then(|| self.seconds_since(unix_ms));
        let input = |run: &RunResult, stay: &Stay| AttemptInput {
            run: run.label(),
            number: stay.attempt,
            worker: stay.worker.clone(),
            host: stay.host.clone(),
            slot: stay.slot,
            granted: since(stay.granted_unix_ms),
            ended: stay.ended_unix_ms.and_then(since),
            ending: stay.ending,
            trained: stay.seconds,
        };
        let of_run = |run: &RunResult| -> Vec<AttemptInput> {
            run.stays.iter().map(|stay| input(run, stay)).collect()
        };
        TimelineInput {
            attempts: self.runs.iter().flat_map(of_run).collect(),
            read: self.read_unix_ms.and_then(since),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a sweep are below 2^53")]
    fn seconds_since(&self, unix_ms: i64) -> f64 {
        unix_ms.saturating_sub(self.submitted_unix_ms) as f64 / 1000.0
    }
}

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_of_a_store_is_an_ending_and_another_word_is_none() {
        use sweep_store::Outcome;
        let known = [
            (Outcome::Finished, Ending::Finished),
            (Outcome::Diverged, Ending::Diverged),
            (Outcome::Stopped, Ending::Stopped),
            (Outcome::Failed, Ending::Failed),
            (Outcome::Lost, Ending::Lost),
            (Outcome::Cancelled, Ending::Cancelled),
        ];
        for (outcome, expected) in known {
            assert_eq!(ending(Some(outcome.name())).ok(), Some(expected));
        }
        assert_eq!(ending(None).ok(), Some(Ending::Running));
        let error = ending(Some("gone")).err().map(|failure| failure.to_string());
        assert!(error.is_some_and(|text| text.starts_with("no attempt ends as `gone`; hint: ")));
    }
}
