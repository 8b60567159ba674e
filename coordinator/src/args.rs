//! The command line of the coordinator, alone or as `sweep coordinator`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser};
use sweep_proto::access::{STATE_FOLDER, STATE_VARIABLE};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    config::Config,
    error::CoordinatorError,
    serve::{Coordinator, bind},
};

/// Serves a store of sweeps: grants runs to workers and takes in their curves.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: CoordinatorArgs,
}

/// Arguments of the coordinator.
#[derive(Clone, Debug, Args)]
pub struct CoordinatorArgs {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:7171", value_name = "HOST:PORT")]
    pub listen: String,
    /// Store, sqlite:PATH or postgres://USER@HOST/DATABASE with the password in PGPASSWORD or the
    /// file PGPASSFILE; sqlite:STATE/sweep.db when absent
    #[arg(long, value_name = "ADDRESS")]
    pub store: Option<String>,
    /// Folder of the access file and, by default, the store
    #[arg(long, value_name = "FOLDER", env = STATE_VARIABLE, default_value = STATE_FOLDER)]
    pub state: PathBuf,
    /// Log as JSON lines
    #[arg(long)]
    pub log_json: bool,
}

/// Exit code of a bad argument.
const USAGE: u8 = 2;

/// Runs the program on the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.args.run(),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

impl CoordinatorArgs {
    /// The configuration they stand for.
    #[must_use]
    pub fn config(&self) -> Config {
        let store = self
            .store
            .clone()
            .unwrap_or_else(|| format!("sqlite:{}", self.state.join("sweep.db").display()));
        Config { store, state: self.state.clone() }
    }

    /// Serves until SIGINT or SIGTERM.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        self.log();
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("cannot start threads: {error}")),
        };
        match runtime.block_on(self.serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        }
    }

    fn log(&self) {
        let filter =
            EnvFilter::try_from_env("SWEEP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(io::stderr().is_terminal());
        // A second one, in a test, keeps the first.
        let _ = if self.log_json { builder.json().try_init() } else { builder.try_init() };
    }

    async fn serve(&self) -> Result<(), CoordinatorError> {
        let listener = bind(&self.listen).await?;
        let coordinator = Coordinator::prepare(self.config(), listener).await?;
        // For scripts that asked for any port.
        let _ = writeln!(
            io::stdout().lock(),
            "listening on {}\naccess file {}",
            coordinator.access().address,
            coordinator.access_file().display()
        );
        coordinator.serve(signals()).await
    }
}

/// Ends with the first SIGINT or SIGTERM.
async fn signals() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the system ends the process by itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "error: {message}");
    ExitCode::FAILURE
}
