//! Settings of the daemon, checked once.

use std::{path::PathBuf, time::Duration};

use sweep_proto::access::Access;

use crate::{fake::FakeScript, inventory::DeviceChoice, link::AccessSource};

/// What a daemon needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The coordinator.
    pub access: AccessSource,
    /// Folder of identity, spool and checkpoints; one daemon at a time works in it.
    pub state: PathBuf,
    /// Folder of tokenised data and kernel caches; may be shared.
    pub cache: PathBuf,
    /// Which devices train.
    pub devices: DeviceChoice,
    /// Slots on the CPU, or per GPU; by default one per core, or one per GPU.
    pub slots: Option<u32>,
    /// Software drivers may pass for GPUs, if their canary passes; for tests of the GPU path.
    pub offer_software_gpus: bool,
    /// Give up when no coordinator answers for so long after the start; never by default.
    pub connect_max: Option<Duration>,
    /// Trainers that play a script instead of training; for tests.
    pub fake: Option<FakeScript>,
}

/// Slots of one worker at most: each is a process, and a heartbeat lists them all.
pub const SLOTS_MAX: u32 = 256;

/// What is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No slot, or too many.
    #[error("{0} slots; hint: give --slots from 1 to {SLOTS_MAX}")]
    Slots(u32),
    /// An address that is none.
    #[error("`{0}` is no address of a coordinator; hint: write it as http://HOST:PORT")]
    Address(String),
    /// An address that is reached over a network.
    #[error(
        "{0} is not on this machine, and the token would cross the network in plain text; hint: \
         forward its port to this machine over SSH, and give http://127.0.0.1:PORT"
    )]
    NotLoopback(String),
    /// The user has no home folder, so there is no default place.
    #[error("no folder is known for {0}; hint: give --{0}")]
    NoFolder(&'static str),
}

impl Config {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and its cure.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(slots) = self.slots
            && !(1..=SLOTS_MAX).contains(&slots)
        {
            return Err(ConfigError::Slots(slots));
        }
        match &self.access {
            AccessSource::File { address: Some(address), .. }
            | AccessSource::Given(Access { address, .. }) => check_address(address),
            AccessSource::File { address: None, .. } => Ok(()),
            #[cfg(feature = "simulation")]
            AccessSource::Simulated(_) => Ok(()),
        }
    }
}

/// Whether an address may be dialled in plain text: only on this machine.
///
/// # Errors
/// [`ConfigError`] when it is no address, or one of another machine.
pub(crate) fn check_address(address: &str) -> Result<(), ConfigError> {
    let bad = || ConfigError::Address(address.to_owned());
    let rest = address.strip_prefix("http://").ok_or_else(bad)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
    if port.parse::<u16>().map_or(true, |port| port == 0) || host.is_empty() {
        return Err(bad());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => bare == "localhost",
    };
    if loopback { Ok(()) } else { Err(ConfigError::NotLoopback(address.to_owned())) }
}

/// The user's folder for state or caches, as the XDG base directory rules name it.
pub(crate) fn user_folder(variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(under_home)))
        .map(|folder| folder.join("sweep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_dialled_in_plain_text() {
        for address in ["http://127.0.0.1:80", "http://localhost:7000/", "http://[::1]:1"] {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        for address in ["http://10.0.0.1:80", "http://example.com:80", "http://[2001:db8::1]:80"] {
            assert_eq!(check_address(address), Err(ConfigError::NotLoopback(address.into())));
        }
        for address in ["127.0.0.1:80", "http://127.0.0.1", "http://:80", "http://127.0.0.1:0", ""]
        {
            assert_eq!(check_address(address), Err(ConfigError::Address(address.into())));
        }
    }
}
