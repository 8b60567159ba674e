//! A served coordinator, a small grid, and a worker that trains nothing.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{path::Path, time::Duration};

use coordinator::{Config, Coordinator};
use sweep_proto::{
    access::Access,
    client::{Connection, Control, Work},
    convert, v1,
};
use sweep_spec::{
    attempt::Ending,
    data::{DataManifest, DataSource, Synthetic},
    grid::{Grid, GridRun},
    id::DataId,
    metric::{Metric, Point},
    run::{Evaluation, Run, RunConfig, RunRole},
    shape::{LmShape, Mlp, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Served {
    pub(crate) access: Access,
    pub(crate) config: Config,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), coordinator::CoordinatorError>>,
}

impl Served {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_on(folder, format!("sqlite:{}", folder.join("sweep.db").display())).await
    }

    /// Starts one on this store.
    pub(crate) async fn start_on(folder: &Path, store: String) -> Self {
        let config = Config { store, state: folder.join("state"), ..Config::default() };
        Self::start_with(config, "127.0.0.1:0").await
    }

    /// Starts one that listens on this address.
    pub(crate) async fn start_with(config: Config, listen: &str) -> Self {
        let listener = coordinator::bind(listen).await.unwrap();
        let coordinator = Coordinator::prepare(config.clone(), listener).await.unwrap();
        let access = Access::read(&coordinator.access_file()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(coordinator.serve(async {
            let _ = stopped.await;
        }));
        Self { access, config, stop, task }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.access).await.unwrap()
    }

    /// Waits until it ends by itself; gives how.
    pub(crate) async fn ended(self) -> Result<(), coordinator::CoordinatorError> {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn data() -> DataId {
    "00112233445566778899aabbccddeeff".parse().unwrap()
}

fn run(width: u32, steps: u64) -> Run {
    Run {
        config: RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(LmShape {
                vocabulary: 256,
                width,
                layers: 2,
                heads: width / 16,
                sequence: 64,
                mlp: Mlp::Relu2,
                token_shift: false,
            }),
            data: data(),
            batch: 16,
            steps,
            optimizer: Optimizer {
                learning_rate: 1e-2,
                base_width: 64,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                clip_norm: 1.0,
            },
            schedule: Schedule {
                warmup_steps: 100,
                warmup_fraction: 0.1,
                decay: Decay::Wsd { fraction: 0.2 },
            },
            seed: u64::MAX,
            parent: None,
            mixture: Vec::new(),
        },
        source: DataSource::Synthetic(Synthetic {
            vocabulary: 256,
            entropy: 2.0,
            contexts: 16,
            tokens: 1_000_000,
            seed: 0,
        }),
        manifest: DataManifest {
            id: data(),
            vocabulary: 256,
            train_tokens: 1_000_000,
            validation_tokens: 10_000,
            bytes_per_token: Some(1.0),
            train_documents: 10,
            validation_documents: 1,
            entropy: Some(2.0),
            image: None,
        },
        evaluation: Evaluation { tokens: 1000, times: 3, sampling: None, tasks: Vec::new() },
        forks: Vec::new(),
    }
}

/// Runs of the fit and check runs, by their steps.
pub(crate) fn grid(fit: &[u64], check: &[u64]) -> Grid {
    let entry = |width, steps: u64, role| GridRun {
        run: run(width, steps),
        role,
        tokens_requested: 1e6,
        budget: None,
    };
    let mut runs: Vec<GridRun> = fit.iter().map(|&steps| entry(32, steps, RunRole::Fit)).collect();
    runs.extend(check.iter().map(|&steps| entry(64, steps, RunRole::Check)));
    Grid { runs, merged: 0 }
}

pub(crate) fn parts(name: &str, grid: &Grid) -> Vec<v1::SubmitSweepRequest> {
    use v1::submit_sweep_request::Part;
    let header = v1::SweepHeader {
        sweep_id: grid.sweep_id(name).to_string(),
        name: name.to_owned(),
        recipe: "# a recipe".to_owned(),
        runs: u32::try_from(grid.runs.len()).unwrap(),
        supersede: false,
        policy: None,
        planned_seconds: None,
    };
    let runs = grid.runs.iter().map(|entry| {
        Part::Run(v1::SubmittedRun {
            run_id: entry.run.config.id().to_string(),
            run_json: convert::run_json(&entry.run),
            role: v1::RunRole::from(entry.role).into(),
            budget_flops: entry.budget,
            tokens_requested: entry.tokens_requested,
        })
    });
    std::iter::once(Part::Header(header))
        .chain(runs)
        .map(|part| v1::SubmitSweepRequest { part: Some(part) })
        .collect()
}

pub(crate) async fn submit(
    control: &mut Control,
    name: &str,
    grid: &Grid,
) -> Result<v1::SubmitSweepReply, Status> {
    let reply = control.submit_sweep(tokio_stream::iter(parts(name, grid))).await?;
    Ok(reply.into_inner())
}

pub(crate) async fn rows(control: &mut Control, sweep: &str) -> Vec<v1::RunRow> {
    let request = v1::ListRunsRequest { sweep: sweep.to_owned(), ..Default::default() };
    let mut stream = control.list_runs(request).await.unwrap().into_inner();
    let mut rows = Vec::new();
    while let Some(mut row) = stream.message().await.unwrap() {
        // Depends on who is online.
        row.predicted_seconds = None;
        rows.push(row);
    }
    rows
}

pub(crate) async fn curves(
    control: &mut Control,
    sweep: &str,
    metric: &str,
    buckets_max: Option<u32>,
) -> Vec<v1::Curve> {
    let request = v1::GetCurvesRequest {
        sweep: sweep.to_owned(),
        runs: Vec::new(),
        metrics: vec![metric.to_owned()],
        buckets_max,
    };
    let mut stream = control.get_curves(request).await.unwrap().into_inner();
    let mut curves = Vec::new();
    while let Some(curve) = stream.message().await.unwrap() {
        curves.push(curve);
    }
    curves
}

/// Training losses by step.
pub(crate) fn batch(key: &v1::AttemptKey, seq: u64, losses: &[(u64, f64)]) -> v1::PointBatch {
    let point = |&(step, value)| Point { metric: Metric::TrainLoss, step, value };
    let points: Vec<Point> = losses.iter().map(point).collect();
    v1::PointBatch { key: Some(key.clone()), seq, resume_step: 0, series: convert::series(&points) }
}

/// Another attempt at the same run.
pub(crate) fn attempt(key: &v1::AttemptKey, attempt: u32) -> v1::AttemptKey {
    v1::AttemptKey { run_id: key.run_id.clone(), attempt }
}

/// A worker with one slot on the CPU and a device that it refuses.
pub(crate) struct FakeWorker {
    work: Work,
    name: String,
    incarnation: u64,
    sequence: u64,
    received: u64,
    beats: mpsc::Sender<v1::Heartbeat>,
    directives: Streaming<v1::Directive>,
}

impl FakeWorker {
    pub(crate) async fn join(
        connection: Connection,
        name: &str,
        incarnation: u64,
        held: Vec<v1::HeldAttempt>,
    ) -> Result<Self, Status> {
        let mut work = connection.work();
        let device = |id: &str, refused: Option<&str>| v1::Device {
            id: id.to_owned(),
            name: "AMD EPYC".to_owned(),
            backend: "cpu".to_owned(),
            memory_bytes: None,
            software: false,
            refused: refused.map(str::to_owned),
            canary: None,
        };
        work.join(v1::JoinRequest {
            worker_id: name.to_owned(),
            incarnation,
            host: "box".to_owned(),
            devices: vec![device("cpu", None), device("gpu", Some("its canary failed"))],
            slots: vec![v1::Slot { index: 0, device_id: "cpu".to_owned() }],
            held,
            ..Default::default()
        })
        .await?;
        let (beats, receiver) = mpsc::channel(16);
        let first = v1::Heartbeat {
            worker_id: name.to_owned(),
            incarnation,
            sequence: 1,
            free_slots: vec![0],
            ..Default::default()
        };
        beats.send(first).await.unwrap();
        let directives = work.session(ReceiverStream::new(receiver)).await?.into_inner();
        let name = name.to_owned();
        Ok(Self { work, name, incarnation, sequence: 1, received: 0, beats, directives })
    }

    pub(crate) async fn beat(&mut self, running: &[&v1::AttemptKey], free: bool) {
        assert!(self.try_beat(running, free).await, "the session is open");
    }

    /// A heartbeat; false where the session has ended.
    pub(crate) async fn try_beat(&mut self, running: &[&v1::AttemptKey], free: bool) -> bool {
        self.sequence += 1;
        let running = running.iter().map(|key| v1::RunningAttempt {
            key: Some((*key).clone()),
            slot: 0,
            step: 1,
            tokens_per_second: Some(1000.0),
        });
        let beat = v1::Heartbeat {
            worker_id: self.name.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            received: self.received,
            running: running.collect(),
            free_slots: if free { vec![0] } else { Vec::new() },
            ..Default::default()
        };
        self.beats.send(beat).await.is_ok()
    }

    /// A heartbeat that `change` has had its way with.
    pub(crate) async fn beat_with(&mut self, change: impl FnOnce(&mut v1::Heartbeat)) {
        self.sequence += 1;
        let mut beat = v1::Heartbeat {
            worker_id: self.name.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            received: self.received,
            ..Default::default()
        };
        change(&mut beat);
        self.beats.send(beat).await.unwrap();
    }

    /// Why the session ended.
    pub(crate) async fn session_error(&mut self) -> Status {
        loop {
            match timeout(PATIENCE, self.directives.message()).await.unwrap() {
                Ok(directive) => assert!(directive.is_some(), "it ended without a word"),
                Err(status) => return status,
            }
        }
    }

    async fn next(&mut self) -> v1::directive::Directive {
        let message = timeout(PATIENCE, self.directives.message()).await.unwrap();
        let message = message.unwrap().expect("the session is open");
        assert_eq!(message.sequence, self.received + 1);
        self.received = message.sequence;
        message.directive.unwrap()
    }

    pub(crate) async fn next_grant(&mut self) -> v1::Grant {
        loop {
            if let v1::directive::Directive::Grant(grant) = self.next().await {
                return grant;
            }
        }
    }

    pub(crate) async fn next_kill(&mut self) -> v1::Kill {
        loop {
            if let v1::directive::Directive::Kill(kill) = self.next().await {
                return kill;
            }
        }
    }

    pub(crate) async fn report(&mut self, batches: Vec<v1::PointBatch>) -> Vec<v1::PointAck> {
        self.try_report(batches).await.unwrap()
    }

    pub(crate) async fn try_report(
        &mut self,
        batches: Vec<v1::PointBatch>,
    ) -> Result<Vec<v1::PointAck>, Status> {
        let mut stream = self.work.report_points(tokio_stream::iter(batches)).await?.into_inner();
        let mut acks = Vec::new();
        while let Some(ack) = timeout(PATIENCE, stream.message()).await.unwrap()? {
            acks.push(ack);
        }
        Ok(acks)
    }

    pub(crate) async fn checkpoint(
        &mut self,
        key: &v1::AttemptKey,
        step: u64,
        requires_seq: u64,
    ) -> Result<(), Status> {
        self.commit(key, step, requires_seq, "ab12").await
    }

    /// Commits a checkpoint whose manifest has this hash.
    pub(crate) async fn checkpoint_as(
        &mut self,
        key: &v1::AttemptKey,
        step: u64,
        hash: &str,
    ) -> Result<(), Status> {
        self.commit(key, step, 0, hash).await
    }

    async fn commit(
        &mut self,
        key: &v1::AttemptKey,
        step: u64,
        requires_seq: u64,
        hash: &str,
    ) -> Result<(), Status> {
        let request = v1::CommitCheckpointRequest {
            key: Some(key.clone()),
            step,
            hash: hash.to_owned(),
            requires_seq,
            bytes: Some(1024),
            worker_id: self.name.clone(),
        };
        self.work.commit_checkpoint(request).await.map(|_| ())
    }

    pub(crate) async fn finish(
        &mut self,
        key: &v1::AttemptKey,
        ending: Ending,
        last_seq: u64,
    ) -> Result<(), Status> {
        let request = v1::FinishAttemptRequest {
            key: Some(key.clone()),
            ending: Some((&ending).into()),
            last_seq,
            resume_step: Some(0),
            seconds: Some(1.5),
            peak_memory_bytes: Some(1 << 20),
            points_thinned: 0,
        };
        self.work.finish_attempt(request).await.map(|_| ())
    }

    /// A whole run: two losses, the second of which is NaN, and a validation loss at the end.
    pub(crate) async fn train(&mut self, key: &v1::AttemptKey, steps: u64) {
        self.beat(&[key], false).await;
        let mut points = batch(key, 1, &[(1, 5.0), (2, f64::NAN)]);
        points.series.push(v1::Series {
            metric: "validation/loss".to_owned(),
            steps: vec![1, steps],
            values: vec![6.0, 2.5],
        });
        let acks = self.report(vec![points]).await;
        assert_eq!(acks[0].kind, i32::from(v1::point_ack::Kind::Durable), "{acks:?}");
        self.finish(key, Ending::Finished { step: steps }, 1).await.unwrap();
        self.beat(&[], true).await;
    }
}
