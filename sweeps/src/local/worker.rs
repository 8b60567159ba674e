//! The worker daemon of `sweep run`: this executable again, under a hidden subcommand.
//!
//! A process of its own keeps the trainers' fate apart from the coordinator and the store. It is in
//! a process group of its own, so that Ctrl-C at the terminal reaches only the command, which then
//! asks for an orderly stop by closing the worker's stdin. The same happens when the command is
//! killed: the pipe closes, the worker drains, and nothing is left behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};
use worker::{AccessSource, Config, DeviceChoice, Ended, Shutdown};

use crate::{
    client::block_on,
    exit::{Exit, Failure, OrExit as _},
    machine,
};

/// Name of the hidden subcommand.
pub(crate) const COMMAND: &str = "__local-worker";

/// How long a drain may take: a step, then a checkpoint of every slot.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// The daemon gives up when the coordinator, which is older than it, does not answer.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Lines of the log that are shown when the worker fails.
const LOG_LINES: usize = 5;

/// Arguments of the hidden subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The access file of the coordinator
    #[arg(long)]
    access: PathBuf,
    /// Folder of identity, spool and checkpoints
    #[arg(long)]
    state: PathBuf,
    /// Runs trained at a time
    #[arg(long)]
    slots: Option<u32>,
    /// Devices
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Runs the daemon until stdin closes.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .try_init();
    let config = Config {
        access: AccessSource::File { path: args.access.clone(), address: None },
        state: args.state.clone(),
        cache: machine::cache_folder(),
        devices: args.device.clone(),
        slots: args.slots,
        offer_software_gpus: false,
        connect_max: Some(CONNECT_MAX),
        lifetime: None,
        fake: None,
    };
    block_on(async move {
        let (sender, receiver) = watch::channel(Shutdown::None);
        tokio::spawn(async move {
            let mut byte = [0];
            // Nothing is ever sent: the end of the pipe is the message.
            while matches!(tokio::io::stdin().read(&mut byte).await, Ok(1..)) {}
            sender.send_replace(Shutdown::Terminate);
            // The receiver must not see the sender go before the daemon has ended.
            std::future::pending::<()>().await;
        });
        let ended = worker::run(config, receiver).await.or_exit(Exit::Failed)?;
        let exit = match ended {
            Ended::Done => Exit::Done,
            Ended::Drained => Exit::Drained,
            Ended::Interrupted => Exit::Interrupted,
        };
        // A thread that waits for stdin would hold up the end of the runtime.
        std::process::exit(i32::from(exit.code()));
    })
}

/// A worker that was started.
pub(crate) struct LocalWorker {
    child: Child,
    /// Open as long as the worker is wanted; kept apart because waiting for a child closes its own.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl LocalWorker {
    /// Where the worker under this state folder keeps the checkpoints of its runs.
    pub(crate) fn checkpoints(state: &Path) -> PathBuf {
        state.join("worker").join("checkpoints")
    }

    /// Starts the worker; its messages go to `worker.log` in the state folder.
    ///
    /// # Errors
    /// Exit code 1.
    pub(crate) fn start(
        access: &Path,
        state: &Path,
        slots: Option<u32>,
        device: Option<&str>,
    ) -> Result<Self, Failure> {
        let log = state.join("worker.log");
        let mut arguments: Vec<OsString> =
            vec![COMMAND.into(), "--access".into(), access.into(), "--state".into()];
        arguments.push(state.join("worker").into());
        for (name, value) in [("--slots", slots.map(|slots| slots.to_string()))]
            .into_iter()
            .chain([("--device", device.map(str::to_owned))])
        {
            if let Some(value) = value {
                arguments.extend([name.into(), value.into()]);
            }
        }
        let start = || -> std::io::Result<Child> {
            let stderr = File::create(&log)?;
            Command::new(std::env::current_exe()?)
                .args(&arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(stderr)
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
        };
        let mut child = start().map_err(|error| {
            let message = format!("cannot start the worker: {error}; hint: see {}", log.display());
            Failure::message(Exit::Failed, message)
        })?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, log })
    }

    /// Waits until the worker ends by itself, which it should not; the reason from its log.
    pub(crate) async fn failed(&mut self) -> Failure {
        let status = self.child.wait().await;
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = self.log.display();
        Failure::message(
            Exit::Failed,
            format!("the worker ended ({how}):\n  {last}\nhint: its messages are in {log}"),
        )
    }

    /// Asks for an orderly stop with checkpoints and waits for it; a worker that does not stop in
    /// time is killed, and its runs go on from their last checkpoints.
    pub(crate) async fn drain(&mut self) -> Option<ExitStatus> {
        drop(self.stdin.take());
        match timeout(DRAIN_MAX, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                // Already gone is as good as killed.
                let _ = self.child.kill().await;
                None
            }
        }
    }
}
