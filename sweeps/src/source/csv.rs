//! CSV with a header, read row by row.

use std::{io::Read as Input, path::Path};

use super::{
    Collector, Read,
    error::SourceError,
    mapping::{Columns, Filter, Mapping},
};

pub(super) fn read(
    path: &Path,
    input: impl Input,
    mapping: &Mapping,
    filters: &[Filter],
) -> Result<Read, SourceError> {
    let malformed = |error: csv::Error| SourceError::Malformed {
        path: path.into(),
        message: format!("{error}; hint: every row has as many fields as the header, in UTF-8"),
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(input);
    let names: Vec<String> =
        reader.headers().map_err(malformed)?.iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Err(SourceError::Empty(path.into()));
    }
    let mut collector = Collector::new(path, Columns::resolve(path, names, mapping, filters)?);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(malformed)? {
        let line = record.position().map_or(0, csv::Position::line);
        collector.row(line, |column| record.get(column))?;
    }
    collector.finish()
}
