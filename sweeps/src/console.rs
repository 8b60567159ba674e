//! Where a command writes: data to stdout, progress and messages to stderr.

pub(crate) mod colour;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

pub(crate) use self::colour::When;

/// What a reading command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
    /// Identifiers only, one a line.
    Quiet,
}

/// The two streams of a command.
pub(crate) struct Console<'a> {
    /// Data.
    pub(crate) out: &'a mut dyn Write,
    /// Progress and messages.
    pub(crate) err: &'a mut dyn Write,
    /// How data is printed.
    pub(crate) format: Format,
    /// When data is coloured.
    pub(crate) colour: When,
    /// Whether stderr is a terminal that can redraw lines.
    pub(crate) terminal: bool,
}

impl Console<'_> {
    /// Whether this process may redraw lines on stderr.
    pub(crate) fn can_redraw() -> bool {
        io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// A message for people; dropped under `--quiet`.
    ///
    /// # Errors
    /// When stderr cannot be written.
    pub(crate) fn say(&mut self, message: impl std::fmt::Display) -> io::Result<()> {
        if self.format == Format::Quiet {
            return Ok(());
        }
        writeln!(self.err, "{message}")?;
        self.err.flush()
    }

    /// A value as one JSON document on stdout.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.out, value)?;
        writeln!(self.out)
    }
}
