//! Files that nothing points to: of checkpoints whose run went on without them, and halves of uploads
//! that a crash cut off. They are looked for at the start and now and then.
//!
//! A file of a run that the store does not know is left alone: the place may be shared.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use object_store::ObjectStoreExt as _;
use sweep_spec::{attempt::RunState, id::RunId};
use sweep_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::{Artifacts, Place, failed};
use crate::{actor::store_status, clock::unix_ms};

/// Time between two looks: what lies there costs space and nothing else.
const EVERY: Duration = Duration::from_hours(6);

/// A folder in which something is younger than this is being written: a checkpoint is kept minutes
/// after its files came. A wall clock that is set forward an hour makes nothing old.
const YOUNG: Duration = Duration::from_hours(2);

/// The same while an attempt at the run lives, which may hand in a large checkpoint for hours.
const YOUNG_WHILE_RUNNING: Duration = Duration::from_hours(24);

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// A file that is there.
struct Found {
    place: Place,
    name: String,
    bytes: u64,
    unix_ms: i64,
}

/// Sweeps at once and then now and then, until the coordinator goes down.
pub(crate) async fn keep_swept(
    artifacts: Artifacts,
    store: Store,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        match artifacts.sweep(&store, unix_ms()).await {
            Ok(Swept { files: 0, .. }) => {}
            Ok(Swept { files, bytes }) => {
                tracing::info!(files, bytes, "files that nothing points to were deleted");
            }
            Err(status) => tracing::warn!(%status, "files that nothing points to stay for now"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

impl Artifacts {
    /// Deletes what nothing points to, as of this wall time.
    pub(crate) async fn sweep(&self, store: &Store, now: i64) -> Result<Swept, Status> {
        let prefix = Some(&self.prefix).filter(|prefix| **prefix != Place::default());
        let folders = self.store.list_with_delimiter(prefix).await.map_err(failed)?;
        let mut swept = Swept::default();
        for folder in folders.common_prefixes {
            let run: Option<RunId> = folder.filename().and_then(|name| name.parse().ok());
            if let Some(run) = run {
                self.sweep_run(store, &run, now, &mut swept).await?;
            }
        }
        Ok(swept)
    }

    async fn sweep_run(
        &self,
        store: &Store,
        run: &RunId,
        now: i64,
        swept: &mut Swept,
    ) -> Result<(), Status> {
        let young = match store.run(run).await {
            Ok(record) if record.state == RunState::Running => YOUNG_WHILE_RUNNING,
            Ok(_) => YOUNG,
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(store_status(error)),
        };
        let before = now - i64::try_from(young.as_millis()).unwrap_or(i64::MAX);
        let files = self.files_of(run).await?;
        if files.iter().all(|file| file.unix_ms < before) {
            let Some(needed) = self.needed(store, run).await? else { return Ok(()) };
            for file in files.into_iter().filter(|file| !needed.contains(&file.name)) {
                self.store.delete(&file.place).await.map_err(failed)?;
                swept.files += 1;
                swept.bytes += file.bytes;
            }
        }
        let halves = self.folder.as_ref().map(|folder| folder.join(run.as_str()));
        if let Some(folder) = halves {
            let removed = tokio::task::spawn_blocking(move || remove_halves(folder, before)).await;
            let removed = removed.expect("it does not panic").map_err(|error| {
                Status::internal(format!("halves of uploads of run {run}: {error}"))
            })?;
            swept.files += removed.files;
            swept.bytes += removed.bytes;
        }
        Ok(())
    }

    async fn files_of(&self, run: &RunId) -> Result<Vec<Found>, Status> {
        let folder = self.prefix.clone().join(run.as_str());
        let mut listed = self.store.list(Some(&folder));
        let mut files = Vec::new();
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(failed)?;
            files.push(Found {
                name: meta.location.filename().unwrap_or_default().to_owned(),
                bytes: meta.size,
                unix_ms: meta.last_modified.timestamp_millis(),
                place: meta.location,
            });
        }
        Ok(files)
    }

    /// The files of a run's kept checkpoints; `None` where that cannot be told.
    async fn needed(&self, store: &Store, run: &RunId) -> Result<Option<HashSet<String>>, Status> {
        let mut needed = HashSet::new();
        for hash in store.kept_hashes(run).await.map_err(store_status)? {
            match self.manifest(run, &hash).await {
                Ok(manifest) => needed.extend(manifest.files.into_values()),
                Err(status) => {
                    tracing::warn!(%run, hash, %status, "a kept checkpoint cannot be read");
                    return Ok(None);
                }
            }
            needed.insert(hash);
        }
        Ok(Some(needed))
    }
}

/// Removes what uploads left in a folder of the file system, `HASH#1`: a listing does not show them.
fn remove_halves(folder: PathBuf, before: i64) -> std::io::Result<Swept> {
    let mut swept = Swept::default();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('#')).map(|(_, number)| number);
        let is_half = number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        let facts = entry.metadata()?;
        let written = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = i64::try_from(written.as_millis()).unwrap_or(i64::MAX);
        if is_half && facts.is_file() && written < before {
            std::fs::remove_file(entry.path())?;
            swept.files += 1;
            swept.bytes += facts.len();
        }
    }
    Ok(swept)
}
