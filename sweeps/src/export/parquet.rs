//! Parquet: the tables of [`super::csv`] with typed columns; a value that was not measured is null.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use super::csv::{Kind, POINT_COLUMNS, RUN_COLUMNS, run_cells};
use crate::results::SweepResults;

/// Rows of one group: what a writer holds in memory.
const GROUP_ROWS: usize = 1 << 20;

/// Writes the table of runs.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn runs(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    let rows = results.runs.iter().map(|run| run_cells(run, results).to_vec());
    table("runs", &RUN_COLUMNS, rows, out)
}

/// Writes every point of every curve.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn points(results: &SweepResults, out: &mut dyn Write) -> io::Result<()> {
    table("points", &POINT_COLUMNS, super::csv::point_cells(results).map(Vec::from), out)
}

fn table(
    name: &str,
    columns: &[(&str, Kind)],
    rows: impl Iterator<Item = Vec<String>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(&packed(name, columns, rows).map_err(io::Error::other)?)
}

fn packed(
    name: &str,
    columns: &[(&str, Kind)],
    mut rows: impl Iterator<Item = Vec<String>>,
) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(&schema(name, columns))?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    loop {
        let group: Vec<Vec<String>> = rows.by_ref().take(GROUP_ROWS).collect();
        if group.is_empty() {
            return writer.into_inner();
        }
        let mut open = writer.next_row_group()?;
        for (place, (_, kind)) in columns.iter().enumerate() {
            let cells = group.iter().map(|row| row[place].as_str());
            match kind {
                Kind::Real => column::<DoubleType>(&mut open, cells, |cell| cell.parse().ok())?,
                // The bits of a number without a sign, as the schema says.
                Kind::Count => column::<Int64Type>(&mut open, cells, |cell| {
                    cell.parse().ok().map(u64::cast_signed)
                })?,
                Kind::Text => {
                    column::<ByteArrayType>(&mut open, cells, |cell| Some(ByteArray::from(cell)))?;
                }
            }
        }
        open.close()?;
    }
}

/// Writes one column; an empty cell is null.
fn column<'a, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    cells: impl Iterator<Item = &'a str>,
    read: impl Fn(&'a str) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let read = |cell: &'a str| if cell.is_empty() { None } else { read(cell) };
    let values: Vec<Option<T::T>> = cells.map(read).collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let Some(mut open) = group.next_column()? else {
        return Err(ParquetError::General("a column too many".to_owned()));
    };
    open.typed::<T>().write_batch(&values, Some(&levels), None)?;
    open.close()
}

fn schema(name: &str, columns: &[(&str, Kind)]) -> String {
    let column = |(name, kind): &(&str, Kind)| match kind {
        Kind::Real => format!("optional double {name};"),
        Kind::Count => format!("optional int64 {name} (INTEGER(64,false));"),
        Kind::Text => format!("optional binary {name} (UTF8);"),
    };
    format!("message {name} {{ {} }}", columns.iter().map(column).collect::<String>())
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::RowAccessor as _,
    };

    use super::*;

    #[test]
    fn a_table_reads_back_with_its_types_and_nulls() {
        let columns = [("run", Kind::Text), ("seed", Kind::Count), ("loss", Kind::Real)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "18446744073709551615", "0.1"]), row(["b", "7", ""])];
        let bytes = packed("runs", &columns, rows.into_iter()).unwrap();
        let reader = SerializedFileReader::new(parquet_bytes(bytes)).unwrap();
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(
            (read[0].get_string(0).unwrap().as_str(), read[0].get_ulong(1).unwrap()),
            ("a", u64::MAX)
        );
        assert_eq!(read[0].get_double(2).unwrap().to_bits(), 0.1_f64.to_bits());
        assert!(read[1].get_double(2).is_err(), "not measured is not a number");
        assert_eq!(read[1].get_ulong(1).unwrap(), 7);
    }

    /// A file on disk: what the reader asks for.
    fn parquet_bytes(bytes: Vec<u8>) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }
}
