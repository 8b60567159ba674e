//! A slot: a place on a device where one run at a time is trained. It owns one trainer, keeps it
//! warm between runs, watches its steps and replaces it after a failure, a hang, a loss that is not
//! finite, 200 runs or grown memory.
//!
//! A slot knows its trainer and whoever gives it orders; it knows no attempt, no spool and no
//! coordinator. What happens to its trainer ends one run and never the daemon.

mod orders;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sweep_spec::attempt::{Ending, FailureCause};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::Instrument as _;

use self::orders::Next;
pub(crate) use self::orders::{Orders, Serial, SlotOrder};
use crate::{
    clock,
    pipe::{CheckpointNote, FromTrainer, Memory, PackedPoint, ToTrainer, TrainOrder},
    tether::{Heard, Tether, TrainerSource},
};

/// Times after which a trainer is given up.
#[derive(Clone, Debug)]
pub(crate) struct SlotLimits {
    /// From the start of a trainer to its passed canary: a first start compiles kernels.
    pub(crate) canary: Duration,
    /// From an order to the end of its first step: data may be tokenised, kernels are tuned.
    pub(crate) first_step: Duration,
    /// Between two signs of life at least; a broken driver hangs, a slow disk does not.
    pub(crate) step_min: Duration,
    /// And at least this many median steps.
    pub(crate) median_steps: u32,
    /// From a stop to its checkpoint; a preemption notice is short.
    pub(crate) stop: Duration,
    /// Before a trainer that did not start is started again; doubled each time.
    pub(crate) restart: Duration,
}

impl Default for SlotLimits {
    fn default() -> Self {
        Self {
            canary: Duration::from_mins(5),
            first_step: Duration::from_mins(15),
            step_min: Duration::from_mins(2),
            median_steps: 30,
            stop: Duration::from_mins(1),
            restart: Duration::from_secs(1),
        }
    }
}

/// Runs of one trainer: growing memory is a known complaint of long Burn processes.
const RUNS_MAX: u32 = 200;

/// Idle memory above 1.25 times its first mark means a leak. Runs of several sizes leave heaps of
/// several sizes, so this much is free.
const IDLE_MEMORY_SLACK_BYTES: u64 = 256 << 20;

/// Starts in a row without a passed canary; then the device is unusable.
const STARTS_MAX: u32 = 3;

/// A GPU that loses this many trainers within the period is unusable: a bad device must not take
/// all runs.
const DEVICE_FAILURES_MAX: usize = 3;
const DEVICE_FAILURES_PERIOD: Duration = Duration::from_mins(10);

/// Step times that the median is taken over.
const STEP_TIMES: usize = 64;

/// From a slot, with its place in the worker's list.
#[derive(Debug)]
pub(crate) struct SlotEvent {
    pub(crate) slot: usize,
    /// The order that the news is about: that of the run; between two runs the last one taken.
    pub(crate) taken: Serial,
    pub(crate) news: SlotNews,
}

/// What a slot tells.
#[derive(Debug)]
pub(crate) enum SlotNews {
    /// The slot takes an order.
    Ready {
        canary: String,
        /// When its trainer passed it.
        passed: Instant,
    },
    /// Training begins after this many steps.
    Started {
        step: u64,
        passed_over: Vec<String>,
    },
    Points(Vec<PackedPoint>),
    Progress {
        step: u64,
        tokens_per_second: f64,
    },
    Checkpoint(CheckpointNote),
    /// The run ended; the next `Ready` says when the slot is free.
    Ended {
        ending: Ending,
        memory: Memory,
    },
    /// The slot takes no more orders.
    Unusable {
        reason: String,
    },
}

/// A slot before it runs.
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) source: TrainerSource,
    pub(crate) limits: SlotLimits,
    pub(crate) orders: Orders,
    pub(crate) events: mpsc::Sender<SlotEvent>,
}

/// Why a slot stops using a trainer.
enum Parting {
    /// Start another one.
    Replace,
    /// The daemon ends.
    Closed,
}

impl Slot {
    /// Serves orders until their sender is dropped or the device is unusable.
    pub(crate) async fn run(mut self) {
        let mut failed_starts = 0;
        let mut failures = VecDeque::new();
        loop {
            let started = tokio::select! {
                biased;
                started = start(&self.source, &self.limits) => started,
                () = self.orders.closed() => return,
            };
            let (mut trainer, canary) = match started {
                Ok(started) => started,
                Err(NotStarted::Refused(reason)) => return self.unusable(reason).await,
                Err(NotStarted::Crashed(reason)) => {
                    failed_starts += 1;
                    if failed_starts == STARTS_MAX {
                        return self.unusable(reason).await;
                    }
                    tracing::warn!(slot = self.index, "the trainer did not start: {reason}");
                    sleep(self.limits.restart * 2_u32.pow(failed_starts - 1)).await;
                    continue;
                }
            };
            failed_starts = 0;
            let parting = self.serve(&mut trainer, &canary, &mut failures).await;
            trainer.close().await;
            match parting {
                Parting::Closed => return,
                Parting::Replace => {}
            }
            if self.source.is_gpu() && too_many_failures(&mut failures, clock::now()) {
                let reason = format!(
                    "{DEVICE_FAILURES_MAX} trainers were lost within {} minutes",
                    DEVICE_FAILURES_PERIOD.as_secs() / 60
                );
                return self.unusable(reason).await;
            }
        }
    }

    async fn tell(&self, taken: Serial, news: SlotNews) {
        // A supervisor that is gone has closed the orders too; the next look at them ends the slot.
        let _ = self.events.send(SlotEvent { slot: self.index, taken, news }).await;
    }

    async fn unusable(&self, reason: String) {
        self.tell(self.orders.taken(), SlotNews::Unusable { reason }).await;
    }

    /// Trains runs with one trainer until it is to be replaced.
    async fn serve(
        &mut self,
        trainer: &mut Tether,
        canary: &str,
        failures: &mut VecDeque<Instant>,
    ) -> Parting {
        let mut idle_mark = None;
        let passed = clock::now();
        for _ in 0..RUNS_MAX {
            let ready = SlotNews::Ready { canary: canary.to_owned(), passed };
            self.tell(self.orders.taken(), ready).await;
            let order = tokio::select! {
                biased;
                order = self.orders.next() => order,
                heard = trainer.next() => {
                    tracing::warn!(slot = self.index, "the idle trainer is lost: {heard:?}");
                    failures.push_back(clock::now());
                    return Parting::Replace;
                }
            };
            let (serial, order, span) = match order {
                Some(Next::Train { serial, order, span }) => (serial, order, span),
                Some(Next::Renew) => return Parting::Replace,
                None => return Parting::Closed,
            };
            trainer.speaks_of(&span);
            let end = self.train(trainer, serial, order).instrument(span).await;
            let keep = end.keep && !grown(&mut idle_mark, end.memory.resident_bytes);
            if end.closed {
                return Parting::Closed;
            }
            if matches!(&end.ending, Ending::Failed { cause: FailureCause::Infrastructure, .. }) {
                failures.push_back(clock::now());
            }
            let ended = SlotNews::Ended { ending: end.ending, memory: end.memory };
            self.tell(serial, ended).await;
            if !keep {
                return Parting::Replace;
            }
        }
        Parting::Replace
    }

    /// One run, watched.
    async fn train(
        &mut self,
        trainer: &mut Tether,
        serial: Serial,
        order: Box<TrainOrder>,
    ) -> RunEnd {
        if let Err(error) = trainer.send(&ToTrainer::Train(order)).await {
            let how = trainer.kill().await;
            return RunEnd::failed(
                FailureCause::Infrastructure,
                format!("the trainer took no order ({error}) and {how}"),
            );
        }
        let mut watch = Watch::new(&self.limits, clock::now());
        loop {
            let now = clock::now();
            tokio::select! {
                // Orders first: a trainer that never falls silent must still hear a stop.
                biased;
                order = self.orders.recv() => match order {
                    Some(SlotOrder::Stop) => {
                        watch.stop(now);
                        if let Err(error) = trainer.send(&ToTrainer::Stop).await {
                            tracing::warn!(slot = self.index, "the trainer takes no stop: {error}");
                        }
                    }
                    Some(SlotOrder::Threads(threads)) => {
                        if let Err(error) = trainer.send(&ToTrainer::Threads(threads)).await {
                            tracing::warn!(slot = self.index, "the trainer keeps its threads: {error}");
                        }
                    }
                    Some(SlotOrder::Kill) => {
                        trainer.kill().await;
                        let reason = "killed by order of the coordinator".to_owned();
                        return RunEnd::failed(FailureCause::Infrastructure, reason);
                    }
                    Some(SlotOrder::Train { .. } | SlotOrder::Renew { .. }) => {
                        tracing::error!(slot = self.index, "an order for a busy slot is dropped");
                    }
                    None => {
                        trainer.kill().await;
                        return RunEnd::closed();
                    }
                },
                heard = trainer.next() => match self.hear(heard, serial, &mut watch).await {
                    Some(end) => return end,
                    None => continue,
                },
                () = sleep(watch.deadline.saturating_duration_since(now)) => {
                    trainer.kill().await;
                    return RunEnd::failed(FailureCause::Infrastructure, watch.verdict());
                }
            }
        }
    }

    /// Passes on what a trainer said; the end of the run when that was it.
    async fn hear(&self, heard: Heard, serial: Serial, watch: &mut Watch<'_>) -> Option<RunEnd> {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::Gone { how, fault } => {
                return Some(RunEnd::failed(fault, format!("the trainer {how}")));
            }
        };
        watch.alive(&message, clock::now());
        match message {
            FromTrainer::Started { step, passed_over } => {
                self.tell(serial, SlotNews::Started { step, passed_over }).await;
            }
            FromTrainer::Points(points) => self.tell(serial, SlotNews::Points(points)).await,
            FromTrainer::Progress { step, tokens_per_second } => {
                self.tell(serial, SlotNews::Progress { step, tokens_per_second }).await;
            }
            FromTrainer::Checkpoint(note) => self.tell(serial, SlotNews::Checkpoint(note)).await,
            FromTrainer::CheckpointLost { step, reason } => {
                tracing::warn!(slot = self.index, "no checkpoint at step {step}: {reason}");
            }
            FromTrainer::Ended { ending, memory } => {
                // A loss that is not finite may be the device's: the next run begins in a trainer
                // that has passed its canary.
                let keep = !matches!(ending, Ending::Diverged { .. });
                return Some(RunEnd { ending, memory, keep, closed: false });
            }
            FromTrainer::Failed { cause, message } => return Some(RunEnd::failed(cause, message)),
            FromTrainer::Ready { .. } | FromTrainer::Refused { .. } => {
                return Some(RunEnd::failed(
                    FailureCause::Infrastructure,
                    "the trainer spoke out of turn".to_owned(),
                ));
            }
        }
        None
    }
}

/// Starts a trainer and waits for its canary.
async fn start(
    source: &TrainerSource,
    limits: &SlotLimits,
) -> Result<(Tether, String), NotStarted> {
    let mut trainer = Tether::start(source).map_err(NotStarted::Crashed)?;
    let heard = timeout(limits.canary, trainer.next()).await;
    let crashed = match heard {
        Ok(Heard::Message(FromTrainer::Ready { version, canary }))
            if version == crate::pipe::PIPE_VERSION =>
        {
            return Ok((trainer, canary));
        }
        Ok(Heard::Message(FromTrainer::Refused { reason })) => {
            trainer.close().await;
            return Err(NotStarted::Refused(reason));
        }
        Ok(Heard::Message(other)) => format!(
            "the trainer began with {other:?}; hint: the program was replaced while the worker \
             ran, start the worker again"
        ),
        Ok(Heard::Gone { how, .. }) => format!("the trainer {how} before its canary passed"),
        Err(_) => {
            format!("the canary took more than {} s", limits.canary.as_secs())
        }
    };
    trainer.kill().await;
    trainer.close().await;
    Err(NotStarted::Crashed(crashed))
}

enum NotStarted {
    /// The device computes wrongly: no other trainer would do better.
    Refused(String),
    Crashed(String),
}

/// How one run ended, and what becomes of its trainer.
struct RunEnd {
    ending: Ending,
    memory: Memory,
    keep: bool,
    /// The daemon ends; nobody listens any more.
    closed: bool,
}

impl RunEnd {
    fn failed(cause: FailureCause, reason: String) -> Self {
        let ending = Ending::Failed { cause, reason };
        Self { ending, memory: Memory::default(), keep: false, closed: false }
    }

    fn closed() -> Self {
        Self { closed: true, ..Self::failed(FailureCause::Infrastructure, String::new()) }
    }
}

/// The step watchdog of one run.
struct Watch<'a> {
    limits: &'a SlotLimits,
    deadline: Instant,
    stopping: bool,
    /// Step and time of the last progress.
    last: Option<(u64, Instant)>,
    /// Seconds per step of the last messages.
    times: VecDeque<f64>,
}

impl<'a> Watch<'a> {
    fn new(limits: &'a SlotLimits, now: Instant) -> Self {
        let deadline = now + limits.first_step;
        Self { limits, deadline, stopping: false, last: None, times: VecDeque::new() }
    }

    /// Any message is a sign of life; progress also measures the step.
    fn alive(&mut self, message: &FromTrainer, now: Instant) {
        if let FromTrainer::Started { step, .. } = *message {
            self.last = Some((step, now));
        }
        if let FromTrainer::Progress { step, .. } = *message {
            if let Some((step_before, then)) = self.last
                && step > step_before
            {
                #[expect(clippy::cast_precision_loss, reason = "a count of steps in half a second")]
                let steps = (step - step_before) as f64;
                self.times.push_back((now - then).as_secs_f64() / steps);
                if self.times.len() > STEP_TIMES {
                    self.times.pop_front();
                }
            }
            self.last = Some((step, now));
        }
        if !self.stopping && !self.times.is_empty() {
            self.deadline = now + self.patience();
        }
    }

    /// From here on only the end of the run counts.
    fn stop(&mut self, now: Instant) {
        if !self.stopping {
            self.stopping = true;
            self.deadline = self.deadline.min(now + self.limits.stop);
        }
    }

    fn patience(&self) -> Duration {
        let mut times: Vec<f64> = self.times.iter().copied().collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let patience = Duration::from_secs_f64(median * f64::from(self.limits.median_steps));
        patience.max(self.limits.step_min)
    }

    fn verdict(&self) -> String {
        let at =
            self.last.map_or_else(|| "its start".to_owned(), |(step, _)| format!("step {step}"));
        if self.stopping {
            let limit = self.limits.stop.as_secs();
            return format!("killed: no checkpoint within {limit} s after a stop at {at}");
        }
        let limit = if self.times.is_empty() { self.limits.first_step } else { self.patience() };
        format!("killed: no sign of life for {} s after {at}", limit.as_secs())
    }
}

/// Whether a trainer holds so much more memory while idle than at first that it leaks.
fn grown(mark: &mut Option<u64>, resident_bytes: Option<u64>) -> bool {
    let Some(bytes) = resident_bytes else { return false };
    let first = *mark.get_or_insert(bytes);
    bytes > first + first / 4 + IDLE_MEMORY_SLACK_BYTES
}

fn too_many_failures(failures: &mut VecDeque<Instant>, now: Instant) -> bool {
    while failures.front().is_some_and(|&at| now.duration_since(at) > DEVICE_FAILURES_PERIOD) {
        failures.pop_front();
    }
    failures.len() >= DEVICE_FAILURES_MAX
}

#[cfg(test)]
mod tests;
