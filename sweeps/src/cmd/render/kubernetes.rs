//! A coordinator and a job of workers for Kubernetes, in containers of an image of the user's.

use askama::Template;

use super::{
    DRAINED, LEAVE_SECONDS, check_at_once, filled,
    value::{self, Argument, Yaml},
};
use crate::exit::Failure;

/// Arguments of `sweep render kubernetes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Image with the program, for coordinator and workers
    #[arg(long, value_name = "IMAGE", value_parser = value::word)]
    image: String,
    /// Workers: indexes of the job
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::workers)]
    workers: u32,
    /// Of these so many at a time at most [default: all]
    #[arg(long, value_name = "M", value_parser = value::workers)]
    at_once: Option<u32>,
    /// GPUs of each worker, as nvidia.com/gpu [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    gpus: Option<u32>,
    /// Processors of each worker
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// Memory of each worker
    #[arg(long, value_name = "AMOUNT", default_value = "4Gi", value_parser = value::word)]
    memory: String,
    /// Disk of the coordinator, for its store and the checkpoints of all runs
    #[arg(long, value_name = "AMOUNT", default_value = "20Gi", value_parser = value::word)]
    disk: String,
    /// Persistent volume claim with the data, mounted at /data for coordinator and workers, read-only
    #[arg(long, value_name = "CLAIM", value_parser = value::word)]
    data: Option<String>,
    /// Queue of Kueue that the job of workers waits in
    #[arg(long, value_name = "NAME", value_parser = value::word)]
    queue: Option<String>,
    /// The program sweep in the image
    #[arg(long, value_name = "PATH", default_value = "sweep", value_parser = value::line)]
    program: String,
}

#[derive(Template)]
#[template(path = "cmd/render/kubernetes.yaml", escape = "none")]
struct Manifest<'a> {
    image: Yaml<'a>,
    workers: u32,
    at_once: u32,
    gpus: Option<u32>,
    cpus: u32,
    memory: Yaml<'a>,
    disk: Yaml<'a>,
    data: Option<Yaml<'a>>,
    queue: Option<Yaml<'a>>,
    program: Argument<'a>,
    drained: u8,
    leave_seconds: u32,
}

impl Args {
    pub(super) fn file(&self) -> Result<String, Failure> {
        check_at_once(self.at_once, self.workers)?;
        filled(&Manifest {
            image: Yaml(&self.image),
            workers: self.workers,
            at_once: self.at_once.unwrap_or(self.workers),
            gpus: self.gpus,
            cpus: self.cpus,
            memory: Yaml(&self.memory),
            disk: Yaml(&self.disk),
            data: self.data.as_deref().map(Yaml),
            queue: self.queue.as_deref().map(Yaml),
            program: Argument(&self.program),
            drained: DRAINED,
            leave_seconds: LEAVE_SECONDS,
        })
    }
}
