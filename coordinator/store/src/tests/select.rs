//! Statements of a reader's own, on both databases.

use super::*;

async fn filled(place: &Place) -> Store {
    let store = place.with_worker().await;
    store.submit(&sweep('a', &[100, 200, 300])).await.unwrap();
    let key = AttemptKey { run: run(100).config.id(), number: 1 };
    store.grant(&[grant(&key.run, 1)]).await.unwrap();
    let points = [(Metric::TrainLoss, 1, 2.5), (Metric::TrainLoss, 2, f64::INFINITY)];
    store.ingest(&[batch(&key, 1, 0, &points)]).await.unwrap();
    store
}

fn database(store: &Store) -> &Database {
    match store {
        Store::Database(database) => database,
        Store::Memory(_) => panic!("memory has no statements"),
    }
}

async fn both(place: Place) {
    let store = filled(&place).await;
    let reader = database(&store);
    let select = async |statement: &str, rows| reader.select(statement, rows).await.unwrap();
    let found = select("select steps, role, flops, reason from v_run order by steps", 10).await;
    assert_eq!(found.columns, ["steps", "role", "flops", "reason"]);
    assert_eq!((found.rows.len(), found.more), (3, false));
    let first = &found.rows[0];
    assert_eq!(first[..2], [Datum::Int(100), Datum::Text("fit".into())]);
    assert!(matches!(first[2], Datum::Real(flops) if flops > 0.0), "{first:?}");
    assert_eq!(first[3], Datum::Null);
    let two = select("select steps from v_run order by steps -- all", 2).await;
    assert_eq!((two.rows.len(), two.more), (2, true));
    let points = select("select value, class from v_point order by step", 10).await;
    let infinite = [Datum::Real(f64::INFINITY), Datum::Text("+inf".into())];
    assert_eq!(points.rows, [[Datum::Real(2.5), Datum::Text("finite".into())], infinite]);
    let sum = select("with a as (select steps from v_run) select sum(steps) as s from a;", 1).await;
    assert_eq!((sum.columns, sum.rows), (vec!["s".to_owned()], vec![vec![Datum::Int(600)]]));
    for view in VIEWS {
        let empty = select(&format!("select * from {view}"), 0).await;
        assert!(empty.columns.contains(&"run_id".to_owned()), "{view}: {:?}", empty.columns);
        assert!(empty.rows.is_empty() && empty.more);
    }

    let refused = async |statement: &str| reader.select(statement, 10).await.unwrap_err();
    for statement in ["update run set state = 'failed'", "select 1; select 2", "vacuum", ""] {
        let error = refused(statement).await;
        assert!(matches!(error, StoreError::NotAQuery(_)), "{statement}: {error}");
    }
    // What begins as a query and is none: no change is made of it.
    for statement in [
        "with gone as (delete from run returning *) select * from gone",
        "select 1) as a; delete from point; select * from (select 1",
        "select colour from v_run",
        "select from where",
    ] {
        let error = refused(statement).await;
        let told = matches!(error, StoreError::NotAQuery(_) | StoreError::Statement(_));
        assert!(told && error.to_string().contains("hint:"), "{statement}: {error}");
    }
    assert_eq!(select("select count(*) from v_point", 1).await.rows, [[Datum::Int(2)]]);
    assert_eq!(select("select count(*) from run", 1).await.rows, [[Datum::Int(3)]]);
}

#[tokio::test]
async fn a_file_answers_what_is_asked_and_changes_nothing() {
    both(Place::Sqlite(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn a_server_answers_what_is_asked_and_changes_nothing() {
    let Some(address) = postgres::database("a_server_answers_what_is_asked") else { return };
    both(Place::Postgres(address)).await;
}

#[tokio::test]
async fn a_file_is_opened_for_reading_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/sweep.db");
    let address = format!("sqlite:{}", path.display());
    drop(filled(&Place::Sqlite(folder)).await);
    let missing = Database::open_to_read("sqlite:/nowhere/sweep.db").await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }));
    // The folder is gone with the store; a reader makes no file.
    assert!(Database::open_to_read(&address).await.is_err() && !path.exists());
}
