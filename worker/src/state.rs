//! The worker's state folder: its identity, its lock, and the places of spool, checkpoints and
//! what is to be handed in.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Random bytes of a worker's id.
const ID_BYTES: u64 = 16;

/// Who this worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Made once and kept.
    pub(crate) worker_id: String,
    /// One higher at each start.
    pub(crate) incarnation: u64,
    /// Drawn anew at each start: tells two daemons apart whose state was copied.
    pub(crate) start_id: String,
    /// Name of the machine, for people.
    pub(crate) host: String,
}

/// Why the state folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon works in it.
    #[error(
        "another worker uses the state folder {}; hint: stop it, or give this one its own folder \
         with --state",
        .0.display()
    )]
    Locked(PathBuf),
    /// A file in it cannot be read or written.
    #[error("cannot {doing} {}: {source}; hint: give a writable folder with --state", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file in it holds something else than this program writes.
    #[error("{} holds `{found}`; hint: remove it, the worker makes a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its text.
        found: String,
    },
}

/// An open state folder; locked as long as it lives.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    /// Held, never read: the lock ends with the file.
    _lock: File,
    pub(crate) identity: Identity,
}

impl State {
    /// Opens the folder, makes it where it is missing, and counts this start.
    pub(crate) fn open(folder: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io_error("write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        let worker_id = read_or(&folder.join("worker-id"), new_id)?;
        let path = folder.join("incarnation");
        let text = read_or(&path, || Ok("0".to_owned()))?;
        let last: u64 = text
            .parse()
            .map_err(|_| StateError::Damaged { path: path.clone(), found: text.clone() })?;
        let incarnation = last + 1;
        write_whole(&path, &incarnation.to_string())?;
        let start_id = new_id().map_err(io_error("draw a number for", folder))?;
        let identity = Identity { worker_id, incarnation, start_id, host: host() };
        Ok(Self { folder: folder.to_owned(), _lock: lock, identity })
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// Notes of checkpoints that are to be handed in.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.folder.join("outbox")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { doing, path, source }
}

/// The text of a file, made and kept when there is none.
fn read_or(path: &Path, make: impl FnOnce() -> io::Result<String>) -> Result<String, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make().map_err(io_error("make", path))?;
            write_whole(path, &text)?;
            Ok(text)
        }
        Err(source) => Err(io_error("read", path)(source)),
    }
}

/// Writes a small file so that it is whole or the old one.
fn write_whole(path: &Path, text: &str) -> Result<(), StateError> {
    let scratch = path.with_extension("new");
    let write = || {
        let mut file = File::create(&scratch)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&scratch, path)
    };
    write().map_err(io_error("write", path))
}

fn new_id() -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open("/dev/urandom")?.take(ID_BYTES).read_to_end(&mut bytes)?;
    Ok(blake3::hash(&bytes).to_hex()[..2 * ID_BYTES as usize].to_owned())
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_keeps_its_id_and_counts_its_starts() {
        let home = tempfile::tempdir().unwrap();
        let first = State::open(home.path()).unwrap().identity;
        let second = State::open(home.path()).unwrap().identity;
        assert_eq!(first.worker_id, second.worker_id);
        assert_eq!(first.worker_id.len(), 32);
        assert_eq!((first.incarnation, second.incarnation), (1, 2));
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(State::open(elsewhere.path()).unwrap().identity.worker_id, first.worker_id);
    }

    #[test]
    fn a_second_worker_in_the_folder_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let _first = State::open(home.path()).unwrap();
        let error = State::open(home.path()).unwrap_err();
        assert!(matches!(error, StateError::Locked(_)), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let home = tempfile::tempdir().unwrap();
        drop(State::open(home.path()).unwrap());
        fs::write(home.path().join("incarnation"), "soon").unwrap();
        let error = State::open(home.path()).unwrap_err().to_string();
        assert!(error.contains("incarnation holds `soon`"), "{error}");
    }
}
