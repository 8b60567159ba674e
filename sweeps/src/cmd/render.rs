//! `sweep render`: files that start workers where this program may not submit by itself. It only
//! prints them: nothing is sent, and no token stands in them.

mod kubernetes;
mod skypilot;
mod slurm;
mod systemd;
#[cfg(test)]
mod tests;
mod value;

use askama::Template;
use clap::Subcommand;

use crate::{
    console::Console,
    exit::{Exit, Failure, OrExit as _},
};

/// Exit code of a worker that has work left and wants to be started again.
const DRAINED: u8 = Exit::Drained.code();

/// Seconds that a worker needs at most to leave: five minutes to hand its last checkpoints in, ten
/// seconds for its last points, twelve for its trainers, and the rest for the step under way and the
/// checkpoint after it.
const LEAVE_SECONDS: u32 = 420;

/// Arguments of `sweep render`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    site: Site,
}

/// What starts the workers.
#[derive(Debug, Subcommand)]
enum Site {
    /// A batch script: an array of workers
    Slurm(slurm::Args),
    /// A coordinator and a job of workers
    Kubernetes(kubernetes::Args),
    /// A managed job that is one worker
    Skypilot(skypilot::Args),
    /// A unit file of one service
    #[command(subcommand)]
    Systemd(systemd::Service),
}

/// Prints the file.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let file = match &args.site {
        Site::Slurm(args) => args.file()?,
        Site::Kubernetes(args) => args.file()?,
        Site::Skypilot(args) => args.file()?,
        Site::Systemd(service) => service.file()?,
    };
    writeln!(console.out, "{file}")?;
    Ok(Exit::Done)
}

/// Fills a template.
fn filled(template: &impl Template) -> Result<String, Failure> {
    template.render().or_exit(Exit::Failed)
}

/// Refuses more workers at a time than there are.
fn check_at_once(at_once: Option<u32>, workers: u32) -> Result<(), Failure> {
    match at_once {
        Some(at_once) if at_once > workers => Err(Failure::message(
            Exit::Usage,
            format!(
                "--at-once {at_once} is more than --workers {workers}; hint: give at most \
                 {workers}, or leave it out to start all at once"
            ),
        )),
        _ => Ok(()),
    }
}
