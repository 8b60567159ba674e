//! Files of checkpoints in and out.

use sweep_proto::{ARTIFACT_CHUNK_BYTES_MAX, convert, convert::FieldError, fault::Fault, v1};
use sweep_spec::{attempt::AttemptKey, checkpoint::is_hash, id::RunId};
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use super::{
    Shared, Streamed,
    outlet::{Outlet, next},
};
use crate::{
    actor::store_status,
    artifact::{Artifacts, FileHead, Put},
};

/// Chunks of a download that wait for the network: a megabyte each, cut from a part that is there.
const CHUNKS_MAX: usize = 2;

/// Takes in one file.
pub(super) async fn put(
    shared: &Shared,
    mut parts: Streaming<v1::PutArtifactRequest>,
    caller: Option<&str>,
) -> Result<(), Status> {
    use v1::put_artifact_request::Part;
    let artifacts = artifacts(shared)?;
    let first = next(shared, &mut parts).await?;
    let Some(v1::PutArtifactRequest { part: Some(Part::Head(head)) }) = first else {
        return Err(FieldError::new("head", "comes first").into());
    };
    let key = convert::attempt_key("head.key", head.key.as_ref())?;
    let hash = hash("head.hash", head.hash)?;
    may_write(shared, &key).await?;
    let data = parts.map(|message| match allowed(shared, caller, message)?.part {
        Some(Part::Data(data)) if data.len() <= ARTIFACT_CHUNK_BYTES_MAX => Ok(data),
        Some(Part::Data(data)) => {
            let message = format!("{} bytes are above {ARTIFACT_CHUNK_BYTES_MAX}", data.len());
            Err(Fault::Limit.status(message))
        }
        _ => Err(FieldError::new("data", "follows the head").into()),
    });
    let reserved = shared.quotas.reserve(&key, head.bytes).inspect_err(|status| {
        shared.metrics.refused("artifact");
        tracing::warn!(attempt = %key, why = status.message(), "a file is refused");
    })?;
    let file = FileHead { run: key.run.clone(), hash, bytes: head.bytes };
    let put = artifacts.put(&file, data).await?;
    if put == Put::New {
        reserved.spend();
    }
    Ok(())
}

/// Keeps a checkpoint whose files are here.
pub(super) async fn keep(
    shared: &Shared,
    message: v1::KeepCheckpointRequest,
) -> Result<(), Status> {
    let artifacts = artifacts(shared)?.clone();
    let key = convert::attempt_key("key", message.key.as_ref())?;
    let hash = hash("hash", message.hash)?;
    may_write(shared, &key).await?;
    let manifest = artifacts.whole(&key.run, &hash).await?;
    if manifest.run != key.run.as_str() || manifest.step != message.step {
        let problem = format!("is of run {} at step {}", manifest.run, manifest.step);
        return Err(FieldError::new("hash", problem).into());
    }
    let run = key.run.clone();
    let kept = shared.actor.keep(key, message.step, hash).await?;
    if !kept.dropped.is_empty() {
        // Nobody waits for it.
        tokio::spawn(async move { artifacts.tidy(&run, &kept).await });
    }
    Ok(())
}

/// Gives out one file.
pub(super) async fn get(
    shared: &Shared,
    message: v1::GetArtifactRequest,
    caller: Option<String>,
) -> Result<Streamed<v1::ArtifactChunk>, Status> {
    let artifacts = artifacts(shared)?.clone();
    let run: RunId = message
        .run_id
        .parse()
        .map_err(|_| Status::from(FieldError::new("run_id", "is no id of a run")))?;
    let hash = hash("hash", message.hash)?;
    let size = artifacts.size_of(&run, &hash).await?;
    let (mut outlet, stream) = Outlet::open(shared, CHUNKS_MAX);
    let shared = shared.clone();
    tokio::spawn(async move {
        let turn = tokio::select! {
            turn = artifacts.download() => turn,
            () = outlet.closed() => return,
        };
        let Ok(_turn) = turn else { return };
        let mut offset = 0;
        while offset < size {
            let part = artifacts.part(&run, &hash, offset, size).await;
            let part = match allowed(&shared, caller.as_deref(), part) {
                Ok(part) => part,
                Err(status) => return outlet.fail(status),
            };
            offset += part.len() as u64;
            for data in part.chunks(ARTIFACT_CHUNK_BYTES_MAX) {
                if !outlet.send(v1::ArtifactChunk { data: data.to_vec() }).await {
                    return;
                }
            }
        }
    });
    Ok(stream)
}

/// A part of a file, unless the certificate of its client was taken back meanwhile.
fn allowed<T>(shared: &Shared, caller: Option<&str>, part: Result<T, Status>) -> Result<T, Status> {
    shared.revoked.check(caller)?;
    part
}

fn artifacts(shared: &Shared) -> Result<&Artifacts, Status> {
    let none = || Fault::NotFound.status("this coordinator keeps no checkpoints");
    shared.artifacts.as_ref().ok_or_else(none)
}

fn hash(field: &str, text: String) -> Result<String, Status> {
    if is_hash(&text) {
        Ok(text)
    } else {
        Err(FieldError::new(field, "must have 64 lower-case hexadecimal digits").into())
    }
}

/// Only the last attempt at a run may add files to it, and only until it is lost.
async fn may_write(shared: &Shared, key: &AttemptKey) -> Result<(), Status> {
    let status = shared.store.attempt_status(key).await.map_err(store_status)?;
    match status {
        Some(status) if status.current && (status.reported || !status.ended) => Ok(()),
        _ => Err(Fault::Fenced.status(format!("{key} no longer owns its run"))),
    }
}
