//! Parquet, read row group by row group and page by page, and only the columns that are asked for:
//! memory does not grow with the file. Rows count from 1.

use std::{fs::File, path::Path, sync::Arc};

use parquet::{
    errors::ParquetError,
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field,
    schema::types::Type,
};

use super::{
    Collector, MAX_ROWS, Read,
    error::SourceError,
    guard::guarded,
    mapping::{Columns, Filter, Mapping},
};

pub(super) fn read(
    path: &Path,
    file: File,
    mapping: &Mapping,
    filters: &[Filter],
) -> Result<Read, SourceError> {
    if file.metadata().is_ok_and(|facts| facts.len() == 0) {
        return Err(SourceError::Empty(path.into()));
    }
    // The library panics on some damage.
    guarded(|| read_whole(path, file, mapping, filters)).unwrap_or_else(|| {
        let message = "a damaged Parquet file; hint: copy or write it again".to_owned();
        Err(SourceError::Malformed { path: path.into(), message })
    })
}

fn read_whole(
    path: &Path,
    file: File,
    mapping: &Mapping,
    filters: &[Filter],
) -> Result<Read, SourceError> {
    let malformed = |error: ParquetError| SourceError::Malformed {
        path: path.into(),
        message: format!(
            "no whole Parquet file ({error}); hint: a file cut short has lost its footer, so write \
             it again"
        ),
    };
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    let facts = reader.metadata().file_metadata();
    // Known before anything is read, where no filter can make it fewer.
    if filters.is_empty() && usize::try_from(facts.num_rows()).is_ok_and(|rows| rows > MAX_ROWS) {
        return Err(SourceError::TooLong { path: path.into(), rows: MAX_ROWS });
    }
    let fields = facts.schema().get_fields();
    let names = fields.iter().map(|field| field.name().to_owned()).collect();
    let columns = Columns::resolve(path, names, mapping, filters)?.counted_by("row");
    let needed = columns.needed();
    let chosen: Vec<Arc<Type>> = needed.iter().map(|&column| Arc::clone(&fields[column])).collect();
    if let Some(nested) = chosen.iter().find(|field| field.is_group()) {
        return Err(SourceError::Malformed {
            path: path.into(),
            message: format!(
                "column `{}` is nested; hint: write it as a plain column",
                nested.name()
            ),
        });
    }
    let projection = Type::group_type_builder(facts.schema().name())
        .with_fields(chosen)
        .build()
        .map_err(malformed)?;
    let width = fields.len();
    let mut collector = Collector::new(path, columns);
    let rows = reader.get_row_iter(Some(projection)).map_err(malformed)?;
    for (number, row) in (1_u64..).zip(rows) {
        let mut cells: Vec<Option<String>> = vec![None; width];
        for (&column, (_, field)) in needed.iter().zip(row.map_err(malformed)?.into_columns()) {
            cells[column] = text_of(field);
        }
        collector.row(number, |column| cells[column].as_deref())?;
    }
    collector.finish()
}

/// A cell as a CSV would hold it: the shortest text that reads back to the same number.
fn text_of(field: Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Str(text) => Some(text),
        Field::Bytes(bytes) => Some(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Double(value) => Some(value.to_string()),
        Field::Float(value) => Some(f64::from(value).to_string()),
        other => Some(other.to_string()),
    }
}
