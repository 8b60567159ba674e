//! The link to the coordinator: dials, joins, keeps the session with its heartbeats, and sends what
//! the spool holds.
//!
//! It goes on for ever: a coordinator that is away, slow or restarted costs a pause, never a run,
//! because training does not wait for the network. Only a refusal ends it: a wrong token or another
//! version does not become right by waiting. Runs go on while the link is down, also past their
//! lease: the attempt number guards every write, and a worker without a link has nothing better to
//! do.

mod upload;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sweep_proto::{
    access::{Access, AccessError},
    client::{ConnectError, Connection, Work},
    convert,
    fault::Fault,
    v1,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use self::upload::upload;
use crate::{clock, pauses::Pauses, supervisor::Supervisor, transfer};

/// Between two dials.
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// A connection that lasted this long was a good one: the pauses begin anew.
const STABLE_MIN: Duration = Duration::from_secs(30);

/// A coordinator that does not answer a call within this time is away.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Messages that wait for the network; more only means that it is down.
const OUTBOX: usize = 16;

/// The supervisor, shared by the link, the slots' events and the clock; never held over an await.
pub(crate) struct Shared {
    supervisor: Mutex<Supervisor>,
    /// Rung when a heartbeat is due at once; the session waits on it.
    pub(crate) beat: Notify,
    /// Rung when the spool has something to send; the sender waits on it.
    pub(crate) spooled: Notify,
    /// Rung when a checkpoint is to be handed in.
    pub(crate) outgoing: Notify,
    /// Rung when a checkpoint is to be fetched.
    pub(crate) incoming: Notify,
}

impl Shared {
    pub(crate) fn new(supervisor: Supervisor) -> Arc<Self> {
        Arc::new(Self {
            supervisor: Mutex::new(supervisor),
            beat: Notify::new(),
            spooled: Notify::new(),
            outgoing: Notify::new(),
            incoming: Notify::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Supervisor> {
        self.supervisor.lock().expect("no code panics while it holds the supervisor")
    }
}

/// Where the coordinator is, read anew at each dial: one that starts again may have moved.
#[derive(Clone, Debug)]
pub enum AccessSource {
    /// A file that the coordinator writes; and an address that replaces the one in it.
    File {
        /// The file.
        path: PathBuf,
        /// The address given by hand.
        address: Option<String>,
    },
    /// Given by the program that runs the worker.
    Given(Access),
    /// A simulated network.
    #[cfg(feature = "simulation")]
    Simulated(crate::simulation::Network),
}

impl AccessSource {
    fn read(&self) -> Result<Access, AccessError> {
        match self {
            Self::Given(access) => Ok(access.clone()),
            #[cfg(feature = "simulation")]
            Self::Simulated(network) => Ok(network.access.clone()),
            Self::File { path, address } => {
                let mut access = Access::read(path)?;
                if let Some(address) = address {
                    access.address.clone_from(address);
                }
                Ok(access)
            }
        }
    }

    async fn dial(&self, access: &Access) -> Result<Connection, ConnectError> {
        match self {
            #[cfg(feature = "simulation")]
            Self::Simulated(network) => network.dial().await,
            _ => Connection::open(access).await,
        }
    }
}

/// How the link ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// The coordinator does not want this worker; waiting does not help.
    Refused(String),
    /// Nobody answered within the time given.
    Unreachable(String),
}

/// Why one connection ended.
#[derive(Debug)]
enum Broken {
    Refused(String),
    /// Worth another dial.
    Lost(String),
}

/// Keeps the worker linked; returns only when that is hopeless.
pub(crate) async fn run(
    shared: Arc<Shared>,
    access: AccessSource,
    connect_max: Option<Duration>,
) -> LinkEnd {
    let started = clock::now();
    let identity = shared.lock().identity.clone();
    let mut ever_joined = false;
    let mut failures = 0_u32;
    loop {
        let (mut joined, dialled) = (false, clock::now());
        let broken = connect(&shared, &access, &mut joined).await;
        ever_joined |= joined;
        let lasted = clock::now().duration_since(dialled);
        failures = if joined && lasted >= STABLE_MIN { 1 } else { failures + 1 };
        let reason = match broken {
            Broken::Refused(reason) => return LinkEnd::Refused(reason),
            Broken::Lost(reason) => reason,
        };
        let waited = clock::now().duration_since(started);
        if !ever_joined && connect_max.is_some_and(|max| waited >= max) {
            return LinkEnd::Unreachable(reason);
        }
        let whose = format!("{} {}", identity.worker_id, identity.incarnation);
        let mut pause = PAUSES.after(failures, &whose);
        if let Some(max) = connect_max.filter(|_| !ever_joined) {
            pause = pause.min(max.saturating_sub(waited));
        }
        tracing::warn!("no link to the coordinator: {reason}; trying again in {pause:.1?}");
        sleep(pause).await;
    }
}

/// One connection, from the dial to its end.
async fn connect(shared: &Shared, access: &AccessSource, joined: &mut bool) -> Broken {
    match join(shared, access).await {
        Ok((mut work, reply)) => {
            *joined = true;
            let limits = Limits::from(&reply);
            let (mut second, third, fourth) = (work.clone(), work.clone(), work.clone());
            // All of them live exactly as long as the connection.
            tokio::select! {
                biased;
                broken = session(shared, &mut work, &limits) => broken,
                broken = upload(shared, &mut second, &limits) => broken,
                never = transfer::fetch(shared, third) => match never {},
                never = transfer::hand_in(shared, fourth) => match never {},
            }
        }
        Err(broken) => broken,
    }
}

struct Limits {
    heartbeat: Duration,
    lease: Duration,
    in_flight_max: usize,
}

impl From<&v1::JoinReply> for Limits {
    fn from(reply: &v1::JoinReply) -> Self {
        Self {
            // A coordinator that asks for no pause at all would be flooded.
            heartbeat: Duration::from_millis(reply.heartbeat_ms.max(50)),
            lease: Duration::from_millis(reply.lease_ms.max(1000)),
            in_flight_max: reply.unacknowledged_batches_max.max(1) as usize,
        }
    }
}

async fn join(shared: &Shared, source: &AccessSource) -> Result<(Work, v1::JoinReply), Broken> {
    let access = source.read().map_err(|error| match error {
        // Written when the coordinator starts, which may be later.
        AccessError::Read { .. } => Broken::Lost(error.to_string()),
        AccessError::Format { .. } => Broken::Refused(error.to_string()),
    })?;
    let connection = timeout(CALL_MAX, source.dial(&access))
        .await
        .map_err(|_| Broken::Lost(format!("{} does not answer", access.address)))?
        .map_err(|error| match error {
            ConnectError::Unreachable { .. } => Broken::Lost(error.to_string()),
            _ => Broken::Refused(error.to_string()),
        })?;
    let mut work = connection.work();
    let request = shared.lock().join_request(clock::now());
    let reply = timeout(CALL_MAX, work.join(request))
        .await
        .map_err(|_| Broken::Lost(format!("{} does not answer", access.address)))?
        .map_err(|status| refusal(&status, &access.address))?
        .into_inner();
    tracing::info!("joined the coordinator at {}", access.address);
    let mut supervisor = shared.lock();
    for verdict in &reply.verdicts {
        supervisor.verdict(verdict).map_err(Broken::Lost)?;
    }
    supervisor.set_keeps_checkpoints(reply.keeps_checkpoints);
    drop(supervisor);
    Ok((work, reply))
}

/// What a failed `Join` means: a stall is worth waiting for, a refusal is not.
fn refusal(status: &Status, address: &str) -> Broken {
    let message = status.message();
    match Fault::of(status) {
        Some(Fault::Token) => Broken::Refused(format!(
            "the coordinator at {address} refused the token: {message}; hint: give the access file \
             that this coordinator wrote, with --access or SWEEP_ACCESS"
        )),
        Some(Fault::Version) => Broken::Refused(format!(
            "the coordinator at {address} refused this worker of version {}: {message}; hint: run \
             coordinator and workers from the same build",
            sweep_proto::version()
        )),
        Some(Fault::Limit) => Broken::Lost(message.to_owned()),
        _ if Fault::is_transient(status) => Broken::Lost(message.to_owned()),
        _ => {
            Broken::Refused(format!("the coordinator at {address} refused this worker: {message}"))
        }
    }
}

fn lost(status: &Status) -> Broken {
    match Fault::of(status) {
        Some(Fault::Token | Fault::Role | Fault::Version) => refusal(status, "this address"),
        _ => Broken::Lost(format!("{}: {}", status.code(), status.message())),
    }
}

/// Heartbeats up, directives down, until the connection breaks.
async fn session(shared: &Shared, work: &mut Work, limits: &Limits) -> Broken {
    let (outbox, stream) = mpsc::channel(OUTBOX);
    let mut beats = Beats { outbox, sequence: 0, received: 0, unacked: VecDeque::new() };
    // The first message must be there before the call: the coordinator may wait for it.
    if let Err(broken) = beats.send(shared) {
        return broken;
    }
    let mut directives = match timeout(CALL_MAX, work.session(ReceiverStream::new(stream))).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return lost(&status),
        Err(_) => return Broken::Lost("the session is not answered".to_owned()),
    };
    let mut next_beat = clock::now() + limits.heartbeat;
    loop {
        let now = clock::now();
        if beats.unacked.front().is_some_and(|&(_, sent)| now.duration_since(sent) > limits.lease) {
            let seconds = limits.lease.as_secs();
            return Broken::Lost(format!("no heartbeat was acknowledged for {seconds} s"));
        }
        tokio::select! {
            // In a fixed order, so that a simulated session can be played again.
            biased;
            directive = directives.message() => match directive {
                Ok(Some(directive)) => {
                    if let Err(broken) = beats.take(shared, directive) {
                        return broken;
                    }
                    continue;
                }
                Ok(None) => return Broken::Lost("the coordinator closed the session".to_owned()),
                Err(status) => return lost(&status),
            },
            () = shared.beat.notified() => {}
            () = sleep(next_beat.saturating_duration_since(now)) => {}
        }
        if let Err(broken) = beats.send(shared) {
            return broken;
        }
        next_beat = clock::now() + limits.heartbeat;
    }
}

/// The worker's half of a session.
struct Beats {
    outbox: mpsc::Sender<v1::Heartbeat>,
    /// Of the last heartbeat sent.
    sequence: u64,
    /// Of the last directive taken in.
    received: u64,
    /// Heartbeats without an acknowledgement, and when they were sent.
    unacked: VecDeque<(u64, Instant)>,
}

impl Beats {
    fn send(&mut self, shared: &Shared) -> Result<(), Broken> {
        let now = clock::now();
        let body = shared.lock().heartbeat(now);
        self.sequence += 1;
        let beat = v1::Heartbeat { sequence: self.sequence, received: self.received, ..body };
        // A full outbox means that the network takes nothing; the connection is as good as lost.
        self.outbox
            .try_send(beat)
            .map_err(|_| Broken::Lost("heartbeats do not leave this machine".to_owned()))?;
        self.unacked.push_back((self.sequence, now));
        Ok(())
    }

    fn take(&mut self, shared: &Shared, directive: v1::Directive) -> Result<(), Broken> {
        use v1::directive::Directive as Order;
        if directive.sequence != self.received + 1 {
            return Err(Broken::Lost(format!(
                "directive {} came after {}",
                directive.sequence, self.received
            )));
        }
        self.received = directive.sequence;
        let now = clock::now();
        let mut supervisor = shared.lock();
        match directive.directive {
            Some(Order::HeartbeatAck(ack)) => {
                self.unacked.retain(|&(sequence, _)| sequence > ack.sequence);
            }
            Some(Order::Grant(grant)) => {
                if let Err(reason) = supervisor.grant(&grant, now) {
                    tracing::warn!("a grant is not taken: {reason}");
                }
                shared.beat.notify_one();
                shared.spooled.notify_one();
                shared.incoming.notify_one();
            }
            Some(Order::Kill(kill)) => {
                let key = convert::attempt_key("kill.key", kill.key.as_ref())
                    .map_err(|error| Broken::Lost(error.to_string()))?;
                tracing::info!("{key} is to stop: {}", kill.reason);
                supervisor.stop(&key);
            }
            Some(Order::Drain(drain)) => {
                supervisor.drain(&drain.reason);
                shared.beat.notify_one();
            }
            None => tracing::warn!("a directive of a later version is ignored"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
