//! The place of artifacts in a folder, and in an object store behind a server that speaks as much
//! of S3 as is asked of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};

use super::*;

fn run() -> RunId {
    "0123456789abcdef".repeat(2).parse().unwrap()
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Hands in a file in parts of three bytes under a hash and a length.
async fn put_as(
    artifacts: &Artifacts,
    bytes: &[u8],
    hash: String,
    length: usize,
) -> Result<Put, Status> {
    let head = FileHead { run: run(), hash, bytes: length as u64 };
    let parts: Vec<_> = bytes.chunks(3).map(|part| Ok(part.to_vec())).collect();
    artifacts.put(&head, tokio_stream::iter(parts)).await
}

async fn put(artifacts: &Artifacts, bytes: &[u8]) -> String {
    put_as(artifacts, bytes, hash(bytes), bytes.len()).await.unwrap();
    hash(bytes)
}

/// Hands in a checkpoint of one file; gives the hash of its manifest.
async fn put_checkpoint(artifacts: &Artifacts, step: u64, model: &[u8]) -> String {
    let model = put(artifacts, model).await;
    let text = format!(
        r#"{{"format":1,"run":"{}","step":{step},"loss_sum":0.5,"loss_count":1,"seconds":2.0,
            "files":{{"model.safetensors":"{model}"}}}}"#,
        run()
    );
    put(artifacts, text.as_bytes()).await
}

/// What every place must do.
async fn conformance(artifacts: &Artifacts) {
    let missing = artifacts.size_of(&run(), &hash(b"weights")).await.unwrap_err();
    assert_eq!(Fault::of(&missing), Some(Fault::NotFound));
    let stored = put(artifacts, b"weights").await;
    assert_eq!(artifacts.size_of(&run(), &stored).await.unwrap(), 7);
    assert_eq!(artifacts.part(&run(), &stored, 0, 7).await.unwrap(), b"weights");
    assert_eq!(artifacts.part(&run(), &stored, 5, 7).await.unwrap(), b"ts");
    let again = put_as(artifacts, b"weights", stored.clone(), 7).await.unwrap();
    assert_eq!(again, Put::Known);

    // What is not what was announced leaves nothing behind.
    let other = hash(b"other");
    for (bytes, length) in [(&b"evil!"[..], 5), (b"othe", 5), (b"other and more", 5), (b"", 5)] {
        let refused = put_as(artifacts, bytes, other.clone(), length).await.unwrap_err();
        assert_eq!(Fault::of(&refused), Some(Fault::Field), "{refused}");
        assert!(artifacts.size_of(&run(), &other).await.is_err());
    }

    // A checkpoint is there with all its files, or it is not.
    let first = put_checkpoint(artifacts, 1, b"first").await;
    let second = put_checkpoint(artifacts, 2, b"second").await;
    assert_eq!(artifacts.whole(&run(), &first).await.unwrap().step, 1);
    let kept = Kept { kept: vec![second.clone()], dropped: vec![first.clone()] };
    artifacts.tidy(&run(), &kept).await;
    assert!(artifacts.whole(&run(), &first).await.is_err());
    assert!(artifacts.size_of(&run(), &hash(b"first")).await.is_err());
    assert_eq!(artifacts.whole(&run(), &second).await.unwrap().step, 2);
    // A file that another checkpoint needs stays.
    let twin = put_checkpoint(artifacts, 3, b"second").await;
    artifacts.tidy(&run(), &Kept { kept: vec![second.clone()], dropped: vec![twin] }).await;
    assert_eq!(artifacts.whole(&run(), &second).await.unwrap().step, 2);
    let text = put(artifacts, b"{}").await;
    assert_eq!(Fault::of(&artifacts.whole(&run(), &text).await.unwrap_err()), Some(Fault::Field));
}

#[tokio::test]
async fn a_folder_keeps_checkpoints() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("artifacts");
    let artifacts = Artifacts::open(folder.to_str().unwrap()).unwrap();
    conformance(&artifacts).await;
    let named: Vec<_> = std::fs::read_dir(folder.join(run().as_str()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(named.iter().all(|name| sweep_spec::checkpoint::is_hash(name)), "{named:?}");
    let again = Artifacts::open(&format!("file://{}", folder.display())).unwrap();
    assert!(again.size_of(&run(), &hash(b"weights")).await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_it_comes() {
    let home = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(home.path().to_str().unwrap()).unwrap();
    let head = FileHead { run: run(), hash: hash(b"x"), bytes: FILE_BYTES_MAX + 1 };
    let refused = artifacts.put(&head, tokio_stream::iter(Vec::new())).await.unwrap_err();
    assert_eq!(Fault::of(&refused), Some(Fault::Limit));
}

#[test]
fn places_of_no_use_are_named_with_the_cure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("artifacts");
    for (place, cure) in [
        (below.to_str().unwrap(), "give a folder that can be written"),
        ("ftp://there/x", "s3://BUCKET/PREFIX"),
    ] {
        let error = Artifacts::open(place).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(cure), "{error}");
    }
}

/// Objects, and parts of uploads that are not complete.
#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, u32), Vec<u8>>,
}

type Shelf = Arc<Mutex<Bucket>>;

fn open(shelf: &Shelf) -> MutexGuard<'_, Bucket> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    State(shelf): State<Shelf>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let name = uri.path().to_owned();
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query: BTreeMap<String, String> = query.into_owned().collect();
    let mut bucket = open(&shelf);
    let part = query.get("partNumber").and_then(|number| number.parse().ok());
    match (method, part) {
        (Method::POST, _) if query.contains_key("uploads") => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        (Method::POST, _) if query.contains_key("delete") => {
            let text = String::from_utf8_lossy(&body);
            let named = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            let mut told = String::new();
            for (key, _) in named {
                bucket.objects.remove(&format!("{name}/{key}"));
                told.push_str("<Deleted><Key>");
                told.push_str(key);
                told.push_str("</Key></Deleted>");
            }
            ["<DeleteResult>", &told, "</DeleteResult>"].concat().into_response()
        }
        (Method::PUT, Some(part)) => {
            bucket.parts.insert((name, part), body.to_vec());
            [(header::ETAG, format!("\"{part}\""))].into_response()
        }
        (Method::POST, _) => {
            let parts = std::mem::take(&mut bucket.parts);
            let (whole, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
                parts.into_iter().partition(|((of, _), _)| *of == name);
            bucket.parts = others;
            bucket.objects.insert(name, whole.into_values().flatten().collect());
            "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                .into_response()
        }
        (Method::DELETE, _) => {
            bucket.parts.retain(|(of, _), _| *of != name);
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::GET | Method::HEAD, _) => match bucket.objects.get(&name) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(object) => give(object, &headers),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// An object, or the range of it that is asked for.
fn give(object: &[u8], headers: &HeaderMap) -> Response {
    let facts = [
        (header::ETAG, "\"e\"".to_owned()),
        (header::LAST_MODIFIED, "Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
    ];
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return (facts, object.to_vec()).into_response() };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let told = format!("bytes {first}-{last}/{}", object.len());
    let part = object[first..=last].to_vec();
    (StatusCode::PARTIAL_CONTENT, facts, [(header::CONTENT_RANGE, told)], part).into_response()
}

#[tokio::test]
async fn an_object_store_keeps_checkpoints() {
    let shelf = Shelf::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Router::new().fallback(serve).with_state(shelf.clone());
    tokio::spawn(async move { axum::serve(listener, service).await });
    let keys = [
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "here".to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_ENDPOINT", format!("http://{address}")),
    ];
    let keys = keys.map(|(name, value)| (name.to_owned(), value)).into_iter();
    let (store, prefix) = in_cloud("s3://bucket/some/where", keys).unwrap();
    conformance(&Artifacts::new(store, prefix)).await;
    let bucket = open(&shelf);
    let below = format!("/bucket/some/where/{}/", run());
    assert!(bucket.objects.keys().all(|name| name.starts_with(&below)), "{:?}", bucket.objects);
    assert!(!bucket.objects.is_empty() && bucket.parts.is_empty());
}

#[tokio::test]
async fn downloads_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut artifacts = Artifacts::open(folder.path().to_str().unwrap()).unwrap();
    artifacts.downloads = Arc::new(Semaphore::new(1));
    let first = artifacts.download().await.unwrap();
    let mut second = std::pin::pin!(artifacts.download());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(second.as_mut().poll(&mut context).is_pending(), "one at a time");
    drop(first);
    drop(second.await.unwrap());
}
