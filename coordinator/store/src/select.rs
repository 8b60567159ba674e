//! One statement of a reader's own: what it selects, up to a number of rows, and never a change.
//!
//! Three things keep it so. The statement must be one that begins as a query does; it is asked for as
//! the source of another one, where a statement that writes is no SQL; and the file is opened for
//! reading only, or the server is told that the transaction reads. The views `v_run` and `v_point`
//! are what it should read: their columns stay (`migrations/README.md`).

use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Decode, Executor as _, PgConnection, Row as _,
    SqlSafeStr as _, Sqlite, SqliteConnection, Statement as _, TypeInfo as _, ValueRef as _,
    postgres::PgRow,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::{database::Database, error::StoreError, sqlite::BUSY_TIMEOUT};

/// Views that are made to be read by hand.
pub const VIEWS: [&str; 2] = ["v_run", "v_point"];

/// Words that a query begins with.
const FIRST_WORDS: [&str; 3] = ["select", "with", "values"];

/// What a statement selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// A value for each column.
    pub rows: Vec<Vec<Datum>>,
    /// Whether there are rows beyond these.
    pub more: bool,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// Absent.
    Null,
    /// True or false; a file has 1 and 0 in its place.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Real(f64),
    /// A text.
    Text(String),
}

impl Database {
    /// Selects at most `rows_max` rows by a statement of the reader's own.
    ///
    /// # Errors
    /// [`StoreError::NotAQuery`] for anything but one statement that reads, [`StoreError::Statement`]
    /// for one that the database does not understand.
    pub async fn select(&self, statement: &str, rows_max: u32) -> Result<Selected, StoreError> {
        let statement = one_query(statement)?;
        // One more than is shown says that there are more. A comment at the end must not swallow the
        // parenthesis.
        let limit = u64::from(rows_max) + 1;
        let bounded = format!("SELECT * FROM (\n{statement}\n) AS selected LIMIT {limit}");
        let found = match self {
            Self::Sqlite(sqlite) => {
                let options = SqliteConnectOptions::new()
                    .filename(&sqlite.path)
                    .create_if_missing(false)
                    .read_only(true)
                    .busy_timeout(BUSY_TIMEOUT)
                    .pragma("query_only", "on");
                let connection = SqliteConnection::connect_with(&options).await;
                let mut connection = connection.map_err(|error| self.failed(error))?;
                from_file(&mut connection, bounded).await
            }
            Self::Postgres(server) => {
                let connection = server.reader.acquire().await;
                let mut connection = connection.map_err(|error| self.failed(error))?;
                from_server(&mut connection, bounded).await
            }
        };
        let (columns, mut rows) = found.map_err(|error| self.refused(error))?;
        let more = rows.len() > rows_max as usize;
        rows.truncate(rows_max as usize);
        Ok(Selected { columns, rows, more })
    }

    /// What the database said of the statement, apart from what it said of itself.
    fn refused(&self, error: sqlx::Error) -> StoreError {
        let code = match &error {
            sqlx::Error::Database(said) => said.code().map(|code| code.into_owned()),
            _ => None,
        };
        match code.as_deref() {
            // SQLITE_READONLY; a transaction that reads; a change in the source of a query.
            Some("8" | "25006" | "0A000") => StoreError::NotAQuery("it writes".to_owned()),
            // SQLITE_ERROR; syntax and names, values.
            Some(code) if code == "1" || code.starts_with("42") || code.starts_with("22") => {
                let reason = match &error {
                    sqlx::Error::Database(said) => said.message().to_owned(),
                    other => other.to_string(),
                };
                StoreError::Statement(reason)
            }
            _ => self.failed(error),
        }
    }
}

type Found = Result<(Vec<String>, Vec<Vec<Datum>>), sqlx::Error>;

async fn from_file(connection: &mut SqliteConnection, statement: String) -> Found {
    let statement = AssertSqlSafe(statement).into_sql_str();
    let prepared = (&mut *connection).prepare(statement).await?;
    let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    let rows = prepared.query().fetch_all(connection).await?;
    let data = |row: &SqliteRow| (0..row.len()).map(|at| file_datum(row, at)).collect();
    Ok((columns, rows.iter().map(data).collect::<Result<_, _>>()?))
}

fn file_datum(row: &SqliteRow, at: usize) -> Result<Datum, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Datum::Null);
    }
    // Of a value the type is how it is stored, whatever the column was declared as.
    let stored = value.type_info().name().to_owned();
    let decoded = match stored.as_str() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(value).map(Datum::Int),
        "REAL" => <f64 as Decode<Sqlite>>::decode(value).map(Datum::Real),
        "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(value).map(|b| Datum::Text(digits(&b))),
        _ => <String as Decode<Sqlite>>::decode(value).map(Datum::Text),
    };
    decoded.map_err(sqlx::Error::Decode)
}

fn digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

async fn from_server(connection: &mut PgConnection, statement: String) -> Found {
    let mut tx = connection.begin_with("BEGIN READ ONLY").await?;
    // To prepare it names the columns, also of no row, and refuses a second statement.
    let prepared = (&mut *tx).prepare(AssertSqlSafe(statement.clone()).into_sql_str()).await?;
    let columns = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    // Unprepared, every type comes as text.
    let rows = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(&mut *tx).await?;
    let data = |row: &PgRow| (0..row.len()).map(|at| server_datum(row, at)).collect();
    let rows = rows.iter().map(data).collect::<Result<_, _>>()?;
    tx.rollback().await?;
    Ok((columns, rows))
}

fn server_datum(row: &PgRow, at: usize) -> Result<Datum, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    let whole = || text.parse().ok().map(Datum::Int);
    let real = || text.parse().ok().map(Datum::Real);
    let datum = match row.column(at).type_info().name() {
        "BOOL" => Some(Datum::Bool(text == "t")),
        "INT2" | "INT4" | "INT8" => whole(),
        "FLOAT4" | "FLOAT8" => real(),
        // A sum of whole numbers is one of these.
        "NUMERIC" => whole().or_else(real),
        _ => None,
    };
    Ok(datum.unwrap_or_else(|| Datum::Text(text.to_owned())))
}

/// The statement without what may follow it, where it is one and begins as a query does.
fn one_query(statement: &str) -> Result<&str, StoreError> {
    let refused = |reason: &str| Err(StoreError::NotAQuery(reason.to_owned()));
    let (one, rest) = split(statement);
    if !split(rest).0.is_empty() || !split(rest).1.is_empty() {
        return refused("there is more than one statement");
    }
    let first: String =
        one.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
    match first.as_str() {
        _ if one.is_empty() => refused("it is empty"),
        word if FIRST_WORDS.contains(&word) => Ok(one),
        _ => refused(&format!("it begins with `{}`", one.split_whitespace().next().unwrap_or(""))),
    }
}

/// The first statement of a text, and what comes after its semicolon. Semicolons in quotes and
/// comments end nothing; comments before a statement are no part of it.
fn split(text: &str) -> (&str, &str) {
    let text = without_leading_comments(text);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == ';' {
            return (&text[..text.len() - rest.len()], &rest[1..]);
        }
        let passed = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            _ => first.len_utf8(),
        };
        rest = &rest[passed..];
    }
    (text, "")
}

/// Bytes of a quoted text, from its first quote to its last; a doubled quote is two of them.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |at| at + 2)
}

fn without_leading_comments(text: &str) -> &str {
    let mut text = text.trim_start();
    loop {
        let after = match text {
            line if line.starts_with("--") => line.split_once('\n').map_or("", |(_, rest)| rest),
            block if block.starts_with("/*") => block.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return text,
        };
        text = after.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_that_reads_is_let_through() {
        for text in [
            "select 1",
            "SELECT 'a;b', \"c;d\" FROM run",
            "-- which\n/* runs */ with a as (select 1) select * from a;  -- all of them",
            "values (1), (2) ;",
            "select 'it''s; one' -- a; comment",
            "select 1 /* a; comment */",
            "select 1;;",
        ] {
            one_query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        assert_eq!(one_query("select 1 ; ").unwrap(), "select 1 ");
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, part) in [
            ("", "empty"),
            (" -- nothing", "empty"),
            ("delete from run", "begins with `delete`"),
            ("pragma query_only = off", "begins with `pragma`"),
            ("attach 'x' as y", "begins with `attach`"),
            ("select 1; drop table run", "more than one"),
            ("select ';'; select 2", "more than one"),
            ("selection", "begins with"),
        ] {
            let error = one_query(text).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains("hint:"), "{text}: {error}");
        }
    }
}
