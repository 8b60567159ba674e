//! A fleet of workers with an attempt each that train nothing, and two disasters that meet all of it
//! at once: the coordinator is killed and started again, or many workers fall silent.
//!
//! They link as real ones do: one connection each, the access file read anew at each dial, pauses
//! with full jitter, and the attempt that they hold in the words of a join and of every heartbeat.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use sweep_proto::{access::Access, client::Connection, v1};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{interval, interval_at, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Served, show_latencies, submit};

/// The pauses of a real worker between two dials: drawn from 0 to a limit that doubles up to this.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A connection that lasted this long was a good one: the pauses begin anew.
const STABLE_MIN: Duration = Duration::from_secs(30);

/// A coordinator that does not answer a call within this time is away.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Nothing here takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_mins(3);

/// Between two calls of somebody who only looks.
const LOOKS: Duration = Duration::from_millis(20);

/// The sweep that `submit` hands in first; it has up to 10,000 runs.
const SWEEP: &str = "load-0";

/// What a worker tells.
enum News {
    /// It took a grant.
    Holds(u32),
    /// The first heartbeat of a session was acknowledged.
    Linked(u32, Instant),
    /// An attempt was taken from it.
    Lost,
    /// A try at a link failed.
    Failed(String),
}

/// A worker with one slot.
struct Member {
    number: u32,
    held: Option<v1::AttemptKey>,
    access: PathBuf,
    news: mpsc::Sender<News>,
    /// Workers below this number beat once more and fall silent.
    silent: watch::Receiver<u32>,
}

impl Member {
    fn name(&self) -> String {
        format!("load-{}", self.number)
    }

    #[expect(clippy::disallowed_methods, reason = "it measures")]
    async fn live(mut self) {
        let mut failures = 0;
        loop {
            let (mut joined, dialled) = (false, Instant::now());
            if let Err(error) = self.link(&mut joined).await {
                let _ = self.news.send(News::Failed(format!("{error:#}"))).await;
            }
            let stable = joined && dialled.elapsed() >= STABLE_MIN;
            failures = if stable { 1 } else { failures + 1 };
            sleep(pause(failures, &self.name())).await;
        }
    }

    /// One connection, from the dial to its end.
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    async fn link(&mut self, joined: &mut bool) -> Result<()> {
        let access = Access::read(&self.access)?;
        let connection = timeout(CALL_MAX, Connection::open(&access)).await??;
        let mut work = connection.work();
        let reply = timeout(CALL_MAX, work.join(self.join_request())).await??.into_inner();
        *joined = true;
        for verdict in &reply.verdicts {
            if verdict.kind != i32::from(v1::verdict::Kind::Keep) {
                self.held = None;
                self.news.send(News::Lost).await?;
            }
        }
        let (beats, receiver) = mpsc::channel(16);
        let (mut sequence, mut received) = (1, 0);
        beats.send(self.beat(sequence, received)).await?;
        let session = work.session(ReceiverStream::new(receiver));
        let mut directives = timeout(CALL_MAX, session).await??.into_inner();
        let heartbeat = Duration::from_millis(reply.heartbeat_ms);
        let mut tick = interval_at((Instant::now() + heartbeat).into(), heartbeat);
        loop {
            tokio::select! {
                directive = directives.message() => {
                    let directive = directive?.context("the coordinator closed the session")?;
                    received = directive.sequence;
                    if !self.take(directive).await? {
                        continue;
                    }
                }
                _ = tick.tick() => {}
                Ok(()) = self.silent.changed() => {
                    if self.number < *self.silent.borrow() {
                        beats.send(self.beat(sequence + 1, received)).await?;
                        // The connection stays open, and nothing comes of it.
                        std::future::pending::<()>().await;
                    }
                }
            }
            sequence += 1;
            beats.send(self.beat(sequence, received)).await?;
        }
    }

    /// Takes a directive in; gives whether a heartbeat is due.
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    async fn take(&mut self, directive: v1::Directive) -> Result<bool> {
        use v1::directive::Directive as Order;
        match directive.directive {
            Some(Order::HeartbeatAck(ack)) if ack.sequence == 1 => {
                self.news.send(News::Linked(self.number, Instant::now())).await?;
            }
            Some(Order::Grant(grant)) => {
                self.held = grant.key;
                self.news.send(News::Holds(self.number)).await?;
                return Ok(true);
            }
            Some(Order::Kill(_)) => self.news.send(News::Lost).await?,
            _ => {}
        }
        Ok(false)
    }

    fn join_request(&self) -> v1::JoinRequest {
        let device = v1::Device {
            id: "cpu".into(),
            name: "AMD".into(),
            backend: "cpu".into(),
            ..Default::default()
        };
        let held = |key: &v1::AttemptKey| v1::HeldAttempt {
            key: Some(key.clone()),
            slot: Some(0),
            last_seq: 0,
        };
        v1::JoinRequest {
            worker_id: self.name(),
            incarnation: 1,
            host: "box".into(),
            devices: vec![device],
            slots: vec![v1::Slot { index: 0, device_id: "cpu".into() }],
            held: self.held.iter().map(held).collect(),
            start_id: self.name(),
            ..Default::default()
        }
    }

    fn beat(&self, sequence: u64, received: u64) -> v1::Heartbeat {
        let running = |key: &v1::AttemptKey| v1::RunningAttempt {
            key: Some(key.clone()),
            slot: 0,
            step: 1,
            tokens_per_second: Some(1000.0),
        };
        v1::Heartbeat {
            worker_id: self.name(),
            incarnation: 1,
            sequence,
            received,
            running: self.held.iter().map(running).collect(),
            free_slots: if self.held.is_none() { vec![0] } else { Vec::new() },
            ..Default::default()
        }
    }
}

/// The pause of a real worker after so many failures in a row.
fn pause(failures: u32, whose: &str) -> Duration {
    let limit = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(30));
    let hash = blake3::hash(format!("{whose} 1 {failures}").as_bytes());
    let draw = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
    limit.min(PAUSE_MAX).mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

/// A coordinator and its workers, each with an attempt.
struct Fleet {
    served: Served,
    workers: u32,
    news: mpsc::Receiver<News>,
    silence: watch::Sender<u32>,
    members: JoinSet<()>,
}

impl Fleet {
    async fn start(workers: u64, on_postgres: bool) -> Result<Self> {
        if !(1..=4000).contains(&workers) {
            bail!("a coordinator bears 4,096 connections; hint: between 1 and 4000 workers");
        }
        let served = Served::start(on_postgres).await?;
        submit(&served.connect().await?, workers).await?;
        let (sender, news) = mpsc::channel(1024);
        let (silence, silent) = watch::channel(0);
        let mut members = JoinSet::new();
        let workers = u32::try_from(workers)?;
        for number in 0..workers {
            let (access, news, silent) = (served.access_file(), sender.clone(), silent.clone());
            members.spawn(Member { number, held: None, access, news, silent }.live());
        }
        let mut fleet = Self { served, workers, news, silence, members };
        let mut holding = HashSet::new();
        while holding.len() < workers as usize {
            if let News::Holds(number) = fleet.hear().await? {
                holding.insert(number);
            }
        }
        println!("{workers} workers hold an attempt each");
        Ok(fleet)
    }

    async fn hear(&mut self) -> Result<News> {
        timeout(PATIENCE, self.news.recv()).await.context("the workers are stuck")?.context("news")
    }

    /// Waits, and gives how many attempts were taken from workers meanwhile.
    async fn lost_within(&mut self, wait: Duration) -> u32 {
        let mut lost = 0;
        let _ = timeout(wait, async {
            while let Some(news) = self.news.recv().await {
                lost += u32::from(matches!(news, News::Lost));
            }
        })
        .await;
        lost
    }

    /// Runs whose first attempt goes on.
    async fn going_on(&self) -> Result<usize> {
        let mut control = self.served.connect().await?.control();
        let request = v1::ListRunsRequest { sweep: SWEEP.into(), ..Default::default() };
        let mut rows = control.list_runs(request).await?.into_inner();
        let mut going_on = 0;
        while let Some(row) = rows.message().await? {
            let running = row.state == i32::from(v1::RunState::Running);
            going_on += usize::from(running && row.attempts == 1);
        }
        Ok(going_on)
    }

    async fn stop(mut self) -> Result<()> {
        self.members.shutdown().await;
        self.served.stop().await
    }
}

/// Somebody who asks for the state of the sweep all the time, from when the coordinator answers.
struct Looker {
    task: JoinHandle<Vec<Duration>>,
    enough: watch::Sender<bool>,
}

impl Looker {
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    fn start(access: &Path) -> Self {
        let (enough, stop) = watch::channel(false);
        let access = access.to_owned();
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut tick = interval(LOOKS);
            let mut control = None;
            while !*stop.borrow() {
                tick.tick().await;
                let start = Instant::now();
                if control.is_none()
                    && let Ok(access) = Access::read(&access)
                {
                    control = Connection::open(&access).await.ok().map(|open| open.control());
                }
                let Some(client) = &mut control else { continue };
                match client.get_sweep(v1::GetSweepRequest { sweep: SWEEP.into() }).await {
                    Ok(_) => seen.push(start.elapsed()),
                    Err(_) => control = None,
                }
            }
            seen
        });
        Self { task, enough }
    }

    async fn stop(self) -> Result<Vec<Duration>> {
        self.enough.send_replace(true);
        let seen = self.task.await?;
        if seen.is_empty() {
            bail!("nobody who looked was answered");
        }
        Ok(seen)
    }
}

/// The coordinator is killed and started again, and every worker comes back.
#[expect(clippy::disallowed_methods, reason = "it measures")]
pub(crate) async fn reconnect(workers: u64, on_postgres: bool) -> Result<()> {
    let mut fleet = Fleet::start(workers, on_postgres).await?;
    let killed = Instant::now();
    fleet.served.restart().await?;
    let ready = Instant::now();
    let looker = Looker::start(&fleet.served.access_file());
    let mut back = BTreeMap::new();
    let (mut lost, mut failed) = (0_u32, BTreeMap::<String, u32>::new());
    while back.len() < fleet.workers as usize {
        match fleet.hear().await? {
            News::Linked(number, at) if at > killed => {
                back.entry(number).or_insert(at.saturating_duration_since(ready));
            }
            News::Lost => lost += 1,
            News::Failed(reason) => *failed.entry(reason).or_default() += 1,
            News::Linked(..) | News::Holds(_) => {}
        }
    }
    let looks = looker.stop().await?;
    // An attempt that nobody claimed ends with its lease, a full term after the start.
    lost += fleet.lost_within(Duration::from_secs(30)).await;
    println!("killed and ready again within {:.2} s", (ready - killed).as_secs_f64());
    let mut back: Vec<Duration> = back.into_values().collect();
    back.sort();
    println!("the first was back {:.3} s after that", back[0].as_secs_f64());
    show_latencies("workers back", back);
    show_latencies("the state of the sweep was told meanwhile", looks);
    for (reason, times) in failed {
        println!("{times} times no link: {reason}");
    }
    println!(
        "{} of {} attempts go on, {lost} were taken from their workers",
        fleet.going_on().await?,
        fleet.workers
    );
    fleet.stop().await
}

/// So many workers fall silent at one moment, and their runs go to nobody: the others are busy.
#[expect(clippy::disallowed_methods, reason = "it measures")]
pub(crate) async fn lost(silent: u64, workers: u64, on_postgres: bool) -> Result<()> {
    if silent == 0 || silent >= workers {
        bail!("{silent} of {workers} workers cannot be lost; hint: some of them, not all");
    }
    let fleet = Fleet::start(workers, on_postgres).await?;
    let (silent, all) = (u32::try_from(silent)?, fleet.workers);
    let start = Instant::now();
    fleet.silence.send_replace(silent);
    let looker = Looker::start(&fleet.served.access_file());
    let mut control = fleet.served.connect().await?.control();
    let mut first = None;
    let last = loop {
        let request = v1::GetSweepRequest { sweep: SWEEP.into() };
        let reply = control.get_sweep(request).await?.into_inner();
        let counts = reply.summary.and_then(|all| all.counts).context("counts")?;
        if counts.running < all {
            first.get_or_insert_with(Instant::now);
        }
        if counts.running <= all - silent {
            break Instant::now();
        }
        if start.elapsed() > PATIENCE {
            bail!("{} runs are still held to be running", counts.running);
        }
        sleep(Duration::from_millis(5)).await;
    };
    let first = first.context("one was seen to end")?;
    let (silence, taken) = ((first - start).as_secs_f64(), (last - first).as_secs_f64());
    println!(
        "{silent} workers fell silent; the first lease was seen to have ended {silence:.2} s later"
    );
    println!("all of them were seen to have ended {taken:.3} s after the first");
    show_latencies("the state of the sweep was told meanwhile", looker.stop().await?);
    println!("{} attempts of the others go on", fleet.going_on().await?);
    fleet.stop().await
}
