//! One SQL text for SQLite and Postgres: parameters are `$1`, `$2`, ... and both read them.
//!
//! Nothing here knows a table. Text that must differ between the two says so where it stands, by
//! [`Query::of`]. Lists become one parameter: an array on Postgres (`unnest`), a JSON text on SQLite
//! (`json_each`).

use sqlx::{
    ColumnIndex, PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction,
    postgres::{PgArguments, PgRow},
    query::Query as Prepared,
    sqlite::{SqliteArguments, SqliteRow},
};
use sweep_spec::id::{RunId, SweepId};

/// Connections to one of the two.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A write transaction; dropped without a commit, it changed nothing.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        #[cfg(feature = "simulation")]
        let edge = crate::simulation::Edge::begin();
        let done = match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        };
        #[cfg(feature = "simulation")]
        edge.end();
        done
    }
}

/// Where a statement runs.
pub(crate) enum On<'a> {
    Pool(Pool),
    Tx(&'a mut Tx),
}

impl From<Pool> for On<'_> {
    fn from(pool: Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

/// A row of either.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, by name or place.
    pub(crate) fn try_get<T: Field>(&self, column: impl Column) -> Result<T, sqlx::Error> {
        T::read(self, column)
    }
}

/// Name or place of a column.
pub(crate) trait Column: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> {}

impl<T: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>> Column for T {}

/// What can be read from a column.
pub(crate) trait Field: Sized {
    fn read(row: &Row, column: impl Column) -> Result<Self, sqlx::Error>;
}

macro_rules! fields {
    ($($type:ty)*) => {
        $(impl Field for $type {
            fn read(row: &Row, column: impl Column) -> Result<Self, sqlx::Error> {
                match row {
                    Row::Sqlite(row) => row.try_get(column),
                    Row::Postgres(row) => row.try_get(column),
                }
            }
        })*
    };
}

fields! { bool i64 f64 String Option<i64> Option<f64> Option<String> }

/// Ids are the texts that people see.
macro_rules! ids {
    ($($type:ty)*) => {
        $(impl Field for $type {
            fn read(row: &Row, column: impl Column) -> Result<Self, sqlx::Error> {
                let text = String::read(row, column)?;
                text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
            }
        })*
    };
}

ids! { RunId SweepId }

impl Field for Option<u32> {
    fn read(row: &Row, column: impl Column) -> Result<Self, sqlx::Error> {
        let value: Option<i64> = row.try_get(column)?;
        let narrow = value.map(u32::try_from).transpose();
        narrow.map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

impl Field for u32 {
    fn read(row: &Row, column: impl Column) -> Result<Self, sqlx::Error> {
        let value = i64::read(row, column)?;
        Self::try_from(value).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// A parameter. Absent values keep their type: Postgres asks for it.
pub(crate) enum Value {
    Bool(bool),
    Int(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Ints(Vec<i64>),
    OptionalInts(Vec<Option<i64>>),
    Texts(Vec<String>),
    /// Only on Postgres: SQLite reads numbers of a JSON text without their last bit.
    Reals(Vec<Option<f64>>),
}

macro_rules! values {
    ($($type:ty => |$value:ident| $made:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        })*
    };
}

values! {
    bool => |value| Self::Bool(value);
    i64 => |value| Self::Int(Some(value));
    u32 => |value| Self::Int(Some(value.into()));
    Option<i64> => |value| Self::Int(value);
    Option<u32> => |value| Self::Int(value.map(i64::from));
    f64 => |value| Self::Real(Some(value));
    Option<f64> => |value| Self::Real(value);
    &str => |value| Self::Text(Some(value.to_owned()));
    char => |value| Self::Text(Some(value.to_string()));
    String => |value| Self::Text(Some(value));
    &String => |value| Self::Text(Some(value.clone()));
    &Option<String> => |value| Self::Text(value.clone());
    Vec<i64> => |value| Self::Ints(value);
    Vec<Option<i64>> => |value| Self::OptionalInts(value);
    Vec<String> => |value| Self::Texts(value);
    Vec<Option<f64>> => |value| Self::Reals(value);
}

/// A statement with its parameters.
pub(crate) struct Query {
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

/// A statement that both read.
pub(crate) fn query(text: &'static str) -> Query {
    Query::of(text, text)
}

impl Query {
    /// A statement that the two write differently.
    pub(crate) fn of(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres, values: Vec::new() }
    }

    /// The next parameter.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; gives the number of rows it changed.
    pub(crate) async fn execute(self, on: impl Into<On<'_>>) -> Result<u64, sqlx::Error> {
        let (sqlite, postgres) = (self.sqlite, self.postgres);
        Ok(match on.into() {
            On::Pool(Pool::Sqlite(pool)) => {
                for_sqlite(sqlite, self.values).execute(&pool).await?.rows_affected()
            }
            On::Tx(Tx::Sqlite(tx)) => {
                for_sqlite(sqlite, self.values).execute(&mut **tx).await?.rows_affected()
            }
            On::Pool(Pool::Postgres(pool)) => {
                for_postgres(postgres, self.values).execute(&pool).await?.rows_affected()
            }
            On::Tx(Tx::Postgres(tx)) => {
                for_postgres(postgres, self.values).execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    /// All its rows.
    pub(crate) async fn fetch_all(self, on: impl Into<On<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        let (sqlite, postgres) = (self.sqlite, self.postgres);
        match on.into() {
            On::Pool(Pool::Sqlite(pool)) => {
                let rows = for_sqlite(sqlite, self.values).fetch_all(&pool).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            On::Tx(Tx::Sqlite(tx)) => {
                let rows = for_sqlite(sqlite, self.values).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            On::Pool(Pool::Postgres(pool)) => {
                let rows = for_postgres(postgres, self.values).fetch_all(&pool).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
            On::Tx(Tx::Postgres(tx)) => {
                let rows = for_postgres(postgres, self.values).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Its first row, if it has one.
    pub(crate) async fn fetch_optional(
        self,
        on: impl Into<On<'_>>,
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// Its first row.
    pub(crate) async fn fetch_one(self, on: impl Into<On<'_>>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// Holds a statement to the rows that were found for it in the same transaction: its guards leave out
/// none of them, or nothing of it may be stored.
pub(crate) fn all_of(expected: usize, changed: u64) -> Result<(), sqlx::Error> {
    if u64::try_from(expected) == Ok(changed) {
        return Ok(());
    }
    Err(sqlx::Error::Protocol(format!("{changed} rows were changed of the {expected} found")))
}

fn for_sqlite(
    text: &'static str,
    values: Vec<Value>,
) -> Prepared<'static, Sqlite, SqliteArguments> {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Bool(value) => query.bind(value),
        Value::Int(value) => query.bind(value),
        Value::Real(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Ints(values) => query.bind(json(&values)),
        Value::OptionalInts(values) => query.bind(json(&values)),
        Value::Texts(values) => query.bind(json(&values)),
        Value::Reals(values) => query.bind(json(&values)),
    })
}

fn json<T: serde::Serialize>(values: &[T]) -> String {
    serde_json::to_string(values).expect("lists of numbers and texts have a JSON form")
}

fn for_postgres(
    text: &'static str,
    values: Vec<Value>,
) -> Prepared<'static, Postgres, PgArguments> {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Bool(value) => query.bind(value),
        Value::Int(value) => query.bind(value),
        Value::Real(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Ints(values) => query.bind(values),
        Value::OptionalInts(values) => query.bind(values),
        Value::Texts(values) => query.bind(values),
        Value::Reals(values) => query.bind(values),
    })
}
