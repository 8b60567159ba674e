//! The folders of checkpoints on this worker's disk: which stay, and what comes in from elsewhere.
//!
//! The trainer writes them; here they are only listed, removed, and put in place whole.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sweep_spec::checkpoint::{MANIFEST_FILE, Manifest, folder_name, step_of};

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

/// Removes what a trainer was writing when it was killed. What a transfer left, the next one of that
/// step replaces; another one may be under way here.
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
    let manifest = Manifest::parse(&text).map_err(io::Error::other)?;
    let files = manifest.files.into_iter().map(|(name, hash)| (hash, checkpoint.join(name)));
    Ok(files.chain([(hash.to_owned(), checkpoint.join(MANIFEST_FILE))]).collect())
}

/// A checkpoint that comes in: written beside, then put in place whole.
pub(crate) struct Arriving {
    folder: PathBuf,
    scratch: PathBuf,
    step: u64,
    /// Names of the files by their hashes.
    pub(crate) files: BTreeMap<String, String>,
}

impl Arriving {
    /// Begins with the manifest, which must have been checked against its hash.
    pub(crate) fn begin(folder: &Path, run: &str, step: u64, manifest: &[u8]) -> io::Result<Self> {
        let parsed = Manifest::parse(manifest).map_err(io::Error::other)?;
        if parsed.run != run || parsed.step != step {
            let other = format!("it is of run {} at step {}", parsed.run, parsed.step);
            return Err(io::Error::other(other));
        }
        let scratch = folder.join(format!("{ARRIVING}{step}"));
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir_all(&scratch)?;
        write_synced(&scratch.join(MANIFEST_FILE), manifest)?;
        let files = parsed.files.into_iter().map(|(name, hash)| (hash, name)).collect();
        Ok(Self { folder: folder.to_owned(), scratch, step, files })
    }

    /// A new file of it.
    pub(crate) fn create(&self, name: &str) -> io::Result<fs::File> {
        fs::File::create(self.scratch.join(name))
    }

    /// Puts it in place.
    pub(crate) fn finish(self) -> io::Result<()> {
        fs::File::open(&self.scratch)?.sync_all()?;
        let target = self.folder.join(folder_name(self.step));
        if target.exists() {
            // Another one of that step, of an attempt that was fenced.
            fs::remove_dir_all(&target)?;
        }
        fs::rename(&self.scratch, target)?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(run: &str, step: u64) -> String {
        let hash = "ab".repeat(32);
        format!(
            r#"{{"format":1,"run":"{run}","step":{step},"loss_sum":0.5,"loss_count":1,"seconds":2.0,
                "files":{{"model.safetensors":"{hash}"}}}}"#
        )
    }

    #[test]
    fn a_checkpoint_arrives_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("r");
        let text = manifest("r", 7);
        let arriving = Arriving::begin(&folder, "r", 7, text.as_bytes()).unwrap();
        let (hash, name) = arriving.files.first_key_value().unwrap();
        assert_eq!((hash.len(), name.as_str()), (64, "model.safetensors"));
        io::Write::write_all(&mut arriving.create(name).unwrap(), b"weights").unwrap();
        let known = blake3::hash(text.as_bytes()).to_hex();
        assert!(!has(&folder, 7, &known) && checkpoints_in(&folder).unwrap().is_empty());
        // One that breaks off leaves nothing that the next one stumbles over.
        drop(arriving);
        let again = Arriving::begin(&folder, "r", 7, text.as_bytes()).unwrap();
        again.create("model.safetensors").unwrap();
        again.finish().unwrap();
        assert!(has(&folder, 7, &known) && !has(&folder, 7, &"0".repeat(64)));
        let files = files_of(&folder.join(folder_name(7)), "m").unwrap();
        let names: Vec<_> = files.iter().map(|(_, path)| path.file_name().unwrap()).collect();
        assert_eq!(names, ["model.safetensors", MANIFEST_FILE], "the manifest comes last");
        assert_eq!(files[1].0, "m");
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
        let entries = fs::read_dir(folder).unwrap();
        let mut left: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, [".arriving-9", FORKS, "run.json", &whole]);
    }

    #[test]
    fn another_runs_checkpoint_does_not_arrive() {
        let home = tempfile::tempdir().unwrap();
        for (run, step) in [("s", 7), ("r", 8)] {
            let text = manifest(run, step);
            let refused = Arriving::begin(home.path(), "r", 7, text.as_bytes());
            assert!(refused.err().unwrap().to_string().contains("it is of run"));
        }
        assert!(Arriving::begin(home.path(), "r", 7, b"no manifest").is_err());
    }
}
