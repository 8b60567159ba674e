//! JSON lines: one object a line; the columns are the keys of the first one.

use std::{io::BufRead, path::Path};

use serde_json::{Map, Value};

use super::{
    Collector, Read,
    error::SourceError,
    mapping::{Columns, Filter, Mapping},
};

pub(super) fn read(
    path: &Path,
    input: impl BufRead,
    mapping: &Mapping,
    filters: &[Filter],
) -> Result<Read, SourceError> {
    let mut collector: Option<Collector<'_>> = None;
    for (number, text) in (1_u64..).zip(input.lines()) {
        let malformed = |message: String| SourceError::Malformed {
            path: path.into(),
            message: format!("line {number}: {message}; hint: each line is one JSON object"),
        };
        let text = text.map_err(|error| malformed(error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let row: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if collector.is_none() {
            let names = row.keys().cloned().collect();
            let columns = Columns::resolve(path, names, mapping, filters)?;
            collector = Some(Collector::new(path, columns));
        }
        if let Some(collector) = &mut collector {
            let cells: Vec<Option<String>> = collector
                .columns
                .names()
                .iter()
                .map(|name| row.get(name).and_then(text_of))
                .collect();
            collector.row(number, |column| cells[column].as_deref())?;
        }
    }
    collector.map_or_else(|| Err(SourceError::Empty(path.into())), Collector::finish)
}

/// A cell as a CSV would hold it; null and absent are empty.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
