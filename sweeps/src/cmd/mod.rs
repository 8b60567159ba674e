//! The commands, one file each. A command reads its arguments, calls the crates that know, and
//! prints; it holds no scheduling and no mathematics.

mod audit;
#[cfg(test)]
mod called;
mod completions;
mod config;
pub(crate) mod curves;
mod doctor;
mod drain;
pub(crate) mod emergence;
pub(crate) mod export;
pub(crate) mod fit;
mod init;
mod logs;
mod plan;
mod plot;
#[cfg(feature = "store")]
mod query;
mod render;
mod report;
#[cfg(feature = "local")]
mod run;
mod runs;
#[cfg(feature = "local")]
mod sample;
mod schema;
mod status;
mod submit;
mod suggest;
mod watch;

use clap::Subcommand;

use crate::{
    console::Console,
    exit::{Exit, Failure},
};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a starter recipe
    Init(init::Args),
    /// Print the runs of a recipe with their size, cost and warnings; changes nothing
    Plan(plan::Args),
    /// Train a recipe on this machine, fit, draw and report; run again, it goes on
    #[cfg(feature = "local")]
    Run(run::Args),
    /// Hand a recipe to a coordinator
    Submit(submit::Args),
    /// List sweeps, the runs of a sweep, or workers
    Status(status::Args),
    /// Follow a sweep until every run has ended
    Watch(watch::Args),
    /// Say why a run stands where it stands
    Explain(runs::ExplainArgs),
    /// Tell what happened to the attempts at a run, in the order of time
    Logs(logs::Args),
    /// Give up the unfinished runs of a sweep, or some of them
    Cancel(runs::CancelArgs),
    /// Queue failed and cancelled runs again
    Retry(runs::RetryArgs),
    /// Stop a sweep, or some runs of it, with checkpoints until it is resumed
    Pause(runs::PauseArgs),
    /// Let a paused sweep, or paused runs of it, go on
    Resume(runs::ResumeArgs),
    /// Stop what a worker trains with checkpoints and let it leave
    Drain(drain::Args),
    /// List the changes that were asked for, with who asked and what came of them
    Audit(audit::Args),
    /// Write text with a trained run, from its checkpoint on this machine
    #[cfg(feature = "local")]
    Sample(sample::Args),
    /// Fit a scaling law to a sweep or to a table of runs
    Fit(fit::Args),
    /// Fit a law to whole loss curves under their learning-rate schedules, and forecast others
    Curves(curves::Args),
    /// Choose the next runs: those that sharpen a forecast most for what they cost
    Suggest(suggest::Args),
    /// Tell whether task metrics jump with scale, and forecast them
    Emergence(emergence::Args),
    /// Draw a figure in the terminal or into a file
    Plot(plot::Args),
    /// Write observations, fit, figures and the report of a sweep into a folder
    Report(report::Args),
    /// Write runs or curves as CSV, JSON lines, Parquet or TensorBoard event files
    Export(export::Args),
    /// Ask a store by a SELECT of your own; it is only read
    #[cfg(feature = "store")]
    Query(query::Args),
    /// Print a file that starts workers where this program may not: for Slurm, Kubernetes, SkyPilot, systemd
    Render(render::Args),
    /// Check access, coordinator, workers, devices, disks and the store, each with its cure
    Doctor(doctor::Args),
    /// Print every setting, and with --show-origin where it comes from
    Config(config::Args),
    /// Print the JSON Schema of a recipe
    Schema,
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// The worker of `sweep run`
    #[cfg(feature = "local")]
    #[command(name = crate::local::worker::COMMAND, hide = true)]
    LocalWorker(crate::local::worker::Args),
}

impl Command {
    /// Does what was asked for.
    ///
    /// # Errors
    /// [`Failure`] carries the exit code.
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => init::run(&args, console),
            Self::Plan(args) => plan::run(&args, console),
            #[cfg(feature = "local")]
            Self::Run(args) => run::run(&args, console),
            Self::Submit(args) => submit::run(&args, console),
            Self::Status(args) => status::run(&args, console),
            Self::Watch(args) => watch::run(&args, console),
            Self::Explain(args) => runs::explain(&args, console),
            Self::Logs(args) => logs::run(&args, console),
            Self::Cancel(args) => runs::cancel(&args, console),
            Self::Retry(args) => runs::retry(&args, console),
            Self::Pause(args) => runs::pause(&args, console),
            Self::Resume(args) => runs::resume(&args, console),
            Self::Drain(args) => drain::run(&args, console),
            Self::Audit(args) => audit::run(&args, console),
            #[cfg(feature = "local")]
            Self::Sample(args) => sample::run(&args, console),
            Self::Fit(args) => fit::run(&args, console),
            Self::Curves(args) => curves::run(&args, console),
            Self::Suggest(args) => suggest::run(&args, console),
            Self::Emergence(args) => emergence::run(&args, console),
            Self::Plot(args) => plot::run(&args, console),
            Self::Report(args) => report::run(&args, console),
            Self::Export(args) => export::run(&args, console),
            #[cfg(feature = "store")]
            Self::Query(args) => query::run(&args, console),
            Self::Render(args) => render::run(&args, console),
            Self::Doctor(args) => doctor::run(&args, console),
            Self::Config(args) => config::run(&args, console),
            Self::Schema => schema::run(console),
            Self::Completions(args) => completions::run(&args, console),
            #[cfg(feature = "local")]
            Self::LocalWorker(args) => crate::local::worker::run(&args),
        }
    }
}
