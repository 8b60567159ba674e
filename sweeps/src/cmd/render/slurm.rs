//! An array of workers for Slurm: a pool that takes whatever the coordinator grants, not one run
//! for each index, since runs outlive the time limits of jobs.

use std::time::Duration;

use askama::Template;

use super::{
    DRAINED, check_at_once, filled,
    value::{self, Clock, Shell},
};
use crate::exit::Failure;

/// Before the time limit a worker is told so many seconds ahead; Slurm itself may be a minute early.
const NOTICE_SECONDS: u32 = 180;

/// Arguments of `sweep render slurm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Workers: tasks of the array
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::workers)]
    workers: u32,
    /// Of these so many at a time at most [default: all]
    #[arg(long, value_name = "M", value_parser = value::workers)]
    at_once: Option<u32>,
    /// Time limit of each worker, as 4h or 1h30m [default: that of the partition]
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    time: Option<Duration>,
    /// Partition [default: that of the site]
    #[arg(long, value_name = "NAME", value_parser = value::word)]
    partition: Option<String>,
    /// Devices of each worker, as gpu:1
    #[arg(long, value_name = "LIST", value_parser = value::word)]
    gres: Option<String>,
    /// Processors of each worker [default: that of the site, which mostly is one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// The coordinator's worker-access.json, on a file system that every node sees
    #[arg(long, value_name = "FILE", value_parser = value::absolute)]
    access: String,
    /// Folder with the state of the workers, one below it for each
    #[arg(long, value_name = "DIR", default_value = ".sweep/slurm", value_parser = value::line)]
    state: String,
    /// The program sweep on the nodes
    #[arg(long, value_name = "PATH", default_value = "sweep", value_parser = value::line)]
    program: String,
}

#[derive(Template)]
#[template(path = "cmd/render/slurm.sh", escape = "none")]
struct Script<'a> {
    last: u32,
    at_once: Option<u32>,
    notice: u32,
    drained: u8,
    time: Option<Clock>,
    lifetime: Option<u64>,
    partition: Option<&'a str>,
    gres: Option<&'a str>,
    cpus: Option<u32>,
    access: Shell<'a>,
    state: Shell<'a>,
    program: Shell<'a>,
}

impl Args {
    pub(super) fn file(&self) -> Result<String, Failure> {
        check_at_once(self.at_once, self.workers)?;
        filled(&Script {
            last: self.workers - 1,
            at_once: self.at_once,
            notice: NOTICE_SECONDS,
            drained: DRAINED,
            time: self.time.map(Clock),
            lifetime: self.time.map(|time| time.as_secs()),
            partition: self.partition.as_deref(),
            gres: self.gres.as_deref(),
            cpus: self.cpus,
            access: Shell(&self.access),
            state: Shell(&self.state),
            program: Shell(&self.program),
        })
    }
}
