//! The schema of each database: made from scratch it is the one in its golden file, and so is one
//! that was brought up from any earlier number.

use std::{collections::BTreeSet, path::Path};

use sqlx::{Row as _, migrate::Migrator};

use super::*;

/// The schema as text, in an order of its own.
async fn schema(store: &Store) -> String {
    let lines: BTreeSet<String> = match store {
        Store::Database(Database::Sqlite(sqlite)) => {
            let rows = sqlx::query(
                "SELECT coalesce(sql, type || ' ' || name || ' ON ' || tbl_name) FROM sqlite_master \
                 WHERE name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND tbl_name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
            );
            let rows = rows.fetch_all(&sqlite.writer).await.unwrap();
            rows.iter().map(|row| words(row.get(0))).collect()
        }
        Store::Database(Database::Postgres(server)) => {
            let rows = sqlx::query(POSTGRES_SCHEMA).fetch_all(&server.writer).await.unwrap();
            rows.iter().map(|row| words(row.get(0))).collect()
        }
        Store::Memory(_) => panic!("memory has no schema"),
    };
    lines.into_iter().collect::<Vec<_>>().join("\n") + "\n"
}

/// Columns, keys, indexes and views, one line each.
const POSTGRES_SCHEMA: &str = "
SELECT 'column ' || table_name || '.' || column_name || ' ' || ordinal_position || ' ' || data_type
       || coalesce(' collate ' || collation_name, '') || ' nullable ' || is_nullable
       || coalesce(' default ' || column_default, '') || ' identity ' || is_identity
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    AND contype <> 'n' AND conrelid <> '_sqlx_migrations'::regclass
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'
UNION ALL
SELECT 'view ' || viewname || ' ' || definition FROM pg_views WHERE schemaname = 'public'";

/// One line with single spaces, and no comments.
fn words(text: String) -> String {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Holds a schema to its golden file; `SWEEP_UPDATE_GOLDEN=1` writes the file.
fn assert_golden(database: &str, schema: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../migrations/{database}/schema.golden"));
    // Servers of different versions print the text of a view differently.
    let tables = |line: &&str| database == "sqlite" || !line.starts_with("view ");
    let schema: String = schema.lines().filter(tables).flat_map(|line| [line, "\n"]).collect();
    if std::env::var_os("SWEEP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(schema == golden, "{} differs:\n{schema}", path.display());
}

/// The first migrations up to a number.
fn up_to(all: &Migrator, number: i64) -> Migrator {
    let first: Vec<_> = all.iter().filter(|step| step.version <= number).cloned().collect();
    Migrator::with_migrations(first)
}

#[tokio::test]
async fn a_file_from_scratch_is_one_brought_up_from_any_number() {
    let place = Place::Sqlite(tempfile::tempdir().unwrap());
    let scratch = place.open().await;
    assert_golden("sqlite", &schema(&scratch).await);
    let all = &crate::sqlite::MIGRATIONS;
    for number in all.iter().map(|step| step.version) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(folder.path().join("deep/sweep.db"))
            .create_if_missing(true);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        up_to(all, number).run(&pool).await.unwrap();
        if number == 1 {
            sqlx::raw_sql(FIRST_CONTENT).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let address = format!("sqlite:{}", folder.path().join("deep/sweep.db").display());
        match Store::open_to_read(&address).await {
            Err(StoreError::Earlier { found, .. }) => assert_eq!(found, number),
            read => assert!(read.is_ok() && all.iter().all(|step| step.version <= number)),
        }
        let place = Place::Sqlite(folder);
        let upgraded = place.open().await;
        assert_eq!(schema(&upgraded).await, schema(&scratch).await);
        if number == 1 {
            assert_first_content(&upgraded).await;
        }
    }
}

#[tokio::test]
async fn a_server_from_scratch_is_one_brought_up_from_any_number() {
    let Some(address) = postgres::database("a_server_from_scratch") else { return };
    let scratch = Store::open(&address).await.unwrap();
    assert_golden("postgres", &schema(&scratch).await);
    let all = &crate::postgres::MIGRATIONS;
    for number in all.iter().map(|step| step.version) {
        let address = postgres::database("a_server_from_scratch").unwrap();
        let pool = sqlx::PgPool::connect(&address).await.unwrap();
        up_to(all, number).run(&pool).await.unwrap();
        if number == 1 {
            sqlx::raw_sql(FIRST_CONTENT).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let upgraded = Store::open(&address).await.unwrap();
        assert_eq!(schema(&upgraded).await, schema(&scratch).await);
        if number == 1 {
            assert_first_content(&upgraded).await;
        }
    }
}

/// One run with two attempts, as the first schema holds it; both databases read it.
const FIRST_CONTENT: &str = "
INSERT INTO run (id, run_json, family, n_total, n_non_embedding, n_with_head, tokens, unique_tokens,
    flops, flops_6nd, steps, batch, sequence, width, layers, heads, vocabulary, mlp, seed, data_id,
    training_revision, learning_rate, base_width, weight_decay, warmup_steps, decay,
    decay_parameter, state, attempts, latest_step, latest_loss, latest_class)
VALUES ('00000000000000000000000000000001', '{}', 'lm', 1, 1, 1, 1, 1, 1.0, 1.0, 1, 1, 1, 1, 1, 1,
    1, 'swiglu', '7', 'd', 1, 0.1, 64, 0.1, 1, 'wsd', 0.2, 'running', 2, 40, 2.5, 0);
INSERT INTO worker (id, host, incarnation, joined_unix_ms) VALUES ('w', 'box', 1, 1);
INSERT INTO attempt (run_no, number, worker_no, incarnation, slot, device_id, device_name, backend,
    started_unix_ms, ended_unix_ms, outcome)
VALUES (1, 1, 1, 1, 0, 'cpu', 'cpu', 'cpu', 1, 2, 'lost'),
       (1, 2, 1, 1, 0, 'cpu', 'cpu', 'cpu', 3, NULL, NULL);
INSERT INTO ingest_cursor (attempt_no, last_seq) VALUES (1, 3), (2, 4);
";

async fn assert_first_content(store: &Store) {
    let id: RunId = "00000000000000000000000000000001".parse().unwrap();
    let record = store.run(&id).await.unwrap();
    assert_eq!((record.latest_step, record.latest_loss), (Some(40), Some(2.5)));
    let key = AttemptKey { run: id, number: 2 };
    assert_eq!(store.attempt_status(&key).await.unwrap().unwrap().last_seq, 4);
}
