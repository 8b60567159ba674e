//! The whole daemon with scripted trainers against a scripted coordinator, over real sockets.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    pin::Pin,
};

use sweep_proto::v1::work_server::{Work as WorkService, WorkServer};
use sweep_spec::{
    attempt::{AttemptKey, Ending, FailureCause},
    metric::Point,
    run::Run,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response};

use super::*;
use crate::{
    Config, DeviceChoice, Ended, FakeRun, FakeScript, Shutdown, WorkerError, daemon, fixtures,
};

const TOKEN: &str = "0123";

/// What the coordinator heard, and what it is to do.
#[derive(Default)]
struct Book {
    /// Runs to grant, one per free slot.
    waiting: VecDeque<Run>,
    attempts: u32,
    /// Points of batches in the order of arrival.
    batches: Vec<(AttemptKey, u64, Vec<Point>)>,
    commits: Vec<(u64, u64)>,
    endings: Vec<Ending>,
    joins: Vec<v1::JoinRequest>,
    /// Break the connection each time so many batches were heard.
    breaks: Vec<usize>,
    /// The last directive with a grant; later heartbeats know of it once they have received it.
    granted_in: u64,
    /// Ask once to send again from this batch.
    resend_from: Option<u64>,
    /// Answer the first batch as fenced.
    fence: bool,
    /// Heartbeats so far.
    beats: usize,
    /// What grants offer to go on from.
    checkpoint: Option<v1::CheckpointRef>,
    earlier: Option<v1::CheckpointRef>,
    /// Files of kept checkpoints by their hashes.
    artifacts: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Default)]
struct Coordinator {
    book: Arc<Mutex<Book>>,
}

type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Coordinator {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Serves on a loopback port until the handle is aborted.
    async fn serve(&self, listener: TcpListener) -> JoinHandle<()> {
        let service = WorkServer::new(self.clone());
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        })
    }

    fn answer(&self, batch: &v1::PointBatch) -> Result<v1::PointAck, Status> {
        use v1::point_ack::Kind;
        let mut book = self.lock();
        let key = convert::attempt_key("key", batch.key.as_ref())?;
        let durable = |book: &Book| {
            let of_key = book.batches.iter().filter(|(other, ..)| *other == key);
            of_key.map(|&(_, seq, _)| seq).max().unwrap_or(0)
        };
        let mut kind = Kind::Durable;
        let mut seq = durable(&book);
        if book.fence {
            kind = Kind::Fenced;
        } else if book.resend_from == Some(batch.seq) {
            book.resend_from = None;
            kind = Kind::Resend;
        } else if batch.seq > seq {
            if batch.seq != seq + 1 {
                kind = Kind::Resend;
            } else {
                let points = convert::points("series", &batch.series)?;
                book.batches.push((key.clone(), batch.seq, points));
                seq = batch.seq;
            }
        }
        if book.breaks.first() == Some(&book.batches.len()) {
            book.breaks.remove(0);
            return Err(Status::unavailable("scripted break"));
        }
        Ok(v1::PointAck {
            key: Some((&key).into()),
            seq,
            kind: kind.into(),
            reason: "scripted".to_owned(),
        })
    }

    fn directives(&self, beat: &v1::Heartbeat, sequence: &mut u64) -> Vec<v1::Directive> {
        use v1::directive::Directive as Order;
        let mut book = self.lock();
        book.beats += 1;
        let ack = v1::HeartbeatAck { sequence: beat.sequence, lease_ms: 5000 };
        let mut orders = vec![Order::HeartbeatAck(ack)];
        let free = if beat.received >= book.granted_in { &beat.free_slots[..] } else { &[] };
        for &slot in free {
            let Some(run) = book.waiting.pop_front() else { break };
            book.attempts += 1;
            let key = AttemptKey { run: run.config.id(), number: book.attempts };
            orders.push(Order::Grant(v1::Grant {
                key: Some((&key).into()),
                slot,
                run_json: convert::run_json(&run),
                lease_ms: 5000,
                checkpoint: book.checkpoint.clone(),
                fork: None,
                earlier: book.earlier.clone(),
            }));
        }
        let numbered = orders.into_iter().map(|order| {
            *sequence += 1;
            if matches!(order, Order::Grant(_)) {
                book.granted_in = *sequence;
            }
            v1::Directive { sequence: *sequence, directive: Some(order) }
        });
        numbered.collect()
    }
}

#[tonic::async_trait]
impl WorkService for Coordinator {
    type SessionStream = Down<v1::Directive>;
    type ReportPointsStream = Down<v1::PointAck>;
    type GetArtifactStream = Down<v1::ArtifactChunk>;

    async fn put_artifact(
        &self,
        _: Request<tonic::Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactReply>, Status> {
        Err(Fault::NotFound.status("it keeps no checkpoints"))
    }

    async fn keep_checkpoint(
        &self,
        _: Request<v1::KeepCheckpointRequest>,
    ) -> Result<Response<v1::KeepCheckpointReply>, Status> {
        Err(Fault::NotFound.status("it keeps no checkpoints"))
    }

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<Self::GetArtifactStream>, Status> {
        let found = self.lock().artifacts.get(&request.into_inner().hash).cloned();
        let data = found.ok_or_else(|| Fault::NotFound.status("it is not kept"))?;
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(v1::ArtifactChunk { data })))))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let headers = request.metadata();
        if headers.get("authorization").is_none_or(|token| token != &format!("Bearer {TOKEN}")) {
            return Err(Fault::Token.status("the token is wrong"));
        }
        if headers.get(sweep_proto::VERSION_HEADER).is_none_or(|v| v != &sweep_proto::version()) {
            return Err(Fault::Version.status("the coordinator has version 9"));
        }
        let request = request.into_inner();
        let keep = |held: &v1::HeldAttempt| v1::Verdict {
            key: held.key.clone(),
            kind: v1::verdict::Kind::Keep.into(),
            acked_seq: 0,
            reason: String::new(),
        };
        let verdicts = request.held.iter().map(keep).collect();
        let mut book = self.lock();
        book.granted_in = 0;
        book.joins.push(request);
        drop(book);
        Ok(Response::new(v1::JoinReply {
            verdicts,
            heartbeat_ms: 50,
            lease_ms: 5000,
            unacknowledged_batches_max: 8,
            keeps_checkpoints: false,
        }))
    }

    async fn session(
        &self,
        request: Request<tonic::Streaming<v1::Heartbeat>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mine, mut sequence) = (self.clone(), 0);
        let beats = request.into_inner().flat_map_all(move |beat| match beat {
            Ok(beat) => mine.directives(&beat, &mut sequence).into_iter().map(Ok).collect(),
            Err(status) => vec![Err(status)],
        });
        Ok(Response::new(beats))
    }

    async fn report_points(
        &self,
        request: Request<tonic::Streaming<v1::PointBatch>>,
    ) -> Result<Response<Self::ReportPointsStream>, Status> {
        let mine = self.clone();
        let acks = request.into_inner().map(move |batch| mine.answer(&batch?));
        Ok(Response::new(Box::pin(acks)))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<v1::CommitCheckpointRequest>,
    ) -> Result<Response<v1::CommitCheckpointReply>, Status> {
        let request = request.into_inner();
        let mut book = self.lock();
        let durable = book.batches.iter().any(|&(_, seq, _)| seq >= request.requires_seq);
        if !durable {
            return Err(Fault::PointsMissing.status("too early"));
        }
        book.commits.push((request.step, request.requires_seq));
        Ok(Response::new(v1::CommitCheckpointReply {}))
    }

    async fn finish_attempt(
        &self,
        request: Request<v1::FinishAttemptRequest>,
    ) -> Result<Response<v1::FinishAttemptReply>, Status> {
        let request = request.into_inner();
        let key = convert::attempt_key("key", request.key.as_ref())?;
        let mut book = self.lock();
        let last = book.batches.iter().filter(|(other, ..)| *other == key).map(|batch| batch.1);
        if last.max().unwrap_or(0) != request.last_seq {
            return Err(Fault::PointsMissing.status("too early"));
        }
        book.endings.push(convert::ending("ending", request.ending.as_ref())?);
        Ok(Response::new(v1::FinishAttemptReply {}))
    }
}

/// One message up makes several down.
trait FlatMapAll: Stream + Sized + Send + Unpin + 'static {
    fn flat_map_all<T: Send + 'static>(
        mut self,
        mut each: impl FnMut(Self::Item) -> Vec<Result<T, Status>> + Send + 'static,
    ) -> Down<T>
    where
        Self::Item: Send,
    {
        let (sender, receiver) = mpsc::channel(OUTBOX);
        tokio::spawn(async move {
            while let Some(item) = self.next().await {
                for message in each(item) {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

impl<S: Stream + Send + Unpin + 'static> FlatMapAll for S {}

/// A worker in a task, and what ends it.
struct Worker {
    shutdown: watch::Sender<Shutdown>,
    task: JoinHandle<Result<Ended, WorkerError>>,
}

fn config(home: &Path, address: SocketAddr, token: &str, script: &FakeScript) -> Config {
    Config {
        access: AccessSource::Given(Access::plain(format!("http://{address}"), token)),
        state: home.join("state"),
        cache: home.join("cache"),
        devices: DeviceChoice::Cpu,
        slots: Some(2),
        offer_software_gpus: false,
        connect_max: None,
        lifetime: None,
        fake: Some(script.clone()),
    }
}

fn start(config: Config) -> Worker {
    let (shutdown, receiver) = watch::channel(Shutdown::None);
    Worker { shutdown, task: tokio::spawn(daemon::run(config, receiver)) }
}

impl Worker {
    async fn end(self, asked: Shutdown) -> Result<Ended, WorkerError> {
        self.shutdown.send(asked).unwrap();
        timeout(Duration::from_secs(20), self.task).await.expect("it ends").unwrap()
    }
}

fn script(runs: &[FakeRun], step_ms: u64) -> FakeScript {
    FakeScript {
        runs: Arc::new(Mutex::new(runs.iter().copied().collect())),
        step: Duration::from_millis(step_ms),
        ..FakeScript::default()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Waits until the book says so.
async fn until(coordinator: &Coordinator, done: impl Fn(&Book) -> bool) {
    for _ in 0..400 {
        if done(&coordinator.lock()) {
            return;
        }
        sleep(Duration::from_millis(25)).await;
    }
    let book = coordinator.lock();
    panic!("not in time: {} batches, endings {:?}", book.batches.len(), book.endings);
}

/// Every step of a run has its training loss once.
fn assert_whole_curve(book: &Book, run: &Run) {
    let id = run.config.id();
    let of_run = book.batches.iter().filter(|(key, ..)| key.run == id);
    let steps: Vec<u64> = of_run
        .flat_map(|(_, _, points)| points)
        .filter(|point| point.metric == sweep_spec::metric::Metric::TrainLoss)
        .map(|point| point.step)
        .collect();
    assert_eq!(steps, (1..=run.config.steps).collect::<Vec<_>>());
}

#[tokio::test]
async fn runs_are_granted_trained_and_finished() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::default();
    let runs: Vec<Run> = (0..4).map(|seed| fixtures::run(20, seed)).collect();
    coordinator.lock().waiting = runs.iter().cloned().collect();
    let (listener, address) = listen().await;
    let server = coordinator.serve(listener).await;
    let worker = start(config(home.path(), address, TOKEN, &script(&[], 1)));
    until(&coordinator, |book| book.endings.len() == 4).await;
    assert_eq!(worker.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
    server.abort();
    let book = coordinator.lock();
    assert!(book.endings.iter().all(|ending| *ending == Ending::Finished { step: 20 }));
    assert_eq!(book.commits.len(), 4);
    runs.iter().for_each(|run| assert_whole_curve(&book, run));
    assert_eq!(book.joins.len(), 1);
    assert_eq!(book.joins[0].slots.len(), 2);
}

#[tokio::test]
async fn a_broken_connection_loses_no_point_and_stops_no_run() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::default();
    // Three seconds of steps outlast the first pause of at most one.
    let run = fixtures::run(600, 0);
    {
        let mut book = coordinator.lock();
        book.waiting.push_back(run.clone());
        (book.breaks, book.resend_from) = (vec![2, 4], Some(3));
    }
    let (listener, address) = listen().await;
    let server = coordinator.serve(listener).await;
    let worker = start(config(home.path(), address, TOKEN, &script(&[], 5)));
    until(&coordinator, |book| book.endings.len() == 1).await;
    assert_eq!(worker.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
    server.abort();
    let book = coordinator.lock();
    assert_whole_curve(&book, &run);
    assert_eq!(book.attempts, 1);
    assert_eq!(book.joins.len(), 3);
    assert!(book.joins[1].held[0].slot.is_some(), "the run went on");
}

#[tokio::test]
async fn a_fenced_run_is_dropped_and_the_slot_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::default();
    {
        let mut book = coordinator.lock();
        book.waiting.push_back(fixtures::run(10_000, 0));
        book.fence = true;
    }
    let (listener, address) = listen().await;
    let server = coordinator.serve(listener).await;
    let script = FakeScript { runs: Arc::default(), ..script(&[], 5) };
    let worker = start(Config { slots: Some(1), ..config(home.path(), address, TOKEN, &script) });
    until(&coordinator, |book| book.attempts == 1).await;
    sleep(Duration::from_millis(600)).await;
    let next = fixtures::run(5, 1);
    {
        let mut book = coordinator.lock();
        book.fence = false;
        book.waiting.push_back(next.clone());
    }
    until(&coordinator, |book| book.endings.len() == 1).await;
    assert_eq!(worker.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
    server.abort();
    assert_whole_curve(&coordinator.lock(), &next);
}

#[tokio::test]
async fn a_drained_worker_reports_a_checkpoint_and_says_that_work_is_left() {
    for (asked, expected) in
        [(Shutdown::Terminate, Ended::Drained), (Shutdown::Interrupt, Ended::Interrupted)]
    {
        let home = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::default();
        coordinator.lock().waiting.push_back(fixtures::run(100_000, 0));
        let (listener, address) = listen().await;
        let server = coordinator.serve(listener).await;
        let worker = start(config(home.path(), address, TOKEN, &script(&[], 5)));
        until(&coordinator, |book| !book.batches.is_empty()).await;
        assert_eq!(worker.end(asked).await.unwrap(), expected);
        server.abort();
        let book = coordinator.lock();
        let [Ending::Stopped { step }] = book.endings[..] else { panic!("{:?}", book.endings) };
        assert_eq!(book.commits.last().map(|&(step, _)| step), Some(step));
    }
}

#[tokio::test]
async fn a_daemon_that_was_killed_sends_the_rest_at_its_next_start() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::default();
    coordinator.lock().waiting.push_back(fixtures::run(100_000, 0));
    let (listener, address) = listen().await;
    let server = coordinator.serve(listener).await;
    let first = start(config(home.path(), address, TOKEN, &script(&[], 5)));
    until(&coordinator, |book| !book.batches.is_empty()).await;
    first.task.abort();
    let _ = first.task.await;
    let second = start(config(home.path(), address, TOKEN, &script(&[], 5)));
    until(&coordinator, |book| book.endings.len() == 1).await;
    assert_eq!(second.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
    server.abort();
    let book = coordinator.lock();
    let Ending::Failed { cause, .. } = &book.endings[0] else { panic!("{:?}", book.endings) };
    assert_eq!(*cause, FailureCause::Daemon);
    assert_eq!(book.joins[0].worker_id, book.joins[1].worker_id);
    assert_eq!(book.joins[1].incarnation, 2);
    assert_eq!(book.joins[1].held.len(), 1);
}

#[tokio::test]
async fn a_wrong_token_is_refused_at_once_with_a_hint() {
    let home = tempfile::tempdir().unwrap();
    let (listener, address) = listen().await;
    let server = Coordinator::default().serve(listener).await;
    let worker = start(config(home.path(), address, "wrong", &script(&[], 1)));
    let error = timeout(Duration::from_secs(10), worker.task).await.unwrap().unwrap().unwrap_err();
    server.abort();
    assert_eq!(error.exit_code(), 3);
    let text = error.to_string();
    assert!(text.contains("refused the token") && text.contains("hint: "), "{text}");
}

#[test]
fn a_refusal_of_the_version_names_both() {
    let status = Fault::Version.status("the coordinator has version 9");
    let Broken::Refused(text) = refusal(&status, "http://127.0.0.1:1") else { panic!("lost") };
    assert!(text.contains("version 9") && text.contains(&sweep_proto::version()), "{text}");
    assert!(matches!(refusal(&Status::unavailable("x"), ""), Broken::Lost(_)));
}

#[tokio::test]
async fn a_coordinator_that_is_not_there_is_given_up_only_when_asked() {
    let home = tempfile::tempdir().unwrap();
    let (listener, address) = listen().await;
    drop(listener);
    let config = Config {
        connect_max: Some(Duration::from_millis(300)),
        lifetime: None,
        ..config(home.path(), address, TOKEN, &script(&[], 1))
    };
    let worker = start(config);
    let error = timeout(Duration::from_secs(10), worker.task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::Unreachable(_)), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_worker_without_a_usable_device_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (_listener, address) = listen().await;
    let script = script(&[], 1);
    script.refusals.lock().unwrap().extend(["flat".to_owned(), "flat".to_owned()]);
    let worker = start(config(home.path(), address, TOKEN, &script));
    let error = timeout(Duration::from_secs(20), worker.task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, WorkerError::NoDevice(text) if text.contains("flat")), "{error}");
}

/// Puts a checkpoint of a run into the book, as it is offered.
fn keep(book: &mut Book, run: &Run, step: u64) -> v1::CheckpointRef {
    let name = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let weights = format!("weights at {step}").into_bytes();
    let manifest = sweep_spec::checkpoint::Manifest {
        format: sweep_spec::checkpoint::FORMAT,
        run: run.config.id().to_string(),
        step,
        loss_sum: 0.5,
        loss_count: 1,
        seconds: 2.0,
        files: BTreeMap::from([("model.safetensors".to_owned(), name(&weights))]),
        seal: None,
    };
    let text = manifest.sealed();
    let hash = name(&text);
    book.artifacts.extend([(name(&weights), weights), (hash.clone(), text)]);
    v1::CheckpointRef { step, hash, kept: true }
}

/// The first step that was trained.
fn first_step(book: &Book) -> Option<u64> {
    book.batches.first().and_then(|(_, _, points)| points.first()).map(|point| point.step)
}

/// Whatever waits for the disk stands in line behind the one thread that is there for it.
#[test]
fn a_disk_that_stands_still_holds_up_no_heartbeat() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let home = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::default();
        let run = fixtures::run(20, 0);
        {
            let mut book = coordinator.lock();
            let kept = keep(&mut book, &run, 5);
            book.checkpoint = Some(kept);
            book.waiting.push_back(run);
        }
        let (release, held) = std::sync::mpsc::channel::<()>();
        let disk = tokio::task::spawn_blocking(move || held.recv());
        let (listener, address) = listen().await;
        let server = coordinator.serve(listener).await;
        let script = script(&[], 1);
        let worker =
            start(Config { slots: Some(1), ..config(home.path(), address, TOKEN, &script) });
        until(&coordinator, |book| book.attempts == 1).await;
        let before = coordinator.lock().beats;
        until(&coordinator, |book| book.beats > before + 5).await;
        assert_eq!(first_step(&coordinator.lock()), None, "it waits for its checkpoint");
        release.send(()).unwrap();
        disk.await.unwrap().unwrap();
        until(&coordinator, |book| book.endings.len() == 1).await;
        assert_eq!(worker.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
        server.abort();
        assert_eq!(first_step(&coordinator.lock()), Some(6));
    });
}

#[tokio::test]
async fn a_run_falls_back_on_the_checkpoint_before_one_that_is_damaged() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::default();
    let run = fixtures::run(20, 0);
    {
        let mut book = coordinator.lock();
        let (newest, earlier) = (keep(&mut book, &run, 5), keep(&mut book, &run, 3));
        let weights = blake3::hash(b"weights at 5").to_hex().to_string();
        book.artifacts.insert(weights, b"weights at 6".to_vec());
        (book.checkpoint, book.earlier) = (Some(newest), Some(earlier));
        book.waiting.push_back(run);
    }
    let (listener, address) = listen().await;
    let server = coordinator.serve(listener).await;
    let worker = start(config(home.path(), address, TOKEN, &script(&[], 1)));
    until(&coordinator, |book| book.endings.len() == 1).await;
    assert_eq!(worker.end(Shutdown::Terminate).await.unwrap(), Ended::Done);
    server.abort();
    assert_eq!(first_step(&coordinator.lock()), Some(4));
}
