//! Checkpoints to and from the coordinator: what was committed here is handed in, and what a run is
//! to go on from is fetched before it begins.
//!
//! Both live as long as the connection and work through what the supervisor has for them, one
//! checkpoint after another. Training waits for neither, and a transfer that fails costs no run: a
//! checkpoint that cannot be handed in lies here still. A run whose checkpoint is gone or damaged
//! begins after an earlier one; one whose checkpoint cannot be had for now waits for it, and then
//! ends its attempt rather than train again what is trained already.
//!
//! Whatever waits for a disk does so on a thread of its own: the connection's heartbeats share this
//! task, and a slow disk must not cost a lease.

use std::{
    convert::Infallible,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sweep_proto::{ARTIFACT_CHUNK_BYTES_MAX, client::Work, fault::Fault, v1};
use sweep_spec::{
    attempt::{AttemptKey, FailureCause},
    checkpoint::{MANIFEST_BYTES_MAX, Manifest},
    id::RunId,
};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::Instrument as _;

use crate::{
    checkpoints::{NotLanded, Part, checkpoints_in, files_of, has, land},
    clock,
    link::Shared,
    pauses::{Pauses, Retries},
    supervisor::Supervisor,
};

/// Between two tries at a transfer that may succeed later.
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Tries for somebody who waits.
const FETCHES_MAX: u32 = 6;

/// An attempt waits so long for a checkpoint that cannot be had for now, then it ends: it holds a
/// slot, and another machine may be nearer. Such an end speaks against neither run nor device, so a
/// store may be away for hours.
const FETCH_PATIENCE: Duration = Duration::from_mins(10);

/// No part of a file for so long: the transfer has failed.
const PART_WAIT: Duration = Duration::from_secs(60);

/// Parts that wait for the network.
const PARTS: usize = 4;

/// A committed checkpoint on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) key: AttemptKey,
    pub(crate) step: u64,
    /// Hash of its manifest.
    pub(crate) hash: String,
    pub(crate) path: PathBuf,
}

impl Outgoing {
    /// Tells it from every other one.
    fn name(&self) -> String {
        format!("{}-{}-{}", self.key.run, self.key.number, self.step)
    }
}

/// Kept checkpoints of a run that are not on this disk; one of them is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) run: RunId,
    /// Folder of the run's checkpoints.
    pub(crate) folder: PathBuf,
    /// The newest first; at least one.
    pub(crate) kept: Vec<Kept>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) step: u64,
    /// Hash of its manifest.
    pub(crate) hash: String,
}

/// Why a transfer failed.
#[derive(Debug)]
enum Failed {
    /// It may succeed later.
    ForNow(String),
    /// It never will: what is wanted is gone or damaged.
    ForGood(String),
    /// This disk does not take it, or does not give it.
    Here(io::Error),
}

impl Failed {
    /// Whose fault it is that an attempt cannot begin.
    const fn cause(&self) -> FailureCause {
        match self {
            Self::ForNow(_) | Self::ForGood(_) => FailureCause::Fetch,
            Self::Here(_) => FailureCause::Infrastructure,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForNow(reason) | Self::ForGood(reason) => f.write_str(reason),
            Self::Here(error) => write!(
                f,
                "the disk of this machine: {error}; hint: free space on it, and let it be written"
            ),
        }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let reason = format!("{}: {}", status.code(), status.message());
        if Fault::is_transient(&status) || status.code() == Code::DeadlineExceeded {
            Self::ForNow(reason)
        } else {
            Self::ForGood(reason)
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::ForGood(error.to_string()),
            _ => Self::Here(error),
        }
    }
}

/// Hands in one checkpoint after another; one that fails for now holds up no other.
pub(crate) async fn hand_in(shared: &Shared, mut work: Work) -> Infallible {
    let whose = shared.lock().identity.worker_id.clone();
    let mut retries = Retries::new(PAUSES, whose);
    loop {
        let waiting: Vec<Outgoing> = shared.lock().outbox.iter().cloned().collect();
        retries.keep(|name| waiting.iter().any(|at| at.name() == *name));
        let now = clock::now();
        let due = waiting.into_iter().find(|at| retries.is_due(&at.name(), now));
        let Some(next) = due else {
            rung(&shared.outgoing, retries.wait(now)).await;
            continue;
        };
        let Outgoing { key, step, .. } = &next;
        let span = shared.lock().span(key);
        let put = put(&mut work, &next).instrument(span.clone()).await;
        let is_gone = put.is_err() && is_gone(&next).await;
        let _entered = span.entered();
        match put {
            Ok(()) => tracing::debug!("{key}: the checkpoint at {step} is kept"),
            // Pruned by its trainer meanwhile: a newer one follows.
            Err(_) if is_gone => {}
            Err(Failed::ForGood(reason)) => {
                tracing::warn!("{key}: the checkpoint at {step} is not kept: {reason}");
            }
            Err(failed) => {
                let pause = retries.failed(&next.name(), clock::now()).pause;
                tracing::warn!(
                    "{key}: the checkpoint at {step} is not kept for now: {failed}; trying again \
                     in {pause:.1?}"
                );
                continue;
            }
        }
        shared.lock().outbox.remove(&next);
    }
}

async fn is_gone(checkpoint: &Outgoing) -> bool {
    let path = checkpoint.path.clone();
    on_a_thread(move || path.try_exists()).await.is_ok_and(|exists| !exists)
}

async fn put(work: &mut Work, checkpoint: &Outgoing) -> Result<(), Failed> {
    let (path, hash) = (checkpoint.path.clone(), checkpoint.hash.clone());
    for (hash, file) in on_a_thread(move || open_files(&path, &hash)).await? {
        put_file(work, &checkpoint.key, hash, file).await?;
    }
    let request = v1::KeepCheckpointRequest {
        key: Some((&checkpoint.key).into()),
        step: checkpoint.step,
        hash: checkpoint.hash.clone(),
    };
    work.keep_checkpoint(request).await?;
    Ok(())
}

/// All files of a checkpoint, opened at once: a trainer may remove the folder while they are sent.
fn open_files(path: &Path, hash: &str) -> io::Result<Vec<(String, File)>> {
    let open = |(hash, path): (String, PathBuf)| Ok((hash, File::open(path)?));
    files_of(path, hash)?.into_iter().map(open).collect()
}

/// Does what waits for the disk on a thread of its own.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn put_file(
    work: &mut Work,
    key: &AttemptKey,
    hash: String,
    file: File,
) -> Result<(), Failed> {
    use v1::put_artifact_request::Part;
    let key = Some(key.into());
    let (sender, stream) = mpsc::channel(PARTS);
    // A disk that fails in the middle sends less than was announced, which the coordinator refuses.
    let reading = spawn_blocking(move || -> io::Result<()> {
        let head = v1::ArtifactHead { key, hash, bytes: file.metadata()?.len() };
        let say = |part| sender.blocking_send(v1::PutArtifactRequest { part: Some(part) }).is_ok();
        let mut file = file;
        let mut open = say(Part::Head(head));
        let mut buffer = vec![0; ARTIFACT_CHUNK_BYTES_MAX];
        while open {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            open = say(Part::Data(buffer[..read].to_vec()));
        }
        Ok(())
    });
    let put = work.put_artifact(ReceiverStream::new(stream)).await;
    if let Ok(Err(error)) = reading.await {
        return Err(error.into());
    }
    put?;
    Ok(())
}

/// Fetches what granted attempts wait for; one that fails for now holds up no other.
pub(crate) async fn fetch(shared: &Shared, mut work: Work) -> Infallible {
    let whose = shared.lock().identity.worker_id.clone();
    let mut retries = Retries::new(PAUSES, whose);
    loop {
        let waiting = shared.lock().incoming();
        retries.keep(|key| waiting.iter().any(|(other, _)| other == key));
        let now = clock::now();
        let due = waiting.into_iter().find(|(key, _)| retries.is_due(key, now));
        let Some((key, wanted)) = due else {
            rung(&shared.incoming, retries.wait(now)).await;
            continue;
        };
        let span = shared.lock().span(&key);
        let got = get_all(&mut work, &key, &wanted).instrument(span.clone()).await;
        let Err(failed) = got else {
            begin(shared, |supervisor| supervisor.arrived(&key));
            continue;
        };
        let failing = retries.failed(&key, clock::now());
        let waits = matches!(failed, Failed::ForNow(_)) && failing.lasted < FETCH_PATIENCE;
        if waits {
            let _entered = span.entered();
            tracing::warn!(
                "{key}: no checkpoint comes for now: {failed}; trying again in {:.1?}",
                failing.pause
            );
        } else if make_do(&mut work, &wanted).instrument(span.clone()).await {
            span.in_scope(|| tracing::warn!("{key} begins after an earlier checkpoint: {failed}"));
            begin(shared, |supervisor| supervisor.arrived(&key));
        } else {
            let reason = format!("its checkpoint cannot be fetched: {failed}");
            begin(shared, |supervisor| supervisor.cannot_begin(&key, failed.cause(), reason));
        }
    }
}

/// Changes what an attempt waits for, and lets everybody know.
fn begin(shared: &Shared, change: impl FnOnce(&mut Supervisor)) {
    change(&mut shared.lock());
    shared.spooled.notify_one();
    shared.beat.notify_one();
}

/// Waits until a bell is rung, or until something is due.
async fn rung(bell: &Notify, due: Option<Duration>) {
    match due {
        Some(due) => {
            let _ = timeout(due, bell.notified()).await;
        }
        None => bell.notified().await,
    }
}

/// Fetches of everything wanted the newest that is whole. What is gone or damaged is passed over.
async fn get_all(work: &mut Work, key: &AttemptKey, wanted: &[Wanted]) -> Result<(), Failed> {
    for wanted in wanted {
        for kept in &wanted.kept {
            match get_missing(work, wanted, kept).await {
                Ok(()) => {
                    tracing::info!("{key}: the checkpoint at {} is fetched", kept.step);
                    break;
                }
                Err(Failed::ForGood(reason)) => {
                    tracing::warn!("{key}: checkpoint passed over: step {}: {reason}", kept.step);
                }
                Err(failed) => return Err(failed),
            }
        }
    }
    Ok(())
}

/// Whether there is something to begin after in place of what cannot be had for now: another kept
/// checkpoint, or an earlier one on this disk.
async fn make_do(work: &mut Work, wanted: &[Wanted]) -> bool {
    for wanted in wanted {
        let mut has_one = false;
        for kept in &wanted.kept {
            has_one = has_one || get_missing(work, wanted, kept).await.is_ok();
        }
        if !has_one && !has_earlier(wanted).await {
            return false;
        }
    }
    true
}

async fn has_earlier(wanted: &Wanted) -> bool {
    let (folder, newest) = (wanted.folder.clone(), wanted.kept.first().map(|kept| kept.step));
    let earlier = move || {
        let mut found = checkpoints_in(&folder)?.into_iter();
        Ok(found.any(|(step, _)| newest.is_none_or(|newest| step < newest)))
    };
    on_a_thread(earlier).await.unwrap_or(false)
}

/// Fetches one checkpoint for somebody who waits for it; tries again while the coordinator is away
/// for a moment.
pub(crate) async fn get_patiently(
    work: &mut Work,
    run: &RunId,
    folder: &Path,
    kept: &Kept,
) -> Result<(), String> {
    let mut failures = 0;
    loop {
        failures += 1;
        match get(work, run, folder, kept).await {
            Ok(()) => return Ok(()),
            Err(Failed::ForNow(reason)) if failures < FETCHES_MAX => {
                tracing::warn!("run {}: no checkpoint comes for now: {reason}", run.short());
                sleep(PAUSES.after(failures, run.as_str())).await;
            }
            Err(failed) => return Err(failed.to_string()),
        }
    }
}

/// Fetches one of what is wanted, unless an earlier try came to its end after its connection had
/// broken.
async fn get_missing(work: &mut Work, wanted: &Wanted, kept: &Kept) -> Result<(), Failed> {
    let (folder, known) = (wanted.folder.clone(), kept.clone());
    if on_a_thread(move || Ok(has(&folder, known.step, &known.hash))).await? {
        return Ok(());
    }
    get(work, &wanted.run, &wanted.folder, kept).await
}

async fn get(work: &mut Work, run: &RunId, folder: &Path, kept: &Kept) -> Result<(), Failed> {
    let Kept { step, hash } = kept;
    let text = get_manifest(work, run, hash).await?;
    let manifest = Manifest::parse(&text).map_err(Failed::ForGood)?;
    if manifest.run != run.as_str() || manifest.step != *step {
        let other = format!("it is of run {} at step {}", manifest.run, manifest.step);
        return Err(Failed::ForGood(other));
    }
    let hashes: Vec<String> = manifest.files.values().cloned().collect();
    let (sender, mut parts) = mpsc::channel(PARTS);
    let folder = folder.to_owned();
    let landing = spawn_blocking(move || land(&folder, &manifest, &text, &mut parts));
    let mut got = Ok(());
    for hash in hashes {
        got = get_file(work, run, &hash, &sender).await;
        if got.is_err() {
            break;
        }
    }
    drop(sender);
    match landing.await {
        Ok(Ok(())) => got,
        Ok(Err(NotLanded::BrokenOff)) => got.and(Err(Failed::ForNow("it broke off".to_owned()))),
        Ok(Err(NotLanded::Content(hash))) => {
            Err(Failed::ForGood(format!("{hash} came with another content")))
        }
        Ok(Err(NotLanded::Disk(error))) => Err(error.into()),
        Err(error) => Err(io::Error::other(error).into()),
    }
}

async fn get_manifest(work: &mut Work, run: &RunId, hash: &str) -> Result<Vec<u8>, Failed> {
    let mut parts = begin_file(work, run, hash).await?;
    let mut text = Vec::new();
    while let Some(part) = next_part(&mut parts).await? {
        text.extend_from_slice(&part);
        if text.len() as u64 > MANIFEST_BYTES_MAX {
            let problem = format!("{hash} is longer than {MANIFEST_BYTES_MAX} bytes");
            return Err(Failed::ForGood(problem));
        }
    }
    if blake3::hash(&text).to_hex().as_str() == hash {
        Ok(text)
    } else {
        Err(Failed::ForGood(format!("{hash} came with another content")))
    }
}

/// Passes on a file to whoever lands it; when that one has given up, it says why itself.
async fn get_file(
    work: &mut Work,
    run: &RunId,
    hash: &str,
    sender: &mpsc::Sender<Part>,
) -> Result<(), Failed> {
    let mut parts = begin_file(work, run, hash).await?;
    while let Some(part) = next_part(&mut parts).await? {
        if sender.send(Part::Bytes(part)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Part::EndOfFile).await;
    Ok(())
}

type Parts = Streaming<v1::ArtifactChunk>;

async fn begin_file(work: &mut Work, run: &RunId, hash: &str) -> Result<Parts, Failed> {
    let request = v1::GetArtifactRequest { run_id: run.to_string(), hash: hash.to_owned() };
    let reply = timeout(PART_WAIT, work.get_artifact(request)).await;
    Ok(reply.map_err(silent)??.into_inner())
}

async fn next_part(parts: &mut Parts) -> Result<Option<Vec<u8>>, Failed> {
    let part = timeout(PART_WAIT, parts.message()).await.map_err(silent)??;
    Ok(part.map(|part| part.data))
}

fn silent(_: tokio::time::error::Elapsed) -> Failed {
    Failed::ForNow("no part of it came for a minute".to_owned())
}
