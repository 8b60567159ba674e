//! Observations from files: which column means what, which rows are wanted, and where a cell that
//! is no number stands. What a law makes of them is not known here.

mod csv;
mod error;
mod guard;
mod json_lines;
mod mapping;
mod own;
mod parquet;

use std::{fs::File, io::BufReader, path::Path};

use sweep_fit::Observation;

use self::mapping::Columns;
pub(crate) use self::{
    error::SourceError,
    mapping::{Filter, Mapping},
};

/// Rows read from one table: a fit over as many stays below 500 MiB, and it is far beyond any
/// sweep.
const MAX_ROWS: usize = sweep_fit::MAX_OBSERVATIONS;

/// Bad rows that are named one by one; a column of text would otherwise name them all.
pub(crate) const MAX_NAMED: usize = 20;

/// What a table gave.
#[derive(Debug)]
pub(crate) struct Read {
    /// The rows that `--where` let through.
    pub(crate) observations: Vec<Observation>,
    /// What each row cost in GPU-seconds, in the order of the observations; empty where no column
    /// is mapped.
    pub(crate) seconds: Vec<f64>,
    /// The columns beside the roles, for each row.
    pub(crate) extras: Vec<Vec<Option<f64>>>,
    /// What a place in the table is called in messages.
    pub(crate) unit: &'static str,
    /// What each column was taken for.
    pub(crate) roles: String,
    /// A column that names runs, where no group is mapped.
    pub(crate) run_column: Option<String>,
}

/// Reads the observations of a CSV, JSON-lines or Parquet file.
///
/// # Errors
/// [`SourceError`] names the file, the line and the column.
pub(crate) fn read(
    path: &Path,
    mapping: &Mapping,
    filters: &[Filter],
) -> Result<Read, SourceError> {
    let file = File::open(path).map_err(|error| SourceError::Open { path: path.into(), error })?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => json_lines::read(path, BufReader::new(file), mapping, filters),
        "parquet" | "pq" => parquet::read(path, file, mapping, filters),
        _ => csv::read(path, BufReader::new(file), mapping, filters),
    }
}

/// Collects observations and complaints row by row.
struct Collector<'a> {
    path: &'a Path,
    columns: Columns<'a>,
    observations: Vec<Observation>,
    seconds: Vec<f64>,
    extras: Vec<Vec<Option<f64>>>,
    bad: Vec<String>,
    bad_count: usize,
}

impl<'a> Collector<'a> {
    fn new(path: &'a Path, columns: Columns<'a>) -> Self {
        Self {
            path,
            columns,
            observations: Vec::new(),
            seconds: Vec::new(),
            extras: Vec::new(),
            bad: Vec::new(),
            bad_count: 0,
        }
    }

    /// Takes a row, given its cells by column.
    fn row<'c>(
        &mut self,
        line: u64,
        cell: impl Fn(usize) -> Option<&'c str>,
    ) -> Result<(), SourceError> {
        if !self.columns.wanted(&cell) {
            return Ok(());
        }
        if self.observations.len() == MAX_ROWS {
            return Err(SourceError::TooLong { path: self.path.into(), rows: MAX_ROWS });
        }
        match self.columns.observation(line, cell) {
            Ok(row) => {
                self.observations.push(row.observation);
                self.seconds.extend(row.seconds);
                if !row.extras.is_empty() {
                    self.extras.push(row.extras);
                }
            }
            Err(complaints) => {
                self.bad_count += 1;
                if self.bad_count <= MAX_NAMED {
                    self.bad.extend(complaints);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Read, SourceError> {
        if self.bad_count > 0 {
            return Err(SourceError::BadRows {
                path: self.path.into(),
                rows: self.bad,
                more: self.bad_count.saturating_sub(MAX_NAMED),
            });
        }
        Ok(Read {
            observations: self.observations,
            seconds: self.seconds,
            extras: self.extras,
            unit: self.columns.unit(),
            roles: self.columns.roles(),
            run_column: self.columns.run_column(),
        })
    }
}

#[cfg(test)]
mod tests;
