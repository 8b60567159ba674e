//! Every call of the wire with messages that no client of ours would send: random bytes, and random
//! fields with values that mean something. Each is answered or refused, nothing falls over, and the
//! store is sound at the end.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, path::Path, time::Duration};

use bytes::{Buf as _, BufMut as _};
use sweep_proto::{VERSION_HEADER, version};
use sweep_store::Database;
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

use crate::support::{FakeWorker, Served, grid, rows, submit};

/// Calls of each method.
const CALLS: usize = 60;

/// A call that streams answers for ever is left after this long: much sooner, and a busy server takes
/// the calls that were left for an attack by resets.
const LOOK: Duration = Duration::from_millis(100);

/// Messages as the bytes they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Every method of the wire files, as the path of its call.
fn methods() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/sweep/v1");
    let mut found = Vec::new();
    for (file, service) in [("control.proto", "Control"), ("work.proto", "Work")] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let names = names.map(|line| line.split('(').next().unwrap().to_owned());
        found.extend(names.map(|name| format!("/sweep.v1.{service}/{name}")));
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// Random choices, the same in every run of the tests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(60)).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// A number that is often at an edge.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => u64::MAX,
            1 => u64::from(u32::MAX),
            2 => i64::MAX as u64,
            3 => 1 << 20,
            _ => self.below(4),
        }
    }

    /// Fields as the wire has them, most with values of some meaning, nested now and then.
    fn fields(&mut self, words: &[String], depth: u32) -> Vec<u8> {
        let mut message = Vec::new();
        for _ in 0..self.below(5) {
            let field = self.below(10) + 1;
            match self.below(6) {
                0 | 1 => {
                    varint(&mut message, field << 3);
                    varint(&mut message, self.number());
                }
                2 => {
                    varint(&mut message, field << 3 | 1);
                    let value = [f64::NAN, f64::INFINITY, -1.0, 1e300][self.below(4) as usize];
                    message.extend(value.to_le_bytes());
                }
                3 if depth > 0 => {
                    let nested = self.fields(words, depth - 1);
                    delimited(&mut message, field, &nested);
                }
                _ => {
                    let word = &words[usize::try_from(self.below(words.len() as u64)).unwrap()];
                    delimited(&mut message, field, word.as_bytes());
                }
            }
        }
        message
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn delimited(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// Sends messages in one call and reads the first answer, if one comes soon.
async fn call(served: &Served, channel: &Channel, method: &str, messages: Vec<Vec<u8>>) -> Code {
    let mut request = Request::new(tokio_stream::iter(messages));
    let bearer = format!("Bearer {}", served.access.token);
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    request.metadata_mut().insert(VERSION_HEADER, version().parse().unwrap());
    let answer = async {
        let mut client = Grpc::new(channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = method.parse().unwrap();
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        answers.message().await
    };
    match timeout(LOOK, answer).await {
        Ok(Err(status)) => status.code(),
        // An answer, or none so far.
        Ok(Ok(_)) | Err(_) => Code::Ok,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_kind_are_answered_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path()).await;
    let mut control = served.connect().await.control();
    let reply = submit(&mut control, "first", &grid(&[100, 300], &[])).await.unwrap();
    let _worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let mut words: Vec<String> =
        ["", "last", "first", "w-1", "cpu", "all", "../x", "{}", "train/loss", "\u{1b}[31m"]
            .map(str::to_owned)
            .to_vec();
    words.push(reply.sweep_id);
    words.extend(rows(&mut control, "first").await.into_iter().map(|row| row.run_id));

    let channel = Endpoint::from_shared(served.access.address.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut dice = Dice(1);
    for method in methods() {
        for _ in 0..CALLS {
            let messages: Vec<Vec<u8>> = (0..=dice.below(3))
                .map(|_| if dice.below(4) == 0 { dice.bytes() } else { dice.fields(&words, 2) })
                .collect();
            let code = call(&served, &channel, &method, messages.clone()).await;
            // A message that does not decode is `Internal` to the library; what falls over is not
            // answered at all.
            assert!(code != Code::Unknown && code != Code::Unavailable, "{method}: {messages:?}");
        }
    }

    submit(&mut control, "after", &grid(&[500], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-2", 1, Vec::new()).await.unwrap();
    loop {
        let grant = worker.next_grant().await;
        let key = grant.key.unwrap();
        let run: sweep_spec::run::Run = serde_json::from_str(&grant.run_json).unwrap();
        worker.train(&key, run.config.steps).await;
        if run.config.steps == 500 {
            break;
        }
    }
    served.stop().await;
    let store = format!("sqlite:{}", folder.path().join("sweep.db").display());
    let checks = Database::open_to_read(&store).await.unwrap().doctor().await.unwrap();
    assert!(checks.iter().all(|check| check.broken.is_empty()), "{checks:?}");
}
