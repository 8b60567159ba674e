//! Committed checkpoints that are to be handed in, oldest first.
//!
//! Each has a note on the disk until it is handed in, so that a daemon that starts again hands in
//! what its forerunner did not. Notes are not synced: a loss of power may lose the last ones, and
//! then those checkpoints lie on this worker alone, as they did before.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sweep_spec::{attempt::AttemptKey, checkpoint::folder_name};

use crate::{checkpoints::has, pipe::CheckpointNote, transfer::Outgoing};

/// A note: which checkpoint, written by which attempt.
#[derive(Serialize, Deserialize)]
struct Note {
    key: AttemptKey,
    step: u64,
    hash: String,
}

/// What is to be handed in.
#[derive(Debug)]
pub(crate) struct Outbox {
    folder: PathBuf,
    waiting: VecDeque<Outgoing>,
}

impl Outbox {
    /// Opens the folder of notes with what an earlier daemon did not hand in. A note whose
    /// checkpoint is not there any more is removed.
    pub(crate) fn open(folder: &Path, checkpoints: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut names: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
        // By run, attempt and step.
        names.sort_unstable();
        let mut waiting = VecDeque::new();
        for name in names {
            match read(&name, checkpoints)? {
                Some(outgoing) => waiting.push_back(outgoing),
                None => fs::remove_file(&name)?,
            }
        }
        Ok(Self { folder: folder.to_owned(), waiting })
    }

    /// Takes a checkpoint. Those of its run that its trainer has removed meanwhile are left out.
    pub(crate) fn add(&mut self, key: &AttemptKey, note: CheckpointNote) {
        let CheckpointNote { step, path, hash } = note;
        let added = Outgoing { key: key.clone(), step, hash, path };
        let is_over = |at: &Outgoing| at.key.run == key.run && (*at == added || !at.path.exists());
        let over: Vec<Outgoing> = self.waiting.iter().filter(|at| is_over(at)).cloned().collect();
        over.iter().for_each(|at| self.remove(at));
        let note = Note { key: key.clone(), step, hash: added.hash.clone() };
        let written = serde_json::to_vec(&note)
            .map_err(io::Error::other)
            .and_then(|text| fs::write(self.place(&added), text));
        if let Err(error) = written {
            tracing::warn!(
                "{key}: the checkpoint at {step} is not handed in after a restart: {error}"
            );
        }
        self.waiting.push_back(added);
    }

    /// Takes one out that is handed in, or that nobody wants any more.
    pub(crate) fn remove(&mut self, done: &Outgoing) {
        self.waiting.retain(|at| at != done);
        if let Err(error) = fs::remove_file(self.place(done))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", self.place(done).display());
        }
    }

    /// Forgets all of them: the coordinator keeps none.
    pub(crate) fn clear(&mut self) {
        let all: Vec<Outgoing> = self.waiting.iter().cloned().collect();
        all.iter().for_each(|at| self.remove(at));
    }

    /// What waits, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.waiting.iter()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn place(&self, outgoing: &Outgoing) -> PathBuf {
        let Outgoing { key, step, .. } = outgoing;
        self.folder.join(format!("{}-{:06}-{step:012}.json", key.run, key.number))
    }
}

/// What a note speaks of, if that is still there.
fn read(note: &Path, checkpoints: &Path) -> io::Result<Option<Outgoing>> {
    // A note that was half written says nothing.
    let Ok(Note { key, step, hash }) = serde_json::from_slice(&fs::read(note)?) else {
        return Ok(None);
    };
    let folder = checkpoints.join(key.run.as_str());
    let path = folder.join(folder_name(step));
    Ok(has(&folder, step, &hash).then_some(Outgoing { key, step, hash, path }))
}

#[cfg(test)]
mod tests {
    use sweep_spec::{checkpoint::MANIFEST_FILE, id::RunId};

    use super::*;

    /// A folder of notes beside one of checkpoints with these steps of a run.
    fn home(steps: &[u64]) -> (tempfile::TempDir, AttemptKey) {
        let home = tempfile::tempdir().unwrap();
        let key = AttemptKey { run: RunId::from_hash(&blake3::hash(b"a")), number: 2 };
        for &step in steps {
            let path = home.path().join("checkpoints").join(key.run.as_str());
            fs::create_dir_all(path.join(folder_name(step))).unwrap();
            fs::write(path.join(folder_name(step)).join(MANIFEST_FILE), step.to_string()).unwrap();
        }
        (home, key)
    }

    fn open(home: &Path) -> Outbox {
        Outbox::open(&home.join("outbox"), &home.join("checkpoints")).unwrap()
    }

    fn note(home: &Path, key: &AttemptKey, step: u64) -> CheckpointNote {
        let path = home.join("checkpoints").join(key.run.as_str()).join(folder_name(step));
        let hash = blake3::hash(step.to_string().as_bytes()).to_hex().to_string();
        CheckpointNote { step, path, hash }
    }

    fn steps(outbox: &Outbox) -> Vec<u64> {
        outbox.iter().map(|at| at.step).collect()
    }

    #[test]
    fn a_restart_hands_in_what_was_left() {
        let (home, key) = home(&[5, 9, 12]);
        let mut outbox = open(home.path());
        for step in [5, 9, 12] {
            outbox.add(&key, note(home.path(), &key, step));
        }
        let first = outbox.iter().next().unwrap().clone();
        outbox.remove(&first);
        let left: Vec<Outgoing> = outbox.iter().cloned().collect();
        drop(outbox);
        let again: Vec<Outgoing> = open(home.path()).iter().cloned().collect();
        assert_eq!(again, left);
        let mut outbox = open(home.path());
        outbox.clear();
        assert_eq!((outbox.len(), open(home.path()).len()), (0, 0));
    }

    #[test]
    fn what_is_not_there_any_more_is_forgotten() {
        let (home, key) = home(&[5, 9, 12]);
        let mut outbox = open(home.path());
        outbox.add(&key, note(home.path(), &key, 5));
        outbox.add(&key, note(home.path(), &key, 9));
        fs::remove_dir_all(&note(home.path(), &key, 5).path).unwrap();
        outbox.add(&key, note(home.path(), &key, 12));
        assert_eq!(steps(&outbox), [9, 12]);
        drop(outbox);
        // Another one of that step, and a note that was half written.
        fs::write(note(home.path(), &key, 9).path.join(MANIFEST_FILE), "other").unwrap();
        fs::write(home.path().join("outbox/x.json"), "{\"key\"").unwrap();
        assert_eq!(steps(&open(home.path())), [12]);
        assert_eq!(fs::read_dir(home.path().join("outbox")).unwrap().count(), 1);
    }

    #[test]
    fn a_checkpoint_waits_once() {
        let (home, key) = home(&[5]);
        let mut outbox = open(home.path());
        outbox.add(&key, note(home.path(), &key, 5));
        outbox.add(&key, note(home.path(), &key, 5));
        assert_eq!(outbox.len(), 1);
        assert_eq!(steps(&open(home.path())), [5]);
    }
}
