//! What tools of every kind ask a coordinator: its metrics, its health, what it speaks. All of it
//! asks for the token, none of it for the version.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{FakeWorker, Served, grid, submit};

/// The answer to `GET /metrics` with this token, as HTTP/1.1 gives it.
pub(crate) async fn metrics(served: &Served, token: &str) -> String {
    let host = served.access.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened_and_ask_for_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let token = served.access.token.clone();
    let refused = metrics(&served, "wrong").await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("hint:"), "{refused}");
    assert!(!refused.contains("sweep_runs"), "{refused}");

    let mut control = served.connect().await.control();
    submit(&mut control, "first", &grid(&[100, 300], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let key = worker.next_grant().await.key.unwrap();
    worker.train(&key, 300).await;
    worker.next_grant().await;

    let text = metrics(&served, &token).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("openmetrics-text"), "{text}");
    for line in [
        "sweep_runs{state=\"finished\"} 1",
        "sweep_runs{state=\"failed\"} 0",
        "sweep_points_total 4",
        "sweep_batches_total{became=\"durable\"} 1",
        "sweep_attempts_ended_total{outcome=\"finished\"} 1",
        "sweep_workers{state=\"online\"} 1",
        "sweep_commit_seconds_count 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert_golden(&shape(&text));
    served.stop().await;
}

/// The lines of an answer without what differs from one time to the next.
fn shape(text: &str) -> String {
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let timed = |line: &str| line.contains("_seconds_") || line.starts_with("sweep_connections ");
    let (mut lines, mut samples) = (Vec::new(), Vec::new());
    // Of the parts of a chunked answer the sizes stand on lines of their own.
    for line in body.lines().filter(|line| line.starts_with('#') || line.starts_with("sweep_")) {
        match line.rsplit_once(' ') {
            _ if line.starts_with('#') => {
                // The samples of one metric come in any order.
                samples.sort();
                lines.append(&mut samples);
                lines.push(line.to_owned());
            }
            _ if line.contains("_bucket{") => {}
            Some((name, _)) if timed(line) => samples.push(format!("{name} ...")),
            _ => samples.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// Holds the text to its golden file; `SWEEP_UPDATE_GOLDEN=1` writes the file.
fn assert_golden(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monitoring/metrics.golden");
    if std::env::var_os("SWEEP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == text, "{} differs:\n{text}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_who_has_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let endpoint = Endpoint::from_shared(served.access.address.clone()).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let ask = |service: &str| Request::new(HealthCheckRequest { service: service.to_owned() });
    let refused = health.check(ask("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    let bearer: tonic::metadata::MetadataValue<_> =
        format!("Bearer {}", served.access.token).parse().unwrap();
    let with_token = |mut request: Request<HealthCheckRequest>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        request
    };
    for service in ["", "sweep.v1.Control", "sweep.v1.Work"] {
        let reply = health.check(with_token(ask(service))).await.unwrap().into_inner();
        assert_eq!(reply.status, 1, "{service} serves");
    }

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut request = Request::new(tokio_stream::once(list));
    request.metadata_mut().insert("authorization", bearer);
    let mut reflection = ServerReflectionClient::new(channel);
    let mut replies = reflection.server_reflection_info(request).await.unwrap().into_inner();
    let reply = replies.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = reply else { panic!("{reply:?}") };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == "sweep.v1.Work"), "{names:?}");
    served.stop().await;
}
