//! Who may call: a token in every call, and the same version at both ends.
//!
//! The token is made at the first start, lies in a file that only its owner can read, and is kept
//! over restarts, so that workers come back by themselves. It is compared as a hash, in constant
//! time.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sweep_proto::{
    VERSION_HEADER,
    access::{ACCESS_FILE, Access},
    fault::Fault,
    version,
};
use tonic::{Request, Status, service::Interceptor};

use crate::{authority::Authority, error::CoordinatorError, reach::Reach};

/// 256 bits: nobody guesses them, so the hash needs no salt and no slowness.
const TOKEN_BYTES: usize = 32;

/// The access file of a state folder.
#[must_use]
pub fn access_path(state: &Path) -> PathBuf {
    state.join(ACCESS_FILE)
}

/// Writes the access file of a coordinator; the token of an earlier start is kept.
pub(crate) fn make_access(state: &Path, reach: &Reach) -> Result<Access, CoordinatorError> {
    let path = access_path(state);
    let failed = |source| CoordinatorError::State { path: path.clone(), source };
    fs::create_dir_all(state).map_err(failed)?;
    let token = match Access::read(&path) {
        Ok(earlier) if is_token(&earlier.token) => earlier.token,
        _ => new_token()?,
    };
    let access = match reach {
        Reach::Machine(listener) => Access::plain(format!("http://{listener}"), token),
        Reach::Network(network) => Access {
            authority: Some(network.authority.clone()),
            identity: network.client.clone(),
            ..Access::plain(network.address.clone(), token)
        },
    };
    write_private(&path, &access.to_json()).map_err(failed)?;
    Ok(access)
}

/// Writes the access file of a state folder anew for one client, with a certificate of its own.
pub(crate) fn write_client_access(
    state: &Path,
    name: &str,
    out: &Path,
) -> Result<(), CoordinatorError> {
    let access = Access::read(&access_path(state))
        .map_err(|source| CoordinatorError::NoAccess { source })?;
    if access.authority.is_none() {
        return Err(CoordinatorError::NotReached(state.to_owned()));
    }
    let identity = Some(Authority::open(state)?.client(name)?);
    write_private(out, &Access { identity, ..access }.to_json())
        .map_err(|source| CoordinatorError::State { path: out.to_owned(), source })
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn new_token() -> Result<String, CoordinatorError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CoordinatorError::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Replaces a file at once by one that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let scratch = path.with_extension("new");
    // One that is left from a crash may be readable by others: it is made anew.
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&scratch)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, path)
}

/// Lets a call in, or says why not.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    token: blake3::Hash,
    /// Callers must state our version.
    same_version: bool,
}

impl Gate {
    /// For the services of the project.
    pub(crate) fn new(access: &Access) -> Self {
        Self { token: blake3::hash(access.token.as_bytes()), same_version: true }
    }

    /// For services that every tool speaks.
    pub(crate) fn for_any_version(&self) -> Self {
        Self { same_version: false, ..self.clone() }
    }

    /// Whether an `authorization` header holds the token.
    pub(crate) fn opens(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
        // Hashes compare in constant time.
        token.is_some_and(|token| blake3::hash(token.as_bytes()) == self.token)
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = |name: &str| request.metadata().get(name).and_then(|text| text.to_str().ok());
        if !self.opens(header("authorization")) {
            let message = "the token is missing or wrong; hint: use the access file in the \
                           coordinator's state folder";
            return Err(Fault::Token.status(message));
        }
        let (theirs, ours) = (header(VERSION_HEADER).unwrap_or("none"), version());
        if self.same_version && theirs != ours {
            let message = format!(
                "the caller has version {theirs}, the coordinator {ours}; hint: install the same \
                 version at both ends"
            );
            return Err(Fault::Version.status(message));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_file_is_private_and_keeps_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        let make =
            |address: &str| make_access(&state, &Reach::Machine(address.parse().unwrap())).unwrap();
        let (first, second) = (make("127.0.0.1:1"), make("127.0.0.1:2"));
        assert_eq!(first.token, second.token);
        assert_eq!(second.address, "http://127.0.0.1:2");
        assert_eq!(Access::read(&access_path(&state)).unwrap(), second);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(access_path(&state)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn two_coordinators_draw_two_tokens() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert!(is_token(&one) && is_token(&two) && one != two);
    }
}
