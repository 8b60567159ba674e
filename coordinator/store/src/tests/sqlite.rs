//! What only a store in one SQLite file must do.

use sqlx::{ConnectOptions as _, Row as _};
use sweep_spec::{attempt::AttemptKey, metric::Metric::TrainLoss};

use super::*;
use crate::sqlite::writer_options;

#[tokio::test]
async fn a_reader_is_beside_the_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("sqlite:{}", folder.path().join("deep/sweep.db").display());
    let store = Store::open(&address).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
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
    let store = Store::Database(Database::Sqlite(sqlite.clone()));
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
    let store = Store::Database(Database::Sqlite(sqlite.clone()));
    assert_eq!(store.submit(&sweep('a', &[1, 2])).await.unwrap().runs_new, 2);
    // The connection that took its place keeps what it acknowledges.
    let row = sqlx::query("PRAGMA synchronous").fetch_one(&sqlite.writer).await.unwrap();
    assert_eq!(row.try_get::<i64, _>(0).unwrap(), 2);
}

/// A person with a shell on the file, for example, who leaves a result open over lunch.
#[tokio::test]
async fn a_slow_reader_holds_up_no_writer_and_its_wal_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.db");
    let sqlite = Sqlite::open(&path).await.unwrap();
    let kept = 1 << 20;
    sqlx::query("PRAGMA journal_size_limit = 1048576").execute(&sqlite.writer).await.unwrap();
    let store = Store::Database(Database::Sqlite(sqlite.clone()));
    store.join_worker("w", "box", 1, &[], 1).await.unwrap();
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let key = AttemptKey { run: id.clone(), number: 1 };
    let write = async |seqs: std::ops::RangeInclusive<u64>| {
        for seq in seqs {
            let points: Vec<_> = (0..1000).map(|at| (TrainLoss, seq * 1000 + at, 1.0)).collect();
            store.ingest(&[batch(&key, seq, 0, &points)]).await.unwrap();
        }
    };
    let wal_bytes = || std::fs::metadata(folder.path().join("sweep.db-wal")).unwrap().len();

    let mut slow = sqlite.reader.begin().await.unwrap();
    let count = "SELECT count(*) FROM point";
    let before: i64 = sqlx::query(count).fetch_one(&mut *slow).await.unwrap().get(0);
    write(1..=200).await;
    assert!(wal_bytes() > 2 * kept, "the reader holds nothing: {} bytes", wal_bytes());
    let after: i64 = sqlx::query(count).fetch_one(&mut *slow).await.unwrap().get(0);
    assert_eq!((before, after), (0, 0), "it sees one moment");
    assert_eq!(store.curve(&id, TrainLoss, -1, u32::MAX).await.unwrap().len(), 200_000);

    slow.rollback().await.unwrap();
    write(201..=202).await;
    assert!(wal_bytes() <= kept, "the WAL stays: {} bytes", wal_bytes());
}

/// The file is held by another program that writes: for a while, and for longer than is waited.
#[tokio::test]
async fn a_file_that_is_busy_is_away_for_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.db");
    let wait = std::time::Duration::from_millis(100);
    let sqlite = Sqlite::open_with(&path, |options| options.busy_timeout(wait)).await.unwrap();
    let mut other = writer_options(&path).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let store = Store::Database(Database::Sqlite(sqlite));
    let error = store.submit(&sweep('a', &[1])).await.unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error}");
    assert!(store.sweeps().await.unwrap().is_empty(), "it can be read meanwhile");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(store.submit(&sweep('a', &[1])).await.unwrap().runs_new, 1);
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
    let store = Store::Database(Database::Sqlite(sqlite.clone()));
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
}

#[tokio::test]
async fn a_store_is_copied_while_it_is_written() {
    let place = Place::Sqlite(tempfile::tempdir().unwrap());
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    store.grant(&[grant(&id, 1)]).await.unwrap();
    let key = AttemptKey { run: id.clone(), number: 1 };
    let Place::Sqlite(folder) = &place else { panic!("no file") };
    let copy = folder.path().join("copy.db");
    let write = async {
        for seq in 1..=50 {
            let points: Vec<_> = (0..100).map(|at| (TrainLoss, seq * 100 + at, 1.0)).collect();
            store.ingest(&[batch(&key, seq, 0, &points)]).await.unwrap();
        }
    };
    let read = async {
        let path = folder.path().join("deep/sweep.db");
        Sqlite::open_to_read(&path).await.unwrap().backup(&copy).await.unwrap();
    };
    tokio::join!(write, read);
    let copied = Store::open(&format!("sqlite:{}", copy.display())).await.unwrap();
    let points = copied.curve(&id, TrainLoss, -1, 9999).await.unwrap().len();
    assert_eq!(points % 100, 0, "whole commits");
    let Store::Database(database) = &copied else { panic!("no file") };
    assert!(database.doctor().await.unwrap().iter().all(|finding| finding.broken.is_empty()));
    // It goes on as a store of its own, and nothing is ever copied over it.
    copied.submit(&sweep('b', &[300])).await.unwrap();
    let Store::Database(Database::Sqlite(sqlite)) = &store else { panic!("no file") };
    let error = sqlite.backup(&copy).await.unwrap_err();
    assert!(matches!(error, StoreError::Backup { .. }), "{error}");
    let error = sqlite.backup(&folder.path().join("none/copy.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::Backup { .. }), "{error}");
}
