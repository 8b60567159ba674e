//! The child processes of the daemon: the same binary, started again under a hidden subcommand.
//!
//! Re-executing ourselves solves three troubles: one file is deployed and no child can be of
//! another version; the daemon process never enters Burn, so a driver that crashes, hangs or leaks
//! costs a child and not the link, the spool or the other slots; and environment variables that
//! Burn reads once per process are set from outside, before its first line runs.
//!
//! Hidden subcommands: `__trainer` trains runs on one device, `__inventory` lists the devices of
//! one backend and exits, `__canary` checks one device and exits, `__bench` measures. Nothing here decides which child
//! is needed when.

use std::{
    ffi::OsString,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    sync::Mutex,
};

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use sweep_train::{CanaryReport, DeviceId, DeviceInfo};

use crate::{
    bench::BenchArgs,
    pipe,
    trainer::{self, TrainerArgs, chain},
};

/// Hidden subcommand of a trainer.
const TRAINER: &str = "__trainer";
/// Hidden subcommand of an inventory.
const INVENTORY: &str = "__inventory";
/// Hidden subcommand of a canary.
const CANARY: &str = "__canary";
/// Hidden subcommand of a bench that measures.
pub(crate) const BENCH: &str = "__bench";

/// Where CubeCL, under Burn's GPU backends, looks for its configuration.
const KERNEL_CONFIG: &str = "cubecl.toml";

#[derive(Parser)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    child: Child,
}

#[derive(Subcommand)]
enum Child {
    #[command(name = TRAINER)]
    Trainer {
        #[arg(long)]
        device: String,
        #[arg(long)]
        cache: PathBuf,
        #[arg(long)]
        kernels: PathBuf,
    },
    #[command(name = INVENTORY)]
    Inventory {
        #[arg(long)]
        backend: String,
    },
    #[command(name = CANARY)]
    Canary {
        #[arg(long)]
        device: String,
    },
    #[command(name = BENCH)]
    Bench(BenchArgs),
}

/// What an inventory child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum InventoryAnswer {
    Devices(Vec<DeviceInfo>),
    Failed(String),
}

/// What a canary child answers; losses stay out, since JSON has no NaN.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CanaryAnswer {
    Passed(String),
    Refused(String),
}

/// Runs a child when the arguments name one; `None` when they are those of an ordinary command.
/// Every binary that starts a daemon calls this first.
#[must_use]
pub fn route(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let name = args.get(1)?.to_str()?;
    if ![TRAINER, INVENTORY, CANARY, BENCH].contains(&name) {
        return None;
    }
    let code = match Cli::try_parse_from(args) {
        Ok(cli) => run(cli.child),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    };
    Some(code)
}

fn run(child: Child) -> ExitCode {
    match child {
        Child::Trainer { device, cache, kernels } => {
            trainer::run(&TrainerArgs { device: DeviceId(device), cache, kernels })
        }
        Child::Bench(args) => args.measure(),
        Child::Inventory { backend } => {
            exit_with_daemon();
            keep_panic_messages();
            let listed = panic::catch_unwind(AssertUnwindSafe(|| sweep_train::inventory(&backend)));
            answer(&match listed {
                Ok(Ok(devices)) => InventoryAnswer::Devices(devices),
                Ok(Err(error)) => InventoryAnswer::Failed(chain(&error)),
                Err(_) => InventoryAnswer::Failed(format!("driver panicked: {}", last_panic())),
            })
        }
        Child::Canary { device } => {
            exit_with_daemon();
            keep_panic_messages();
            answer(&match guarded_canary(&DeviceId(device)) {
                Ok(report) if report.passed => CanaryAnswer::Passed(report.reason),
                Ok(report) => CanaryAnswer::Refused(report.reason),
                Err(reason) => CanaryAnswer::Refused(reason),
            })
        }
    }
}

/// The canary of a device; a panic in the driver is a reason like any other.
pub(crate) fn guarded_canary(device: &DeviceId) -> Result<CanaryReport, String> {
    match panic::catch_unwind(AssertUnwindSafe(|| sweep_train::canary(device))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("driver panicked: {}", last_panic())),
    }
}

fn answer(message: &impl Serialize) -> ExitCode {
    match pipe::send(&mut io::stdout().lock(), message) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot answer the daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when its stdin closes: the daemon that asked is gone.
fn exit_with_daemon() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
}

/// The message of the last panic of this process, on whichever thread; written by the hook.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panic messages for [`last_panic`], besides printing them.
pub(crate) fn keep_panic_messages() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = Some(info.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        }
        print(info);
    }));
}

/// What the last panic said.
pub(crate) fn last_panic() -> String {
    let message = LAST_PANIC.lock().ok().and_then(|mut last| last.take());
    message.unwrap_or_else(|| "no message".to_owned())
}

/// Which child to start.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Trainer { device: DeviceId, cache: PathBuf },
    Inventory { backend: String },
    Canary { device: DeviceId },
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
                command.arg(TRAINER).arg("--device").arg(&device.0);
                command.arg("--cache").arg(cache).arg("--kernels").arg(&self.kernels);
            }
            Purpose::Inventory { backend } => {
                command.arg(INVENTORY).arg("--backend").arg(backend);
                command.current_dir(&self.kernels);
            }
            Purpose::Canary { device } => {
                command.arg(CANARY).arg("--device").arg(&device.0);
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
    fn ordinary_arguments_are_left_alone() {
        for args in [&["worker"][..], &["sweep", "run", "x.toml"], &["worker", "--trainer"]] {
            assert!(route(args.iter().map(OsString::from)).is_none(), "{args:?}");
        }
    }

    #[test]
    fn a_child_with_bad_arguments_is_still_a_child() {
        assert!(route(["worker", TRAINER, "--dance"].map(OsString::from)).is_some());
    }

    #[test]
    fn children_get_their_environment_and_the_kernel_cache() {
        let home = tempfile::tempdir().unwrap();
        let launch = Launch { program: "worker".into(), kernels: kernels_folder(home.path()) };
        launch.prepare().unwrap();
        let text = std::fs::read_to_string(launch.kernels.join(KERNEL_CONFIG)).unwrap();
        assert!(text.contains("directory"), "{text}");
        let command =
            launch.command(&Purpose::Canary { device: DeviceId("vulkan:0000:01:00.0".into()) });
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
