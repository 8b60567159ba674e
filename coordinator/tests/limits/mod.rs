//! What a coordinator bears of its clients: each limit is crossed, and whoever keeps within it is served.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{path::Path, time::Duration};

use coordinator::{Config, Limits};
use sweep_proto::{
    access::Access,
    client::{Connection, Control},
    fault::Fault,
    v1::{self, control_client::ControlClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, Status, transport::Endpoint};

use crate::support::{self, FakeWorker, Served, batch, grid, submit};

/// Starts one with these limits.
async fn start(folder: &Path, limits: Limits, listen: &str) -> Served {
    let config = Config {
        store: format!("sqlite:{}", folder.join("sweep.db").display()),
        state: folder.join("state"),
        advertise: Some("localhost".to_owned()),
        limits,
        ..Config::default()
    };
    Served::start_with(config, listen).await
}

fn port(access: &Access) -> u16 {
    access.address.rsplit(':').next().unwrap().parse().unwrap()
}

/// A connection of bytes.
async fn raw(access: &Access) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port(access))).await.unwrap()
}

async fn info(control: &mut Control) -> Result<(), Status> {
    control.get_info(v1::GetInfoRequest {}).await.map(|_| ())
}

/// Waits until the other end closes a connection; sends these bytes one by one meanwhile.
async fn closed_while_sending(mut stream: TcpStream, bytes: &[u8]) {
    let mut bytes = bytes.iter().cycle();
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                if stream.write_all(&[*bytes.next().unwrap()]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A call by a client that keeps to no limit of its own.
async fn unbounded(access: &Access, padding: usize, runs: Vec<String>) -> Result<(), Status> {
    let channel = Endpoint::from_shared(access.address.clone()).unwrap().connect().await.unwrap();
    let mut client = ControlClient::new(channel);
    let request = v1::ListRunsRequest { runs, ..Default::default() };
    let mut request = Request::new(request);
    let headers = request.metadata_mut();
    headers.insert("authorization", format!("Bearer {}", access.token).parse().unwrap());
    headers.insert("sweep-version", sweep_proto::version().parse().unwrap());
    headers.insert("padding", "x".repeat(padding).parse().unwrap());
    let mut rows = client.list_runs(request).await?.into_inner();
    while rows.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_headers_and_lists_have_a_length() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let absent = || vec!["abcd".repeat(8)];
    let within = unbounded(&served.access, 8 << 10, absent()).await.unwrap_err();
    assert_eq!(Fault::of(&within), Some(Fault::NotFound), "{within}");
    let headers = unbounded(&served.access, 32 << 10, absent()).await.unwrap_err();
    assert_ne!(Fault::of(&headers), Some(Fault::NotFound), "{headers}");
    let message = unbounded(&served.access, 1, vec!["x".repeat(5 << 20)]).await.unwrap_err();
    assert_eq!(message.code(), Code::OutOfRange, "{message}");
    let list = unbounded(&served.access, 1, vec!["abcd".into(); 10_001]).await.unwrap_err();
    assert_eq!(Fault::of(&list), Some(Fault::Limit), "{list}");

    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let join = v1::JoinRequest {
        worker_id: "w-2".into(),
        host: "box".into(),
        held: vec![v1::HeldAttempt::default(); 1025],
        ..Default::default()
    };
    let refused = served.connect().await.work().join(join).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::Limit), "{refused}");
    worker.beat_with(|beat| beat.free_slots = vec![0; 1025]).await;
    let ended = worker.session_error().await;
    assert_eq!(Fault::of(&ended), Some(Fault::Limit), "{ended}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_says_in_words_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    submit(&mut control, "words", &grid(&[100], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();
    let reason = "\u{e9}".repeat(1 << 20);
    let cause = sweep_spec::attempt::FailureCause::Configuration;
    let ending = sweep_spec::attempt::Ending::Failed { cause, reason };
    worker.finish(&key, ending, 0).await.unwrap();
    let rows = support::rows(&mut control, "words").await;
    let kept = rows[0].reason.clone().unwrap();
    assert!((4096..5000).contains(&kept.len()) && kept.contains('\u{2026}'), "{}", kept.len());

    // A batch of more series than points is refused, and the stream goes on.
    let mut many = batch(&key, 1, &[]);
    many.series = vec![v1::Series { metric: "train/loss".into(), ..Default::default() }; 1001];
    let acks = worker.report(vec![many, batch(&key, 2, &[])]).await;
    assert_eq!(acks[0].kind, i32::from(v1::point_ack::Kind::Refused), "{acks:?}");
    assert_eq!(acks.len(), 2);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_connection_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { streams: 2, ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let mut other = served.connect().await.control();
    submit(&mut other, "watched", &grid(&[100], &[])).await.unwrap();
    let mut control = served.connect().await.control();
    let watch = || v1::WatchSweepRequest { sweep: "watched".into() };
    let first = control.watch_sweep(watch()).await.unwrap();
    let _second = control.watch_sweep(watch()).await.unwrap();
    let third = tokio::spawn(async move { info(&mut control).await });
    // Another connection is served meanwhile.
    for _ in 0..20 {
        info(&mut other).await.unwrap();
    }
    assert!(!third.is_finished(), "a third call waits");
    drop(first);
    third.await.unwrap().unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_until_one_closes() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { connections: 2, ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let (first, second) = (served.connect().await, served.connect().await);
    info(&mut first.control()).await.unwrap();
    info(&mut second.control()).await.unwrap();
    let access = served.access.clone();
    let third =
        tokio::spawn(
            async move { info(&mut Connection::open(&access).await.unwrap().control()).await },
        );
    for _ in 0..20 {
        info(&mut first.control()).await.unwrap();
    }
    assert!(!third.is_finished(), "it is not accepted yet");
    drop(second);
    third.await.unwrap().unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_a_share_of_the_connections() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { connections_from_machine: 1, ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let first = served.connect().await;
    info(&mut first.control()).await.unwrap();
    closed_while_sending(raw(&served.access).await, b"x").await;
    // The first one is still served, and its place is given back.
    info(&mut first.control()).await.unwrap();
    drop(first);
    loop {
        if let Ok(connection) = Connection::open(&served.access).await
            && info(&mut connection.control()).await.is_ok()
        {
            break;
        }
    }
    served.stop().await;
}

/// The beginning of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_introduce_itself_in_time_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { introduction: Duration::from_secs(1), ..Limits::default() };
    let served = start(&folder.path().join("plain"), limits.clone(), "127.0.0.1:0").await;
    let known = served.connect().await;
    info(&mut known.control()).await.unwrap();
    // A byte now and then of nothing, of HTTP/1.1, of the beginning of HTTP/2.
    tokio::join!(
        closed_while_sending(raw(&served.access).await, b"x"),
        closed_while_sending(raw(&served.access).await, b"GET /metrics HTTP/1.1\r\nx: "),
        closed_while_sending(raw(&served.access).await, PREFACE),
    );
    // All of HTTP/2 at once, and no call after it.
    let mut silent = raw(&served.access).await;
    silent.write_all(PREFACE).await.unwrap();
    let mut said = Vec::new();
    let _ = silent.read_to_end(&mut said).await;
    // One that calls with a wrong token only.
    let wrong = Access { token: "0".repeat(64), ..served.access.clone() };
    let stranger = Connection::open(&wrong).await.unwrap();
    while Fault::of(&info(&mut stranger.control()).await.unwrap_err()) == Some(Fault::Token) {}
    // Who introduced itself stays, however long ago.
    info(&mut known.control()).await.unwrap();
    served.stop().await;

    let served = start(&folder.path().join("tls"), limits, "0.0.0.0:0").await;
    let known = served.connect().await;
    info(&mut known.control()).await.unwrap();
    // No handshake, and the first bytes of one, a byte now and then.
    tokio::join!(
        closed_while_sending(raw(&served.access).await, b"x"),
        closed_while_sending(raw(&served.access).await, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    );
    info(&mut known.control()).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_brings_nothing_ends() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { stream_idle: Duration::from_millis(500), ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let mut control = served.connect().await.control();
    let whole = grid(&[100, 200], &[]);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(support::parts("slow", &whole).remove(0)).await.unwrap();
    let parts = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let refused = control.submit_sweep(parts).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert!(refused.message().contains("did not come"), "{refused}");
    // In one go it is taken.
    submit(&mut control, "slow", &whole).await.unwrap();
    drop(sender);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_waits_and_a_right_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { wrong_token: Duration::from_mins(1), ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let wrong = Access { token: "0".repeat(64), ..served.access.clone() };
    let guess = Connection::open(&wrong).await.unwrap();
    let guess = tokio::spawn(async move { info(&mut guess.control()).await });
    let known = served.connect().await;
    for _ in 0..20 {
        info(&mut known.control()).await.unwrap();
    }
    assert!(!guess.is_finished(), "its answer waits");
    guess.abort();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sends_too_many_points_waits_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    // Each batch is a fifth of a second's worth, and two seconds' worth goes at once.
    let limits = Limits { points_per_second: 500, ..Limits::default() };
    let served = start(folder.path(), limits, "127.0.0.1:0").await;
    let mut control = served.connect().await.control();
    submit(&mut control, "points", &grid(&[3000], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();
    let points = |seq: u64| -> Vec<(u64, f64)> {
        ((seq - 1) * 100 + 1..=seq * 100).map(|step| (step, 2.0)).collect()
    };
    let batches = (1..=20).map(|seq| batch(&key, seq, &points(seq))).collect();
    let acks = worker.report(batches).await;
    assert!(acks.iter().all(|ack| ack.kind == i32::from(v1::point_ack::Kind::Durable)));
    let curve = support::curves(&mut control, "points", "train/loss", None).await.remove(0);
    assert_eq!(curve.steps.len(), 2000);
    let text = crate::monitoring::metrics(&served, &served.access.token).await;
    let slowed = text.lines().find_map(|line| line.strip_prefix("sweep_batches_slowed_total "));
    assert_ne!(slowed, Some("0"), "{text}");
    assert!(slowed.is_some(), "{text}");
    served.stop().await;
}
