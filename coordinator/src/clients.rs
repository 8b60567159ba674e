//! Certificates of clients: which were made, for whom, and which are taken back.
//!
//! They stand in a file of the state folder that a coordinator looks at with every call and every
//! heartbeat, so that what is taken back opens nothing from then on.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sweep_proto::fault::Fault;
use tonic::{
    Extensions, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};

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

/// The certificate that a caller showed, where it had to.
pub(crate) fn certificate_of(call: &Extensions) -> Option<String> {
    let shown = call.get::<TlsConnectInfo<TcpConnectInfo>>()?.peer_certs()?;
    Some(hash_of(shown.first()?))
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

/// What the file said when it was last written.
#[derive(Debug, Default)]
struct Seen {
    written: Option<SystemTime>,
    revoked: HashSet<String>,
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

    /// Refuses a caller whose certificate is taken back, and, as long as the file cannot be read,
    /// every caller that shows one.
    pub(crate) fn check(&self, certificate: Option<&str>) -> Result<(), Status> {
        let Some(certificate) = certificate else { return Ok(()) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let written = fs::metadata(&self.path).and_then(|facts| facts.modified()).ok();
        if written != seen.written {
            let clients = read_file(&self.path).map_err(|error| {
                tracing::error!(%error, path = %self.path.display(), "certificates cannot be told");
                Fault::Busy.status("which certificates are taken back cannot be read")
            })?;
            let revoked = clients.into_iter().filter(|client| client.revoked);
            seen.revoked = revoked.map(|client| client.certificate).collect();
            seen.written = written;
        }
        if seen.revoked.contains(certificate) {
            let message = "the certificate was taken back; hint: ask for another access file";
            return Err(Fault::Token.status(message));
        }
        Ok(())
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
        fs::write(state.join(FILE), "[").unwrap();
        assert_eq!(Fault::of(&revoked.check(Some(&bob)).unwrap_err()), Some(Fault::Busy));
        assert!(Revoked::open(state).is_err() && revoke(state, "bob").is_err());
    }
}
