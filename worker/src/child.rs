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
    path::PathBuf,
    process::ExitCode,
    sync::Mutex,
};

use clap::{Parser, Subcommand};
use serde::Serialize;
use sweep_train::{CanaryReport, DeviceId, DeviceInfo};

use crate::{
    bench::BenchArgs,
    launch::{BENCH, CANARY, CanaryAnswer, INVENTORY, InventoryAnswer, Listed, TRAINER},
    memory, pipe,
    trainer::{self, TrainerArgs, chain},
};

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
                Ok(Ok(devices)) => {
                    InventoryAnswer::Devices(devices.into_iter().map(Into::into).collect())
                }
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

impl From<DeviceInfo> for Listed {
    fn from(device: DeviceInfo) -> Self {
        let DeviceInfo { id, backend, name, memory_bytes, software } = device;
        Self { id: id.0, backend, name, memory_bytes, software }
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
            keep(&mut last, info.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        }
        print(info);
    }));
}

/// Keeps a message, but for one that only follows from a lack of memory: the thread that serves a
/// device panics first, and whoever waits for it after that.
fn keep(last: &mut Option<String>, message: String) {
    if !last.as_deref().is_some_and(memory::ran_out) {
        *last = Some(message);
    }
}

/// What the last panic said.
pub(crate) fn last_panic() -> String {
    let message = LAST_PANIC.lock().ok().and_then(|mut last| last.take());
    message.unwrap_or_else(|| "no message".to_owned())
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
    fn what_follows_from_a_lack_of_memory_does_not_hide_it() {
        let mut last = None;
        for message in ["a first", "out of device memory allocating 8 bytes", "the channel closed"]
        {
            keep(&mut last, message.to_owned());
        }
        assert_eq!(last.as_deref(), Some("out of device memory allocating 8 bytes"));
    }

    #[test]
    fn a_child_with_bad_arguments_is_still_a_child() {
        assert!(route(["worker", TRAINER, "--dance"].map(OsString::from)).is_some());
    }
}
