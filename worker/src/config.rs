//! Settings of the daemon, checked once.

use std::{path::PathBuf, time::Duration};

use sweep_proto::access::{Access, AddressError, check_address};

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
    /// Time from the start until this machine is taken away, where that is known: the worker leaves a
    /// little before.
    pub lifetime: Option<Duration>,
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
    /// An address that is none, or must not be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
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
            | AccessSource::Given(Access { address, .. }) => Ok(check_address(address)?),
            AccessSource::File { address: None, .. } => Ok(()),
            #[cfg(feature = "simulation")]
            AccessSource::Simulated(_) => Ok(()),
        }
    }
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
