//! The files of checkpoints that the coordinator keeps, so that a run can go on on any worker: in a
//! folder, or in an object store.
//!
//! A file is named by its run and its content, which is checked as it comes in; no client names a
//! path.

pub(crate) mod leftovers;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, WriteMultipart, local::LocalFileSystem,
    parse_url_opts, path::Path as Place,
};
use sweep_proto::fault::Fault;
use sweep_spec::{
    checkpoint::{MANIFEST_BYTES_MAX, Manifest},
    id::RunId,
};
use sweep_store::Kept;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use url::Url;

use crate::error::CoordinatorError;

/// Largest file: the optimiser's moments of ten billion parameters.
const FILE_BYTES_MAX: u64 = 10_000 * PART_BYTES as u64;

/// Bytes that go to the object store at once; S3 takes 10,000 parts of a file.
const PART_BYTES: usize = 8 << 20;

/// Parts of one file on their way.
const PARTS_MAX: usize = 2;

/// Files on their way in; more wait. At most half a gigabyte of parts.
const UPLOADS_MAX: usize = 32;

/// Files on their way out; more wait. With a part and the chunks of one that wait for the network, at
/// most a third of a gigabyte.
const DOWNLOADS_MAX: usize = 32;

/// A client that sends nothing for so long has gone.
const CHUNK_WAIT: Duration = Duration::from_secs(60);

/// Variables of the environment with the keys of an object store.
const KEY_PREFIXES: [&str; 2] = ["AWS_", "GOOGLE_"];

/// Where files of checkpoints are kept; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    store: Arc<dyn ObjectStore>,
    prefix: Place,
    /// Where the store is a folder.
    folder: Option<PathBuf>,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

/// A file as a worker announces it.
#[derive(Clone, Debug)]
pub(crate) struct FileHead {
    pub(crate) run: RunId,
    pub(crate) hash: String,
    pub(crate) bytes: u64,
}

/// What became of a file that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was written.
    New,
    /// It was there.
    Known,
}

/// The name of a place that is the same from wherever a coordinator is started.
pub(crate) fn full_name(place: &str) -> String {
    if place.contains("://") {
        return place.trim_end_matches('/').to_owned();
    }
    std::fs::canonicalize(place)
        .map_or_else(|_| place.to_owned(), |folder| folder.display().to_string())
}

impl Artifacts {
    /// Opens a folder, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// [`CoordinatorError::Artifacts`] names the place and the cure.
    pub(crate) fn open(place: &str) -> Result<Self, CoordinatorError> {
        let failed =
            |why: String, hint| CoordinatorError::Artifacts { place: place.to_owned(), why, hint };
        let (store, prefix) = match place.split_once("://") {
            None | Some(("file", _)) => {
                let folder = place.strip_prefix("file://").unwrap_or(place);
                let hint = "give a folder that can be written";
                let store = in_folder(folder.as_ref()).map_err(|why| failed(why, hint))?;
                let artifacts = Self::new(store, Place::default());
                return Ok(Self { folder: Some(folder.into()), ..artifacts });
            }
            Some(("s3" | "gs", _)) => {
                let hint = "keys come from the environment, such as AWS_ACCESS_KEY_ID, \
                            AWS_SECRET_ACCESS_KEY and AWS_REGION, or GOOGLE_SERVICE_ACCOUNT";
                let ours =
                    |name: &String| KEY_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
                let keys = std::env::vars().filter(|(name, _)| ours(name));
                in_cloud(place, keys).map_err(|why| failed(why, hint))?
            }
            Some((scheme, _)) => {
                let why = format!("`{scheme}` is no kind of store that is known");
                return Err(failed(why, "give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"));
            }
        };
        Ok(Self::new(store, prefix))
    }

    fn new(store: Arc<dyn ObjectStore>, prefix: Place) -> Self {
        let uploads = Arc::new(Semaphore::new(UPLOADS_MAX));
        let downloads = Arc::new(Semaphore::new(DOWNLOADS_MAX));
        Self { store, prefix, folder: None, uploads, downloads }
    }

    fn place(&self, run: &RunId, hash: &str) -> Place {
        self.prefix.clone().join(run.as_str()).join(hash)
    }

    /// Takes in a file; one that is there already is not written again.
    pub(crate) async fn put(
        &self,
        head: &FileHead,
        data: impl Stream<Item = Result<Vec<u8>, Status>> + Unpin,
    ) -> Result<Put, Status> {
        if head.bytes > FILE_BYTES_MAX {
            let message = format!("a file of {} bytes is above {FILE_BYTES_MAX}", head.bytes);
            return Err(Fault::Limit.status(message));
        }
        let place = self.place(&head.run, &head.hash);
        if self.size(&place).await? == Some(head.bytes) {
            return Ok(Put::Known);
        }
        // The semaphore is never closed.
        let _permit = self.uploads.acquire().await;
        let upload = self.store.put_multipart(&place).await.map_err(failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match write(head, data, &mut parts).await {
            Ok(()) => parts.finish().await.map(|_| Put::New).map_err(failed),
            Err(status) => {
                if let Err(error) = parts.abort().await {
                    tracing::warn!(%error, %place, "parts of a file are left over");
                }
                Err(status)
            }
        }
    }

    /// Waits for the turn of a download; it lasts as long as the permit.
    pub(crate) async fn download(&self) -> Result<OwnedSemaphorePermit, Status> {
        let closed = |_| Fault::Busy.status("the coordinator is going down");
        self.downloads.clone().acquire_owned().await.map_err(closed)
    }

    async fn size(&self, place: &Place) -> Result<Option<u64>, Status> {
        match self.store.head(place).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The size of a file; [`Fault::NotFound`] where it is not kept.
    pub(crate) async fn size_of(&self, run: &RunId, hash: &str) -> Result<u64, Status> {
        let missing = || Fault::NotFound.status(format!("run {run} has no file {hash} here"));
        self.size(&self.place(run, hash)).await?.ok_or_else(missing)
    }

    /// A part of a file, from an offset on.
    pub(crate) async fn part(
        &self,
        run: &RunId,
        hash: &str,
        offset: u64,
        size: u64,
    ) -> Result<Vec<u8>, Status> {
        let end = size.min(offset + PART_BYTES as u64);
        let place = self.place(run, hash);
        let part = self.store.get_range(&place, offset..end).await.map_err(failed)?;
        Ok(part.to_vec())
    }

    /// The manifest of a checkpoint, once every file that it names is here.
    pub(crate) async fn whole(&self, run: &RunId, hash: &str) -> Result<Manifest, Status> {
        let manifest = self.manifest(run, hash).await?;
        for hash in manifest.files.values() {
            self.size_of(run, hash).await?;
        }
        Ok(manifest)
    }

    async fn manifest(&self, run: &RunId, hash: &str) -> Result<Manifest, Status> {
        let size = self.size_of(run, hash).await?;
        if size > MANIFEST_BYTES_MAX {
            let message = format!("a manifest of {size} bytes is above {MANIFEST_BYTES_MAX}");
            return Err(Fault::Limit.status(message));
        }
        let text = self.part(run, hash, 0, size).await?;
        Manifest::parse(&text).map_err(|why| Fault::Field.status(format!("{hash}: {why}")))
    }

    /// Deletes the files of checkpoints that are dropped. What cannot be deleted is swept later.
    pub(crate) async fn tidy(&self, run: &RunId, kept: &Kept) {
        let mut needed: HashSet<String> = kept.kept.iter().cloned().collect();
        for hash in &kept.kept {
            match self.manifest(run, hash).await {
                Ok(manifest) => needed.extend(manifest.files.into_values()),
                // What it needs is not known.
                Err(status) => return tracing::warn!(%run, hash, %status, "nothing is deleted"),
            }
        }
        for hash in &kept.dropped {
            let Ok(manifest) = self.manifest(run, hash).await else { continue };
            let files = manifest.files.into_values().chain([hash.clone()]);
            for file in files.filter(|file| !needed.contains(file)) {
                if let Err(error) = self.store.delete(&self.place(run, &file)).await {
                    tracing::warn!(%run, file, %error, "a file is left over");
                }
            }
        }
    }
}

fn in_folder(folder: &Path) -> Result<Arc<dyn ObjectStore>, String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let files = LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string())?;
    // A checkpoint that is said to be kept must outlive a power cut.
    Ok(Arc::new(files.with_fsync(true)))
}

fn in_cloud(
    place: &str,
    keys: impl Iterator<Item = (String, String)>,
) -> Result<(Arc<dyn ObjectStore>, Place), String> {
    // For the connections of the object store; a second one changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Url::parse(place).map_err(|error| error.to_string())?;
    let (store, prefix) = parse_url_opts(&url, keys).map_err(|error| error.to_string())?;
    Ok((Arc::from(store), prefix))
}

/// Passes a file on to its parts, and holds it to what was announced.
async fn write(
    head: &FileHead,
    mut data: impl Stream<Item = Result<Vec<u8>, Status>> + Unpin,
    parts: &mut WriteMultipart,
) -> Result<(), Status> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0_u64;
    let silent = |_| Status::deadline_exceeded("the rest of the file did not come");
    while let Some(chunk) = timeout(CHUNK_WAIT, data.next()).await.map_err(silent)? {
        let chunk = chunk?;
        length += chunk.len() as u64;
        if length > head.bytes {
            break;
        }
        hasher.update(&chunk);
        parts.wait_for_capacity(PARTS_MAX).await.map_err(failed)?;
        parts.put(chunk.into());
    }
    if length != head.bytes || hasher.finalize().to_hex().as_str() != head.hash {
        let message = format!("{} is not the {} bytes that were announced", head.hash, head.bytes);
        return Err(Fault::Field.status(message));
    }
    Ok(())
}

fn failed(error: Error) -> Status {
    match error {
        Error::NotFound { path, .. } => Fault::NotFound.status(format!("{path} is not kept")),
        error => {
            tracing::error!(%error, "the place of artifacts failed");
            Fault::Store.status(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
