//! The access file: where a coordinator listens and the token that opens it.
//!
//! The coordinator writes it at its start, readable by its owner only; workers and the command
//! find it by path. A token never stands in an argument or in a log.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Name of the file in the coordinator's state folder.
pub const ACCESS_FILE: &str = "access.json";

/// Environment variable with the path of the file.
pub const ACCESS_VARIABLE: &str = "SWEEP_ACCESS";

/// The state folder where none is given, in the folder where a program is started. It is one for
/// coordinator, worker and command, so that they find each other.
pub const STATE_FOLDER: &str = ".sweep";

/// Environment variable with another state folder.
pub const STATE_VARIABLE: &str = "SWEEP_STATE";

/// The state folder that was not given as an argument.
#[must_use]
pub fn state_folder() -> PathBuf {
    let given = std::env::var_os(STATE_VARIABLE).filter(|value| !value.is_empty());
    given.map_or_else(|| STATE_FOLDER.into(), PathBuf::from)
}

/// What opens a coordinator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// `http://HOST:PORT` on this machine; `https://HOST:PORT` for others as well.
    pub address: String,
    /// 256 random bits in hexadecimal digits.
    pub token: String,
    /// Certificate of the authority that vouches for the coordinator, in PEM; with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// What the client shows who it is with, where the coordinator asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// What is wrong with an address of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error(
        "`{0}` is no address of a coordinator; hint: write it as http://HOST:PORT or https://HOST:PORT"
    )]
    Format(String),
    /// It is reached over a network, and not encrypted.
    #[error(
        "{0} is not on this machine, and the token would cross the network in plain text; hint: use \
         the access file of a coordinator that listens on an address of its network, whose address \
         begins with https"
    )]
    Plain(String),
}

/// Whether an address may be dialled: in plain text only on this machine, since the token goes with
/// every call.
///
/// # Errors
/// [`AddressError`] when it is no address, or one of another machine in plain text.
pub fn check_address(address: &str) -> Result<(), AddressError> {
    let bad = || AddressError::Format(address.to_owned());
    let (scheme, rest) = address.split_once("://").ok_or_else(bad)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
    let has_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if !has_port || host.is_empty() || !matches!(scheme, "http" | "https") {
        return Err(bad());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let local = match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => bare == "localhost",
    };
    if local || scheme == "https" { Ok(()) } else { Err(AddressError::Plain(address.to_owned())) }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why an access file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none, or it cannot be read.
    #[error(
        "cannot read the access file {}: {source}; hint: start `sweep coordinator`, or name the \
         file with --access or {ACCESS_VARIABLE}",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what a coordinator writes.
    #[error(
        "{} is no access file: {source}; hint: the coordinator writes it into its state folder",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

impl Access {
    /// Access in plain text, on one machine.
    #[must_use]
    pub fn plain(address: impl Into<String>, token: impl Into<String>) -> Self {
        Self { address: address.into(), token: token.into(), authority: None, identity: None }
    }

    /// Reads an access file.
    ///
    /// # Errors
    /// [`AccessError`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let text = fs::read_to_string(path)
            .map_err(|source| AccessError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text)
            .map_err(|source| AccessError::Format { path: path.to_owned(), source })
    }

    /// The text of the file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts serialise") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_hides_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ACCESS_FILE);
        let plain = Access::plain("http://127.0.0.1:1", "secret");
        let identity = Identity { certificate: "shown".into(), key: "secret".into() };
        let secured =
            Access { authority: Some("trusted".into()), identity: Some(identity), ..plain.clone() };
        assert!(!plain.to_json().contains("authority"), "absent is absent");
        for access in [plain, secured] {
            fs::write(&path, access.to_json()).unwrap();
            assert_eq!(Access::read(&path).unwrap(), access);
            assert!(!format!("{access:?}").contains("secret"));
        }
    }

    #[test]
    fn only_this_machine_is_dialled_in_plain_text() {
        for address in [
            "http://127.0.0.1:80",
            "http://localhost:7000/",
            "http://[::1]:1",
            "https://node.example:7171",
            "https://10.0.0.1:80",
        ] {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        for address in ["http://10.0.0.1:80", "http://example.com:80", "http://[2001:db8::1]:80"] {
            assert_eq!(check_address(address), Err(AddressError::Plain(address.into())));
        }
        for address in [
            "127.0.0.1:80",
            "http://127.0.0.1",
            "http://:80",
            "http://127.0.0.1:0",
            "ftp://127.0.0.1:80",
            "",
        ] {
            assert_eq!(check_address(address), Err(AddressError::Format(address.into())));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let missing = Access::read(&path).unwrap_err().to_string();
        assert!(missing.contains("x.json") && missing.contains("hint:"), "{missing}");
        fs::write(&path, "{\"address\": 1}").unwrap();
        let wrong = Access::read(&path).unwrap_err().to_string();
        assert!(wrong.contains("is no access file"), "{wrong}");
    }
}
