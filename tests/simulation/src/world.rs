//! Plays a scenario: hosts on a simulated network, disasters until the calm, then the wait for the
//! end of every run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sweep_store::{Memory, Store, simulation::fill_disk};
use tokio::sync::watch;
use turmoil::Sim;
use worker::{
    AccessSource, Config, DeviceChoice, FakeScript, Shutdown,
    simulation::{Dialled, Network, lose_power, take_acked},
};

use crate::{
    draw::Draw,
    invariant::{Invariant, Ledger, Violation},
    network::{COORDINATOR, access, dial, listen},
    operator::{self, OPERATOR},
    scenario::{Scenario, WorkerPlan},
};

/// Hosts take turns of this length: the grain of every time here.
const TURN: Duration = Duration::from_millis(20);

/// Turns between two looks at the whole store.
const LOOK_TURNS: u64 = 10;

/// Time that every run must have ended in after the calm: reconnects wait up to a minute, back-offs
/// too, and the longest run of one worker that trains all is 6 times 60 steps of 0.7 s.
const PATIENCE: Duration = Duration::from_mins(30);

/// The wall clock of the coordinator is set so far ahead or behind at most.
const WALL_CLOCK_OFF_MS: u64 = 3_600_000;

/// A deliberate fault of the code, to show that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutation {
    /// The coordinator acknowledges points before it has committed them.
    AcknowledgeBeforeCommit,
    /// The store takes points of attempts that have ended.
    NoFencing,
    /// The worker numbers batches anew on each connection.
    RenumberedSequence,
}

impl Mutation {
    fn set(self) {
        match self {
            Self::AcknowledgeBeforeCommit => coordinator::simulation::acknowledge_before_commit(),
            Self::NoFencing => sweep_store::simulation::take_points_of_ended_attempts(),
            Self::RenumberedSequence => worker::simulation::renumber_batches(),
        }
    }
}

/// How a seed went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The first promise that was broken, and when.
    pub violation: Option<(Duration, Violation)>,
    /// Simulated time.
    pub lasted: Duration,
    /// Runs, all of them finished unless a promise was broken.
    pub runs: usize,
    /// Attempts at them.
    pub attempts: usize,
    /// Points that workers were told are durable.
    pub acked_points: usize,
    /// Disasters.
    pub disasters: u64,
    /// Hash of everything that was seen, in order: equal for equal seeds.
    pub trace: String,
}

/// Plays a seed, with a deliberate fault or without, in a process that has played none.
///
/// # Errors
/// When this machine gives no scratch folder, or the simulator itself fails.
pub(crate) fn play(seed: u64, mutation: Option<Mutation>) -> anyhow::Result<Outcome> {
    if let Some(mutation) = mutation {
        mutation.set();
    }
    let home = tempfile::tempdir()?;
    let mut draw = Draw::new(seed);
    let scenario = Scenario::draw(&mut draw);
    let store = Memory::new(scenario.commit);
    let mut world = World::new(scenario, draw, store, home.path().to_owned(), seed)?;
    let violation = world.run()?.err().map(|violation| (world.sim.elapsed(), violation));
    Ok(world.outcome(violation))
}

struct World {
    sim: Sim<'static>,
    scenario: Scenario,
    draw: Draw,
    ledger: Ledger,
    home: PathBuf,
    workers: Vec<String>,
    /// Hosts that are down, until when.
    down: BTreeMap<String, Duration>,
    /// The disk of the store is full, until when.
    full: Option<Duration>,
    /// Workers that are cut off, until when.
    cut: BTreeMap<String, Duration>,
    next_disaster: Duration,
    disasters: u64,
    trace: blake3::Hasher,
}

impl World {
    fn new(
        scenario: Scenario,
        mut draw: Draw,
        store: Memory,
        home: PathBuf,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .tick_duration(TURN)
            .simulation_duration(Duration::MAX)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(scenario.latency_max)
            .tcp_capacity(1 << 16)
            .enable_random_order();
        let mut sim = builder.build();
        submit(&store, &scenario)?;
        host_coordinator(&mut sim, &store, scenario.keep_alive);
        operator::host(&mut sim, &scenario, draw.split());
        let mut workers = Vec::new();
        for (index, plan) in scenario.workers.iter().enumerate() {
            let name = format!("worker-{index}");
            let state = home.join(&name);
            std::fs::create_dir_all(&state)?;
            // Drawn from the system otherwise, and the order of workers with it.
            std::fs::write(state.join("worker-id"), &name)?;
            let config = worker_config(&home, &name, plan, scenario.keep_alive);
            host_worker(&mut sim, &name, config);
            workers.push(name);
        }
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        sim.set_fail_rate(scenario.losses_per_million as f64 / 1e6);
        let ledger = Ledger::new(store, &scenario.runs);
        Ok(Self {
            sim,
            scenario,
            draw,
            ledger,
            home,
            workers,
            down: BTreeMap::new(),
            full: None,
            cut: BTreeMap::new(),
            next_disaster: Duration::ZERO,
            disasters: 0,
            trace: blake3::Hasher::new(),
        })
    }

    fn run(&mut self) -> anyhow::Result<Result<(), Violation>> {
        let mut turn = 0_u64;
        let mut calm = false;
        loop {
            self.sim.step().map_err(|error| {
                anyhow::anyhow!("a host ended at {:?}: {error}", self.sim.elapsed())
            })?;
            turn += 1;
            if let Err(violation) = self.watch(turn) {
                return Ok(Err(violation));
            }
            let now = self.sim.elapsed();
            if now < self.scenario.calm {
                self.recover(now);
                if now >= self.next_disaster {
                    self.disaster(now)?;
                }
            } else if !calm {
                calm = true;
                self.end_disasters();
            } else if self.ledger.all_finished() {
                return Ok(self.ledger.settle());
            } else if now > self.scenario.calm + PATIENCE {
                let settled = self.ledger.settle();
                return Ok(settled.and(Err(Violation {
                    invariant: Invariant::EverythingEnds,
                    what: format!("not within {PATIENCE:?} of calm"),
                })));
            }
        }
    }

    fn watch(&mut self, turn: u64) -> Result<(), Violation> {
        for acked in take_acked() {
            self.note(format_args!("acked {} {}", acked.key, acked.points.len()));
            self.ledger.acknowledge(&acked)?;
        }
        if turn.is_multiple_of(LOOK_TURNS) {
            self.ledger.look()?;
        }
        Ok(())
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let line = format!("{:?} {what}\n", self.sim.elapsed());
        self.trace.update(line.as_bytes());
    }

    /// Ends what has lasted long enough.
    fn recover(&mut self, now: Duration) {
        let over = |map: &BTreeMap<String, Duration>| {
            let ended = map.iter().filter(|(_, until)| **until <= now);
            ended.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        for name in over(&self.down) {
            self.down.remove(&name);
            self.note(format_args!("{name} starts"));
            self.sim.bounce(name.as_str());
        }
        if self.full.is_some_and(|until| until <= now) {
            self.full = None;
            self.note(format_args!("the store has room again"));
            fill_disk(false);
        }
        for name in over(&self.cut) {
            self.cut.remove(&name);
            self.note(format_args!("{name} is reached again"));
            self.sim.release(COORDINATOR, name.as_str());
            self.sim.repair(COORDINATOR, name.as_str());
        }
    }

    fn disaster(&mut self, now: Duration) -> anyhow::Result<()> {
        let (low, high) = self.scenario.pace_millis;
        self.next_disaster = now + self.draw.millis(low, high);
        self.disasters += 1;
        let which = usize::try_from(self.draw.below(self.workers.len() as u64))?;
        let worker = self.workers[which].clone();
        // Most outages are short; some outlast the lease.
        let longest = if self.draw.one_in(3) { 45_000 } else { 3_000 };
        let until = now + self.draw.millis(0, longest);
        let kind = self.draw.below(10);
        self.note(format_args!("disaster {kind} {worker} until {until:?}"));
        match kind {
            0 | 1 => self.crash(COORDINATOR, until),
            2 => self.crash(&worker, until),
            3 => {
                self.crash(&worker, until);
                let draw = &mut self.draw;
                lose_power(&self.home.join(&worker), &mut |bound| draw.below(bound))?;
            }
            4 => {
                self.sim.partition(COORDINATOR, worker.as_str());
                self.cut.insert(worker, until);
            }
            5 => {
                self.sim.partition_oneway(COORDINATOR, worker.as_str());
                self.cut.insert(worker, until);
            }
            6 => {
                self.sim.partition_oneway(worker.as_str(), COORDINATOR);
                self.cut.insert(worker, until);
            }
            7 => {
                self.full = Some(until);
                fill_disk(true);
            }
            8 => {
                let ahead = self.draw.below(2 * WALL_CLOCK_OFF_MS + 1);
                let offset = i64::try_from(ahead)? - i64::try_from(WALL_CLOCK_OFF_MS)?;
                self.note(format_args!("the wall clock is off by {offset} ms"));
                coordinator::simulation::set_wall_clock(offset);
            }
            // Nothing is lost, everything is late: where nobody finds out, later than the lease.
            _ => {
                let late = !self.scenario.keep_alive && self.draw.one_in(2);
                let longer = now + self.draw.millis(20_000, 40_000);
                self.sim.hold(COORDINATOR, worker.as_str());
                self.cut.insert(worker, if late { longer } else { until });
            }
        }
        Ok(())
    }

    fn crash(&mut self, name: &str, until: Duration) {
        if self.down.insert(name.to_owned(), until).is_none() {
            self.sim.crash(name);
        }
    }

    fn end_disasters(&mut self) {
        self.sim.set_fail_rate(0.0);
        fill_disk(false);
        for worker in self.workers.clone() {
            self.sim.set_link_fail_rate(COORDINATOR, worker.as_str(), 0.0);
            self.sim.release(COORDINATOR, worker.as_str());
            self.sim.repair(COORDINATOR, worker.as_str());
        }
        self.sim.repair(COORDINATOR, OPERATOR);
        for name in std::mem::take(&mut self.down).into_keys() {
            self.sim.bounce(name.as_str());
        }
        self.note(format_args!("calm"));
    }

    fn outcome(&self, violation: Option<(Duration, Violation)>) -> Outcome {
        Outcome {
            violation,
            lasted: self.sim.elapsed(),
            runs: self.scenario.runs.len(),
            attempts: self.ledger.attempts(),
            acked_points: self.ledger.acked_points(),
            disasters: self.disasters,
            trace: self.trace.finalize().to_hex().to_string(),
        }
    }
}

/// Hands the sweep to the store, before there is a coordinator.
fn submit(store: &Memory, scenario: &Scenario) -> anyhow::Result<()> {
    let store = Store::Memory(store.clone());
    let sweep = scenario.sweep();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build()?;
    runtime.block_on(store.submit(&sweep))?;
    Ok(())
}

fn host_coordinator(sim: &mut Sim<'_>, store: &Memory, keep_alive: bool) {
    let store = store.clone();
    sim.host(COORDINATOR, move || {
        let store = Store::Memory(store.clone());
        async move {
            let incoming = listen().await?;
            coordinator::simulation::serve(store, &access(), keep_alive, incoming).await?;
            Ok(())
        }
    });
}

fn worker_config(home: &Path, name: &str, plan: &WorkerPlan, keep_alive: bool) -> Config {
    let dialled = move |access| -> Dialled { Box::pin(dial(access, keep_alive)) };
    Config {
        access: AccessSource::Simulated(Network::new(access(), dialled)),
        state: home.join(name),
        cache: home.join("cache"),
        devices: DeviceChoice::Cpu,
        slots: Some(plan.slots),
        offer_software_gpus: false,
        connect_max: None,
        lifetime: None,
        fake: Some(FakeScript {
            runs: Arc::new(std::sync::Mutex::new(plan.script.clone())),
            step: plan.step,
            checkpoint_steps: plan.checkpoint_steps,
            ..FakeScript::default()
        }),
    }
}

fn host_worker(sim: &mut Sim<'_>, name: &str, config: Config) {
    sim.host(name, move || {
        let config = config.clone();
        async move {
            let (_asked, shutdown) = watch::channel(Shutdown::None);
            let ended = worker::run(config, shutdown).await?;
            Err(format!("the worker left: {ended:?}").into())
        }
    });
}
