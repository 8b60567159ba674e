//! The messages between a slot and its trainer child, each one record of [`crate::frame`] on the
//! child's stdin or stdout.
//!
//! Values of points travel as the bits of their f64, because a diverged loss is data and JSON has
//! no NaN.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use sweep_spec::{
    attempt::{Ending, FailureCause},
    metric::{Metric, Point},
    run::Run,
};

use crate::frame::{self, FrameError};

/// Raised when a message changes its meaning. Daemon and child are the same binary, so a mismatch
/// can only come from a binary replaced under a running daemon.
pub(crate) const PIPE_VERSION: u32 = 3;

/// From the slot to its trainer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToTrainer {
    /// Train this run; sent only to an idle trainer.
    Train(Box<TrainOrder>),
    /// Stop after the step under way, with a checkpoint.
    Stop,
    /// Share each step of the run under way among so many threads; a run begins with one.
    Threads(usize),
}

/// What a trainer needs for one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainOrder {
    pub(crate) run: Run,
    /// Folder of this run's checkpoints.
    pub(crate) checkpoints: PathBuf,
    /// Of a branch, the folder of its trunk's checkpoints.
    pub(crate) trunk: Option<PathBuf>,
    pub(crate) checkpoint_seconds: f64,
}

/// From a trainer to its slot.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromTrainer {
    /// The canary passed; the trainer is idle.
    Ready { version: u32, canary: String },
    /// The device computes wrongly; the trainer exits.
    Refused { reason: String },
    /// Measured values in step order.
    Points(Vec<PackedPoint>),
    /// Training begins after this many steps.
    Started { step: u64, passed_over: Vec<String> },
    /// Steps done.
    Progress { step: u64, tokens_per_second: f64 },
    /// A checkpoint is whole on disk.
    Checkpoint(CheckpointNote),
    /// A checkpoint could not be written; the run goes on.
    CheckpointLost { step: u64, reason: String },
    /// The run ended without a failure; the trainer is idle again.
    Ended { ending: Ending, memory: Memory },
    /// The run failed; the trainer exits.
    Failed { cause: FailureCause, message: String },
}

/// A checkpoint that is whole on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointNote {
    pub(crate) step: u64,
    pub(crate) path: PathBuf,
    pub(crate) hash: String,
}

/// Memory of the trainer process after a run, where the system tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Held now.
    pub(crate) resident_bytes: Option<u64>,
    /// The most it ever held.
    pub(crate) peak_bytes: Option<u64>,
}

/// A point as it travels and is spooled: metric, step, bits of the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackedPoint(pub(crate) Metric, pub(crate) u64, pub(crate) u64);

impl From<Point> for PackedPoint {
    fn from(point: Point) -> Self {
        Self(point.metric, point.step, point.value.to_bits())
    }
}

impl From<&PackedPoint> for Point {
    fn from(packed: &PackedPoint) -> Self {
        Self { metric: packed.0, step: packed.1, value: f64::from_bits(packed.2) }
    }
}

/// Writes a message and flushes it.
pub(crate) fn send(
    output: &mut impl io::Write,
    message: &impl Serialize,
) -> Result<(), FrameError> {
    frame::write(output, &serde_json::to_vec(message)?)
}

/// The next message, or `None` when the other side closed the pipe between two messages.
pub(crate) fn receive(input: &mut impl io::Read) -> Result<Option<ToTrainer>, FrameError> {
    Ok(match frame::read(input)? {
        Some(payload) => Some(serde_json::from_slice(&payload)?),
        None => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages of each kind, as they go over the pipe.
    fn messages() -> Vec<String> {
        let order = TrainOrder {
            run: crate::fixtures::run(3, 1),
            checkpoints: "c".into(),
            trunk: Some("t".into()),
            checkpoint_seconds: 5.0,
        };
        let note = CheckpointNote { step: 3, path: "c/step-3".into(), hash: "0".into() };
        let point = PackedPoint(Metric::TrainLoss, 3, 1.5_f64.to_bits());
        let back = [
            FromTrainer::Points(vec![point]),
            FromTrainer::Checkpoint(note),
            FromTrainer::Ended { ending: Ending::Finished { step: 3 }, memory: Memory::default() },
        ];
        let there = [ToTrainer::Train(Box::new(order)), ToTrainer::Stop];
        back.iter().map(text).chain(there.iter().map(text)).collect()
    }

    fn text<T: Serialize>(message: &T) -> String {
        serde_json::to_string(message).unwrap()
    }

    proptest! {
        /// A message with bytes changed is another message or an error, never a panic; and a
        /// frame of anything is read to its end.
        #[test]
        fn messages_of_anything_are_read(
            which in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut text = messages().swap_remove(which.index(5)).into_bytes();
            for (place, byte) in changes {
                let place = place.index(text.len());
                text[place] = byte;
            }
            let _ = serde_json::from_slice::<FromTrainer>(&text);
            let record = frame::encode(&text).unwrap();
            let _ = receive(&mut record.as_slice());
            let mut input = noise.as_slice();
            while let Ok(Some(_)) = receive(&mut input) {}
        }
    }

    #[test]
    fn every_class_of_value_survives_the_pipe() {
        for value in [0.1, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324] {
            let point = Point { metric: Metric::TrainLoss, step: 7, value };
            let message = FromTrainer::Points(vec![point.into()]);
            let text = serde_json::to_vec(&message).unwrap();
            let FromTrainer::Points(back) = serde_json::from_slice(&text).unwrap() else {
                panic!("another message");
            };
            assert_eq!(Point::from(&back[0]).value.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_message_of_another_version_is_named_as_such() {
        let mut stream = Vec::new();
        send(&mut stream, &serde_json::json!({"Dance": 1})).unwrap();
        assert!(matches!(receive(&mut stream.as_slice()), Err(FrameError::Meaning(_))));
    }
}
