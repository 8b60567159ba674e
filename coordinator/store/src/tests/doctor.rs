//! Every check of the doctor finds what it is for, and nothing in a store that nobody damaged.

use super::*;

/// What breaks each rule, in a store with run 100 (finished in its second attempt) and run 200
/// (running). The last column stands where only one of the databases lets it happen.
const DAMAGE: &[(&str, &str)] = &[
    ("live-attempts", "UPDATE run SET state = 'queued' WHERE state = 'running'"),
    ("attempt-numbers", "UPDATE run SET attempts = 3 WHERE state = 'finished'"),
    ("outcomes", "UPDATE attempt SET outcome = 'lost' WHERE outcome = 'finished'"),
    ("budgets", "UPDATE run SET failures_program = 9"),
    ("lineage", "UPDATE attempt SET lineage_until = 30 WHERE number = 1"),
    ("resume-steps", "UPDATE attempt SET lineage_after = 5 WHERE number = 1"),
    ("resume-checkpoints", "DELETE FROM checkpoint"),
    ("point-owners", "UPDATE point SET attempt_no = 99 WHERE step = 40"),
    ("point-batches", "DELETE FROM ingest_cursor"),
    ("point-steps", "UPDATE point SET step = 7 WHERE step = 40"),
    ("point-values", "UPDATE point SET value = NULL"),
    ("checkpoints", "UPDATE checkpoint SET run_no = 2"),
    ("metrics", "UPDATE metric SET name = 'train/lost' WHERE metric_no = 1"),
    ("identities", "UPDATE run SET run_json = replace(run_json, '\"steps\":100', '\"steps\":101')"),
    ("facts", "UPDATE run SET flops = flops + 1"),
];

const SQLITE_DAMAGE: &[(&str, &str)] = &[("keys", "DELETE FROM worker")];
const POSTGRES_DAMAGE: &[(&str, &str)] = &[("epoch", "DELETE FROM coordinator")];

/// Fills a store so that every check has something to look at.
async fn filled(place: &Place) -> Store {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200])).await.unwrap();
    let (id, other) = (run(100).config.id(), run(200).config.id());
    store.grant(&[grant(&id, 1), grant(&other, 1)]).await.unwrap();
    let first = AttemptKey { run: id.clone(), number: 1 };
    let losses: Vec<_> = (1..=30).map(|step| (Metric::TrainLoss, step, 1.0)).collect();
    store.ingest(&[batch(&first, 1, 0, &losses)]).await.unwrap();
    let checkpoint = CheckpointRow {
        key: first.clone(),
        step: 20,
        hash: "ab".into(),
        bytes: None,
        requires_seq: 1,
        unix_ms: 4,
    };
    store.commit_checkpoint(&checkpoint).await.unwrap();
    let failures = Failures { infrastructure: 1, ..Failures::default() };
    let lost = EndRow { failures, ..end(&first, Outcome::Lost, RunState::Queued) };
    store.end(&[lost]).await.unwrap();
    store.grant(&[grant(&id, 2)]).await.unwrap();
    let second = AttemptKey { run: id, number: 2 };
    let losses: Vec<_> = (21..=40).map(|step| (Metric::TrainLoss, step, f64::NAN)).collect();
    store.ingest(&[batch(&second, 1, 20, &losses)]).await.unwrap();
    let finished = EndRow { failures, ..end(&second, Outcome::Finished, RunState::Finished) };
    store.end(&[finished]).await.unwrap();
    store
}

async fn broken(store: &Store) -> Vec<&'static str> {
    let Store::Database(database) = store else { panic!("no database") };
    let findings = database.doctor().await.unwrap();
    let broken = findings.iter().filter(|finding| !finding.broken.is_empty());
    broken.map(|finding| finding.check).collect()
}

#[tokio::test]
async fn every_damage_to_a_file_is_found() {
    for (check, damage) in DAMAGE.iter().chain(SQLITE_DAMAGE) {
        let place = Place::Sqlite(tempfile::tempdir().unwrap());
        let store = filled(&place).await;
        assert!(broken(&store).await.is_empty(), "{:?}", broken(&store).await);
        let Store::Database(Database::Sqlite(sqlite)) = &store else { panic!("no file") };
        let mut connection = sqlite.writer.acquire().await.unwrap();
        sqlx::query("PRAGMA foreign_keys = off").execute(&mut *connection).await.unwrap();
        sqlx::query(*damage).execute(&mut *connection).await.unwrap();
        drop(connection);
        assert!(broken(&store).await.contains(check), "{check}: {:?}", broken(&store).await);
    }
}

#[tokio::test]
async fn every_damage_to_a_server_is_found() {
    let Some(_) = postgres::database("every_damage_to_a_server_is_found") else { return };
    for (check, damage) in DAMAGE.iter().chain(POSTGRES_DAMAGE) {
        let place = Place::Postgres(postgres::database("doctor").unwrap());
        let store = filled(&place).await;
        assert!(broken(&store).await.is_empty(), "{:?}", broken(&store).await);
        let Store::Database(Database::Postgres(server)) = &store else { panic!("no server") };
        let mut connection = server.writer.acquire().await.unwrap();
        // Keys are held by triggers, which replicas leave out.
        let replica = sqlx::query("SET session_replication_role = replica");
        replica.execute(&mut *connection).await.unwrap();
        sqlx::query(*damage).execute(&mut *connection).await.unwrap();
        drop(connection);
        assert!(broken(&store).await.contains(check), "{check}: {:?}", broken(&store).await);
    }
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/sweep.db");
    let place = Place::Sqlite(folder);
    filled(&place).await.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The last page belongs to an index or a table; its content, not its header.
    let end = bytes.len();
    bytes[end - 200..].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    let store = Store::open_to_read(&format!("sqlite:{}", path.display())).await.unwrap();
    let Store::Database(database) = &store else { panic!("no database") };
    // Either the check says so, or the file cannot even be read through.
    if let Ok(findings) = database.doctor().await {
        assert!(findings.iter().any(|finding| !finding.broken.is_empty()));
    }
}
