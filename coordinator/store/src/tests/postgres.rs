//! What only a store on Postgres must do. Without an installed server these tests say that they are
//! skipped.

use std::{sync::LazyLock, time::Duration};

use sweep_tests::PostgresServer;

use super::*;

/// One server for all tests of this process; each test has a database of its own.
static SERVER: LazyLock<Result<PostgresServer, String>> =
    LazyLock::new(|| PostgresServer::start().unwrap());

/// The address of a new database; says so when there is no server.
#[expect(clippy::print_stderr, reason = "the reader of a test run has to know")]
pub(crate) fn database(test: &str) -> Option<String> {
    match &*SERVER {
        Ok(server) => Some(server.database().unwrap()),
        Err(reason) => {
            eprintln!("SKIPPED on Postgres: {test}: {reason}");
            None
        }
    }
}

fn database_of(store: &Store) -> &Postgres {
    match store {
        Store::Database(Database::Postgres(postgres)) => postgres,
        _ => panic!("not on Postgres"),
    }
}

#[tokio::test]
async fn the_later_coordinator_fences_the_first() {
    let Some(address) = database("the_later_coordinator_fences_the_first") else { return };
    let place = Place::Postgres(address.clone());
    let first = place.with_worker().await;
    first.submit(&sweep('a', &[100])).await.unwrap();
    let id = run(100).config.id();
    first.grant(&[grant(&id, 1)]).await.unwrap();
    let second = Store::open(&address).await.unwrap();
    let key = AttemptKey { run: id.clone(), number: 1 };
    let writes = [
        first.submit(&sweep('b', &[200])).await.map(|_| ()),
        first.mark_sweep(&sweep_id('a'), true).await,
        first.grant(&[grant(&id, 2)]).await.map(|_| ()),
        first.end(&[end(&key, Outcome::Lost, RunState::Queued)]).await.map(|_| ()),
        first.ingest(&[batch(&key, 1, 0, &[(Metric::TrainLoss, 1, 1.0)])]).await.map(|_| ()),
        first.join_worker("v", "box", 1, &[], 1).await.map(|_| ()),
        first.set_devices("w", &[]).await,
        first.set_states(&[]).await,
    ];
    for write in writes {
        let error = write.unwrap_err();
        assert!(matches!(error, StoreError::Superseded { .. }), "{error}");
        assert!(error.to_string().contains("hint:"), "{error}");
    }
    // Nothing of it is there, and the second goes on.
    assert_eq!(second.sweeps().await.unwrap().len(), 1);
    assert_eq!(second.workers().await.unwrap()[0].devices.len(), 1);
    let stored = second.ingest(&[batch(&key, 1, 0, &[(Metric::TrainLoss, 1, 2.0)])]).await;
    assert_eq!(stored.unwrap(), [Ingested::Durable(1)]);
    // The first is told also when it writes nothing.
    let told = tokio::time::timeout(Duration::from_secs(20), first.superseded()).await.unwrap();
    assert!(matches!(told, StoreError::Superseded { .. }));
}

#[tokio::test]
async fn a_coordinator_that_stands_still_in_a_write_does_not_hold_up_the_next() {
    let Some(address) = database("a_coordinator_that_stands_still") else { return };
    let first = Store::open(&address).await.unwrap();
    let mut stuck = database_of(&first).begin().await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(30), Store::open(&address)).await;
    second.unwrap().unwrap();
    // What it comes back with goes nowhere.
    let late = sqlx::query("UPDATE coordinator SET epoch = 1").execute(&mut *stuck).await;
    assert!(late.is_err());
}

#[tokio::test]
async fn a_reader_is_beside_the_one_writer() {
    let Some(address) = database("a_reader_is_beside_the_one_writer") else { return };
    let none = Store::open_to_read(&address).await.unwrap_err();
    assert!(matches!(none, StoreError::NotAStore { .. }), "{none}");
    let writer = Store::open(&address).await.unwrap();
    writer.submit(&sweep('a', &[100])).await.unwrap();
    let reader = Store::open_to_read(&address).await.unwrap();
    assert_eq!(reader.sweeps().await.unwrap().len(), 1);
    assert!(reader.submit(&sweep('b', &[200])).await.is_err(), "a reader cannot write");
    writer.submit(&sweep('c', &[200])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_no_is_named() {
    let nothing = Store::open("postgres://me@127.0.0.1:1/db").await.unwrap_err();
    assert!(matches!(nothing, StoreError::NoServer { .. }), "{nothing}");
    let Some(address) = database("a_server_that_says_no") else { return };
    let missing = Store::open(&format!("{address}_missing")).await.unwrap_err();
    assert!(matches!(missing, StoreError::Refused { .. }), "{missing}");
    assert!(missing.to_string().contains("does not exist"), "{missing}");
}

#[tokio::test]
async fn a_commit_that_was_answered_is_on_the_disk() {
    let Some(address) = database("a_commit_that_was_answered") else { return };
    let store = Store::open(&address).await.unwrap();
    let row = sqlx::query("SHOW synchronous_commit").fetch_one(&database_of(&store).writer).await;
    assert_eq!(sqlx::Row::get::<String, _>(&row.unwrap(), 0), "on");
}
