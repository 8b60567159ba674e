//! How the daemon starts its children, and what they answer: the parent's side of `child`, which
//! opens no device and needs no Burn.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde::{Deserialize, Serialize};

/// Hidden subcommand of a trainer.
pub(crate) const TRAINER: &str = "__trainer";
/// Hidden subcommand of an inventory.
pub(crate) const INVENTORY: &str = "__inventory";
/// Hidden subcommand of a canary.
pub(crate) const CANARY: &str = "__canary";
/// Hidden subcommand of a bench that measures.
pub(crate) const BENCH: &str = "__bench";

/// Where CubeCL, under Burn's GPU backends, looks for its configuration.
const KERNEL_CONFIG: &str = "cubecl.toml";

/// A device as an inventory child lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Stable name: `cpu`, or `vulkan:PCI_BUS_ID`, `cuda:PCI_BUS_ID`.
    pub(crate) id: String,
    /// `cpu`, `vulkan` or `cuda`.
    pub(crate) backend: String,
    /// Name of the card or processor: the device kind of the cost model.
    pub(crate) name: String,
    /// Device memory in bytes, where it is known.
    pub(crate) memory_bytes: Option<u64>,
    /// Driven by software on the CPU.
    pub(crate) software: bool,
}

impl Listed {
    /// Whether it is the CPU.
    pub(crate) fn is_cpu(&self) -> bool {
        self.id == "cpu"
    }
}

/// What an inventory child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum InventoryAnswer {
    Devices(Vec<Listed>),
    Failed(String),
}

/// What a canary child answers; losses stay out, since JSON has no NaN.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CanaryAnswer {
    Passed(String),
    Refused(String),
}

/// Which child to start.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Trainer { device: String, cache: PathBuf },
    Inventory { backend: String },
    Canary { device: String },
}

/// How children are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Our own executable.
    pub(crate) program: PathBuf,
    /// Folder with the kernel caches; written by [`Launch::prepare`].
    pub(crate) kernels: PathBuf,
}

impl Launch {
    /// Makes the folder for kernel caches. CubeCL takes its place from a file in the working folder
    /// only, and would else write below whatever folder the daemon was started in.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.kernels)?;
        let folder = serde_json::to_string(&self.kernels.to_string_lossy())?;
        let text = format!("[environment]\npath = {{ directory = {folder} }}\n");
        std::fs::write(self.kernels.join(KERNEL_CONFIG), text)
    }

    /// The command of a child with its environment, not yet started.
    pub(crate) fn command(&self, purpose: &Purpose) -> tokio::process::Command {
        let mut command = std::process::Command::new(&self.program);
        match purpose {
            Purpose::Trainer { device, cache } => {
                command.arg(TRAINER).arg("--device").arg(device);
                command.arg("--cache").arg(cache).arg("--kernels").arg(&self.kernels);
            }
            Purpose::Inventory { backend } => {
                command.arg(INVENTORY).arg("--backend").arg(backend);
                command.current_dir(&self.kernels);
            }
            Purpose::Canary { device } => {
                command.arg(CANARY).arg("--device").arg(device);
                command.current_dir(&self.kernels);
            }
        }
        set_environment(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C in the terminal goes to its whole foreground group; the daemon decides what it
        // means for its trainers.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

/// What Burn reads once per process: its internal default device, so that no second client of a
/// GPU is opened behind our back, and the threads of one operation. That is one: threads share the
/// parts of a batch instead, which leaves every sum in its order.
pub(crate) fn set_environment(command: &mut std::process::Command) {
    command.env("BURN_DEVICE", "flex").env("RAYON_NUM_THREADS", "1");
}

/// How a child ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => {
            "was killed with SIGKILL, perhaps by the system for lack of memory".to_owned()
        }
        (None, Some(signal)) => format!("crashed with signal {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return signal.to_string(),
    };
    name.to_owned()
}

/// The folder for kernel caches inside a cache folder.
pub(crate) fn kernels_folder(cache: &Path) -> PathBuf {
    cache.join("kernels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_their_environment_and_the_kernel_cache() {
        let home = tempfile::tempdir().unwrap();
        let launch = Launch { program: "worker".into(), kernels: kernels_folder(home.path()) };
        launch.prepare().unwrap();
        let text = std::fs::read_to_string(launch.kernels.join(KERNEL_CONFIG)).unwrap();
        assert!(text.contains("directory"), "{text}");
        let command = launch.command(&Purpose::Canary { device: "vulkan:0000:01:00.0".into() });
        let environment: Vec<_> = command.as_std().get_envs().collect();
        assert!(environment.contains(&("BURN_DEVICE".as_ref(), Some("flex".as_ref()))));
        assert!(environment.contains(&("RAYON_NUM_THREADS".as_ref(), Some("1".as_ref()))));
        assert_eq!(command.as_std().get_current_dir(), Some(launch.kernels.as_path()));
    }

    #[test]
    fn signals_have_names() {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(describe(ExitStatus::from_raw(11)), "crashed with signal SIGSEGV");
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exited with code 3");
        assert!(describe(ExitStatus::from_raw(9)).contains("memory"));
    }
}
