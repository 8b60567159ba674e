//! Certificates of clients: which were made, for whom, and which are taken back.
//!
//! They stand in a file of the state folder that a coordinator looks at with every call and every
//! heartbeat, so that what is taken back opens nothing from then on.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sweep_proto::fault::Fault;
use tonic::Status;

use crate::{auth::write_private, error::CoordinatorError, role::Role};

/// In the state folder.
const FILE: &str = "clients.json";

/// A certificate that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    role: String,
    /// Its BLAKE3 hash.
    certificate: String,
    revoked: bool,
}

/// The hash that stands for a certificate.
pub(crate) fn hash_of(certificate: &[u8]) -> String {
    blake3::hash(certificate).to_hex().to_string()
}

/// Notes that a certificate was made.
pub(crate) fn note(
    state: &Path,
    name: &str,
    role: Role,
    certificate: String,
) -> Result<(), CoordinatorError> {
    let _lock = lock(state)?;
    let mut clients = read(state)?;
    clients.push(Client {
        name: name.to_owned(),
        role: role.to_string(),
        certificate,
        revoked: false,
    });
    write(state, &clients)
}

/// Takes back every certificate that was made for a name; gives their number.
///
/// # Errors
/// [`CoordinatorError::NoClient`] names those that there are.
pub(crate) fn revoke(state: &Path, name: &str) -> Result<usize, CoordinatorError> {
    let _lock = lock(state)?;
    let mut clients = read(state)?;
    let mut revoked = 0;
    for client in clients.iter_mut().filter(|client| client.name == name) {
        client.revoked = true;
        revoked += 1;
    }
    if revoked == 0 {
        let mut known: Vec<String> = clients.into_iter().map(|client| client.name).collect();
        known.sort();
        known.dedup();
        return Err(CoordinatorError::NoClient { name: name.to_owned(), known });
    }
    write(state, &clients)?;
    Ok(revoked)
}

/// Held while the file is read and written anew: what another process writes between would be lost.
fn lock(state: &Path) -> Result<File, CoordinatorError> {
    let path = state.join("clients.lock");
    let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| CoordinatorError::State { path, source })
}

fn read(state: &Path) -> Result<Vec<Client>, CoordinatorError> {
    let path = state.join(FILE);
    match read_file(&path) {
        Ok(clients) => Ok(clients),
        Err(source) => Err(CoordinatorError::State { path, source }),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<Client>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn write(state: &Path, clients: &[Client]) -> Result<(), CoordinatorError> {
    let path = state.join(FILE);
    let text = serde_json::to_string_pretty(clients).expect("texts have a JSON form");
    write_private(&path, &text).map_err(|source| CoordinatorError::State { path, source })
}

/// What tells one content of the file from another. Each writing replaces it by another file, so that
/// two within one tick of the file system's clock differ too.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    #[cfg(unix)]
    inode: u64,
    length: u64,
    written: SystemTime,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        Ok(Self {
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&facts),
            length: facts.len(),
            written: facts.modified()?,
        })
    }
}

/// What the file said when it was last written.
#[derive(Debug, Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// Names by certificate, and whether it is taken back.
    clients: HashMap<String, (String, bool)>,
}

impl Seen {
    /// Reads the file again if it is another one. One that vanished or cannot be read is an error: who
    /// is let in by what it said before may be taken back by now.
    fn renew(&mut self, path: &Path) -> io::Result<()> {
        let stamp = Stamp::of(path)?;
        if self.stamp.as_ref() != Some(&stamp) {
            self.stamp = None;
            let clients: Vec<Client> =
                serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
            let by_hash = |client: Client| (client.certificate, (client.name, client.revoked));
            self.clients = clients.into_iter().map(by_hash).collect();
            self.stamp = Some(stamp);
        }
        Ok(())
    }
}

/// The certificates that are taken back; clones share what was read.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    path: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl Revoked {
    /// Those of a state folder.
    ///
    /// # Errors
    /// [`CoordinatorError::State`] when the file cannot be read.
    pub(crate) fn open(state: &Path) -> Result<Self, CoordinatorError> {
        read(state)?;
        Ok(Self { path: state.join(FILE), seen: Arc::default() })
    }

    /// None, for a network without certificates.
    #[cfg(feature = "simulation")]
    pub(crate) fn none() -> Self {
        Self { path: PathBuf::new(), seen: Arc::default() }
    }

    /// Refuses a caller whose certificate is taken back or was never noted, and, as long as the file
    /// cannot be read, every caller that shows one.
    pub(crate) fn check(&self, certificate: Option<&str>) -> Result<(), Status> {
        self.name_of(certificate).map(|_| ())
    }

    /// The name that a certificate was made for; `None` for a caller who shows none.
    pub(crate) fn name_of(&self, certificate: Option<&str>) -> Result<Option<String>, Status> {
        let Some(certificate) = certificate else { return Ok(None) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.renew(&self.path).map_err(|error| {
            tracing::error!(%error, path = %self.path.display(), "certificates cannot be told");
            Fault::Busy.status("which certificates are taken back cannot be read")
        })?;
        match seen.clients.get(certificate) {
            Some((name, false)) => Ok(Some(name.clone())),
            Some((_, true)) => {
                let message = "the certificate was taken back; hint: ask for another access file";
                Err(Fault::Token.status(message))
            }
            None => {
                let message = "the certificate is not among those that were made here; hint: ask for \
                               another access file";
                Err(Fault::Token.status(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_taken_back_opens_nothing_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let revoked = Revoked::open(state).unwrap();
        let (alice, bob) = (hash_of(b"alice"), hash_of(b"bob"));
        for (name, certificate) in [("alice", &alice), ("bob", &bob)] {
            note(state, name, Role::Reader, certificate.clone()).unwrap();
            revoked.check(Some(certificate)).unwrap();
        }
        assert_eq!(revoke(state, "alice").unwrap(), 1);
        let refused = revoked.check(Some(&alice)).unwrap_err();
        assert_eq!(Fault::of(&refused), Some(Fault::Token));
        revoked.check(Some(&bob)).unwrap();
        revoked.check(None).unwrap();
        let unknown = revoke(state, "carol").unwrap_err().to_string();
        assert!(unknown.contains("alice, bob") && unknown.contains("hint:"), "{unknown}");

        // What cannot be read lets nobody in who shows a certificate.
        let kept = fs::read(state.join(FILE)).unwrap();
        fs::write(state.join(FILE), "[").unwrap();
        let busy = || Fault::of(&revoked.check(Some(&bob)).unwrap_err()) == Some(Fault::Busy);
        assert!(busy());
        assert!(Revoked::open(state).is_err() && revoke(state, "bob").is_err());
        // What has vanished neither, nor one of which nothing is noted once it is back.
        fs::remove_file(state.join(FILE)).unwrap();
        assert!(busy());
        fs::write(state.join(FILE), kept).unwrap();
        assert_eq!(revoked.name_of(Some(&bob)).unwrap().as_deref(), Some("bob"));
        let stranger = revoked.check(Some(&hash_of(b"carol"))).unwrap_err();
        assert_eq!(Fault::of(&stranger), Some(Fault::Token));
    }

    #[test]
    fn a_change_within_one_tick_of_the_clock_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let (path, alice) = (state.join(FILE), hash_of(b"alice"));
        note(state, "alice", Role::Reader, alice.clone()).unwrap();
        let revoked = Revoked::open(state).unwrap();
        revoked.check(Some(&alice)).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        revoke(state, "alice").unwrap();
        // As if both had been written at the same moment.
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        assert_eq!(Fault::of(&revoked.check(Some(&alice)).unwrap_err()), Some(Fault::Token));
    }
}
