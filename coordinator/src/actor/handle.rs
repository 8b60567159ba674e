//! The way into the actor: what may be asked of it, and what it says to workers.

use std::time::Duration;

use sweep_proto::fault::Fault;
use sweep_spec::{
    attempt::AttemptKey,
    id::{RunId, SweepId},
    policy::Policy,
};
use sweep_store::{CheckpointRecord, CheckpointRow, Kept, NewSweep, Submitted};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::Status;

use crate::scheduler::{Beat, Ended, Grant, Joined, Scheduler, Verdict};

/// Requests that wait: five seconds of heartbeats from 1,000 workers.
const INBOX_MAX: usize = 1024;

/// A request that waits longer is answered UNAVAILABLE.
const INBOX_WAIT: Duration = Duration::from_secs(10);

/// What goes down a worker's life line, with its sequence number.
#[derive(Debug)]
pub(crate) enum Order {
    Ack {
        heartbeat: u64,
    },
    Grant {
        grant: Box<Grant>,
        run_json: String,
        checkpoint: Option<CheckpointRecord>,
        /// The newest kept one before that.
        earlier: Option<CheckpointRecord>,
        /// Of a branch, the kept checkpoint of its trunk.
        fork: Option<CheckpointRecord>,
    },
    Kill {
        key: AttemptKey,
        reason: String,
    },
    Drain {
        reason: String,
    },
}

/// The answer to a worker that joined: each attempt with its verdict and last durable batch.
pub(crate) type Verdicts = Vec<(AttemptKey, Verdict, u64)>;

/// What is to change in the terms of a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PolicyChange {
    pub(crate) paused: Option<bool>,
    pub(crate) checks_held: Option<bool>,
    pub(crate) priority: Option<i32>,
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Status>>;
/// A look at the scheduler.
pub(super) type View = Box<dyn FnOnce(&Scheduler, Duration) + Send>;

/// What may be asked.
pub(super) enum Request {
    Submit(Box<NewSweep>, bool, Policy, Reply<(Submitted, u32)>),
    Update(SweepId, PolicyChange, Reply<(Policy, u32)>),
    Drop(Vec<RunId>, Reply<(u32, u32)>),
    Pause(Vec<RunId>, bool, Reply<(u32, u32)>),
    Cancel(SweepId, Reply<(u32, u32)>),
    Retry(Vec<RunId>, Reply<u32>),
    Join(Joined, Reply<Verdicts>),
    Open(String, u64, mpsc::Sender<(u64, Order)>, Reply<u64>),
    Close(String, u64),
    Beat(u64, u64, Beat, Reply<()>),
    Finish(Ended, u64, Reply<()>),
    Checkpoint(CheckpointRow, Reply<()>),
    Keep(AttemptKey, u64, String, Reply<Kept>),
    Drain(String, Reply<()>),
    View(View),
}

/// Talks to the actor; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    sender: mpsc::Sender<Request>,
}

impl Handle {
    /// A handle, and the inbox that it fills.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        (Self { sender }, inbox)
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, Status> {
        let (reply, receiver) = oneshot::channel();
        let busy = || Fault::Busy.status("the coordinator is busy or going down; try again");
        match timeout(INBOX_WAIT, self.sender.send(make(reply))).await {
            Ok(Ok(())) => receiver.await.unwrap_or_else(|_| Err(busy())),
            _ => Err(busy()),
        }
    }

    pub(crate) async fn submit(
        &self,
        sweep: NewSweep,
        supersede: bool,
        policy: Policy,
    ) -> Result<(Submitted, u32), Status> {
        self.ask(|reply| Request::Submit(Box::new(sweep), supersede, policy, reply)).await
    }

    /// Changes the terms of a sweep; gives them, and how many runs stop for it.
    pub(crate) async fn update(
        &self,
        sweep: SweepId,
        change: PolicyChange,
    ) -> Result<(Policy, u32), Status> {
        self.ask(|reply| Request::Update(sweep, change, reply)).await
    }

    /// Gives up runs by themselves; how many, and how many of them stop now.
    pub(crate) async fn drop_runs(&self, runs: Vec<RunId>) -> Result<(u32, u32), Status> {
        self.ask(|reply| Request::Drop(runs, reply)).await
    }

    /// Holds runs back by themselves, or lets them go on; how many, and how many of them stop now.
    pub(crate) async fn pause_runs(
        &self,
        runs: Vec<RunId>,
        paused: bool,
    ) -> Result<(u32, u32), Status> {
        self.ask(|reply| Request::Pause(runs, paused, reply)).await
    }

    pub(crate) async fn cancel(&self, sweep: SweepId) -> Result<(u32, u32), Status> {
        self.ask(|reply| Request::Cancel(sweep, reply)).await
    }

    pub(crate) async fn retry(&self, runs: Vec<RunId>) -> Result<u32, Status> {
        self.ask(|reply| Request::Retry(runs, reply)).await
    }

    pub(crate) async fn join(&self, joined: Joined) -> Result<Verdicts, Status> {
        self.ask(|reply| Request::Join(joined, reply)).await
    }

    /// Opens a session; gives its number.
    pub(crate) async fn open(
        &self,
        worker: String,
        incarnation: u64,
        orders: mpsc::Sender<(u64, Order)>,
    ) -> Result<u64, Status> {
        self.ask(|reply| Request::Open(worker, incarnation, orders, reply)).await
    }

    pub(crate) async fn close(&self, worker: String, session: u64) {
        // Where the actor is gone, so are its sessions.
        let _ = self.sender.send(Request::Close(worker, session)).await;
    }

    pub(crate) async fn beat(&self, session: u64, sequence: u64, beat: Beat) -> Result<(), Status> {
        self.ask(|reply| Request::Beat(session, sequence, beat, reply)).await
    }

    pub(crate) async fn finish(&self, ended: Ended, last_seq: u64) -> Result<(), Status> {
        self.ask(|reply| Request::Finish(ended, last_seq, reply)).await
    }

    pub(crate) async fn checkpoint(&self, row: CheckpointRow) -> Result<(), Status> {
        self.ask(|reply| Request::Checkpoint(row, reply)).await
    }

    /// Notes that the files of a checkpoint are kept.
    pub(crate) async fn keep(
        &self,
        key: AttemptKey,
        step: u64,
        hash: String,
    ) -> Result<Kept, Status> {
        self.ask(|reply| Request::Keep(key, step, hash, reply)).await
    }

    pub(crate) async fn drain(&self, worker: String) -> Result<(), Status> {
        self.ask(|reply| Request::Drain(worker, reply)).await
    }

    /// Looks at the scheduler.
    pub(crate) async fn view<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler, Duration) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.ask(|reply: Reply<T>| {
            Request::View(Box::new(move |scheduler, now| {
                let _ = reply.send(Ok(look(scheduler, now)));
            }))
        })
        .await
    }
}
