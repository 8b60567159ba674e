//! What every store must do. The calls go through [`Store`], so that another database is held to
//! the same.

use std::path::Path;

use sqlx::Row as _;
use sweep_spec::{
    attempt::{AttemptKey, Device, RunState},
    data::{DataManifest, DataSource, Synthetic},
    id::{DataId, RunId, SweepId},
    metric::{Metric, Point},
    run::{Evaluation, Run, RunConfig, RunRole},
    shape::{LmShape, Mlp, Shape},
    training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
};

use super::*;

fn run(steps: u64) -> Run {
    let data: DataId = "00112233445566778899aabbccddeeff".parse().unwrap();
    Run {
        config: RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(LmShape {
                vocabulary: 256,
                width: 32,
                layers: 2,
                heads: 2,
                sequence: 64,
                mlp: Mlp::SwiGlu,
            }),
            data: data.clone(),
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
                decay: Decay::Cosine { floor: 0.1 },
            },
            seed: u64::MAX,
            parent: None,
        },
        source: DataSource::Synthetic(Synthetic {
            vocabulary: 256,
            entropy: 2.0,
            contexts: 16,
            tokens: 1_000_000,
            seed: 0,
        }),
        manifest: DataManifest {
            id: data,
            vocabulary: 256,
            train_tokens: 1_000_000,
            validation_tokens: 10_000,
            bytes_per_token: None,
            train_documents: 10,
            validation_documents: 1,
            entropy: Some(2.0),
        },
        evaluation: Evaluation { tokens: 1000, times: 3 },
    }
}

fn sweep_id(digit: char) -> SweepId {
    String::from(digit).repeat(32).parse().unwrap()
}

fn sweep(digit: char, steps: &[u64]) -> NewSweep {
    let new = |&steps: &u64| NewRun {
        run: run(steps),
        role: RunRole::Fit,
        budget_flops: Some(1e12),
        tokens_requested: 1e6,
    };
    NewSweep {
        id: sweep_id(digit),
        name: "grid".into(),
        recipe: "# recipe".into(),
        runs: steps.iter().map(new).collect(),
        unix_ms: 1,
    }
}

async fn open(folder: &Path) -> Store {
    Store::open(&format!("sqlite:{}", folder.join("deep/sweep.db").display())).await.unwrap()
}

async fn with_worker(folder: &Path) -> Store {
    let store = open(folder).await;
    let device = Device {
        id: "cpu".into(),
        name: "AMD EPYC".into(),
        backend: "cpu".into(),
        memory_bytes: Some(1 << 30),
        software: false,
        refused: Some("its canary failed".into()),
    };
    assert!(store.join_worker("w", "box", 2, &[device], 1).await.unwrap());
    store
}

fn grant(id: &RunId, number: u32) -> GrantRow {
    GrantRow {
        key: AttemptKey { run: id.clone(), number },
        worker: "w".into(),
        incarnation: 2,
        slot: 0,
        device_id: "cpu".into(),
        device_name: "AMD EPYC".into(),
        backend: "cpu".into(),
        unix_ms: 2,
    }
}

fn end(key: &AttemptKey, outcome: Outcome, state: RunState) -> EndRow {
    EndRow {
        key: key.clone(),
        outcome,
        reason: Some("why".into()),
        end_step: Some(100),
        resume_step: None,
        seconds: Some(4.0),
        peak_memory_bytes: Some(5),
        points_thinned: 6,
        state,
        state_reason: None,
        failures: Failures { program: 1, infrastructure: 2, without_checkpoint: 3 },
        unix_ms: 3,
    }
}

fn batch(key: &AttemptKey, seq: u64, resume_step: u64, points: &[(Metric, u64, f64)]) -> Batch {
    let points =
        points.iter().map(|&(metric, step, value)| Point { metric, step, value }).collect();
    Batch { key: key.clone(), seq, resume_step, points }
}

use Metric::{TrainLoss, ValidationLoss};

#[tokio::test]
async fn a_run_goes_from_submission_to_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_worker(folder.path()).await;
    let submitted = store.submit(&sweep('a', &[100, 200])).await.unwrap();
    assert_eq!((submitted.runs_new, submitted.earlier.len()), (2, 0));
    let id = run(100).config.id();
    let granted = store.grant(&[grant(&id, 1), grant(&id, 1)]).await.unwrap();
    assert!(granted[0].is_some() && granted[1].is_none(), "a number is granted once");
    assert_eq!(granted[0].as_ref().unwrap().run_json, sweep_spec::hash::canonical_json(&run(100)));
    let key = AttemptKey { run: id.clone(), number: 1 };
    let points = [
        (TrainLoss, 1, 5.0),
        (TrainLoss, 2, f64::NAN),
        (TrainLoss, 3, f64::INFINITY),
        (TrainLoss, 4, f64::NEG_INFINITY),
        (ValidationLoss, 0, 6.0),
        (ValidationLoss, 100, 0.1 + 0.2),
    ];
    let replies = store.ingest(&[batch(&key, 1, 0, &points)]).await.unwrap();
    assert_eq!(replies, [Ingested::Durable(1)]);
    let ended = end(&key, Outcome::Finished, RunState::Finished);
    assert_eq!(store.end(std::slice::from_ref(&ended)).await.unwrap(), [Applied::Done]);
    assert_eq!(store.end(&[ended]).await.unwrap(), [Applied::Done], "the same end again");

    let record = store.run(&id).await.unwrap();
    assert_eq!(record.final_validation_loss, Some(0.1 + 0.2), "every bit of a value is kept");
    assert_eq!((record.state, record.latest_step), (RunState::Finished, Some(4)));
    assert_eq!(record.latest_loss, Some(f64::NEG_INFINITY));
    assert_eq!((record.measured_seconds, record.points_thinned), (Some(4.0), 6));
    assert_eq!((record.facts.seed, record.facts.mlp.as_str()), (u64::MAX, "swiglu"));
    assert_eq!(record.facts, Facts::of(&run(100)));
    let curve = store.curve(&id, TrainLoss, -1, 100).await.unwrap();
    assert!(curve[1].value.is_nan() && curve[2].value == f64::INFINITY);
    assert_eq!(store.curve(&id, ValidationLoss, -1, 100).await.unwrap().len(), 2);
    assert_eq!(store.metrics_of(&id).await.unwrap(), [TrainLoss, ValidationLoss]);
    let measured = store.measured().await.unwrap();
    assert_eq!((measured[0].steps, measured[0].seconds), (100, 4.0));
    let counts = store.counts(&sweep_id('a')).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.runs).sum::<u64>(), 2);
    assert_eq!(store.submit(&sweep('a', &[100])).await.unwrap().runs_finished, 1);
    let page = store.runs_page(&sweep_id('a'), -1, 10).await.unwrap();
    assert_eq!(page.iter().map(|record| record.position).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((page[0].role, page[0].budget_flops), (Some(RunRole::Fit), Some(1e12)));
}

#[tokio::test]
async fn a_lower_attempt_number_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_worker(folder.path()).await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let first = AttemptKey { run: id.clone(), number: 1 };
    let points = [(TrainLoss, 10, 1.0), (TrainLoss, 20, 0.9), (TrainLoss, 30, 0.8)];
    store.ingest(&[batch(&first, 1, 0, &points)]).await.unwrap();
    let checkpoint = |key: &AttemptKey, step, requires_seq| CheckpointRow {
        key: key.clone(),
        step,
        hash: "ab".into(),
        bytes: None,
        requires_seq,
        unix_ms: 4,
    };
    let missing = store.commit_checkpoint(&checkpoint(&first, 20, 2)).await.unwrap();
    assert_eq!(missing, Applied::PointsMissing(1));
    let done = store.commit_checkpoint(&checkpoint(&first, 20, 1)).await.unwrap();
    assert_eq!(done, Applied::Done);
    store.end(&[end(&first, Outcome::Lost, RunState::Queued)]).await.unwrap();
    let granted = store.grant(&[grant(&id, 2)]).await.unwrap();
    assert_eq!(granted[0].as_ref().unwrap().checkpoint.as_ref().unwrap().step, 20);

    // The first attempt comes back.
    let late = store.ingest(&[batch(&first, 2, 0, &[(TrainLoss, 40, 0.1)])]).await.unwrap();
    assert!(matches!(late[0], Ingested::Fenced(_)));
    let late = store.end(&[end(&first, Outcome::Finished, RunState::Finished)]).await.unwrap();
    assert_eq!(late, [Applied::Fenced]);
    let late = store.commit_checkpoint(&checkpoint(&first, 30, 1)).await.unwrap();
    assert_eq!(late, Applied::Fenced);
    assert_eq!(store.run(&id).await.unwrap().state, RunState::Running);

    // The second resumes from step 20: what the first has beyond it leaves the curve.
    let second = AttemptKey { run: id.clone(), number: 2 };
    let resumed = [(TrainLoss, 30, 0.7), (TrainLoss, 40, 0.6)];
    let replies = store
        .ingest(&[
            batch(&second, 1, 20, &resumed),
            batch(&second, 1, 20, &resumed),
            batch(&second, 3, 20, &resumed),
            batch(&second, 2, 20, &[(TrainLoss, 20, 9.0)]),
            batch(&second, 2, 10, &[(TrainLoss, 50, 9.0)]),
        ])
        .await
        .unwrap();
    assert_eq!(replies[..3], [Ingested::Durable(1), Ingested::Durable(1), Ingested::Resend(1)]);
    assert!(replies[3..].iter().all(|reply| matches!(reply, Ingested::Refused(_))));
    let curve = store.curve(&id, TrainLoss, -1, 100).await.unwrap();
    let values: Vec<(u64, f64)> = curve.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(values, [(10, 1.0), (20, 0.9), (30, 0.7), (40, 0.6)]);
    assert_eq!(store.attempts(&id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn everything_is_there_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_worker(folder.path()).await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    store.submit(&sweep('b', &[200, 300])).await.unwrap();
    let id = run(200).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let before = store.load().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = open(folder.path()).await;
    let after = store.load().await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!((after.sweeps.len(), after.runs.len()), (2, 3));
    let live = after.runs.iter().find_map(|run| run.live.as_ref()).unwrap();
    assert_eq!((live.worker.as_str(), live.incarnation), ("w", 2));
    let worker = &store.workers().await.unwrap()[0];
    assert_eq!(worker.devices[0].refused.as_deref(), Some("its canary failed"));
    assert!(!store.join_worker("w", "box", 1, &[], 9).await.unwrap(), "an earlier incarnation");
}

#[tokio::test]
async fn names_ids_and_beginnings_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let second = store.submit(&sweep('b', &[200])).await.unwrap();
    assert_eq!(second.earlier, [sweep_id('a')]);
    assert_eq!(store.find_sweep("grid").await.unwrap().id, sweep_id('b'), "the latest of a name");
    assert_eq!(store.find_sweep("aaaa").await.unwrap().id, sweep_id('a'));
    assert!(matches!(store.find_sweep("c").await, Err(StoreError::NotFound { .. })));
    let id = run(100).config.id();
    assert_eq!(store.find_run(id.short()).await.unwrap(), id);
    assert!(matches!(store.find_run("' OR 1=1").await, Err(StoreError::NotFound { .. })));
    store.mark_sweep(&sweep_id('b'), true).await.unwrap();
    assert!(store.find_sweep("grid").await.unwrap().cancelled);
    let row = StateRow {
        run: id.clone(),
        state: RunState::Cancelled,
        reason: None,
        failures: Failures::default(),
    };
    store.set_states(&[row]).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
    assert_eq!(store.run(&id).await.unwrap().state, RunState::Queued, "wanted again");
}

#[tokio::test]
async fn a_reader_is_beside_the_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let address = format!("sqlite:{}", folder.path().join("deep/sweep.db").display());
    let second = Store::open(&address).await.unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    assert!(second.to_string().contains("hint:"));
    let reader = Store::open_to_read(&address).await.unwrap();
    assert_eq!(reader.sweeps().await.unwrap().len(), 1);
    assert!(reader.submit(&sweep('b', &[200])).await.is_err(), "a reader cannot write");
    reader.close().await.unwrap();
    let nothing = Store::open_to_read("sqlite:/nowhere/sweep.db").await.unwrap_err();
    assert!(matches!(nothing, StoreError::Missing { .. }));
    let address = Store::open("mysql://x").await.unwrap_err();
    assert!(matches!(address, StoreError::Address(_)));
}

#[tokio::test]
async fn files_that_are_no_store_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database, however long it may be".repeat(100)).unwrap();
    let error = Store::open(&format!("sqlite:{}", path.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    let blocked = folder.path().join("text.db/inside/sweep.db");
    let error = Store::open(&format!("sqlite:{}", blocked.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("hint:"));
}

#[tokio::test]
async fn a_full_disk_is_told_and_work_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.db");
    let sqlite = Sqlite::open(&path).await.unwrap();
    // A file that may not grow stands for a disk that is full.
    let limit = |pages: &'static str| sqlx::query(pages).execute(&sqlite.writer);
    limit("PRAGMA max_page_count = 1").await.unwrap();
    let store = Store::Sqlite(sqlite.clone());
    let many: Vec<u64> = (1..200).collect();
    let error = store.submit(&sweep('a', &many)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(store.sweeps().await.unwrap().is_empty(), "all or nothing");
    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    assert_eq!(store.submit(&sweep('a', &many)).await.unwrap().runs_new, 199);
}

/// What SQLite does when the disk is full below the WAL.
#[tokio::test]
async fn a_transaction_that_sqlite_ended_by_itself_does_not_block_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("sweep.db")).await.unwrap();
    let mut tx = sqlite.begin().await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *tx).await.unwrap();
    drop(tx);
    let store = Store::Sqlite(sqlite.clone());
    assert_eq!(store.submit(&sweep('a', &[1, 2])).await.unwrap().runs_new, 2);
    // The connection that took its place keeps what it acknowledges.
    let row = sqlx::query("PRAGMA synchronous").fetch_one(&sqlite.writer).await.unwrap();
    assert_eq!(row.try_get::<i64, _>(0).unwrap(), 2);
}

#[tokio::test]
async fn a_store_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.db");
    let sqlite = Sqlite::open(&path).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&sqlite.writer)
    .await
    .unwrap();
    sqlite.close().await.unwrap();
    drop(sqlite);
    let address = format!("sqlite:{}", path.display());
    let error = Store::open(&address).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema { .. }), "{error}");
    let error = Store::open_to_read(&address).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema { .. }), "{error}");
}

#[tokio::test]
async fn the_writer_is_durable_and_the_views_follow_the_lineage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.db");
    let sqlite = Sqlite::open(&path).await.unwrap();
    for (pragma, expected) in
        [("PRAGMA journal_mode", "wal"), ("PRAGMA synchronous", "2"), ("PRAGMA foreign_keys", "1")]
    {
        let row = sqlx::query(pragma).fetch_one(&sqlite.writer).await.unwrap();
        let value = row
            .try_get::<String, _>(0)
            .or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()))
            .unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
    let store = Store::Sqlite(sqlite.clone());
    store.join_worker("w", "box", 1, &[], 1).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let key = AttemptKey { run: id.clone(), number: 1 };
    let points = [(TrainLoss, 1, f64::NAN), (TrainLoss, 2, 1.5)];
    store.ingest(&[batch(&key, 1, 0, &points)]).await.unwrap();
    let rows = sqlx::query("SELECT class, value FROM v_point ORDER BY step")
        .fetch_all(&sqlite.reader)
        .await
        .unwrap();
    let read: Vec<(String, Option<f64>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(read, [("nan".to_owned(), None), ("finite".to_owned(), Some(1.5))]);
    let row = sqlx::query("SELECT count(*) FROM v_run WHERE sweep = 'grid' AND n_total > 0")
        .fetch_one(&sqlite.reader)
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 1);
    let all: Vec<u64> = (1..=1234).collect();
    let long: Vec<_> = all.iter().map(|&step| (Metric::Tokens, step, 1.0)).collect();
    store.ingest(&[batch(&key, 2, 0, &long)]).await.unwrap();
    assert_eq!(store.curve(&id, Metric::Tokens, -1, 5000).await.unwrap().len(), 1234);
    assert_eq!(store.curve(&id, Metric::Tokens, 1200, 10).await.unwrap()[0].step, 1201);
}
