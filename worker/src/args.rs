//! The command line of the worker, alone or as `sweep worker`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ColorChoice, Parser, Subcommand};
use sweep_proto::{
    access::{ACCESS_FILE, ACCESS_VARIABLE, state_folder},
    colour,
};

use crate::{
    bench::BenchArgs,
    config::{Config, ConfigError, user_folder},
    daemon::{self, WorkerError},
    devices, drain,
    inventory::DeviceChoice,
    lifetime::lifetime,
    link::AccessSource,
};

/// Trains the runs that a coordinator grants, on the devices of this machine.
#[derive(Debug, Parser)]
#[command(name = "worker", version, max_term_width = 100)]
pub struct Cli {
    /// Colour log lines
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    color: ColorChoice,
    #[command(flatten)]
    args: WorkerArgs,
}

/// Arguments of the worker.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct WorkerArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the speed of a training step
    Bench(BenchArgs),
    /// List the devices of this machine, refused ones with the reason
    Devices(DevicesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) choice: DeviceArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Devices: auto (GPUs that pass their canary, else the CPU), cpu, vulkan, cuda, or one id
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Folder of tokenised data and kernel caches [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "SWEEP_CACHE")]
    cache: Option<PathBuf>,
    /// Let software drivers pass for GPUs, if their canary passes
    #[arg(long, env = "SWEEP_OFFER_SOFTWARE_GPUS", hide = true)]
    pub(crate) offer_software_gpus: bool,
}

impl DeviceArgs {
    pub(crate) fn cache(&self) -> Result<PathBuf, ConfigError> {
        let by_default = || user_folder("XDG_CACHE_HOME", ".cache");
        self.cache.clone().or_else(by_default).ok_or(ConfigError::NoFolder("cache"))
    }
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Address of the coordinator, in place of the one in its access file
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// The coordinator's access file: its address and token [default: .sweep/access.json]
    #[arg(long, env = ACCESS_VARIABLE, value_name = "FILE")]
    access: Option<PathBuf>,
    /// Folder of identity, spool and checkpoints [default: .sweep/worker]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Runs trained at a time [default: one per core on the CPU, one per GPU]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Give up when no coordinator answers for so many seconds after the start [default: never]
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<u64>,
    /// Time until this machine is taken away, as 4h or 1h30m: runs that do not fit go elsewhere, and the
    /// worker leaves a little before [default: the end of the Slurm job, else never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// Log lines as JSON, each with the attempt that it is about
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    devices: DeviceArgs,
}

impl ServeArgs {
    fn config(&self) -> Result<Config, ConfigError> {
        let config = Config {
            access: AccessSource::File {
                path: self.access.clone().unwrap_or_else(|| state_folder().join(ACCESS_FILE)),
                address: self.coordinator.clone(),
            },
            state: self.state.clone().unwrap_or_else(|| state_folder().join("worker")),
            cache: self.devices.cache()?,
            devices: self.devices.device.clone(),
            slots: self.slots,
            offer_software_gpus: self.devices.offer_software_gpus,
            connect_max: self.connect_timeout.map(Duration::from_secs),
            lifetime: lifetime(self.lifetime),
            fake: None,
        };
        config.check()?;
        Ok(config)
    }
}

/// The program `worker`.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.args.run(cli.color),
        Err(error) => {
            let failed = error.use_stderr();
            let _ = error.print();
            ExitCode::from(if failed { 2 } else { 0 })
        }
    }
}

impl WorkerArgs {
    /// Does what the arguments say, with log lines coloured as `color` says; the exit code of the
    /// process.
    #[must_use]
    pub fn run(self, color: ColorChoice) -> ExitCode {
        match self.command {
            Some(Command::Bench(args)) => args.run(),
            Some(Command::Devices(args)) => in_runtime(false, color, async move {
                let launch = daemon::launch(&args.choice.cache()?)?;
                devices::list(&args, &launch).await?;
                Ok(0)
            }),
            None => in_runtime(self.serve.log_json, color, async move {
                let config = self.serve.config()?;
                let shutdown = drain::signals().map_err(WorkerError::Signals)?;
                Ok(daemon::run(config, shutdown).await?.exit_code())
            }),
        }
    }
}

/// Runs a command of this process: logs to stderr, one error line at its end.
fn in_runtime(
    log_json: bool,
    color: ColorChoice,
    command: impl Future<Output = Result<u8, WorkerError>>,
) -> ExitCode {
    log_to_stderr(log_json, color);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        // The daemon only waits; its cores belong to the trainers.
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            error.exit_code()
        }
    };
    // A thread that blocks must not hold up the end of the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Logs go to stderr; `SWEEP_LOG` chooses, as `info` or `worker=debug`.
fn log_to_stderr(json: bool, color: ColorChoice) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SWEEP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A program that runs the worker as a library may have its own log.
    let ansi = colour::on_stderr(asked_for(color));
    let subscriber = crate::log::subscriber(json, filter, ansi, io::stderr);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// For or against colour; nothing where the terminal and the environment decide.
const fn asked_for(color: ColorChoice) -> Option<bool> {
    match color {
        ColorChoice::Auto => None,
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use sweep_proto::access::AddressError;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let args = ["worker"].iter().chain(args);
        Cli::try_parse_from(args).expect("the arguments parse").args.serve.config()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn colour_is_asked_for_wherever_it_stands() {
        let asked = |words: &[&str]| {
            let parsed = Cli::try_parse_from(["worker"].iter().chain(words));
            asked_for(parsed.expect("parses").color)
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["--log-json", "--color", "never"]), Some(false));
        assert_eq!(asked(&["devices", "--color=always"]), Some(true));
    }

    #[test]
    fn settings_come_from_the_arguments() {
        let found = config(&[
            "--coordinator",
            "http://127.0.0.1:7000",
            "--access",
            "a.json",
            "--state",
            "s",
            "--slots",
            "3",
            "--device",
            "cpu",
            "--cache",
            "c",
            "--connect-timeout",
            "5",
            "--lifetime",
            "1h30m",
        ])
        .unwrap();
        assert_eq!((found.slots, found.devices), (Some(3), DeviceChoice::Cpu));
        assert_eq!(found.connect_max, Some(Duration::from_secs(5)));
        assert_eq!(found.lifetime, Some(Duration::from_mins(90)));
        assert_eq!((found.state, found.cache), ("s".into(), "c".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let base = ["--access", "a.json", "--state", "s", "--cache", "c"];
        let with = |more: &[&'static str]| config(&[&base[..], more].concat()).unwrap_err();
        assert_eq!(with(&["--slots", "0"]), ConfigError::Slots(0));
        let plain = with(&["--coordinator", "http://10.0.0.1:80"]);
        assert!(matches!(plain, ConfigError::Address(AddressError::Plain(_))));
        assert!(matches!(with(&["--coordinator", "here"]), ConfigError::Address(_)));
        assert!(Cli::try_parse_from(["worker", "--device", "gpu"]).is_err());
        assert!(Cli::try_parse_from(["worker", "--token", "x"]).is_err());
        assert!(Cli::try_parse_from(["worker", "--lifetime", "soon"]).is_err());
        // What only lists or measures has no attempts to tell of.
        assert!(Cli::try_parse_from(["worker", "--log-json", "devices"]).is_err());
    }
}
