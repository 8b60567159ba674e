//! The actor: one bounded inbox around the scheduler. It reads the clock, stores what the scheduler
//! decides, and sends it once it is durable.
//!
//! What the scheduler knows is a function of the store and of who is online. So when the store
//! fails in the middle of a decision, the scheduler is made anew from the store and every worker
//! joins again.

mod group;
mod handle;
mod load;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use sweep_proto::fault::Fault;
use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::{RunId, SweepId},
    policy::Policy,
};
use sweep_store::{
    Applied, CheckpointRecord, CheckpointRow, GrantRow, Granted, Kept, NewSweep, Store, StoreError,
    Submitted, Turn, Turned,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tonic::Status;

pub(crate) use self::handle::{Handle, Order, PolicyChange, Verdicts};
use self::{
    group::{EndVerdict, GROUP_MAX},
    handle::{Reply, Request},
};
use crate::{
    clock::{Clock, unix_ms},
    metrics::Metrics,
    scheduler::{Action, Beat, Ended, Event, Grant, Held, Joined, Scheduler},
};

/// How often leases and back-offs are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A turn that comes so late means that the process was stopped, or that it waited for the store:
/// heartbeats lie unread, and no lease may run out for that.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// Orders that wait in a worker's stream; one that does not read them is cut off.
pub(crate) const ORDERS_MAX: usize = 512;

/// Wait before the store is tried again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

struct Session {
    number: u64,
    orders: mpsc::Sender<(u64, Order)>,
    /// Sequence of the last order.
    sequence: u64,
}

/// The actor itself.
pub(crate) struct Actor {
    store: Store,
    clock: Clock,
    metrics: Metrics,
    scheduler: Scheduler,
    /// By worker, in an order that a simulation can play again.
    sessions: BTreeMap<String, Session>,
    /// Workers that joined and have not opened their life line since.
    joined: HashSet<String>,
    sessions_made: u64,
    inbox: mpsc::Receiver<Request>,
    /// When the last turn began.
    turned: Duration,
    /// The coordinator keeps checkpoints.
    keeps_checkpoints: bool,
}

impl Actor {
    /// Loads the store and makes the actor of a coordinator that keeps checkpoints, or keeps none.
    pub(crate) async fn load(
        store: Store,
        clock: Clock,
        metrics: Metrics,
        keeps_checkpoints: bool,
    ) -> Result<(Self, Handle), StoreError> {
        let scheduler = load::scheduler(&store, clock.now(), keeps_checkpoints).await?;
        let turned = clock.now();
        let (handle, inbox) = Handle::new();
        let actor = Self {
            store,
            clock,
            metrics,
            scheduler,
            sessions: BTreeMap::new(),
            joined: HashSet::new(),
            sessions_made: 0,
            inbox,
            turned,
            keeps_checkpoints,
        };
        Ok((actor, handle))
    }

    /// Works until every handle is dropped.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = Vec::with_capacity(GROUP_MAX);
        loop {
            tokio::select! {
                // The tick first: a full inbox must not keep leases from running out.
                biased;
                _ = tick.tick() => {
                    self.turn().await;
                    // An error was logged, and the scheduler made anew.
                    let _ = self.event(Event::Tick).await;
                }
                taken = self.inbox.recv_many(&mut requests, GROUP_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.turn().await;
                    self.handle_all(&mut requests).await;
                }
            }
        }
    }

    /// Begins a turn, and notices when it comes late.
    async fn turn(&mut self) {
        let now = self.clock.now();
        let gap = now.saturating_sub(self.turned);
        self.turned = now;
        if gap >= STOOD_STILL {
            tracing::warn!(seconds = gap.as_secs_f64(), "stood still; every lease is extended");
            // An error was logged, and the scheduler made anew.
            let _ = self.event(Event::Stood(gap)).await;
        }
    }

    async fn handle(&mut self, request: Request) {
        // A caller that went away does not hear its answer.
        match request {
            Request::Submit(sweep, supersede, policy, reply) => {
                let _ = reply.send(self.submit(*sweep, supersede, policy).await);
            }
            Request::Update(sweep, change, reply) => {
                let _ = reply.send(self.update(sweep, change).await);
            }
            Request::Drop(runs, reply) => {
                let result = self.event(Event::Drop(runs)).await;
                let _ = reply.send(result.map(|actions| given_up(&actions)));
            }
            Request::Pause(runs, paused, reply) => {
                let result = self.event(Event::Pause { runs, paused }).await;
                let _ = reply.send(result.map(|actions| paused_runs(&actions)));
            }
            Request::Cancel(sweep, reply) => {
                let _ = reply.send(self.cancel(sweep).await);
            }
            Request::Retry(runs, reply) => {
                let _ = reply.send(self.retry(runs).await);
            }
            Request::Join(joined, reply) => {
                let _ = reply.send(self.join(joined).await);
            }
            Request::Open(worker, incarnation, orders, reply) => {
                let _ = reply.send(self.open(worker, incarnation, orders).await);
            }
            Request::Close(worker, session) => self.close(worker, session).await,
            Request::Beat(session, sequence, beat, reply) => {
                let _ = reply.send(self.beat(session, sequence, beat).await);
            }
            Request::Finish(ended, last_seq, reply) => {
                let _ = reply.send(self.finish(ended, last_seq).await);
            }
            Request::Checkpoint(row, reply) => {
                let _ = reply.send(self.checkpoint(row).await);
            }
            Request::Keep(key, step, hash, reply) => {
                let _ = reply.send(self.keep(key, step, &hash).await);
            }
            Request::Drain(worker, reply) => {
                let known = self.sessions.contains_key(&worker);
                let result = if known {
                    self.event(Event::Drain { worker }).await.map(|_| ())
                } else {
                    Err(Fault::NotFound.status(format!("no worker `{worker}` is online")))
                };
                let _ = reply.send(result);
            }
            Request::View(look) => look(&self.scheduler, self.clock.now()),
        }
    }

    async fn submit(
        &mut self,
        sweep: NewSweep,
        supersede: bool,
        mut policy: Policy,
    ) -> Result<(Submitted, u32), Status> {
        if let Some(known) = self.scheduler.policy(&sweep.id) {
            // What was done to a sweep by hand outlives its next submission.
            (policy.paused, policy.checks_held) = (known.paused, known.checks_held);
        }
        // The terms first: a sweep that is there is never without them.
        self.store.set_policy(&sweep.id, &policy).await.map_err(store_status)?;
        let submitted = self.store.submit(&sweep).await.map_err(store_status)?;
        let members: Vec<_> =
            sweep.runs.iter().map(|new| (new.run.config.id(), new.role)).collect();
        let ids: Vec<RunId> = members.iter().map(|(id, _)| id.clone()).collect();
        let runs = match self.store.load_runs(&ids).await {
            Ok(runs) => runs,
            // The sweep is stored: the scheduler must know of it, whatever the client hears.
            Err(error) => return Err(self.give_way(error).await),
        };
        self.event(Event::Sweep { id: sweep.id, members, runs, cancelled: false, policy }).await?;
        let mut superseded = 0;
        if supersede {
            for earlier in &submitted.earlier {
                superseded += self.cancel(earlier.clone()).await?.0;
            }
        }
        Ok((submitted, superseded))
    }

    async fn cancel(&mut self, sweep: SweepId) -> Result<(u32, u32), Status> {
        Ok(given_up(&self.event(Event::Cancel(sweep)).await?))
    }

    async fn update(
        &mut self,
        sweep: SweepId,
        change: PolicyChange,
    ) -> Result<(Policy, u32), Status> {
        let Some(known) = self.scheduler.policy(&sweep) else {
            return Err(Fault::NotFound.status(format!("no sweep is called `{sweep}`")));
        };
        let mut policy = known.clone();
        policy.paused = change.paused.unwrap_or(policy.paused);
        policy.checks_held = change.checks_held.unwrap_or(policy.checks_held);
        policy.priority = change.priority.unwrap_or(policy.priority);
        self.store.set_policy(&sweep, &policy).await.map_err(store_status)?;
        let actions = self.event(Event::Policy { sweep, policy: policy.clone() }).await?;
        Ok((policy, given_up(&actions).1))
    }

    async fn retry(&mut self, runs: Vec<RunId>) -> Result<u32, Status> {
        let actions = self.event(Event::Retry(runs)).await?;
        let queued = actions.iter().filter(|action| matches!(action, Action::SetState(_))).count();
        Ok(u32::try_from(queued).unwrap_or(u32::MAX))
    }

    async fn join(&mut self, mut joined: Joined) -> Result<Verdicts, Status> {
        if self.scheduler.is_clone(&joined) {
            let message = format!(
                "worker {} is online as another process with the same state; hint: give each \
                 worker a --state folder of its own, and copy none",
                joined.worker
            );
            return Err(Fault::Fenced.status(message));
        }
        let known = self
            .store
            .join_worker(
                &joined.worker,
                &joined.host,
                joined.incarnation,
                &joined.devices,
                unix_ms(),
            )
            .await
            .map_err(store_status)?;
        if !known {
            let message = format!(
                "worker {} has started since with a later incarnation; hint: give each worker a \
                 --state folder of its own",
                joined.worker
            );
            return Err(Fault::Fenced.status(message));
        }
        let mut marks = HashMap::new();
        for Held { key, status, .. } in &mut joined.held {
            *status = self.store.attempt_status(key).await.map_err(store_status)?;
            marks.insert(key.clone(), status.map_or(0, |status| status.last_seq));
        }
        let worker = joined.worker.clone();
        self.sessions.remove(&worker);
        let actions = self.event(Event::Join(joined)).await?;
        tracing::info!(worker, "a worker joined");
        self.joined.insert(worker);
        let verdicts = actions.into_iter().filter_map(|action| match action {
            Action::Verdict { key, verdict } => {
                let mark = marks.get(&key).copied().unwrap_or(0);
                Some((key, verdict, mark))
            }
            _ => None,
        });
        Ok(verdicts.collect())
    }

    async fn open(
        &mut self,
        worker: String,
        incarnation: u64,
        orders: mpsc::Sender<(u64, Order)>,
    ) -> Result<u64, Status> {
        let current = self.scheduler.workers().get(&worker).map(|entry| entry.incarnation);
        if current != Some(incarnation) || !self.joined.remove(&worker) {
            return Err(Fault::NotJoined.status("join before opening a session"));
        }
        self.sessions_made += 1;
        let number = self.sessions_made;
        self.sessions.insert(worker.clone(), Session { number, orders, sequence: 0 });
        self.event(Event::SessionOpened { worker }).await?;
        Ok(number)
    }

    async fn close(&mut self, worker: String, session: u64) {
        if self.sessions.get(&worker).is_some_and(|open| open.number == session) {
            self.sessions.remove(&worker);
            tracing::info!(worker, "a worker's session ended");
            let _ = self.event(Event::SessionClosed { worker }).await;
        }
    }

    async fn beat(&mut self, session: u64, sequence: u64, beat: Beat) -> Result<(), Status> {
        self.hear(session, sequence, &beat).await?;
        self.event(Event::Beat(beat)).await.map(|_| ())
    }

    /// Acknowledges a heartbeat of an open session.
    async fn hear(&mut self, session: u64, sequence: u64, beat: &Beat) -> Result<(), Status> {
        let open = self.sessions.get(&beat.worker).is_some_and(|open| open.number == session);
        let entry = self.scheduler.workers().get(&beat.worker);
        if !open || entry.is_none_or(|entry| entry.expires.is_none()) {
            return Err(Fault::NotJoined.status("the session is over; join again"));
        }
        if !beat.devices.is_empty() {
            self.store.set_devices(&beat.worker, &beat.devices).await.map_err(store_status)?;
        }
        self.order(&beat.worker, Order::Ack { heartbeat: sequence });
        Ok(())
    }

    async fn finish(&mut self, ended: Ended, last_seq: u64) -> Result<(), Status> {
        let status = self.store.attempt_status(&ended.key).await.map_err(store_status)?;
        match self.end_verdict(status, &ended, last_seq)? {
            EndVerdict::Known => Ok(()),
            EndVerdict::New => {
                tracing::info!(attempt = %ended.key, ending = ?ended.ending, "an attempt ended");
                self.metrics.reported(&ended.ending);
                self.event(Event::Ended(ended)).await.map(|_| ())
            }
        }
    }

    async fn checkpoint(&mut self, row: CheckpointRow) -> Result<(), Status> {
        match self.store.commit_checkpoint(&row).await.map_err(store_status)? {
            Applied::Done => {
                let event = Event::Checkpoint { key: row.key, step: row.step };
                self.event(event).await.map(|_| ())
            }
            Applied::Fenced => Err(fenced(&row.key)),
            Applied::PointsMissing(have) => Err(points_missing(have, row.requires_seq)),
        }
    }

    async fn keep(&mut self, key: AttemptKey, step: u64, hash: &str) -> Result<Kept, Status> {
        let kept = self.store.keep_checkpoint(&key, step, hash).await.map_err(store_status)?;
        let unknown =
            || Fault::NotFound.status(format!("{key} has no checkpoint {hash} at {step}"));
        let kept = kept.ok_or_else(unknown)?;
        self.event(Event::Kept { run: key.run, step }).await?;
        Ok(kept)
    }

    /// Gives an event to the scheduler and does what follows; gives the actions.
    async fn event(&mut self, event: Event) -> Result<Vec<Action>, Status> {
        let actions = self.scheduler.on_event(self.clock.now(), event);
        let done = actions.clone();
        match self.perform(actions).await {
            Ok(()) => Ok(done),
            Err(error) => Err(self.give_way(error).await),
        }
    }

    /// Starts anew after an error of the store; gives what the client hears of it.
    async fn give_way(&mut self, error: StoreError) -> Status {
        let status = store_status(error);
        self.start_anew().await;
        status
    }

    /// Stores, then sends; what the sending brings about follows in turn.
    async fn perform(&mut self, mut actions: Vec<Action>) -> Result<(), StoreError> {
        while !actions.is_empty() {
            let mut turn = Turn::default();
            let (mut grants, mut orders) = (Vec::new(), Vec::new());
            for action in actions.drain(..) {
                match action {
                    Action::End(mut row) => {
                        row.unix_ms = unix_ms();
                        turn.ends.push(row);
                    }
                    Action::SetState(row) => turn.states.push(row),
                    Action::SetPaused { runs, paused } => {
                        self.store.set_paused(&runs, paused).await?;
                    }
                    Action::MarkSweep { sweep, cancelled } => {
                        turn.marks.push((sweep, cancelled));
                    }
                    Action::SetDropped { runs, dropped } => {
                        turn.drops.extend(runs.into_iter().map(|run| (run, dropped)));
                    }
                    Action::Grant(grant) => {
                        turn.grants.push(grant_row(&grant));
                        grants.push(grant);
                    }
                    Action::Kill { worker, key, reason } => {
                        orders.push((worker, Order::Kill { key, reason }));
                    }
                    Action::Drain { worker, reason } => {
                        orders.push((worker, Order::Drain { reason }));
                    }
                    Action::Verdict { .. } => {}
                }
            }
            let turned = self.store_turn(turn).await?;
            for (worker, order) in orders {
                self.order(&worker, order);
            }
            actions = self.send_grants(grants, turned.grants).await?;
        }
        Ok(())
    }

    /// Commits a turn, unless there is nothing in it.
    async fn store_turn(&mut self, turn: Turn) -> Result<Turned, StoreError> {
        if turn == Turn::default() {
            return Ok(Turned::default());
        }
        let turned = self.store.turn(&turn).await?;
        turn.ends.iter().for_each(|row| self.metrics.ended(row.outcome));
        self.metrics.granted(turned.grants.iter().flatten().count());
        Ok(turned)
    }

    /// Sends the grants that were committed; gives what becomes of those that came too late.
    async fn send_grants(
        &mut self,
        grants: Vec<Grant>,
        granted: Vec<Option<Granted>>,
    ) -> Result<Vec<Action>, StoreError> {
        let mut actions = Vec::new();
        for (grant, granted) in grants.into_iter().zip(granted) {
            let (key, worker) = (grant.key.clone(), grant.worker.clone());
            let event = match granted {
                Some(granted) => {
                    let earlier = self.earlier(&key.run, granted.checkpoint.as_ref()).await?;
                    let order = Order::Grant {
                        grant: Box::new(grant),
                        run_json: granted.run_json,
                        checkpoint: granted.checkpoint,
                        earlier,
                        fork: self.kept_fork(&key.run).await?,
                    };
                    self.order(&worker, order).map(|sequence| Event::Sent { key, sequence })
                }
                None => Some(Event::GrantRefused { key }),
            };
            if let Some(event) = event {
                actions.extend(self.scheduler.on_event(self.clock.now(), event));
            }
        }
        Ok(actions)
    }

    /// What a worker may fall back on that fetches a checkpoint and finds it damaged.
    async fn earlier(
        &self,
        run: &RunId,
        offered: Option<&CheckpointRecord>,
    ) -> Result<Option<CheckpointRecord>, StoreError> {
        match offered.filter(|offered| offered.kept) {
            Some(offered) => self.store.kept_before(run, offered.step).await,
            None => Ok(None),
        }
    }

    /// Of a branch, the checkpoint that it begins after, where it is kept.
    async fn kept_fork(&self, run: &RunId) -> Result<Option<CheckpointRecord>, StoreError> {
        match self.scheduler.kept_fork(run) {
            Some(edge) => self.store.kept_checkpoint(&edge.run, edge.step).await,
            None => Ok(None),
        }
    }

    /// Sends an order down a life line; gives its sequence number, or nothing where the line is
    /// gone: the worker joins again and what it does not hold is lost.
    fn order(&mut self, worker: &str, order: Order) -> Option<u64> {
        let session = self.sessions.get_mut(worker)?;
        let sequence = session.sequence + 1;
        if session.orders.try_send((sequence, order)).is_err() {
            self.sessions.remove(worker);
            // Not an event: it would bring about grants in the middle of sending.
            self.scheduler.set_session(worker, false);
            return None;
        }
        session.sequence = sequence;
        Some(sequence)
    }

    /// Makes the scheduler anew from the store. Workers have to join again.
    async fn start_anew(&mut self) {
        self.sessions.clear();
        self.joined.clear();
        loop {
            match load::scheduler(&self.store, self.clock.now(), self.keeps_checkpoints).await {
                Ok(scheduler) => {
                    self.scheduler = scheduler;
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }
}

/// Runs that actions give up: all of them, and those that stop now.
fn given_up(actions: &[Action]) -> (u32, u32) {
    let (mut cancelled, mut stopping) = (0, 0);
    for action in actions {
        match action {
            Action::SetState(row) if row.state == RunState::Cancelled => cancelled += 1,
            Action::Kill { .. } => stopping += 1,
            _ => {}
        }
    }
    (cancelled + stopping, stopping)
}

/// Runs that actions pause or let go on: all of them, and those that stop now.
fn paused_runs(actions: &[Action]) -> (u32, u32) {
    let changed = actions.iter().map(|action| match action {
        Action::SetPaused { runs, .. } => runs.len(),
        _ => 0,
    });
    (u32::try_from(changed.sum::<usize>()).unwrap_or(u32::MAX), given_up(actions).1)
}

fn grant_row(grant: &Grant) -> GrantRow {
    GrantRow {
        key: grant.key.clone(),
        worker: grant.worker.clone(),
        incarnation: grant.incarnation,
        slot: grant.slot,
        device_id: grant.device_id.clone(),
        device_name: grant.device_name.clone(),
        backend: grant.backend.clone(),
        canary: grant.canary.clone(),
        unix_ms: unix_ms(),
    }
}

/// A failure of the store as a client sees it.
pub(crate) fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::NotFound { .. } => Fault::NotFound.status(error.to_string()),
        StoreError::Ambiguous { .. } => Fault::Ambiguous.status(error.to_string()),
        error => {
            tracing::error!(%error, "the store failed");
            Fault::Store.status(error.to_string())
        }
    }
}

fn fenced(key: &AttemptKey) -> Status {
    Fault::Fenced.status(format!("{key} no longer owns its run"))
}

fn points_missing(have: u64, needed: u64) -> Status {
    let message = format!("points up to batch {needed} are needed, {have} are durable");
    Fault::PointsMissing.status(message)
}
