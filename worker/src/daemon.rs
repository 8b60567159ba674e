//! The daemon: puts devices, slots, spool and link together and waits for its end.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sweep_spec::attempt::Device;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{
    checkpoints::remove_leftovers,
    clock,
    config::{Config, ConfigError},
    cores,
    drain::{Ended, Shutdown},
    fake::FakeScript,
    inventory::{self, Inventory, Refusal},
    launch::{self, Launch, Listed, Purpose},
    lifetime::leaves_after,
    link::{self, LinkEnd, Shared},
    outbox::Outbox,
    slot::{Slot, SlotEvent, SlotLimits},
    spool::{SPOOL_BYTES_MAX, Spool, SpoolError},
    state::{State, StateError, io_error},
    supervisor::{Seat, Supervisor},
    tether::{MESSAGES_MAX, TrainerSource},
};

/// Pace of sealing batches; a quarter of their age, so that they are at most a quarter late.
const TICK: Duration = Duration::from_millis(60);

/// A worker that leaves waits so long for the acknowledgement of its last points; what is left then
/// is sent at its next start.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);

/// And so long for its last checkpoints to be handed in, without which nobody else can go on from
/// them. Whoever cannot wait kills it or asks again; the next start hands in the rest.
const LAST_CHECKPOINTS_MAX: Duration = Duration::from_mins(5);

/// Trainers end within this time after their orders are closed, or are killed.
const CLOSE_MAX: Duration = Duration::from_secs(12);

/// Orders that wait for a slot: it takes them within a message of its trainer.
const ORDERS_MAX: usize = 8;

/// Why a daemon cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// The spool is of no use.
    #[error("{0}")]
    Spool(String),
    /// The cache folder is of no use.
    #[error(
        "cannot use the cache folder {folder}: {source}; hint: give a writable one with --cache"
    )]
    Cache {
        /// The folder.
        folder: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no device to train on.
    #[error("no device can train: {0}")]
    NoDevice(String),
    /// The result of a command cannot be written.
    #[error("cannot write the result: {0}")]
    Output(std::io::Error),
    /// The system gives no signal handler.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// The coordinator does not want this worker.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered in the time given.
    #[error("{0}")]
    Unreachable(String),
}

impl WorkerError {
    /// The exit code of a process that ends so.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Refused(_) | Self::Unreachable(_) => 3,
            Self::State(_)
            | Self::Spool(_)
            | Self::Cache { .. }
            | Self::NoDevice(_)
            | Self::Output(_)
            | Self::Signals(_) => 1,
        }
    }
}

impl From<SpoolError> for WorkerError {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error.to_string())
    }
}

/// Runs a worker until it is asked to end, is refused, or has no device left.
///
/// # Errors
/// [`WorkerError`]; its exit code says who has to act.
pub async fn run(
    config: Config,
    mut shutdown: watch::Receiver<Shutdown>,
) -> Result<Ended, WorkerError> {
    // Devices may take minutes to be listed, and the machine is taken away all the same.
    let started = clock::now();
    config.check()?;
    let state = State::open(&config.state)?;
    let (checkpoints, outbox) = (state.checkpoints(), state.outbox());
    remove_leftovers(&checkpoints);
    let outbox = Outbox::open(&outbox, &checkpoints).map_err(io_error("use", &outbox))?;
    let spool = Spool::open(&state.spool(), SPOOL_BYTES_MAX)?;
    let launch = launch(&config.cache)?;
    let inventory = tokio::select! {
        inventory = devices(&config, &launch) => inventory?,
        ended = asked(&mut shutdown) => return Ok(ended),
    };
    if let Some(refused) = inventory.refusals() {
        tracing::warn!("{refused}");
    }
    let plan = plan(&config, &launch, &inventory.devices)?;
    let (events_sender, events) = mpsc::channel(MESSAGES_MAX);
    let mut slots = JoinSet::new();
    let seats = start(plan, &events_sender, &mut slots);
    drop(events_sender);
    let known = known_devices(&inventory);
    let identity = state.identity.clone();
    let mut supervisor =
        Supervisor::new(identity, spool, checkpoints, outbox, known, seats, cores::available());
    supervisor.set_end(config.lifetime.map(|lifetime| started + lifetime));
    let shared = Shared::new(supervisor);
    let ended = supervise(&config, started, &shared, events, &mut shutdown).await;
    shared.lock().close();
    let closed = timeout(CLOSE_MAX, async { while slots.join_next().await.is_some() {} }).await;
    if closed.is_err() {
        tracing::warn!("a trainer did not end in time and is killed");
    }
    ended
}

/// How children of this worker are started, with their folders made.
pub(crate) fn launch(cache: &Path) -> Result<Launch, WorkerError> {
    let failed = |source| WorkerError::Cache { folder: cache.display().to_string(), source };
    // Children run in folders of their own, so their paths must not depend on ours.
    let kernels = launch::kernels_folder(&std::path::absolute(cache).map_err(failed)?);
    let program = std::env::current_exe().map_err(failed)?;
    let launch = Launch { program, kernels };
    launch.prepare().map_err(failed)?;
    Ok(launch)
}

/// Waits until the daemon is asked to end before it began.
async fn asked(shutdown: &mut watch::Receiver<Shutdown>) -> Ended {
    let asked = shutdown.wait_for(|shutdown| *shutdown != Shutdown::None).await;
    match asked.map(|shutdown| *shutdown) {
        Ok(Shutdown::Interrupt) => Ended::Interrupted,
        Ok(_) => Ended::Done,
        // The caller has let go of it, so nobody can ask.
        Err(_) => std::future::pending().await,
    }
}

async fn devices(config: &Config, launch: &Launch) -> Result<Inventory, WorkerError> {
    if config.fake.is_some() {
        return Ok(Inventory { devices: vec![scripted_device()], refused: Vec::new() });
    }
    inventory::take(launch, &config.devices, config.offer_software_gpus)
        .await
        .map_err(WorkerError::NoDevice)
}

fn scripted_device() -> Listed {
    Listed {
        id: "cpu".to_owned(),
        backend: "cpu".to_owned(),
        name: "script".to_owned(),
        memory_bytes: None,
        software: false,
    }
}

/// What the coordinator is told: devices in use, and refused ones with the reason.
fn known_devices(inventory: &Inventory) -> Vec<Device> {
    let used = inventory.devices.iter().map(|device| Device {
        id: device.id.clone(),
        name: device.name.clone(),
        backend: device.backend.clone(),
        memory_bytes: device.memory_bytes,
        software: device.software,
        refused: None,
        // Its trainers say it as they start.
        canary: None,
    });
    let refused = inventory.refused.iter().map(|Refusal { device, name, reason }| Device {
        id: device.clone(),
        name: name.as_ref().unwrap_or(device).clone(),
        backend: device.split(':').next().unwrap_or_default().to_owned(),
        memory_bytes: None,
        software: false,
        refused: Some(reason.clone()),
        canary: None,
    });
    used.chain(refused).collect()
}

/// The slots of the devices in use, and what trains in them.
fn plan(
    config: &Config,
    launch: &Launch,
    devices: &[Listed],
) -> Result<Vec<(String, TrainerSource)>, WorkerError> {
    let cores = cores::available();
    let mut slots = Vec::new();
    let cache = std::path::absolute(&config.cache).map_err(|source| WorkerError::Cache {
        folder: config.cache.display().to_string(),
        source,
    })?;
    for device in devices {
        let gpu = !device.is_cpu();
        let by_default = if gpu { 1 } else { u32::try_from(cores).unwrap_or(1) };
        let count = config.slots.unwrap_or(by_default.min(crate::config::SLOTS_MAX));
        for _ in 0..count {
            let source = match &config.fake {
                Some(script) => TrainerSource::Fake(FakeScript::clone(script)),
                None => TrainerSource::Child {
                    launch: launch.clone(),
                    purpose: Purpose::Trainer { device: device.id.clone(), cache: cache.clone() },
                    gpu,
                },
            };
            slots.push((device.id.clone(), source));
        }
        tracing::info!("{count} slot(s) on {} ({})", device.id, device.name);
    }
    Ok(slots)
}

fn start(
    plan: Vec<(String, TrainerSource)>,
    events: &mpsc::Sender<SlotEvent>,
    slots: &mut JoinSet<()>,
) -> Vec<Seat> {
    let mut seats = Vec::new();
    for (index, (device_id, source)) in plan.into_iter().enumerate() {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let limits = SlotLimits::default();
        let (orders, events) = (orders.into(), events.clone());
        slots.spawn(Slot { index, source, limits, orders, events }.run());
        seats.push(Seat::new(device_id, sender));
    }
    seats
}

/// Carries news from the slots to the supervisor until the worker ends.
async fn supervise(
    config: &Config,
    started: Instant,
    shared: &Arc<Shared>,
    mut events: mpsc::Receiver<SlotEvent>,
    shutdown: &mut watch::Receiver<Shutdown>,
) -> Result<Ended, WorkerError> {
    let link = link::run(Arc::clone(shared), config.access.clone(), config.connect_max);
    let mut link = std::pin::pin!(link);
    let mut tick = interval(TICK);
    let mut asked = *shutdown.borrow_and_update();
    heed(shared, asked);
    let mut caller_gone = false;
    let end = config.lifetime.map(|lifetime| started + lifetime);
    let leaves = config.lifetime.map(|lifetime| started + leaves_after(lifetime));
    let mut leaving = std::pin::pin!(async {
        match leaves {
            Some(at) => sleep(at.saturating_duration_since(clock::now())).await,
            None => std::future::pending().await,
        }
    });
    let mut has_left = false;
    loop {
        tokio::select! {
            // In a fixed order, so that a simulated worker can be played again; news of the slots
            // last, since only they can come without end.
            biased;
            end = &mut link => return Err(match end {
                LinkEnd::Refused(reason) => WorkerError::Refused(reason),
                LinkEnd::Unreachable(reason) => WorkerError::Unreachable(reason),
            }),
            _ = tick.tick() => {
                shared.lock().tick(clock::now());
                shared.spooled.notify_one();
            }
            changed = shutdown.changed(), if !caller_gone => {
                caller_gone = changed.is_err();
                asked = *shutdown.borrow_and_update();
                heed(shared, asked);
            }
            () = &mut leaving, if !has_left => {
                has_left = true;
                shared.lock().drain("its time on this machine ends");
                shared.beat.notify_one();
            }
            event = events.recv() => {
                let Some(event) = event else {
                    return Err(WorkerError::NoDevice(unusable(shared)));
                };
                take(shared, event);
            }
        }
        if asked == Shutdown::Now {
            return Ok(ended(shared, asked));
        }
        if shared.lock().unusable().is_some() {
            flush(shared, end, shutdown, &mut link).await;
            return Err(WorkerError::NoDevice(unusable(shared)));
        }
        let leave = {
            let supervisor = shared.lock();
            supervisor.is_draining() && supervisor.is_idle()
        };
        if leave {
            flush(shared, end, shutdown, &mut link).await;
            return Ok(ended(shared, asked));
        }
    }
}

fn take(shared: &Shared, event: SlotEvent) {
    let changed = shared.lock().slot_event(event, clock::now());
    if changed.beat {
        shared.beat.notify_one();
    }
    if changed.spooled {
        shared.spooled.notify_one();
    }
}

fn heed(shared: &Shared, asked: Shutdown) {
    let reason = match asked {
        Shutdown::None => return,
        Shutdown::Terminate => "asked to leave",
        Shutdown::Interrupt => "interrupted",
        Shutdown::Now => "asked to leave at once",
    };
    shared.lock().drain(reason);
    shared.beat.notify_one();
}

fn unusable(shared: &Shared) -> String {
    shared.lock().unusable().unwrap_or_else(|| "every slot ended".to_owned())
}

fn ended(shared: &Shared, asked: Shutdown) -> Ended {
    let supervisor = shared.lock();
    let to_send = !supervisor.spool.is_empty() || !supervisor.outbox.is_empty();
    let left = supervisor.has_work_left() || !supervisor.is_idle() || to_send;
    match asked {
        Shutdown::Interrupt => Ended::Interrupted,
        _ if left => Ended::Drained,
        _ => Ended::Done,
    }
}

/// Lets the link send what is left, for a while; checkpoints about as long as this machine stays.
async fn flush(
    shared: &Shared,
    end: Option<Instant>,
    shutdown: &mut watch::Receiver<Shutdown>,
    link: &mut (impl Future<Output = LinkEnd> + Unpin),
) {
    let empty = async {
        while !shared.lock().spool.is_empty() {
            shared.lock().spool.tick(clock::now());
            shared.spooled.notify_one();
            sleep(TICK).await;
        }
        // The last heartbeat says that nothing runs here any more.
        shared.beat.notify_one();
        sleep(TICK).await;
    };
    if !within(LAST_WORDS_MAX, empty, shutdown, link).await {
        tracing::warn!("the coordinator has not acknowledged everything; the rest is kept");
        return;
    }
    let waiting = shared.lock().outbox.len();
    if waiting == 0 {
        return;
    }
    tracing::info!("{waiting} checkpoint(s) are handed in first; a second signal leaves at once");
    let handed_in = async {
        while !shared.lock().outbox.is_empty() {
            sleep(TICK).await;
        }
    };
    let stays = end.map_or(LAST_CHECKPOINTS_MAX, |end| end.saturating_duration_since(clock::now()));
    let limit = stays.clamp(LAST_WORDS_MAX, LAST_CHECKPOINTS_MAX);
    if !within(limit, handed_in, shutdown, link).await {
        let left = shared.lock().outbox.len();
        tracing::warn!("{left} checkpoint(s) are not handed in; the next start does that");
    }
}

/// Whether the work is done in time, while the link goes on and nobody asks to leave at once.
async fn within(
    limit: Duration,
    work: impl Future<Output = ()>,
    shutdown: &mut watch::Receiver<Shutdown>,
    link: &mut (impl Future<Output = LinkEnd> + Unpin),
) -> bool {
    let at_once = async {
        if shutdown.wait_for(|asked| *asked == Shutdown::Now).await.is_err() {
            // The caller has let go of it, so nobody can ask.
            std::future::pending::<()>().await;
        }
    };
    let done = async {
        tokio::select! {
            biased;
            () = work => true,
            () = at_once => false,
            _ = link => false,
        }
    };
    timeout(limit, done).await.unwrap_or(false)
}
