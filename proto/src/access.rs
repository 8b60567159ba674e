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
    /// `http://HOST:PORT`.
    pub address: String,
    /// 256 random bits in hexadecimal digits.
    pub token: String,
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
        serde_json::to_string_pretty(self).expect("two texts serialise") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_hides_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ACCESS_FILE);
        let access = Access { address: "http://127.0.0.1:1".into(), token: "secret".into() };
        fs::write(&path, access.to_json()).unwrap();
        assert_eq!(Access::read(&path).unwrap(), access);
        assert!(!format!("{access:?}").contains("secret"));
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
