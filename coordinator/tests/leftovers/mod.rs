//! Files that nothing points to are deleted at the start, and nothing else is.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use coordinator::Config;
use sweep_proto::v1::{self, put_artifact_request::Part};
use sweep_spec::attempt::Ending;

use crate::support::{FakeWorker, Served, grid, submit};

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

async fn put(served: &Served, key: &v1::AttemptKey, bytes: &[u8]) -> String {
    let part = |part| v1::PutArtifactRequest { part: Some(part) };
    let head =
        v1::ArtifactHead { key: Some(key.clone()), hash: hash(bytes), bytes: bytes.len() as u64 };
    let parts = vec![part(Part::Head(head)), part(Part::Data(bytes.to_vec()))];
    served.connect().await.work().put_artifact(tokio_stream::iter(parts)).await.unwrap();
    hash(bytes)
}

/// Hands in a checkpoint of one file and has it kept; gives the names of both files.
async fn keep(served: &Served, worker: &mut FakeWorker, key: &v1::AttemptKey) -> [String; 2] {
    let model = put(served, key, b"weights").await;
    let text = format!(
        r#"{{"format":1,"run":"{}","step":2,"loss_sum":0.5,"loss_count":1,"seconds":2.0,
            "files":{{"model.safetensors":"{model}"}}}}"#,
        key.run_id
    );
    let manifest = put(served, key, text.as_bytes()).await;
    worker.checkpoint_as(key, 2, &manifest).await.unwrap();
    let request =
        v1::KeepCheckpointRequest { key: Some(key.clone()), step: 2, hash: manifest.clone() };
    served.connect().await.work().keep_checkpoint(request).await.unwrap();
    [model, manifest]
}

/// Makes a file as old as this, with its folder.
fn aged(path: &Path, hours: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::options().append(true).create(true).open(path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "files are as old as the system's clock says")]
    let now = SystemTime::now();
    file.set_modified(now - Duration::from_hours(hours)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_points_to_is_deleted_once_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("artifacts");
    let config = Config {
        store: format!("sqlite:{}", folder.path().join("sweep.db").display()),
        state: folder.path().join("state"),
        artifacts: Some(place.display().to_string()),
        ..Config::default()
    };
    let served = Served::start_with(config.clone(), "127.0.0.1:0").await;
    let mut control = served.connect().await.control();
    submit(&mut control, "kept", &grid(&[100, 300], &[])).await.unwrap();
    let mut worker = FakeWorker::join(served.connect().await, "w-1", 1, Vec::new()).await.unwrap();
    let first = worker.next_grant().await.key.unwrap();
    let kept = keep(&served, &mut worker, &first).await;
    worker.finish(&first, Ending::Finished { step: 300 }, 0).await.unwrap();
    worker.beat(&[], true).await;
    let second = worker.next_grant().await.key.unwrap();
    worker.finish(&second, Ending::Finished { step: 100 }, 0).await.unwrap();
    served.stop().await;

    let of = |run: &str, name: &str| place.join(run).join(name);
    let (run, other, unknown) = (&first.run_id, &second.run_id, "f".repeat(first.run_id.len()));
    for name in &kept {
        aged(&of(run, name), 2);
    }
    let orphans = [of(run, &hash(b"orphan")), of(run, &format!("{}#1", hash(b"half")))];
    let spared = [
        of(run, &kept[0]),
        of(run, &kept[1]),
        // Something of this run is being written.
        of(other, &hash(b"old")),
        of(other, &hash(b"young")),
        of(other, &format!("{}#12", hash(b"young half"))),
        // Of another store, perhaps.
        of(&unknown, &hash(b"old")),
        place.join("notes.txt"),
    ];
    orphans.iter().for_each(|path| aged(path, 2));
    for path in &spared[2..] {
        let young = path.to_string_lossy().ends_with("#12") || path == &spared[3];
        aged(path, if young { 0 } else { 2 });
    }
    let served = Served::start_with(config, "127.0.0.1:0").await;
    while orphans.iter().any(|path| path.exists()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    served.stop().await;
    for path in spared {
        assert!(path.exists(), "{}", path.display());
    }
}
