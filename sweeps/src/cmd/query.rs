//! `sweep query`: what one statement selects from a store. The database is opened here, for reading
//! only, and no coordinator is asked: a raw query over the network would be one more way in.

use std::{io, path::PathBuf};

use serde_json::{Value, json};
use sweep_store::{Database, Datum, Selected, StoreError, VIEWS};

use super::doctor::store::{self, StoreArgs};
use crate::{
    client::block_on,
    console::{Console, Format},
    exit::{Exit, Failure},
    output::table::{lines, table},
};

/// Arguments of `sweep query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One SELECT, over the views v_run and v_point; the columns of both are listed when absent
    statement: Option<String>,
    /// Read this SQLite file
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    db: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// Rows that are shown at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: u32,
    /// Print CSV instead of a table
    #[arg(long)]
    csv: bool,
}

/// Selects and prints.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let address = match &args.db {
        Some(path) => format!("sqlite:{}", path.display()),
        None => args.store.address(),
    };
    let selected = block_on(async {
        let database = store::open(&address).await?;
        match &args.statement {
            Some(statement) => database.select(statement, args.rows).await.map_err(refused),
            None => columns(&database).await,
        }
    })?;
    print(&selected, args.csv, console)?;
    if selected.more {
        console.say(format_args!(
            "the first {} rows, there are more; hint: --rows N shows more of them, LIMIT and WHERE \
             choose",
            selected.rows.len()
        ))?;
    }
    Ok(Exit::Done)
}

fn refused(error: StoreError) -> Failure {
    let exit = match error {
        StoreError::NotAQuery(_) | StoreError::Statement(_) => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// The columns of the views.
async fn columns(database: &Database) -> Result<Selected, Failure> {
    let mut rows = Vec::new();
    for view in VIEWS {
        let empty = database.select(&format!("SELECT * FROM {view}"), 0).await.map_err(refused)?;
        rows.extend(empty.columns.into_iter().map(|column| vec![text(view), text(&column)]));
    }
    Ok(Selected { columns: vec!["view".to_owned(), "column".to_owned()], rows, more: false })
}

fn text(text: &str) -> Datum {
    Datum::Text(text.to_owned())
}

fn print(selected: &Selected, csv: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    match console.format {
        _ if csv => print_csv(selected, console)?,
        Format::Json => {
            let rows: Vec<Vec<Value>> =
                selected.rows.iter().map(|row| row.iter().map(value).collect()).collect();
            console.json(&json!({
                "schema": "sweep.query/1",
                "columns": selected.columns,
                "rows": rows,
                "more": selected.more,
            }))?;
        }
        Format::Quiet => {
            for first in selected.rows.iter().filter_map(|row| row.first()) {
                writeln!(console.out, "{}", shown(first))?;
            }
        }
        Format::Table => {
            let header: Vec<&str> = selected.columns.iter().map(String::as_str).collect();
            let mut shown_rows = table(&header, &texts(selected));
            for row in &selected.rows {
                shown_rows.add_row(row.iter().map(shown).collect::<Vec<_>>());
            }
            writeln!(console.out, "{}", lines(&shown_rows))?;
        }
    }
    Ok(())
}

fn print_csv(selected: &Selected, console: &mut Console<'_>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(&mut *console.out);
    writer.write_record(&selected.columns)?;
    for row in &selected.rows {
        writer.write_record(row.iter().map(shown))?;
    }
    writer.flush()
}

/// Columns with a text in them, which stand to the left.
fn texts(selected: &Selected) -> Vec<usize> {
    let is_text = |column: usize| {
        selected.rows.iter().any(|row| matches!(row.get(column), Some(Datum::Text(_))))
    };
    (0..selected.columns.len()).filter(|&column| is_text(column)).collect()
}

/// A value as JSON; one that is not finite is `null`, as JSON has no NaN: `v_point` tells its class.
fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Null => Value::Null,
        Datum::Bool(value) => json!(value),
        Datum::Int(value) => json!(value),
        Datum::Real(value) => json!(value),
        Datum::Text(value) => json!(value),
    }
}

/// A value as text; absent is empty.
fn shown(datum: &Datum) -> String {
    match datum {
        Datum::Null => String::new(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Real(value) => value.to_string(),
        Datum::Text(value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use sweep_store::Store;

    use super::*;
    use crate::cmd::called::{Said, call};

    /// An empty store, and what a statement says of it.
    fn ask(format: Format, words: &[&str]) -> Said {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sweep.db");
        let made = block_on(async {
            let store = Store::open(&format!("sqlite:{}", path.display())).await;
            store.expect("opens").close().await.expect("closes");
            Ok(())
        });
        made.expect("made");
        let path = path.display().to_string();
        call(run, format, &[&["query", "--db", &path], words].concat())
    }

    const ROWS: &str = "values (1, 'a b', null, 9e999), (2, 'c,d', 0.5, -1.0)";

    #[test]
    fn rows_are_printed_in_every_form() {
        let said = ask(Format::Table, &[ROWS]);
        let words: Vec<Vec<&str>> =
            said.out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["column1", "column2", "column3", "column4"]);
        assert_eq!(words[1], ["1", "a", "b", "inf"], "absent is empty");
        assert_eq!(words[2], ["2", "c,d", "0.5", "-1"]);
        let said = ask(Format::Table, &[ROWS, "--csv"]);
        assert_eq!(said.out, "column1,column2,column3,column4\n1,a b,,inf\n2,\"c,d\",0.5,-1\n");
        assert_eq!(ask(Format::Quiet, &[ROWS]).out, "1\n2\n");
        let said = ask(Format::Json, &[ROWS, "--rows", "1"]);
        let found: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(found["rows"], json!([[1, "a b", null, null]]));
        assert_eq!((&found["schema"], &found["more"]), (&json!("sweep.query/1"), &json!(true)));
        assert!(said.err.contains("hint:"), "{}", said.err);
    }

    #[test]
    fn the_views_are_listed_and_changes_refused() {
        let said = ask(Format::Table, &[]);
        assert!(said.out.contains("v_run") && said.out.contains("budget_flops"), "{}", said.out);
        assert!(said.out.contains("v_point") && said.out.contains("metric"), "{}", said.out);
        for (statement, part) in [
            ("delete from run", "begins with `delete`"),
            ("select 1; select 2", "more than one"),
            ("select colour from v_run", "no such column: colour"),
        ] {
            let said = ask(Format::Table, &[statement]);
            assert_eq!(said.exit, Exit::Usage, "{}", said.err);
            assert!(said.err.contains(part) && said.err.contains("hint:"), "{}", said.err);
        }
        let said = call(run, Format::Table, &["query", "--db", "/nowhere/a.db", "select 1"]);
        assert_eq!(said.exit, Exit::NoMatch, "{}", said.err);
    }
}
