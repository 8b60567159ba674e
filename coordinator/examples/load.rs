//! Load on a coordinator in a process of its own, over gRPC, into a real store.
//!
//! ```text
//! load points [STREAMS [POINTS_PER_SECOND [SECONDS]]] [postgres]   paced; 0: as fast as it takes them
//! load grants [RUNS] [postgres]                                    runs that train nothing
//! load start  [RUNS]                                               a start on a full store
//! load decide [RUNS [WORKERS]]                                     decisions of the scheduler alone
//! load makespan [DRAWS]                                            its order, with costs off by half
//! load reconnect [WORKERS] [postgres]                              all come back to a killed coordinator
//! load lost [SILENT [WORKERS]] [postgres]                          so many fall silent at one moment
//! ```
//!
//! `points` prints durable points per second and the latency of acknowledgements, each of them what
//! a worker sees. With `postgres`, a server of its own is started from the installed binaries.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use coordinator::{Config, Coordinator, rehearsal};
use sweep_proto::{access::Access, client::Connection, convert, v1};
use sweep_spec::{
    attempt::Ending,
    metric::{Metric, Point},
};
use sweep_store::{NewRun, NewSweep, Store};
use sweep_tests::PostgresServer;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::{interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

#[path = "load/fleet.rs"]
mod fleet;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod support;

/// Slots of one worker; a connection carries 64 calls at most.
const SLOTS: u32 = 50;

/// A real worker seals a batch at this age.
const BATCH_AGE: Duration = Duration::from_millis(250);

/// Batches of one stream without an acknowledgement, as the protocol allows.
const IN_FLIGHT_MAX: usize = 8;

/// Points of a batch where nothing paces it.
const BATCH: u64 = 250;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, or: u64| -> Result<u64> {
        match arguments.get(index).filter(|text| *text != "postgres") {
            None => Ok(or),
            Some(text) => text.parse().with_context(|| format!("`{text}` is no number")),
        }
    };
    let on_postgres = arguments.last().is_some_and(|last| last == "postgres");
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve(&arguments[1], &arguments[2])),
        Some("points") => {
            let (streams, rate, seconds) = (number(1, 1000)?, number(2, 50_000)?, number(3, 20)?);
            runtime.block_on(points(streams, rate, seconds, on_postgres))
        }
        Some("grants") => runtime.block_on(grants(number(1, 20_000)?, on_postgres)),
        Some("start") => runtime.block_on(start(number(1, 150_000)?)),
        Some("decide") => decide(number(1, 100_000)?, number(2, 1000)?),
        Some("makespan") => makespan(u32::try_from(number(1, 20)?)?),
        Some("reconnect") => runtime.block_on(fleet::reconnect(number(1, 1000)?, on_postgres)),
        Some("lost") => {
            runtime.block_on(fleet::lost(number(1, 200)?, number(2, 1000)?, on_postgres))
        }
        _ => bail!(
            "give `points`, `grants`, `start`, `decide`, `makespan`, `reconnect` or `lost`; hint: \
             the first lines of this file"
        ),
    }
}

/// Serves until stdin closes.
async fn serve(folder: &str, store: &str) -> Result<()> {
    let config = Config { store: store.to_owned(), state: folder.into(), ..Config::default() };
    let listener = coordinator::bind("127.0.0.1:0").await?;
    let coordinator = Coordinator::prepare(config, listener).await?;
    println!("ready");
    coordinator
        .serve(async {
            let mut byte = [0];
            while matches!(tokio::io::stdin().read(&mut byte).await, Ok(1..)) {}
        })
        .await?;
    Ok(())
}

/// A coordinator in a process of its own, with what it stands on.
struct Served {
    folder: tempfile::TempDir,
    /// Address of its store.
    store: String,
    process: Child,
    _server: Option<PostgresServer>,
}

impl Served {
    async fn start(on_postgres: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = match on_postgres {
            true => Some(PostgresServer::start()?.map_err(anyhow::Error::msg)?),
            false => None,
        };
        let store = match &server {
            Some(server) => server.database()?,
            None => format!("sqlite:{}", folder.path().join("sweep.db").display()),
        };
        Self::on(folder, &store, server).await
    }

    async fn on(
        folder: tempfile::TempDir,
        store: &str,
        server: Option<PostgresServer>,
    ) -> Result<Self> {
        let process = Self::spawn(folder.path(), store).await?;
        Ok(Self { folder, store: store.to_owned(), process, _server: server })
    }

    /// A process that is ready to serve.
    async fn spawn(folder: &Path, store: &str) -> Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", &folder.display().to_string(), store])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut ready = [0; 6];
        process.stdout.as_mut().context("stdout is piped")?.read_exact(&mut ready).await?;
        Ok(process)
    }

    /// Kills it and starts another on the same store, at another port.
    async fn restart(&mut self) -> Result<()> {
        self.process.kill().await?;
        self.process = Self::spawn(self.folder.path(), &self.store).await?;
        Ok(())
    }

    fn access_file(&self) -> PathBuf {
        self.folder.path().join("access.json")
    }

    async fn connect(&self) -> Result<Connection> {
        let access = Access::read(&self.access_file())?;
        Ok(Connection::open(&access).await?)
    }

    /// Seconds of processors that it has used.
    fn processor_seconds(&self) -> Result<f64> {
        /// Linux counts for programs in hundredths of a second.
        const TICKS_PER_SECOND: f64 = 100.0;
        let id = self.process.id().context("it runs")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(')').context("a name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks =
            |place: usize| -> Result<f64> { Ok(fields.get(place).context("a field")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    async fn stop(mut self) -> Result<()> {
        let id = self.process.id().context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let memory = |line: &&str| line.starts_with("VmHWM") || line.starts_with("VmRSS");
        for line in status.lines().filter(memory) {
            println!("coordinator {line}");
        }
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }
}

/// Hands in `runs` runs of different lengths.
async fn submit(connection: &Connection, runs: u64) -> Result<()> {
    /// Runs of one sweep at most.
    const RUNS_MAX: u64 = 10_000;
    for first in (0..runs).step_by(usize::try_from(RUNS_MAX)?) {
        let steps: Vec<u64> =
            (first..runs.min(first + RUNS_MAX)).map(|run| 1_000_000 + run).collect();
        let name = format!("load-{first}");
        support::submit(&mut connection.control(), &name, &support::grid(&steps, &[])).await?;
    }
    Ok(())
}

/// A worker with many slots: hands on its grants, and says which slots are free again. Its beats
/// say that it has heard no directive yet, so that it need not list what it runs.
struct Worker {
    connection: Connection,
    beats: mpsc::Sender<v1::Heartbeat>,
    directives: tonic::Streaming<v1::Directive>,
    beat: v1::Heartbeat,
}

impl Worker {
    async fn join(connection: Connection, name: &str, slots: u32) -> Result<Self> {
        let mut client = connection.work();
        let device = v1::Device {
            id: "cpu".into(),
            name: "AMD".into(),
            backend: "cpu".into(),
            ..Default::default()
        };
        let slot = |index| v1::Slot { index, device_id: "cpu".into() };
        let request = v1::JoinRequest {
            worker_id: name.into(),
            incarnation: 1,
            host: "box".into(),
            devices: vec![device],
            slots: (0..slots).map(slot).collect(),
            ..Default::default()
        };
        client.join(request).await?;
        let (beats, receiver) = mpsc::channel(64);
        let beat = v1::Heartbeat {
            worker_id: name.into(),
            incarnation: 1,
            sequence: 1,
            free_slots: (0..slots).collect(),
            ..Default::default()
        };
        beats.send(beat.clone()).await?;
        let directives = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { connection, beats, directives, beat })
    }

    async fn grant(&mut self) -> Result<v1::Grant> {
        loop {
            let message = self.directives.message().await?.context("the session ended")?;
            if let Some(v1::directive::Directive::Grant(grant)) = message.directive {
                return Ok(grant);
            }
        }
    }

    async fn free(&mut self, slots: Vec<u32>) -> Result<()> {
        self.beat.sequence += 1;
        self.beat.free_slots = slots;
        self.beats.send(self.beat.clone()).await?;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn points(streams: u64, rate: u64, seconds: u64, on_postgres: bool) -> Result<()> {
    let served = Served::start(on_postgres).await?;
    submit(&served.connect().await?, streams).await?;
    let (sender, mut results) = mpsc::channel(1024);
    let mut workers = Vec::new();
    let mut left = streams;
    while left > 0 {
        let slots = u32::try_from(left.min(u64::from(SLOTS)))?;
        let name = format!("load-{}", workers.len());
        let mut worker = Worker::join(served.connect().await?, &name, slots).await?;
        for _ in 0..slots {
            let grant = worker.grant().await?;
            let work = worker.connection.work();
            workers.push((work, grant));
        }
        // The session stays open and beats: each attempt keeps its lease.
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    message = worker.directives.message() => match message {
                        Ok(Some(_)) => {}
                        _ => return,
                    },
                    _ = tick.tick() => if worker.free(Vec::new()).await.is_err() { return },
                }
            }
        });
        left -= u64::from(slots);
    }
    println!("{streams} streams in {} connections", streams.div_ceil(u64::from(SLOTS)));
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    for (index, (work, grant)) in (0_u32..).zip(workers) {
        let offset = BATCH_AGE.mul_f64(f64::from(index) / f64::from(u32::try_from(streams)?));
        let per_batch = match rate {
            0 => None,
            // Rounded up: never less than what was asked for.
            rate => Some((rate * u64::try_from(BATCH_AGE.as_millis())?).div_ceil(1000 * streams)),
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let result = stream(work, grant, start + offset, end, per_batch).await;
            let _ = sender.send(result).await;
        });
    }
    drop(sender);
    let (mut total, mut latencies) = (0, Vec::new());
    while let Some(result) = results.recv().await {
        let (points, measured) = result?;
        total += points;
        latencies.extend(measured);
    }
    let taken = start.elapsed().as_secs_f64();
    println!(
        "{total} points durable in {taken:.2} s: {:.0} points/s",
        f64::from(u32::try_from(total)?) / taken
    );
    show_latencies("acknowledged", latencies);
    served.stop().await
}

fn show_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000].as_secs_f64() * 1e3;
    println!(
        "{what} after {:.3} ms (median), {:.3} ms (99 %), {:.3} ms (99.9 %), {:.3} ms (longest), \
         {} in all",
        at(500),
        at(990),
        at(999),
        at(1000),
        latencies.len()
    );
}

/// Sends batches of one run until `end`: `per_batch` points at each batch age, or one batch after
/// the other. Gives the points and the time of each batch to its acknowledgement.
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn stream(
    mut client: sweep_proto::client::Work,
    grant: v1::Grant,
    start: Instant,
    end: Instant,
    per_batch: Option<u64>,
) -> Result<(u64, Vec<Duration>)> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT_MAX);
    let mut acks = client.report_points(ReceiverStream::new(receiver)).await?.into_inner();
    let mut tick = interval_at(start.into(), BATCH_AGE);
    let (size, limit) = per_batch.map_or((BATCH, 1), |size| (size, IN_FLIGHT_MAX));
    let (mut seq, mut waiting, mut latencies) = (0, VecDeque::new(), Vec::new());
    loop {
        let over = Instant::now() >= end;
        if over && waiting.is_empty() {
            return Ok((seq * size, latencies));
        }
        tokio::select! {
            // Unpaced, the next one goes as soon as the last is acknowledged.
            _ = tick.tick(), if !over && waiting.len() < limit && per_batch.is_some() => {}
            () = std::future::ready(()), if !over && waiting.is_empty() && per_batch.is_none() => {}
            ack = acks.message() => {
                let ack = ack?.context("the stream ended")?;
                if ack.kind != i32::from(v1::point_ack::Kind::Durable) {
                    bail!("not durable: {ack:?}");
                }
                while waiting.front().is_some_and(|&(sent, _)| sent <= ack.seq) {
                    let (_, at): (u64, Instant) = waiting.pop_front().context("one waits")?;
                    latencies.push(at.elapsed());
                }
                continue;
            }
            () = tokio::time::sleep_until(end.into()), if !over => continue,
        }
        seq += 1;
        let point = |step| Point { metric: Metric::TrainLoss, step, value: 2.5 };
        let points: Vec<Point> = ((seq - 1) * size + 1..=seq * size).map(point).collect();
        let series = convert::series(&points);
        waiting.push_back((seq, Instant::now()));
        let key = grant.key.clone();
        sender.send(v1::PointBatch { key, seq, resume_step: 0, series }).await?;
    }
}

/// Runs that end as soon as they are granted, on 64 workers with 4 slots each.
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn grants(runs: u64, on_postgres: bool) -> Result<()> {
    let served = Served::start(on_postgres).await?;
    let connection = served.connect().await?;
    submit(&connection, runs).await?;
    let (sender, mut done) = mpsc::channel(1024);
    let mut workers = JoinSet::new();
    let (start, used) = (Instant::now(), served.processor_seconds()?);
    for index in 0..64 {
        let worker = Worker::join(served.connect().await?, &format!("load-{index}"), 4).await?;
        let sender = sender.clone();
        workers.spawn(async move {
            if let Err(error) = end_at_once(worker, sender).await {
                println!("a worker ended: {error:#}");
            }
        });
    }
    let mut latencies = Vec::new();
    while (latencies.len() as u64) < runs {
        latencies.push(timeout(Duration::from_secs(60), done.recv()).await?.context("workers")?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let runs = f64::from(u32::try_from(runs)?);
    println!("{runs} runs granted and ended in {seconds:.2} s: {:.0} runs/s", runs / seconds);
    let used = served.processor_seconds()? - used;
    println!(
        "{:.3} ms for each, of which the coordinator's processors worked {:.3} ms",
        1e3 * seconds / runs,
        1e3 * used / runs
    );
    workers.shutdown().await;
    show_latencies("ends stored", latencies);
    served.stop().await
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn end_at_once(mut worker: Worker, done: mpsc::Sender<Duration>) -> Result<()> {
    let (freed, mut free) = mpsc::channel(16);
    loop {
        tokio::select! {
            grant = worker.grant() => {
                let grant = grant?;
                let run: sweep_spec::run::Run = serde_json::from_str(&grant.run_json)?;
                let step = run.config.steps;
                let (mut client, freed) = (worker.connection.work(), freed.clone());
                let done = done.clone();
                tokio::spawn(async move {
                    let request = v1::FinishAttemptRequest {
                        key: grant.key.clone(),
                        ending: Some((&Ending::Finished { step }).into()),
                        ..Default::default()
                    };
                    let start = Instant::now();
                    match client.finish_attempt(request).await {
                        Ok(_) => { let _ = done.send(start.elapsed()).await; }
                        Err(status) => println!("a run did not end: {status}"),
                    }
                    let _ = freed.send(grant.slot).await;
                });
            }
            Some(slot) = free.recv() => {
                let mut slots = vec![slot];
                while let Ok(slot) = free.try_recv() {
                    slots.push(slot);
                }
                worker.free(slots).await?;
            }
        }
    }
}

/// How long the scheduler takes for each event while `runs` runs wait for `workers` workers.
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn decide(runs: u64, workers: u64) -> Result<()> {
    if runs == 0 || workers == 0 {
        bail!("without runs and workers there is nothing to decide; hint: `decide 100000 1000`");
    }
    let start = Instant::now();
    let times = rehearsal::decisions(runs, workers, &|| start.elapsed());
    println!("{runs} runs wait for {workers} workers");
    show_latencies("decided", times);
    Ok(())
}

/// How near the makespans of whole grids come to their lower bound.
fn makespan(draws: u32) -> Result<()> {
    if draws == 0 {
        bail!("the costs are drawn at least once; hint: `makespan 20`");
    }
    println!("{draws} draws of costs, each half to one and a half times what was predicted");
    for grid in rehearsal::makespans(draws) {
        let mean = grid.ratios.iter().sum::<f64>() / f64::from(draws);
        let worst = grid.ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "{} x {} runs over {} x in size, {} slots: {mean:.4} of the lower bound on average, \
             {worst:.4} at worst",
            grid.models, grid.sizes, grid.span, grid.slots
        );
    }
    Ok(())
}

/// How long a coordinator takes to serve a store with many runs, and how much memory.
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn start(runs: u64) -> Result<()> {
    const SWEEP: u64 = 10_000;
    let folder = tempfile::tempdir()?;
    let address = format!("sqlite:{}", folder.path().join("sweep.db").display());
    let store = Store::open(&address).await?;
    for first in (0..runs).step_by(usize::try_from(SWEEP)?) {
        let steps: Vec<u64> = (first..runs.min(first + SWEEP)).map(|run| 1000 + run).collect();
        let grid = support::grid(&steps, &[]);
        let name = format!("load-{first}");
        let new = |entry: &sweep_spec::grid::GridRun| NewRun {
            run: entry.run.clone(),
            role: entry.role,
            budget_flops: None,
            tokens_requested: entry.tokens_requested,
        };
        let runs = grid.runs.iter().map(new).collect();
        let id = grid.sweep_id(&name);
        let (recipe, planned_seconds) = (String::new(), None);
        let sweep = NewSweep { id, name, recipe, runs, unix_ms: 1, planned_seconds };
        store.submit(&sweep).await?;
    }
    store.close().await?;
    drop(store);
    let start = Instant::now();
    let served = Served::on(folder, &address, None).await?;
    served.connect().await?.control().get_info(v1::GetInfoRequest {}).await?;
    println!("{runs} runs: the first answer came after {:.2} s", start.elapsed().as_secs_f64());
    served.stop().await
}
