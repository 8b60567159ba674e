//! The trainer child: reads orders on stdin, trains one run after another on one device, writes
//! messages on stdout. Everything else it has to say goes to stderr.
//!
//! It knows no coordinator, no attempt and no lease. It ends when its stdin closes, whatever the
//! device is doing at that moment, so no trainer outlives its daemon; it ends after a failed run,
//! because what a failure left behind in the process is unknown.

use std::{
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use sweep_data::{DataError, Dataset};
use sweep_spec::{
    attempt::{CANARY_REFUSED, Ending, FailureCause},
    data::DataSource,
    id::DataId,
};
use sweep_train::{DeviceId, Outcome, TrainError, TrainEvent, TrainRequest};

use crate::{
    child, memory,
    pipe::{self, CheckpointNote, FromTrainer, Memory, PIPE_VERSION, ToTrainer, TrainOrder},
};

/// Exit code of a trainer whose run failed; the reason went over the pipe.
pub(crate) const EXIT_FAILED: u8 = 70;

/// What a trainer child is told by argument.
#[derive(Clone, Debug)]
pub(crate) struct TrainerArgs {
    pub(crate) device: DeviceId,
    /// Folder of the data shards.
    pub(crate) cache: PathBuf,
    /// Folder with the kernel caches of GPU drivers.
    pub(crate) kernels: PathBuf,
}

/// Runs the trainer until its stdin closes or a run fails.
pub(crate) fn run(args: &TrainerArgs) -> ExitCode {
    child::keep_panic_messages();
    let told = Arc::new(Told { stop: AtomicBool::new(false), threads: AtomicUsize::new(1) });
    let orders = read_orders(Arc::clone(&told));
    match canary(args) {
        Ok(reason) => say(&FromTrainer::Ready { version: PIPE_VERSION, canary: reason }),
        Err(reason) => {
            say(&FromTrainer::Refused { reason });
            return ExitCode::from(EXIT_FAILED);
        }
    }
    let mut trainer = Trainer { args, data: None };
    while let Ok(order) = orders.recv() {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| trainer.train(&order, &told)));
        let failure = match ended {
            Ok(Ok(outcome)) => {
                say(&FromTrainer::Ended { ending: ending(outcome), memory: held() });
                continue;
            }
            Ok(Err(failure)) => failure,
            Err(_) => panicked(&child::last_panic()),
        };
        say(&FromTrainer::Failed { cause: failure.cause, message: failure.message });
        return ExitCode::from(EXIT_FAILED);
    }
    ExitCode::SUCCESS
}

/// What the daemon tells during a run.
struct Told {
    stop: AtomicBool,
    threads: AtomicUsize,
}

struct Failure {
    cause: FailureCause,
    message: String,
}

/// What a panic makes of a run: a driver without memory left panics like any other fault.
fn panicked(message: &str) -> Failure {
    let (cause, what) = if memory::ran_out(message) {
        (FailureCause::Memory, "ran out of memory")
    } else {
        (FailureCause::Program, "panicked")
    };
    Failure { cause, message: format!("the trainer {what}: {message}") }
}

/// What stays warm between runs.
struct Trainer<'a> {
    args: &'a TrainerArgs,
    data: Option<OpenData>,
}

struct OpenData {
    source: DataSource,
    id: DataId,
    dataset: Dataset,
}

impl Trainer<'_> {
    fn train(&mut self, order: &TrainOrder, told: &Told) -> Result<Outcome, Failure> {
        let run = &order.run;
        let device = &self.args.device;
        let dataset = Self::open(&mut self.data, &self.args.cache, order)?;
        forget_peak();
        let request = TrainRequest {
            run,
            dataset,
            device,
            checkpoints: &order.checkpoints,
            trunk: order.trunk.as_deref(),
            checkpoint_seconds: order.checkpoint_seconds,
            threads: &told.threads,
        };
        sweep_train::train(&request, &mut |event| say(&translate(event)), &told.stop)
            .map_err(|error| Failure { cause: fault_of_training(&error), message: chain(&error) })
    }

    /// The data set, kept open as long as runs ask for the same one.
    fn open<'d>(
        data: &'d mut Option<OpenData>,
        cache: &Path,
        order: &TrainOrder,
    ) -> Result<&'d Dataset, Failure> {
        let (source, id) = (&order.run.source, &order.run.config.data);
        if data.as_ref().is_none_or(|open| open.source != *source || open.id != *id) {
            *data = None;
            let dataset = sweep_data::open(source, cache, id).map_err(|error| Failure {
                cause: fault_of_data(&error),
                message: chain(&error),
            })?;
            *data = Some(OpenData { source: source.clone(), id: id.clone(), dataset });
        }
        Ok(&data.as_ref().expect("opened just above").dataset)
    }
}

/// A disk that is full or gone is the machine's fault; data that differ from the plan are so
/// everywhere; a glob that matches nothing may match on another machine.
fn fault_of_data(error: &DataError) -> FailureCause {
    match error {
        DataError::Io { .. } => FailureCause::Infrastructure,
        DataError::OtherData { .. } | DataError::OtherItems { .. } => FailureCause::Configuration,
        _ => FailureCause::Program,
    }
}

fn fault_of_training(error: &TrainError) -> FailureCause {
    match error {
        TrainError::Items(error) => fault_of_data(error),
        TrainError::Read(reason) if memory::ran_out(reason) => FailureCause::Memory,
        TrainError::Samples { .. }
        | TrainError::Write { .. }
        | TrainError::Read(_)
        | TrainError::Device { .. } => FailureCause::Infrastructure,
        TrainError::Revision { .. }
        | TrainError::Shape(_)
        | TrainError::Images { .. }
        | TrainError::CorpusTooSmall { .. }
        | TrainError::Tasks(_)
        | TrainError::Prompt { .. }
        | TrainError::Wordless
        | TrainError::NoCheckpoint { .. }
        | TrainError::Vocabulary { .. } => FailureCause::Configuration,
    }
}

fn ending(outcome: Outcome) -> Ending {
    match outcome {
        Outcome::Finished { step } => Ending::Finished { step },
        Outcome::Stopped { step } => Ending::Stopped { step },
        Outcome::Diverged { step } => Ending::Diverged { step },
    }
}

fn translate(event: TrainEvent) -> FromTrainer {
    match event {
        TrainEvent::Started { step, passed_over } => FromTrainer::Started { step, passed_over },
        TrainEvent::Points(points) => {
            FromTrainer::Points(points.into_iter().map(Into::into).collect())
        }
        TrainEvent::Progress { step, tokens_per_second } => {
            FromTrainer::Progress { step, tokens_per_second }
        }
        TrainEvent::Checkpoint { step, path, hash } => {
            FromTrainer::Checkpoint(CheckpointNote { step, path, hash })
        }
        TrainEvent::CheckpointLost { step, reason } => FromTrainer::CheckpointLost { step, reason },
    }
}

/// Passes the canary, or says why the device may not train.
fn canary(args: &TrainerArgs) -> Result<String, String> {
    // The kernel caches of a GPU are placed by a configuration file in the working folder, which
    // is read once, at the first use of the device. Data globs are relative to the folder that the
    // daemon was started in, so it is restored.
    let home = (!args.device.is_cpu()).then(std::env::current_dir).and_then(Result::ok);
    if home.is_some() {
        std::env::set_current_dir(&args.kernels).map_err(|error| {
            format!("cannot enter the kernel cache {}: {error}", args.kernels.display())
        })?;
    }
    let report = child::guarded_canary(&args.device);
    if let Some(home) = home {
        std::env::set_current_dir(&home)
            .map_err(|error| format!("cannot return to {}: {error}", home.display()))?;
    }
    let report = report?;
    if report.passed {
        Ok(report.reason)
    } else {
        Err(format!("{CANARY_REFUSED}: {}", report.reason))
    }
}

/// Writes one message. When the daemon is gone there is nobody left to train for.
fn say(message: &FromTrainer) {
    if let Err(error) = pipe::send(&mut io::stdout().lock(), message) {
        let _ = writeln!(io::stderr(), "the pipe to the daemon broke: {error}");
        std::process::exit(i32::from(EXIT_FAILED));
    }
}

/// Reads stdin on a thread of its own, so that a stop is seen during a step and the end of the
/// daemon even while a driver hangs.
fn read_orders(told: Arc<Told>) -> mpsc::Receiver<TrainOrder> {
    // One order: the slot sends the next only after the end of the last.
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            match pipe::receive(&mut input) {
                Ok(Some(ToTrainer::Train(order))) => {
                    // A stop that came after the last step of a run must not stop the next one;
                    // the order of the pipe says which run a stop was for.
                    told.stop.store(false, Ordering::SeqCst);
                    told.threads.store(1, Ordering::SeqCst);
                    if sender.send(*order).is_err() {
                        return;
                    }
                }
                Ok(Some(ToTrainer::Stop)) => told.stop.store(true, Ordering::SeqCst),
                Ok(Some(ToTrainer::Threads(threads))) => {
                    told.threads.store(threads, Ordering::SeqCst);
                }
                Ok(None) => std::process::exit(0),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "bad message from the daemon: {error}");
                    std::process::exit(i32::from(EXIT_FAILED));
                }
            }
        }
    });
    receiver
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // A transparent or quoting error repeats its cause.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Makes Linux count the peak of this process anew, so that it is the run's and not that of an
/// earlier, larger one. Elsewhere, or where it is not allowed, the peak stays the process's.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Memory of this process as Linux tells it; absent elsewhere.
fn held() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Memory {
        resident_bytes: status_bytes(&status, "VmRSS:"),
        peak_bytes: status_bytes(&status, "VmHWM:"),
    }
}

fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_for_want_of_memory_is_told_from_any_other() {
        let cause = |message| panicked(message).cause;
        assert_eq!(cause("an index is out of bounds"), FailureCause::Program);
        assert_eq!(cause("out of device memory allocating 4096 bytes"), FailureCause::Memory);
        let read = |reason: &str| fault_of_training(&TrainError::Read(reason.to_owned()));
        assert_eq!(read("Not enough memory left."), FailureCause::Memory);
        assert_eq!(read("the device is lost"), FailureCause::Infrastructure);
    }

    #[test]
    fn memory_is_read_from_the_status_file() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
    }
}
