//! Crashes at a commit of the store: a real coordinator on a real SQLite file or Postgres server ends,
//! as a machine that loses its power does, before its n-th commit or right after it, and is started
//! again. Whatever it had acknowledged by then must be there, and the sweep must end as if nothing
//! had been.

use std::{
    collections::VecDeque,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use sweep_spec::{attempt::RunState, metric::Metric, run::Run};
use sweep_store::{Store, simulation::CRASH_VARIABLE};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use worker::{AccessSource, Config, DeviceChoice, FakeScript, Shutdown, simulation::scripted_run};

use crate::scenario::sweep_of;

/// A sweep whose coordinator crashes once takes a second or two.
const PATIENCE: Duration = Duration::from_mins(2);

/// Between two looks.
const TICK: Duration = Duration::from_millis(30);

/// What the coordinator says, for messages.
const LOG: &str = "coordinator.log";

/// A side of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It did not take place.
    Before(u64),
    /// It took place, and nobody has heard of it.
    After(u64),
}

impl Edge {
    fn text(self) -> String {
        match self {
            Self::Before(number) => format!("before:{number}"),
            Self::After(number) => format!("after:{number}"),
        }
    }
}

/// Plays a small sweep whose coordinator, `program`, crashes at an edge; whether it came to that. Its
/// store is the empty database of an address, or a file of its own.
///
/// # Errors
/// What is wrong with the sweep at its end, or that there was no end.
pub fn play_edge(program: &Path, edge: Edge, database: Option<String>) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let file = || format!("sqlite:{}", folder.path().join("sweep.db").display());
    let address = database.unwrap_or_else(file);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let played = timeout(PATIENCE, survive(program, edge, folder.path(), &address));
        played.await.context("the sweep has no end")?
    })
}

async fn survive(program: &Path, edge: Edge, folder: &Path, address: &str) -> anyhow::Result<bool> {
    let runs = [scripted_run(12, 0), scripted_run(17, 1)];
    let store = Store::open(address).await?;
    store.submit(&sweep_of(&runs)).await?;
    store.close().await?;
    // Its lock goes with it.
    drop(store);
    let mut coordinator = start(program, folder, address, Some(edge))?;
    let (_asked, shutdown) = watch::channel(Shutdown::None);
    let local = tokio::task::LocalSet::new();
    let worker = local.spawn_local(worker::run(worker_config(folder), shutdown));
    let crashed = local
        .run_until(async {
            let mut crashed = false;
            while !finished(address, runs.len()).await {
                ensure!(!worker.is_finished(), "the worker left");
                if let Some(status) = coordinator.try_wait()? {
                    let log = || std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
                    ensure!(!crashed, "the coordinator ended a second time: {status}\n{}", log());
                    crashed = true;
                    coordinator = start(program, folder, address, None)?;
                }
                sleep(TICK).await;
            }
            Ok(crashed)
        })
        .await?;
    worker.abort();
    coordinator.kill().await?;
    check(address, &runs).await?;
    Ok(crashed)
}

fn start(
    program: &Path,
    folder: &Path,
    address: &str,
    edge: Option<Edge>,
) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.args(["--listen", "127.0.0.1:0", "--artifacts", "none", "--store", address]);
    command.arg("--state").arg(folder.join("state"));
    command.env_remove(CRASH_VARIABLE);
    if let Some(edge) = edge {
        command.env(CRASH_VARIABLE, edge.text());
    }
    let log = std::fs::File::options().create(true).append(true).open(folder.join(LOG))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    Ok(command.spawn()?)
}

fn worker_config(folder: &Path) -> Config {
    Config {
        access: AccessSource::File { path: folder.join("state/access.json"), address: None },
        state: folder.join("worker"),
        cache: folder.join("cache"),
        devices: DeviceChoice::Cpu,
        slots: Some(2),
        offer_software_gpus: false,
        connect_max: None,
        lifetime: None,
        fake: Some(FakeScript {
            runs: Arc::new(Mutex::new(VecDeque::new())),
            step: Duration::from_millis(40),
            checkpoint_steps: 5,
            ..FakeScript::default()
        }),
    }
}

/// Whether every run is finished; in a store that cannot be read now none is.
async fn finished(address: &str, runs: usize) -> bool {
    let Ok(store) = Store::open_to_read(address).await else { return false };
    let totals = store.totals().await.unwrap_or_default();
    let _ = store.close().await;
    totals.iter().any(|&(state, count)| state == RunState::Finished && count == runs as u64)
}

/// Holds the store to what must be true of it: each step of each curve once, and no rule broken.
async fn check(address: &str, runs: &[Run]) -> anyhow::Result<()> {
    let store = Store::open_to_read(address).await?;
    for run in runs {
        let (id, steps) = (run.config.id(), run.config.steps);
        let curve = store.curve(&id, Metric::TrainLoss, -1, 1000).await?;
        let found: Vec<u64> = curve.iter().map(|point| point.step).collect();
        let expected: Vec<u64> = (1..=steps).collect();
        ensure!(found == expected, "run {id} of {steps} steps has {found:?}");
        for point in curve {
            let law = worker::simulation::scripted_loss(&run.config, point.step);
            ensure!(point.value.to_bits() == law.to_bits(), "run {id} at {}", point.step);
        }
    }
    let Store::Database(database) = &store else { bail!("it is no database") };
    for finding in database.doctor().await? {
        let broken = finding.broken.join(", ");
        ensure!(finding.broken.is_empty(), "{}: {broken}", finding.rule);
    }
    Ok(())
}
