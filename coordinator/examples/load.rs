//! Load on a coordinator: 1,000 runs x 1,000 points over gRPC into a SQLite store.
//!
//! `cargo run --release -p coordinator --example load -- [RUNS [POINTS]]` starts a coordinator in a
//! process of its own and prints durable points per second, the latency of acknowledgements, and
//! the most memory that process held.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use coordinator::{Config, Coordinator};
use sweep_proto::{access::Access, client::Connection, convert, v1};
use sweep_spec::metric::{Metric, Point};
use tokio::{io::AsyncReadExt as _, process::Command};
use tokio_stream::wrappers::ReceiverStream;

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod support;

/// Slots of the one worker; as many runs at a time, each with a stream of its own. A real worker has
/// one stream for all its slots; a connection has 64 at most.
const SLOTS: u32 = 24;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return runtime.block_on(serve(&arguments[1]));
    }
    let number = |index: usize, or: u64| -> Result<u64> {
        arguments.get(index).map_or(Ok(or), |text| Ok(text.parse()?))
    };
    let (runs, points) = (number(0, 1000)?, number(1, 1000)?);
    runtime.block_on(load(runs, points))
}

/// Serves until stdin closes.
async fn serve(folder: &str) -> Result<()> {
    let config = Config { store: format!("sqlite:{folder}/sweep.db"), state: folder.into() };
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

#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn load(runs: u64, points: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &folder.path().display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut ready = [0; 6];
    server.stdout.as_mut().context("stdout is piped")?.read_exact(&mut ready).await?;
    let access = Access::read(&folder.path().join("access.json"))?;
    let connection = Connection::open(&access).await?;
    let steps: Vec<u64> = (1..=runs).map(|run| 1000 + run).collect();
    let grid = support::grid(&steps, &[]);
    let start = Instant::now();
    support::submit(&mut connection.control(), "load", &grid).await?;
    println!("submitted {runs} runs in {:.2} s", start.elapsed().as_secs_f64());

    let start = Instant::now();
    let latencies = work(&connection, runs, points).await?;
    let seconds = start.elapsed().as_secs_f64();
    let total = u32::try_from(runs * points)?;
    println!(
        "{total} points durable in {seconds:.2} s: {:.0} points/s",
        f64::from(total) / seconds
    );
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_millis();
    println!("acknowledged after {} ms (median), {} ms (99 %)", at(50), at(99));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id().unwrap_or(0)))?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
    {
        println!("coordinator {line}");
    }
    drop(server.stdin.take());
    server.wait().await?;
    Ok(())
}

/// One worker with many slots: takes grants, sends points, ends runs. Gives the latencies, sorted.
async fn work(connection: &Connection, runs: u64, points: u64) -> Result<Vec<Duration>> {
    let mut client = connection.work();
    let device = v1::Device { id: "cpu".into(), name: "AMD EPYC".into(), ..Default::default() };
    let slot = |index| v1::Slot { index, device_id: "cpu".into() };
    client
        .join(v1::JoinRequest {
            worker_id: "load".into(),
            incarnation: 1,
            host: "box".into(),
            devices: vec![device],
            slots: (0..SLOTS).map(slot).collect(),
            ..Default::default()
        })
        .await?;
    let (beats, receiver) = tokio::sync::mpsc::channel(64);
    let mut beat = v1::Heartbeat {
        worker_id: "load".into(),
        incarnation: 1,
        sequence: 1,
        free_slots: (0..SLOTS).collect(),
        ..Default::default()
    };
    beats.send(beat.clone()).await?;
    let mut directives = client.session(ReceiverStream::new(receiver)).await?.into_inner();
    let (ended, mut ends) = tokio::sync::mpsc::channel::<(u32, Vec<Duration>)>(256);
    let (mut latencies, mut done) = (Vec::new(), 0);
    let mut free: Vec<u32> = Vec::new();
    while done < runs {
        tokio::select! {
            message = directives.message() => {
                let message = message?.context("the session ended")?;
                beat.received = 0;
                if let Some(v1::directive::Directive::Grant(grant)) = message.directive {
                    let (client, ended) = (connection.work(), ended.clone());
                    tokio::spawn(async move {
                        let slot = grant.slot;
                        match train(client, grant, points).await {
                            Ok(latencies) => { let _ = ended.send((slot, latencies)).await; }
                            Err(error) => println!("a run failed: {error}"),
                        }
                    });
                }
            }
            Some((slot, measured)) = ends.recv() => {
                latencies.extend(measured);
                done += 1;
                free.push(slot);
                beat.sequence += 1;
                beat.free_slots = std::mem::take(&mut free);
                beats.send(beat.clone()).await?;
            }
        }
    }
    latencies.sort();
    Ok(latencies)
}

/// Sends the points of a run, 250 to a batch, and ends it.
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn train(
    mut client: sweep_proto::client::Work,
    grant: v1::Grant,
    points: u64,
) -> Result<Vec<Duration>> {
    const BATCH: u64 = 250;
    let batches = points.div_ceil(BATCH);
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let key = grant.key.clone();
    let mut acks = client.report_points(ReceiverStream::new(receiver)).await?.into_inner();
    let mut latencies = Vec::new();
    for seq in 1..=batches {
        let steps = (seq - 1) * BATCH + 1..=(seq * BATCH).min(points);
        let points: Vec<Point> =
            steps.map(|step| Point { metric: Metric::TrainLoss, step, value: 2.5 }).collect();
        let series = convert::series(&points);
        let start = Instant::now();
        sender.send(v1::PointBatch { key: key.clone(), seq, resume_step: 0, series }).await?;
        acks.message().await?.context("no acknowledgement")?;
        latencies.push(start.elapsed());
    }
    let ending = sweep_spec::attempt::Ending::Finished { step: points };
    client
        .finish_attempt(v1::FinishAttemptRequest {
            key,
            ending: Some((&ending).into()),
            last_seq: batches,
            seconds: Some(1.0),
            ..Default::default()
        })
        .await?;
    Ok(latencies)
}
