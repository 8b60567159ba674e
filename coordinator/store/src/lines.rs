//! Many rows as one text, a line for each.
//!
//! Rows are dear: each is passed between threads, which takes longer than reading it. So what comes
//! in hundreds comes as one row that holds them all (`string_agg`). Separators are control
//! characters, which no column holds.

use std::str::{FromStr, Split};

use sweep_spec::attempt::AttemptKey;

use crate::error::StoreError;

/// Between the columns of a line.
pub(crate) const COLUMN: char = '\u{1f}';

/// Between lines.
pub(crate) const LINE: char = '\u{1e}';

/// The columns of a line, from left to right.
pub(crate) struct Columns<'a>(Split<'a, char>);

impl<'a> Columns<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Self(line.split(COLUMN))
    }

    /// The next column as it stands.
    pub(crate) fn text(&mut self) -> Result<&'a str, StoreError> {
        let missing =
            || StoreError::Damaged { what: "row", value: "a line is cut short".to_owned() };
        self.0.next().ok_or_else(missing)
    }

    /// The next column as what it says.
    pub(crate) fn value<T: FromStr>(&mut self) -> Result<T, StoreError> {
        parse(self.text()?)
    }

    /// The next column as what it says, unless it is empty.
    pub(crate) fn optional<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.text()?;
        if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
    }

    /// The next two columns as the key of an attempt.
    pub(crate) fn key(&mut self) -> Result<AttemptKey, StoreError> {
        Ok(AttemptKey { run: self.value()?, number: self.value()? })
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "value", value: text.to_owned() })
}

/// The lines of what was put together; none where it was made of nothing.
pub(crate) fn lines(text: Option<&str>) -> impl Iterator<Item = Columns<'_>> {
    text.into_iter().flat_map(|text| text.split(LINE)).map(Columns::of)
}
