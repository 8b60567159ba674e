//! A trainer without Burn: it speaks the language of the pipe from a script, so that every fault of
//! a trainer can be played at will. For tests of the slot, the supervisor and the whole cluster;
//! no command line reaches it.
//!
//! Its loss follows a known law, 1.7 + 8 N^-0.3 + 20 D^-0.3 at the end of a run, and a stopped run
//! goes on from the step it was stopped at, like a real one.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sweep_spec::{
    attempt::{Ending, FailureCause},
    metric::{Metric, Point},
    run::RunConfig,
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use crate::{
    frame::FrameError,
    pipe::{CheckpointNote, FromTrainer, Memory, PIPE_VERSION, ToTrainer, TrainOrder},
    tether::{Heard, MESSAGES_MAX},
};

/// What the next trainers and runs do; shared by all slots of a worker.
#[derive(Clone, Debug, Default)]
pub struct FakeScript {
    /// Taken from the front, one per run; runs finish when it is empty.
    pub runs: Arc<Mutex<VecDeque<FakeRun>>>,
    /// Taken from the front, one per start of a trainer: why its canary refuses.
    pub refusals: Arc<Mutex<VecDeque<String>>>,
    /// Time of a step.
    pub step: Duration,
    /// A checkpoint after so many steps each; 0 makes only the last one.
    pub checkpoint_steps: u64,
}

/// What one run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeRun {
    /// All steps.
    Finish,
    /// The trainer dies after this many steps.
    Crash(u64),
    /// The trainer says and does nothing more after this many steps.
    Hang(u64),
    /// The loss is NaN after this many steps.
    Diverge(u64),
    /// The trainer reports a program error after this many steps.
    Fail(u64),
}

/// A running fake.
pub(crate) struct Fake {
    orders: mpsc::Sender<Box<TrainOrder>>,
    stop: Arc<AtomicBool>,
    messages: mpsc::Receiver<FromTrainer>,
    future: JoinHandle<()>,
}

impl Fake {
    pub(crate) fn start(script: &FakeScript) -> Self {
        let (orders, inbox) = mpsc::channel(1);
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let play = Play { script: script.clone(), stop: Arc::clone(&stop), sender };
        Self { orders, stop, messages, future: tokio::spawn(play.all(inbox)) }
    }

    pub(crate) fn send(&mut self, message: &ToTrainer) -> Result<(), FrameError> {
        match message {
            ToTrainer::Stop => self.stop.store(true, Ordering::SeqCst),
            ToTrainer::Threads(_) => {}
            ToTrainer::Train(order) => {
                self.stop.store(false, Ordering::SeqCst);
                self.orders
                    .try_send(order.clone())
                    .map_err(|_| FrameError::Io(std::io::ErrorKind::BrokenPipe.into()))?;
            }
        }
        Ok(())
    }

    pub(crate) async fn next(&mut self) -> Heard {
        match self.messages.recv().await {
            Some(message) => Heard::Message(message),
            None => Heard::Gone {
                how: "crashed with signal SIGSEGV".to_owned(),
                fault: FailureCause::Program,
            },
        }
    }

    pub(crate) fn kill(&mut self) -> String {
        self.future.abort();
        "was killed with SIGKILL".to_owned()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.future.abort();
    }
}

struct Play {
    script: FakeScript,
    stop: Arc<AtomicBool>,
    sender: mpsc::Sender<FromTrainer>,
}

/// Whether the trainer lives after a run.
#[derive(PartialEq)]
enum After {
    Alive,
    Dead,
}

impl Play {
    async fn all(self, mut orders: mpsc::Receiver<Box<TrainOrder>>) {
        if let Some(reason) = front(&self.script.refusals) {
            self.say(FromTrainer::Refused { reason }).await;
            return;
        }
        let canary = "not needed by a script".to_owned();
        self.say(FromTrainer::Ready { version: PIPE_VERSION, canary }).await;
        while let Some(order) = orders.recv().await {
            let act = front(&self.script.runs).unwrap_or(FakeRun::Finish);
            if self.train(&order, act).await == After::Dead {
                return;
            }
        }
    }

    async fn say(&self, message: FromTrainer) {
        let _ = self.sender.send(message).await;
    }

    async fn train(&self, order: &TrainOrder, act: FakeRun) -> After {
        let config = &order.run.config;
        let first = first_step(order);
        self.say(FromTrainer::Started { step: first, passed_over: Vec::new() }).await;
        for done in first + 1..=config.steps {
            sleep(self.script.step).await;
            match act {
                FakeRun::Crash(after) if done > after => return After::Dead,
                FakeRun::Hang(after) if done > after => std::future::pending().await,
                FakeRun::Fail(after) if done > after => {
                    let message = "scripted failure".to_owned();
                    self.say(FromTrainer::Failed { cause: FailureCause::Program, message }).await;
                    return After::Dead;
                }
                FakeRun::Diverge(after) if done > after => {
                    self.points(done, &[(Metric::TrainLoss, f64::NAN)]).await;
                    return self.end(Ending::Diverged { step: done }).await;
                }
                _ => {}
            }
            self.points(done, &[(Metric::TrainLoss, loss(config, done))]).await;
            self.say(FromTrainer::Progress { step: done, tokens_per_second: 1e6 }).await;
            let last = done == config.steps;
            if last {
                self.points(done, &[(Metric::ValidationLoss, loss(config, done))]).await;
            }
            let every = self.script.checkpoint_steps;
            let kept = every > 0 && done.is_multiple_of(every);
            let stopping = !last && self.stop.load(Ordering::SeqCst);
            if kept || last || stopping || order.run.forks.contains(&done) {
                self.checkpoint(&order.checkpoints, done).await;
            }
            if stopping {
                return self.end(Ending::Stopped { step: done }).await;
            }
        }
        // Resumed at its last step there is nothing left to do, and nothing to tell.
        self.end(Ending::Finished { step: config.steps }).await
    }

    async fn points(&self, step: u64, values: &[(Metric, f64)]) {
        let point = |&(metric, value)| Point { metric, step, value }.into();
        self.say(FromTrainer::Points(values.iter().map(point).collect())).await;
    }

    async fn checkpoint(&self, folder: &Path, step: u64) {
        let path = folder.join(format!("step-{step:012}"));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, step.to_string()));
        if written.is_ok() {
            let hash = blake3::hash(step.to_string().as_bytes()).to_hex().to_string();
            self.say(FromTrainer::Checkpoint(CheckpointNote { step, path, hash })).await;
        }
    }

    async fn end(&self, ending: Ending) -> After {
        self.say(FromTrainer::Ended { ending, memory: Memory::default() }).await;
        After::Alive
    }
}

fn front<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().ok()?.pop_front()
}

/// The law, reached along the run.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
pub(crate) fn loss(config: &RunConfig, step: u64) -> f64 {
    let tokens = (step * config.tokens_per_step()) as f64;
    let parameters = config.parameters().total as f64;
    1.7 + 8.0 * parameters.powf(-0.3) + 20.0 * tokens.powf(-0.3)
}

/// The newest checkpoint of the run, else of its trunk at or before the fork; 0 without one.
fn first_step(order: &TrainOrder) -> u64 {
    let own = resumed_step(&order.checkpoints, u64::MAX);
    match (own, &order.trunk, &order.run.config.parent) {
        (0, Some(trunk), Some(edge)) => resumed_step(trunk, edge.step),
        _ => own,
    }
}

fn resumed_step(folder: &Path, until: u64) -> u64 {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .filter(|&step| step <= until)
        .max()
        .unwrap_or(0)
}
