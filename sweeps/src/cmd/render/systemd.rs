//! Unit files for machines that are run by systemd: of the coordinator, and of a worker.

use askama::Template;
use clap::Subcommand;

use super::{
    DRAINED, LEAVE_SECONDS, filled,
    value::{self, Assignment},
};
use crate::exit::Failure;

/// The services.
#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// The coordinator, once
    Coordinator(CoordinatorArgs),
    /// A worker, on each machine
    Worker(WorkerArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CommonArgs {
    /// The program sweep on the machine
    #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/sweep", value_parser = value::plain_path)]
    program: String,
    /// User that the service runs as; it must exist
    #[arg(long, value_name = "NAME", default_value = "sweep", value_parser = value::word)]
    user: String,
}

/// Arguments of `sweep render systemd coordinator`.
#[derive(Debug, clap::Args)]
pub(super) struct CoordinatorArgs {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7171", value_parser = listener)]
    listen: String,
    /// Name or address by which other machines reach this one [default: this machine's name]
    #[arg(long, value_name = "HOST", value_parser = value::word)]
    advertise: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `sweep render systemd worker`.
#[derive(Debug, clap::Args)]
pub(super) struct WorkerArgs {
    /// The coordinator's worker-access.json on the machine, which the user of the service can read
    #[arg(long, value_name = "FILE", default_value = "/etc/sweep/worker-access.json", value_parser = value::absolute)]
    access: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn listener(text: &str) -> Result<String, String> {
    let bad =
        || format!("`{text}` is no address; hint: give HOST:PORT, as 0.0.0.0:7171 or [::]:7171");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let has_port = port.parse::<u16>().is_ok();
    if has_port && value::word(bare).is_ok() { Ok(text.to_owned()) } else { Err(bad()) }
}

#[derive(Template)]
#[template(path = "cmd/render/coordinator.service", escape = "none")]
struct CoordinatorUnit<'a> {
    program: &'a str,
    user: &'a str,
    listen: &'a str,
    advertise: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "cmd/render/worker.service", escape = "none")]
struct WorkerUnit<'a> {
    program: &'a str,
    user: &'a str,
    access: Assignment<'a>,
    drained: u8,
    leave_seconds: u32,
}

impl Service {
    pub(super) fn file(&self) -> Result<String, Failure> {
        match self {
            Self::Coordinator(args) => filled(&CoordinatorUnit {
                program: &args.common.program,
                user: &args.common.user,
                listen: &args.listen,
                advertise: args.advertise.as_deref(),
            }),
            Self::Worker(args) => filled(&WorkerUnit {
                program: &args.common.program,
                user: &args.common.user,
                access: Assignment("SWEEP_ACCESS", &args.access),
                drained: DRAINED,
                leave_seconds: LEAVE_SECONDS,
            }),
        }
    }
}
