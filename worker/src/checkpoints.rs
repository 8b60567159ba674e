//! The folders of checkpoints on this worker's disk: which stay, and what comes in from elsewhere.
//!
//! The trainer writes them; here they are only listed, removed, and put in place whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sweep_spec::checkpoint::{MANIFEST_FILE, Manifest, folder_name, step_of};
use tokio::sync::mpsc;

use crate::disk;

/// How the folder of a checkpoint is called that comes in from elsewhere.
const ARRIVING: &str = ".arriving-";

/// File beside the checkpoints of a trunk with the steps that branches fork from.
const FORKS: &str = "forks.json";

/// Makes the folder of a run's checkpoints and removes those beyond the newest one of this worker
/// that was committed: the points before them may be lost, and a run resumed from there would leave
/// a hole in its curve.
pub(crate) fn keep_committed(folder: &Path, committed: Option<u64>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (step, path) in checkpoints_in(folder)? {
        if committed.is_none_or(|newest| step > newest) {
            remove(&path)?;
        }
    }
    remove_unfinished(folder)
}

/// Removes what an earlier daemon left unfinished, of every run: what its trainers were writing and
/// what came in. What cannot be removed is told; it only takes space.
pub(crate) fn remove_leftovers(checkpoints: &Path) {
    let of_run = |folder: &Path| -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                remove(&entry.path())?;
            }
        }
        Ok(())
    };
    // Without a folder nothing was ever written.
    for run in fs::read_dir(checkpoints).into_iter().flatten().flatten() {
        let path = run.path();
        if path.is_dir()
            && let Err(error) = of_run(&path)
        {
            tracing::warn!("cannot tidy {}: {error}", path.display());
        }
    }
}

/// Removes what a trainer was writing when it was killed. What comes in from elsewhere may still be
/// under way.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && !name.starts_with(ARRIVING) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Writes down which checkpoints outlive their run; nothing where there are none.
pub(crate) fn note_forks(folder: &Path, forks: &[u64]) -> io::Result<()> {
    if forks.is_empty() {
        return Ok(());
    }
    fs::write(folder.join(FORKS), serde_json::to_vec(forks)?)
}

/// Removes all but the newest checkpoint of a run and those that branches fork from.
pub(crate) fn keep_newest(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let forks: Vec<u64> = match fs::read(folder.join(FORKS)) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found = checkpoints_in(folder)?;
    found.sort_unstable();
    found.pop();
    let mut old = found.iter().filter(|(step, _)| !forks.contains(step));
    old.try_for_each(|(_, path)| remove(path))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Steps and paths of the checkpoints in a folder, as the trainer names them.
pub(crate) fn checkpoints_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(step) = name.and_then(step_of) {
            found.push((step, path));
        }
    }
    Ok(found)
}

/// Whether a folder has this checkpoint of a step; another one of that step, written by an attempt
/// that was fenced, is not it.
pub(crate) fn has(folder: &Path, step: u64, hash: &str) -> bool {
    fs::read(folder.join(folder_name(step)).join(MANIFEST_FILE))
        .is_ok_and(|text| blake3::hash(&text).to_hex().as_str() == hash)
}

/// The files of a checkpoint as they go over the network: each with its hash and path, the manifest
/// last, since it stands for all of them.
pub(crate) fn files_of(checkpoint: &Path, hash: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let text = fs::read(checkpoint.join(MANIFEST_FILE))?;
    let manifest = Manifest::parse(&text).map_err(damaged)?;
    let files = manifest.files.into_iter().map(|(name, hash)| (hash, checkpoint.join(name)));
    Ok(files.chain([(hash.to_owned(), checkpoint.join(MANIFEST_FILE))]).collect())
}

fn damaged(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A part of a checkpoint that comes in: its files follow each other in the order of their names.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    EndOfFile,
}

/// Why a checkpoint did not come in.
#[derive(Debug)]
pub(crate) enum NotLanded {
    /// A file has another content than its manifest says.
    Content(String),
    /// This disk does not take it.
    Disk(io::Error),
    /// No more parts came.
    BrokenOff,
}

impl From<io::Error> for NotLanded {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Takes in a checkpoint whose manifest is known and checked: every file is held to its hash, and
/// the whole is put in place or leaves nothing. It waits for the disk and for the parts, so it is
/// called on a thread that may.
pub(crate) fn land(
    folder: &Path,
    manifest: &Manifest,
    text: &[u8],
    parts: &mut mpsc::Receiver<Part>,
) -> Result<(), NotLanded> {
    let arriving = Arriving::begin(folder, manifest.step, text)?;
    for (name, hash) in &manifest.files {
        let file = fs::File::create(arriving.scratch.join(name))?;
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        loop {
            match parts.blocking_recv() {
                Some(Part::Bytes(bytes)) => {
                    hasher.update(&bytes);
                    disk::write_at(&file, &bytes, length)?;
                    length += bytes.len() as u64;
                }
                Some(Part::EndOfFile) => break,
                None => return Err(NotLanded::BrokenOff),
            }
        }
        if hasher.finalize().to_hex().as_str() != hash {
            return Err(NotLanded::Content(hash.clone()));
        }
        disk::sync(&file)?;
    }
    Ok(arriving.finish()?)
}

/// Numbers the folders of what comes in: one that broke off may still be written to while the next
/// try begins.
static ARRIVALS: AtomicU64 = AtomicU64::new(0);

/// A checkpoint that comes in, written beside its place; removed unless it is finished.
struct Arriving<'a> {
    folder: &'a Path,
    scratch: PathBuf,
    step: u64,
}

impl<'a> Arriving<'a> {
    fn begin(folder: &'a Path, step: u64, manifest: &[u8]) -> io::Result<Self> {
        let number = ARRIVALS.fetch_add(1, Ordering::Relaxed);
        let scratch = folder.join(format!("{ARRIVING}{step}-{number}"));
        if scratch.exists() {
            // Of an earlier daemon.
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir_all(&scratch)?;
        let arriving = Self { folder, scratch, step };
        let file = fs::File::create(arriving.scratch.join(MANIFEST_FILE))?;
        disk::write_at(&file, manifest, 0)?;
        disk::sync(&file)?;
        Ok(arriving)
    }

    /// Puts it in place.
    fn finish(self) -> io::Result<()> {
        fs::File::open(&self.scratch)?.sync_all()?;
        let target = self.folder.join(folder_name(self.step));
        if target.exists() {
            // Another one of that step, of an attempt that was fenced.
            fs::remove_dir_all(&target)?;
        }
        fs::rename(&self.scratch, target)?;
        fs::File::open(self.folder)?.sync_all()
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", self.scratch.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faults::{self, Disk};

    const WEIGHTS: &[u8] = b"weights";

    fn manifest(step: u64) -> (Manifest, String) {
        let hash = blake3::hash(WEIGHTS).to_hex();
        let text = format!(
            r#"{{"format":1,"run":"r","step":{step},"loss_sum":0.5,"loss_count":1,"seconds":2.0,
                "files":{{"model.safetensors":"{hash}","optimizer.safetensors":"{hash}"}}}}"#
        );
        (Manifest::parse(text.as_bytes()).unwrap(), text)
    }

    /// Lands a checkpoint of these parts.
    fn landed(folder: &Path, step: u64, parts: Vec<Part>) -> Result<(), NotLanded> {
        let (manifest, text) = manifest(step);
        let (sender, mut receiver) = mpsc::channel(parts.len().max(1));
        parts.into_iter().for_each(|part| sender.try_send(part).unwrap());
        drop(sender);
        land(folder, &manifest, text.as_bytes(), &mut receiver)
    }

    fn file(bytes: &[u8]) -> Vec<Part> {
        let (begin, rest) = bytes.split_at(3);
        vec![Part::Bytes(begin.to_vec()), Part::Bytes(rest.to_vec()), Part::EndOfFile]
    }

    /// What lies in a folder, by name.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_checkpoint_arrives_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("r");
        let broken_off = landed(&folder, 7, vec![Part::Bytes(WEIGHTS.to_vec())]);
        assert!(matches!(broken_off, Err(NotLanded::BrokenOff)), "{broken_off:?}");
        let other =
            landed(&folder, 7, [file(WEIGHTS), file(b"others")].into_iter().flatten().collect());
        assert!(matches!(other, Err(NotLanded::Content(_))), "{other:?}");
        assert!(names(&folder).is_empty(), "nothing is left of them");

        let parts = || [file(WEIGHTS), file(WEIGHTS)].into_iter().flatten().collect();
        landed(&folder, 7, parts()).unwrap();
        let known = blake3::hash(manifest(7).1.as_bytes()).to_hex();
        assert!(has(&folder, 7, &known) && !has(&folder, 7, &"0".repeat(64)));
        assert_eq!(names(&folder), [folder_name(7)]);
        let files = files_of(&folder.join(folder_name(7)), "m").unwrap();
        let names: Vec<_> = files.iter().map(|(_, path)| path.file_name().unwrap()).collect();
        assert_eq!(
            names,
            ["model.safetensors", "optimizer.safetensors", MANIFEST_FILE],
            "the manifest comes last"
        );
        assert_eq!(files[2].0, "m");
        // Once more, over the one that is there.
        landed(&folder, 7, parts()).unwrap();
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let in_the_way = home.path().join("file");
        fs::write(&in_the_way, b"").unwrap();
        let refused = landed(&in_the_way, 7, Vec::new());
        assert!(matches!(refused, Err(NotLanded::Disk(_))), "{refused:?}");
        // One that is full, and one that fails when it is to hold what it took; then it recovers.
        let folder = home.path().join("r");
        let parts = || [file(WEIGHTS), file(WEIGHTS)].into_iter().flatten().collect();
        for disk in [Disk::Full, Disk::Unsyncable] {
            faults::set(disk);
            let refused = landed(&folder, 7, parts());
            assert!(matches!(refused, Err(NotLanded::Disk(_))), "{disk:?}: {refused:?}");
            assert!(names(&folder).is_empty(), "{disk:?}");
        }
        faults::set(Disk::Sound);
        landed(&folder, 7, parts()).unwrap();
    }

    #[test]
    fn a_start_removes_what_was_left_unfinished() {
        let home = tempfile::tempdir().unwrap();
        remove_leftovers(&home.path().join("none"));
        let run = home.path().join("r");
        let whole = folder_name(3);
        for name in [".scratch-7", ".arriving-9-0", &whole] {
            fs::create_dir_all(run.join(name)).unwrap();
        }
        fs::write(run.join(".arriving-9-0").join(MANIFEST_FILE), "{}").unwrap();
        fs::write(run.join(".run.json-7"), "{}").unwrap();
        fs::write(run.join(FORKS), "[]").unwrap();
        remove_leftovers(home.path());
        assert_eq!(names(&run), [FORKS, &whole]);
    }

    #[test]
    fn what_a_killed_trainer_was_writing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let whole = folder_name(3);
        for name in [".scratch-7", ".arriving-9", &whole] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        for name in [".run.json-7", "run.json", FORKS] {
            fs::write(folder.join(name), "{}").unwrap();
        }
        keep_committed(folder, Some(3)).unwrap();
        assert_eq!(names(folder), [".arriving-9", FORKS, "run.json", &whole]);
    }
}
