//! A managed job of SkyPilot that is one worker; as many of them are launched as are wanted.

use askama::Template;

use super::{
    DRAINED, filled,
    value::{self, Yaml},
};
use crate::exit::Failure;

/// Arguments of `sweep render skypilot`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Workers: jobs that the command in the file launches
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::workers)]
    workers: u32,
    /// The program sweep on this machine, which is copied to each worker
    #[arg(long, value_name = "PATH", value_parser = value::absolute)]
    program: String,
    /// Devices of each worker, as L4:1 [default: none]
    #[arg(long, value_name = "LIST", value_parser = value::word)]
    accelerators: Option<String>,
    /// Processors of each worker, as 4 or 4+ [default: SkyPilot's]
    #[arg(long, value_name = "N", value_parser = value::word)]
    cpus: Option<String>,
    /// Take machines that may be taken away
    #[arg(long)]
    spot: bool,
}

#[derive(Template)]
#[template(path = "cmd/render/skypilot.yaml", escape = "none")]
struct Job<'a> {
    workers: u32,
    program: Yaml<'a>,
    accelerators: Option<Yaml<'a>>,
    cpus: Option<Yaml<'a>>,
    spot: bool,
    drained: u8,
}

impl Args {
    pub(super) fn file(&self) -> Result<String, Failure> {
        filled(&Job {
            workers: self.workers,
            program: Yaml(&self.program),
            accelerators: self.accelerators.as_deref().map(Yaml),
            cpus: self.cpus.as_deref().map(Yaml),
            spot: self.spot,
            drained: DRAINED,
        })
    }
}
