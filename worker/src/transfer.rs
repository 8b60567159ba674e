//! Checkpoints to and from the coordinator: what was committed here is handed in, and what a run is
//! to go on from is fetched before it begins.
//!
//! Both live as long as the connection and work through what the supervisor has for them, one
//! checkpoint after another. Training waits for neither, and a transfer that fails costs no run: a
//! checkpoint that cannot be handed in lies here still, and a run whose checkpoint cannot be fetched
//! begins after an earlier one.

use std::{
    convert::Infallible,
    fs::File,
    io::{Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use sweep_proto::{ARTIFACT_CHUNK_BYTES_MAX, client::Work, fault::Fault, v1};
use sweep_spec::{attempt::AttemptKey, checkpoint::MANIFEST_BYTES_MAX, id::RunId};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    checkpoints::{Arriving, files_of},
    link::Shared,
};

/// Wait after a transfer that may succeed later.
const RETRY: Duration = Duration::from_secs(5);

/// Attempts to fetch a checkpoint while the coordinator cannot give it.
const FETCHES_MAX: u32 = 6;

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

/// A kept checkpoint that is not on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) run: RunId,
    /// Folder of the run's checkpoints.
    pub(crate) folder: PathBuf,
    pub(crate) step: u64,
    /// Hash of its manifest.
    pub(crate) hash: String,
}

/// Why a transfer failed.
#[derive(Debug)]
enum Failed {
    /// It may succeed later.
    ForNow(String),
    /// It never will.
    ForGood(String),
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

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::ForGood(error.to_string())
    }
}

/// Hands in one checkpoint after another.
pub(crate) async fn hand_in(shared: &Shared, mut work: Work) -> Infallible {
    loop {
        let next = shared.lock().outgoing().cloned();
        let Some(next) = next else {
            shared.outgoing.notified().await;
            continue;
        };
        match put(&mut work, &next).await {
            Ok(()) => tracing::debug!("the checkpoint of {} at {} is kept", next.key, next.step),
            // Pruned by its trainer meanwhile: a newer one follows.
            Err(_) if !next.path.exists() => {}
            Err(Failed::ForGood(reason)) => {
                tracing::warn!(
                    "{}: the checkpoint at {} is not kept: {reason}",
                    next.key,
                    next.step
                );
            }
            Err(Failed::ForNow(reason)) => {
                tracing::warn!("{}: no checkpoint is kept for now: {reason}", next.key);
                sleep(RETRY).await;
                continue;
            }
        }
        shared.lock().handed_in();
    }
}

async fn put(work: &mut Work, checkpoint: &Outgoing) -> Result<(), Failed> {
    let files = files_of(&checkpoint.path, &checkpoint.hash)?;
    // Opened at once: a trainer may remove the folder while they are sent.
    let open = |(hash, path): (String, PathBuf)| Ok((hash, File::open(path)?));
    let files: Vec<_> = files.into_iter().map(open).collect::<Result<_, std::io::Error>>()?;
    for (hash, file) in files {
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

async fn put_file(
    work: &mut Work,
    key: &AttemptKey,
    hash: String,
    file: File,
) -> Result<(), Failed> {
    use v1::put_artifact_request::Part;
    let bytes = file.metadata()?.len();
    let head = v1::ArtifactHead { key: Some(key.into()), hash, bytes };
    let (sender, stream) = mpsc::channel(PARTS);
    // Disks are read on a thread of their own. One that fails in the middle sends less than was
    // announced, which the coordinator refuses.
    let reading = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
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

/// Fetches what granted attempts wait for, one after another.
pub(crate) async fn fetch(shared: &Shared, mut work: Work) -> Infallible {
    loop {
        let next = shared.lock().incoming();
        let Some((key, wanted)) = next else {
            shared.incoming.notified().await;
            continue;
        };
        for wanted in &wanted {
            match get_patiently(&mut work, wanted).await {
                Ok(()) => tracing::info!("{key}: the checkpoint at {} is fetched", wanted.step),
                Err(reason) => {
                    tracing::warn!("{key}: checkpoint passed over: step {}: {reason}", wanted.step);
                }
            }
        }
        shared.lock().arrived(&key);
        shared.beat.notify_one();
    }
}

/// Fetches one checkpoint; tries again while the coordinator is away for a moment.
pub(crate) async fn get_patiently(work: &mut Work, wanted: &Wanted) -> Result<(), String> {
    let mut fetches = 0;
    loop {
        fetches += 1;
        match get(work, wanted).await {
            Ok(()) => return Ok(()),
            Err(Failed::ForNow(reason)) if fetches < FETCHES_MAX => {
                tracing::warn!("run {}: no checkpoint comes for now: {reason}", wanted.run.short());
                sleep(RETRY).await;
            }
            Err(Failed::ForNow(reason) | Failed::ForGood(reason)) => return Err(reason),
        }
    }
}

async fn get(work: &mut Work, wanted: &Wanted) -> Result<(), Failed> {
    let Wanted { run, folder, step, hash } = wanted;
    let mut manifest = Vec::new();
    let limit = MANIFEST_BYTES_MAX;
    get_file(work, run, hash, limit, &mut |part| {
        manifest.extend_from_slice(part);
        Ok(())
    })
    .await?;
    let arriving = Arriving::begin(folder, run.as_str(), *step, &manifest)?;
    for (hash, name) in &arriving.files {
        let mut file = arriving.create(name)?;
        get_file(work, run, hash, u64::MAX, &mut |part| file.write_all(part)).await?;
        file.sync_all()?;
    }
    arriving.finish()?;
    Ok(())
}

/// Gives the parts of a file to `take`, and holds the whole to its hash.
async fn get_file(
    work: &mut Work,
    run: &RunId,
    hash: &str,
    bytes_max: u64,
    take: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
) -> Result<(), Failed> {
    let request = v1::GetArtifactRequest { run_id: run.to_string(), hash: hash.to_owned() };
    let silent = |_| Failed::ForNow("no part of it came for a minute".to_owned());
    let mut parts =
        timeout(PART_WAIT, work.get_artifact(request)).await.map_err(silent)??.into_inner();
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    while let Some(part) = timeout(PART_WAIT, parts.message()).await.map_err(silent)?? {
        length += part.data.len() as u64;
        if length > bytes_max {
            return Err(Failed::ForGood(format!("{hash} is longer than {bytes_max} bytes")));
        }
        hasher.update(&part.data);
        take(&part.data)?;
    }
    if hasher.finalize().to_hex().as_str() == hash {
        Ok(())
    } else {
        Err(Failed::ForGood(format!("{hash} came with another content")))
    }
}
