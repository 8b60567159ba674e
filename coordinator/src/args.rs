//! The command line of the coordinator, alone or as `sweep coordinator`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ColorChoice, Parser, Subcommand};
use sweep_proto::{
    access::{STATE_FOLDER, STATE_VARIABLE},
    colour,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    auth::write_client_access,
    authority::Authority,
    clients,
    config::{Config, NO_ARTIFACTS},
    error::CoordinatorError,
    limits::Limits,
    role::Role,
    serve::{Coordinator, bind},
};

/// Serves a store of sweeps: grants runs to workers and takes in their curves.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, max_term_width = 100)]
struct Cli {
    /// Colour log lines
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    color: ColorChoice,
    #[command(flatten)]
    args: CoordinatorArgs,
}

/// Arguments of the coordinator.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CoordinatorArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to listen on; port 0 takes any free one; 0.0.0.0:7171 lets other machines in, encrypted
    #[arg(long, default_value = "127.0.0.1:7171", value_name = "HOST:PORT")]
    pub listen: String,
    /// Name or address by which other machines reach this one [default: the address of --listen, or
    /// this machine's name]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Let in only clients that also show a certificate of this coordinator's authority; the access
    /// file holds one, `coordinator ca client` makes more
    #[arg(long)]
    pub client_certificates: bool,
    /// Store, sqlite:PATH or postgres://USER@HOST/DATABASE with the password in PGPASSWORD or the
    /// file PGPASSFILE; sqlite:STATE/sweep.db when absent
    #[arg(long, value_name = "ADDRESS")]
    pub store: Option<String>,
    /// Where checkpoints are kept so that a run can go on on any worker: a folder,
    /// s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or none; STATE/artifacts when absent
    #[arg(long, value_name = "PLACE")]
    pub artifacts: Option<String>,
    /// Go on without the checkpoints that another place of --artifacts keeps
    #[arg(long)]
    pub forget_artifacts: bool,
    /// Take an SQLite file on NFS, Lustre, GPFS or the like, where its locks do not hold, at your own
    /// risk
    #[arg(long)]
    pub allow_network_filesystem: bool,
    #[command(flatten)]
    state: StateArg,
    /// Log as JSON lines
    #[arg(long)]
    pub log_json: bool,
}

/// The state folder.
#[derive(Clone, Debug, Args)]
struct StateArg {
    /// Folder of the access file and, by default, the store
    #[arg(
        long = "state",
        value_name = "FOLDER",
        env = STATE_VARIABLE,
        default_value = STATE_FOLDER
    )]
    folder: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The authority that vouches for this coordinator and its clients
    #[command(subcommand)]
    Ca(CaCommand),
}

#[derive(Clone, Debug, Subcommand)]
enum CaCommand {
    /// Makes the authority, before the first start on a network would
    Init(StateArg),
    /// Takes back every certificate of a client, at once
    Revoke {
        /// Who it was for
        name: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Writes an access file with a certificate of its own, for a person or a machine
    Client {
        /// Who it is for
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Role::Operator)]
        role: Role,
        /// The access file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        state: StateArg,
    },
}

impl CaCommand {
    fn run(&self) -> Result<(), CoordinatorError> {
        let done = match self {
            Self::Init(state) => {
                Authority::make(&state.folder)?;
                state.folder.display().to_string()
            }
            Self::Client { name, role, out, state } => {
                write_client_access(&state.folder, name, *role, out)?;
                out.display().to_string()
            }
            Self::Revoke { name, state } => {
                let revoked = clients::revoke(&state.folder, name)?;
                format!("{revoked} taken back")
            }
        };
        // A reader that is gone has seen enough.
        let _ = writeln!(io::stdout().lock(), "{done}");
        Ok(())
    }
}

/// Exit code of a bad argument.
const USAGE: u8 = 2;

/// Runs the program on the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.args.run(cli.color),
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
            .unwrap_or_else(|| format!("sqlite:{}", self.state.folder.join("sweep.db").display()));
        let artifacts = match self.artifacts.as_deref() {
            Some(NO_ARTIFACTS) => None,
            Some(place) => Some(place.to_owned()),
            None => Some(self.state.folder.join("artifacts").display().to_string()),
        };
        Config {
            store,
            artifacts,
            forget_artifacts: self.forget_artifacts,
            allow_network_filesystem: self.allow_network_filesystem,
            state: self.state.folder.clone(),
            advertise: self.advertise.clone(),
            client_certificates: self.client_certificates,
            limits: Limits::default(),
        }
    }

    /// Serves until SIGINT or SIGTERM, or does what a subcommand says; log lines are coloured as
    /// `color` says.
    #[must_use]
    pub fn run(&self, color: ColorChoice) -> ExitCode {
        if let Some(Command::Ca(command)) = &self.command {
            return match command.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            };
        }
        self.log(color);
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("cannot start threads: {error}")),
        };
        match runtime.block_on(self.serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        }
    }

    fn log(&self, color: ColorChoice) {
        let filter =
            EnvFilter::try_from_env("SWEEP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(colour::on_stderr(asked_for(color)));
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

/// For or against colour; nothing where the terminal and the environment decide.
const fn asked_for(color: ColorChoice) -> Option<bool> {
    match color {
        ColorChoice::Auto => None,
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn colour_is_asked_for_wherever_it_stands() {
        let asked = |words: &[&str]| {
            let parsed = Cli::try_parse_from(["coordinator"].iter().chain(words));
            asked_for(parsed.expect("parses").color)
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["--color", "auto"]), None);
        assert_eq!(asked(&["--log-json", "--color", "never"]), Some(false));
        assert_eq!(asked(&["ca", "init", "--color=always"]), Some(true));
        assert!(Cli::try_parse_from(["coordinator", "--color", "red"]).is_err());
    }
}
