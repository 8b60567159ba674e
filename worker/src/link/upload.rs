//! The sender: what the spool holds, in its order, with as much on the way as the coordinator allows.

use std::collections::BTreeMap;

use sweep_proto::{client::Work, convert, fault::Fault, v1};
use sweep_spec::{attempt::AttemptKey, metric::Point};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Broken, CALL_MAX, Limits, OUTBOX, Shared, lost};
use crate::spool::{BATCH_AGE_MAX, Entry};

/// Sends what the spool holds, until the connection breaks.
pub(super) async fn upload(shared: &Shared, work: &mut Work, limits: &Limits) -> Broken {
    let mut sender = Sender {
        points: None,
        sent: BTreeMap::new(),
        #[cfg(feature = "simulation")]
        offsets: BTreeMap::new(),
    };
    loop {
        if let Err(broken) = sender.send_all(shared, work, limits).await {
            return broken;
        }
        let ack = tokio::select! {
            biased;
            ack = sender.next_ack() => ack,
            () = shared.spooled.notified() => continue,
            () = sleep(BATCH_AGE_MAX) => continue,
        };
        match ack {
            Ok(ack) => {
                if let Err(broken) = sender.acked(shared, &ack) {
                    return broken;
                }
            }
            Err(broken) => return broken,
        }
    }
}

/// What is on its way over one connection.
struct Sender {
    /// Opened with the first batch.
    points: Option<(mpsc::Sender<v1::PointBatch>, Streaming<v1::PointAck>)>,
    /// Batches on their way: the first and the last number that is not acknowledged.
    sent: BTreeMap<AttemptKey, (u64, u64)>,
    /// What a deliberate fault takes off the sequence numbers of this connection.
    #[cfg(feature = "simulation")]
    offsets: BTreeMap<AttemptKey, u64>,
}

impl Sender {
    /// Sends every entry that may be sent now.
    async fn send_all(
        &mut self,
        shared: &Shared,
        work: &mut Work,
        limits: &Limits,
    ) -> Result<(), Broken> {
        let keys = shared.lock().spool.keys();
        for key in keys {
            loop {
                let sent_seq = self.sent.get(&key).map_or(0, |&(_, last)| last);
                let entry = shared.lock().spool.next(&key, sent_seq);
                let entry = match entry {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    Err(error) => {
                        // What was written does not read back: nothing of it can be vouched for.
                        let reason = format!("its spool is damaged: {error}");
                        shared.lock().discard(&key, &reason);
                        break;
                    }
                };
                match entry {
                    Entry::Points { seq, resume_step, points } => {
                        #[cfg(feature = "simulation")]
                        let wire_seq = crate::simulation::wire_seq(&mut self.offsets, &key, seq);
                        #[cfg(not(feature = "simulation"))]
                        let wire_seq = seq;
                        if self.in_flight() >= limits.in_flight_max {
                            break;
                        }
                        let points: Vec<Point> = points.iter().map(Into::into).collect();
                        let series = convert::series(&points);
                        let batch = v1::PointBatch {
                            key: Some((&key).into()),
                            seq: wire_seq,
                            resume_step,
                            series,
                        };
                        self.send_batch(work, batch).await?;
                        self.sent.entry(key.clone()).or_insert((seq, seq)).1 = seq;
                    }
                    entry => settle(shared, work, &key, entry).await?,
                }
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        let count = |&(first, last): &(u64, u64)| usize::try_from(last - first + 1).unwrap_or(0);
        self.sent.values().map(count).sum()
    }

    async fn send_batch(&mut self, work: &mut Work, batch: v1::PointBatch) -> Result<(), Broken> {
        let away = |_| Broken::Lost("points do not leave this machine".to_owned());
        if let Some((outbox, _)) = &self.points {
            return timeout(CALL_MAX, outbox.send(batch))
                .await
                .map_err(|_| Broken::Lost("points do not leave this machine".to_owned()))?
                .map_err(away);
        }
        let (outbox, stream) = mpsc::channel(OUTBOX);
        outbox.send(batch).await.map_err(away)?;
        let acks = timeout(CALL_MAX, work.report_points(ReceiverStream::new(stream)))
            .await
            .map_err(|_| Broken::Lost("points are not answered".to_owned()))?
            .map_err(|status| lost(&status))?;
        self.points = Some((outbox, acks.into_inner()));
        Ok(())
    }

    async fn next_ack(&mut self) -> Result<v1::PointAck, Broken> {
        match &mut self.points {
            None => std::future::pending().await,
            Some((_, acks)) => match acks.message().await {
                Ok(Some(ack)) => Ok(ack),
                Ok(None) => Err(Broken::Lost("the coordinator takes no more points".to_owned())),
                Err(status) => Err(lost(&status)),
            },
        }
    }

    fn acked(&mut self, shared: &Shared, ack: &v1::PointAck) -> Result<(), Broken> {
        use v1::point_ack::Kind;
        let key = convert::attempt_key("ack.key", ack.key.as_ref())
            .map_err(|error| Broken::Lost(error.to_string()))?;
        let mut supervisor = shared.lock();
        match ack.kind() {
            Kind::Durable => {
                supervisor.spool.acked_points(&key, ack.seq);
                let done = self.sent.get_mut(&key).is_none_or(|(first, last)| {
                    *first = (*first).max(ack.seq + 1);
                    *first > *last
                });
                if done {
                    self.sent.remove(&key);
                }
            }
            Kind::Resend => {
                self.sent.remove(&key);
                supervisor.spool.acked_points(&key, ack.seq);
                if supervisor.spool.first_seq(&key).is_some_and(|first| first > ack.seq + 1) {
                    // It lost what it had acknowledged, as after a restored backup.
                    supervisor.discard(&key, "the coordinator lost points that were durable");
                }
            }
            Kind::Fenced | Kind::Refused => {
                self.sent.remove(&key);
                supervisor.discard(&key, &ack.reason);
            }
            Kind::Unspecified => tracing::warn!("{key}: an answer of a later version is ignored"),
        }
        Ok(())
    }
}

/// Sends a checkpoint or an end, whose points are all durable, and drops it when it is taken.
async fn settle(
    shared: &Shared,
    work: &mut Work,
    key: &AttemptKey,
    entry: Entry,
) -> Result<(), Broken> {
    let call = async {
        match &entry {
            Entry::Points { .. } => Ok(()),
            Entry::Checkpoint { note, requires_seq } => {
                let request = v1::CommitCheckpointRequest {
                    key: Some(key.into()),
                    step: note.step,
                    hash: note.hash.clone(),
                    requires_seq: *requires_seq,
                    bytes: None,
                    worker_id: shared.lock().identity.worker_id.clone(),
                };
                work.commit_checkpoint(request).await.map(|_| ())
            }
            Entry::End(end) => {
                let last_seq = shared.lock().spool.last_seq(key);
                let request = v1::FinishAttemptRequest {
                    key: Some(key.into()),
                    ending: Some((&end.ending).into()),
                    last_seq,
                    resume_step: end.resume_step,
                    seconds: end.seconds,
                    peak_memory_bytes: end.peak_memory_bytes,
                    points_thinned: end.points_thinned,
                };
                work.finish_attempt(request).await.map(|_| ())
            }
        }
    };
    let answer = timeout(CALL_MAX, call)
        .await
        .map_err(|_| Broken::Lost(format!("the end of {key} is not answered")))?;
    let mut supervisor = shared.lock();
    match (answer, entry) {
        (Ok(()), Entry::Checkpoint { note, .. }) => {
            supervisor.committed(key, &note);
            shared.outgoing.notify_one();
        }
        (Ok(()), Entry::End(end)) => {
            supervisor.finished(key, &end.ending);
            shared.beat.notify_one();
        }
        (Ok(()), Entry::Points { .. }) => {}
        (Err(status), entry) => match Fault::of(&status) {
            Some(
                Fault::Token
                | Fault::Role
                | Fault::Version
                | Fault::NotJoined
                | Fault::PointsMissing,
            ) => return Err(lost(&status)),
            _ if Fault::is_transient(&status) => return Err(lost(&status)),
            Some(Fault::Field) if matches!(entry, Entry::Checkpoint { .. }) => {
                tracing::error!("{key}: a checkpoint is refused: {}", status.message());
                supervisor.spool.acked_checkpoint(key);
            }
            _ => supervisor.discard(key, status.message()),
        },
    }
    Ok(())
}
