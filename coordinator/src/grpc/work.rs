//! The service of workers.

use std::{collections::BTreeMap, time::Duration};

use sweep_proto::{convert, fault::Fault, v1};
use sweep_spec::attempt::{AttemptKey, Device, Ending};
use sweep_store::{Batch, CheckpointRecord, CheckpointRow, Ingested};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, Streamed, artifacts};
use crate::{
    actor::{ORDERS_MAX, Order},
    clock::unix_ms,
    connection::certificate_of,
    scheduler::{Beat, Ended, HEARTBEAT, Held, Joined, LEASE, Running, Verdict},
};

/// Batches of a worker on their way: about 0.3 MB in the coordinator.
const UNACKNOWLEDGED_MAX: u32 = 8;

/// Longest id of a worker, name of a machine, hash.
const NAME_BYTES_MAX: usize = 256;

/// Slots, devices and attempts of one worker.
const LIST_MAX: usize = 1024;

/// Longest reason of a failure, or of a refused device.
const TEXT_BYTES_MAX: usize = 4096;

/// The service `Work`.
#[derive(Clone, Debug)]
pub(crate) struct WorkService {
    shared: Shared,
}

impl WorkService {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn name(field: &str, text: &str) -> Result<String, Status> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = format!("must have 1 to {NAME_BYTES_MAX} printable bytes");
        return Err(convert::FieldError::new(field, problem).into());
    }
    Ok(text.to_owned())
}

fn worker_id(text: &str) -> Result<String, Status> {
    let valid = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid {
        Ok(text.to_owned())
    } else {
        let problem = "must have 1 to 64 of A-Z a-z 0-9 . _ -";
        Err(convert::FieldError::new("worker_id", problem).into())
    }
}

#[tonic::async_trait]
impl v1::work_server::Work for WorkService {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let verdicts = self.shared.actor.join(joined(&request.into_inner())?).await?;
        Ok(Response::new(v1::JoinReply {
            verdicts: verdicts.into_iter().map(verdict).collect(),
            heartbeat_ms: millis(HEARTBEAT),
            lease_ms: millis(LEASE),
            unacknowledged_batches_max: UNACKNOWLEDGED_MAX,
            keeps_checkpoints: self.shared.artifacts.is_some(),
        }))
    }

    type SessionStream = Streamed<v1::Directive>;

    async fn session(
        &self,
        request: Request<Streaming<v1::Heartbeat>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        let caller = certificate_of(request.extensions());
        tokio::spawn(session(self.shared.clone(), request.into_inner(), sender, caller));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ReportPointsStream = Streamed<v1::PointAck>;

    async fn report_points(
        &self,
        request: Request<Streaming<v1::PointBatch>>,
    ) -> Result<Response<Self::ReportPointsStream>, Status> {
        let (sender, receiver) = mpsc::channel(UNACKNOWLEDGED_MAX as usize);
        let caller = certificate_of(request.extensions());
        tokio::spawn(report(self.shared.clone(), request.into_inner(), sender, caller));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<v1::CommitCheckpointRequest>,
    ) -> Result<Response<v1::CommitCheckpointReply>, Status> {
        let message = request.into_inner();
        let row = CheckpointRow {
            key: convert::attempt_key("key", message.key.as_ref())?,
            step: message.step,
            hash: name("hash", &message.hash)?,
            bytes: message.bytes,
            requires_seq: message.requires_seq,
            unix_ms: unix_ms(),
        };
        self.shared.actor.checkpoint(row).await?;
        Ok(Response::new(v1::CommitCheckpointReply {}))
    }

    async fn finish_attempt(
        &self,
        request: Request<v1::FinishAttemptRequest>,
    ) -> Result<Response<v1::FinishAttemptReply>, Status> {
        let message = request.into_inner();
        let ended = Ended {
            key: convert::attempt_key("key", message.key.as_ref())?,
            ending: match convert::ending("ending", message.ending.as_ref())? {
                Ending::Failed { cause, reason } => Ending::Failed { cause, reason: cut(reason) },
                ending => ending,
            },
            resume_step: message.resume_step,
            seconds: message.seconds,
            peak_memory_bytes: message.peak_memory_bytes,
            points_thinned: message.points_thinned,
        };
        self.shared.actor.finish(ended, message.last_seq).await?;
        Ok(Response::new(v1::FinishAttemptReply {}))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactReply>, Status> {
        let caller = certificate_of(request.extensions());
        artifacts::put(&self.shared, request.into_inner(), caller.as_deref()).await?;
        Ok(Response::new(v1::PutArtifactReply {}))
    }

    async fn keep_checkpoint(
        &self,
        request: Request<v1::KeepCheckpointRequest>,
    ) -> Result<Response<v1::KeepCheckpointReply>, Status> {
        artifacts::keep(&self.shared, request.into_inner()).await?;
        Ok(Response::new(v1::KeepCheckpointReply {}))
    }

    type GetArtifactStream = Streamed<v1::ArtifactChunk>;

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<Self::GetArtifactStream>, Status> {
        let caller = certificate_of(request.extensions());
        let chunks = artifacts::get(&self.shared, request.into_inner(), caller).await?;
        Ok(Response::new(chunks))
    }
}

/// Holds lists of a message to a length.
fn short(lists: &[(&str, usize)]) -> Result<(), Status> {
    match lists.iter().find(|(_, count)| *count > LIST_MAX) {
        Some((field, count)) => {
            Err(Fault::Limit.status(format!("{field}: {count} are above {LIST_MAX}")))
        }
        None => Ok(()),
    }
}

/// A text for people that a worker made, cut where it is too long: what it tells stands at its
/// beginning, and the end of an attempt must not be refused for its words. What a trainer says last may
/// be anything: a character that is none for people becomes a space, and no database takes a NUL.
fn cut(text: String) -> String {
    let mut text = text.replace(char::is_control, " ");
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('\u{2026}');
    }
    text
}

fn joined(message: &v1::JoinRequest) -> Result<Joined, Status> {
    short(&[
        ("devices", message.devices.len()),
        ("slots", message.slots.len()),
        ("held", message.held.len()),
    ])?;
    let mut held = Vec::with_capacity(message.held.len());
    for (index, one) in message.held.iter().enumerate() {
        let key = convert::attempt_key(&format!("held[{index}].key"), one.key.as_ref())?;
        held.push(Held { key, slot: one.slot, status: None });
    }
    Ok(Joined {
        worker: worker_id(&message.worker_id)?,
        host: name("host", &message.host)?,
        incarnation: message.incarnation,
        // Absent from a worker of an earlier version.
        start_id: match message.start_id.as_str() {
            "" => String::new(),
            text => name("start_id", text)?,
        },
        devices: devices(&message.devices)?,
        slots: message.slots.iter().map(convert::slot).collect(),
        held,
        lifetime: message.lifetime_ms.map(Duration::from_millis),
    })
}

/// Devices whose names can stand in a line.
fn devices(messages: &[v1::Device]) -> Result<Vec<Device>, Status> {
    let mut devices = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let mut device = convert::device(message);
        device.refused = device.refused.map(cut);
        device.canary = device.canary.map(cut);
        for (field, text) in
            [("id", &device.id), ("name", &device.name), ("backend", &device.backend)]
        {
            name(&format!("devices[{index}].{field}"), text)?;
        }
        devices.push(device);
    }
    Ok(devices)
}

fn verdict((key, verdict, acked_seq): (AttemptKey, Verdict, u64)) -> v1::Verdict {
    let (kind, reason) = match verdict {
        Verdict::Keep => (v1::verdict::Kind::Keep, ""),
        Verdict::Done => (v1::verdict::Kind::Done, ""),
        Verdict::Kill(reason) => (v1::verdict::Kind::Kill, reason),
    };
    v1::Verdict {
        key: Some((&key).into()),
        kind: kind.into(),
        acked_seq,
        reason: reason.to_owned(),
    }
}

fn beat(message: &v1::Heartbeat) -> Result<Beat, Status> {
    short(&[
        ("running", message.running.len()),
        ("ended", message.ended.len()),
        ("free_slots", message.free_slots.len()),
        ("devices", message.devices.len()),
    ])?;
    let mut running = Vec::with_capacity(message.running.len());
    for (index, one) in message.running.iter().enumerate() {
        running.push(Running {
            key: convert::attempt_key(&format!("running[{index}].key"), one.key.as_ref())?,
            step: one.step,
            tokens_per_second: one.tokens_per_second,
        });
    }
    let mut ended = Vec::with_capacity(message.ended.len());
    for (index, key) in message.ended.iter().enumerate() {
        ended.push(convert::attempt_key(&format!("ended[{index}]"), Some(key))?);
    }
    Ok(Beat {
        worker: worker_id(&message.worker_id)?,
        incarnation: message.incarnation,
        received: message.received,
        running,
        ended,
        free_slots: message.free_slots.clone(),
        draining: message.draining,
        devices: devices(&message.devices)?,
    })
}

type Directives = mpsc::Sender<Result<v1::Directive, Status>>;

/// The life line of one worker, until it breaks, falls silent or the coordinator goes down.
async fn session(
    shared: Shared,
    mut beats: Streaming<v1::Heartbeat>,
    sender: Directives,
    caller: Option<String>,
) {
    let mut open: Option<(String, u64)> = None;
    let result = tokio::select! {
        biased;
        result = beat_loop(&shared, &mut beats, &sender, caller.as_deref(), &mut open) => result,
        () = shared.going_down() => Err(Fault::Busy.status("the coordinator is going down")),
    };
    if let Some((worker, number)) = open {
        shared.actor.close(worker, number).await;
    }
    if let Err(status) = result {
        let _ = sender.send(Err(status)).await;
    }
}

async fn beat_loop(
    shared: &Shared,
    beats: &mut Streaming<v1::Heartbeat>,
    sender: &Directives,
    caller: Option<&str>,
    open: &mut Option<(String, u64)>,
) -> Result<(), Status> {
    loop {
        // The lease has run out by then: the stream holds nothing any more.
        let silent = |_| Status::deadline_exceeded("no heartbeat came for the length of a lease");
        let Some(message) = timeout(LEASE, beats.message()).await.map_err(silent)?? else {
            return Ok(());
        };
        shared.revoked.check(caller)?;
        let beat = beat(&message)?;
        let number = match open {
            Some((worker, _)) if *worker != beat.worker => {
                return Err(convert::FieldError::new("worker_id", "changed in a session").into());
            }
            Some((_, number)) => *number,
            None => {
                let (orders, receiver) = mpsc::channel(ORDERS_MAX);
                let worker = beat.worker.clone();
                let number = shared.actor.open(worker.clone(), beat.incarnation, orders).await?;
                tokio::spawn(pass_on(receiver, sender.clone()));
                *open = Some((worker, number));
                number
            }
        };
        shared.actor.beat(number, message.sequence, beat).await?;
    }
}

/// Orders of the actor as messages to the worker.
async fn pass_on(mut orders: mpsc::Receiver<(u64, Order)>, sender: Directives) {
    while let Some((sequence, order)) = orders.recv().await {
        if sender.send(Ok(directive(sequence, order))).await.is_err() {
            return;
        }
    }
    // The actor let go of the session: a newer one took its place, or it was too slow.
    let _ = sender.send(Err(Fault::NotJoined.status("the session is over; join again"))).await;
}

fn directive(sequence: u64, order: Order) -> v1::Directive {
    use v1::directive::Directive as Wire;
    let wire = match order {
        Order::Ack { heartbeat } => {
            Wire::HeartbeatAck(v1::HeartbeatAck { sequence: heartbeat, lease_ms: millis(LEASE) })
        }
        Order::Grant { grant, run_json, checkpoint, earlier, fork } => Wire::Grant(v1::Grant {
            key: Some((&grant.key).into()),
            slot: grant.slot,
            run_json,
            lease_ms: millis(LEASE),
            checkpoint: checkpoint.map(checkpoint_ref),
            fork: fork.map(checkpoint_ref),
            earlier: earlier.map(checkpoint_ref),
        }),
        Order::Kill { key, reason } => Wire::Kill(v1::Kill { key: Some((&key).into()), reason }),
        Order::Drain { reason } => Wire::Drain(v1::Drain { reason }),
    };
    v1::Directive { sequence, directive: Some(wire) }
}

fn checkpoint_ref(found: CheckpointRecord) -> v1::CheckpointRef {
    v1::CheckpointRef { step: found.step, hash: found.hash, kept: found.kept }
}

type Acks = mpsc::Sender<Result<v1::PointAck, Status>>;

/// An acknowledgement that is still to come, or is known.
enum Pending {
    Waits(AttemptKey, oneshot::Receiver<Result<Ingested, Status>>),
    Known(v1::PointAck),
}

/// Takes in batches and acknowledges them in their order.
async fn report(
    shared: Shared,
    mut batches: Streaming<v1::PointBatch>,
    acks: Acks,
    caller: Option<String>,
) {
    let (pending, receiver) = mpsc::channel(UNACKNOWLEDGED_MAX as usize);
    let answering = tokio::spawn(acknowledge(receiver, acks.clone(), shared.limits.stream_idle));
    let result = tokio::select! {
        biased;
        result = take_in(&shared, &mut batches, caller.as_deref(), &pending) => result,
        () = shared.going_down() => Err(Fault::Busy.status("the coordinator is going down")),
    };
    drop(pending);
    // What is under way is still acknowledged.
    let _ = answering.await;
    if let Err(status) = result {
        let _ = acks.send(Err(status)).await;
    }
}

async fn take_in(
    shared: &Shared,
    batches: &mut Streaming<v1::PointBatch>,
    caller: Option<&str>,
    pending: &mpsc::Sender<Pending>,
) -> Result<(), Status> {
    let mut workers = BTreeMap::new();
    while let Some(message) = batches.message().await? {
        shared.revoked.check(caller)?;
        let bytes = message.series.iter().map(bytes_of).sum();
        let key = convert::attempt_key("key", message.key.as_ref())?;
        if message.seq == 0 {
            return Err(convert::FieldError::new("seq", "batches count from 1").into());
        }
        let mut count = 0;
        let next = match convert::points("series", &message.series) {
            Ok(points) => {
                count = points.len();
                let batch = Batch {
                    key: key.clone(),
                    seq: message.seq,
                    resume_step: message.resume_step,
                    points,
                };
                Pending::Waits(key.clone(), shared.ingest.send(batch).await?)
            }
            // Not an error of the stream: other attempts share it.
            Err(error) => Pending::Known(ack(&key, Ingested::Refused(error.to_string()))),
        };
        if pending.send(next).await.is_err() {
            return Ok(());
        }
        let worker = worker_of(shared, &mut workers, key).await?;
        let wait = shared.quotas.book(shared.clock.now(), &worker, count, bytes);
        if !wait.is_zero() {
            shared.metrics.slowed();
            tracing::debug!(worker, ?wait, "more points than a worker may send; it waits");
            // The next batch waits in the network, and its worker for the acknowledgement.
            tokio::time::sleep(wait).await;
        }
    }
    Ok(())
}

/// About the bytes of a series on the wire, and in memory.
fn bytes_of(series: &v1::Series) -> usize {
    series.metric.len() + 16 * series.steps.len().max(series.values.len())
}

/// The worker that an attempt was granted to; one name for all that are over.
async fn worker_of(
    shared: &Shared,
    known: &mut BTreeMap<AttemptKey, String>,
    key: AttemptKey,
) -> Result<String, Status> {
    if let Some(worker) = known.get(&key) {
        return Ok(worker.clone());
    }
    let run = key.clone();
    let worker = shared.actor.view(move |scheduler, _| scheduler.worker_of(&run)).await?;
    let Some(worker) = worker else { return Ok(String::new()) };
    if known.len() >= LIST_MAX {
        known.clear();
    }
    known.insert(key, worker.clone());
    Ok(worker)
}

async fn acknowledge(mut pending: mpsc::Receiver<Pending>, acks: Acks, idle: Duration) {
    while let Some(next) = pending.recv().await {
        let reply = match next {
            Pending::Known(ack) => Ok(ack),
            Pending::Waits(key, receiver) => match receiver.await {
                Ok(result) => result.map(|ingested| ack(&key, ingested)),
                Err(_) => Err(Fault::Busy.status("the coordinator is going down")),
            },
        };
        let failed = reply.is_err();
        // After a failure of the store nothing later may be acknowledged, and nothing to a worker that
        // does not listen: it sends again what it has not heard of.
        let sent = timeout(idle, acks.send(reply)).await;
        if !matches!(sent, Ok(Ok(()))) || failed {
            return;
        }
    }
}

fn ack(key: &AttemptKey, ingested: Ingested) -> v1::PointAck {
    use v1::point_ack::Kind;
    let (kind, seq, reason) = match ingested {
        Ingested::Durable(seq) => (Kind::Durable, seq, String::new()),
        Ingested::Resend(seq) => (Kind::Resend, seq, String::new()),
        Ingested::Fenced(reason) => (Kind::Fenced, 0, reason.to_owned()),
        Ingested::Refused(reason) => (Kind::Refused, 0, reason),
    };
    v1::PointAck { key: Some(key.into()), seq, kind: kind.into(), reason }
}
