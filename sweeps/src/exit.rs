//! Exit codes, in one table, and the failure that carries one.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | some runs failed, or an operation failed while it ran |
//! | 2 | wrong usage or a bad recipe |
//! | 3 | the coordinator cannot be reached, or refused this client |
//! | 4 | nothing matched |
//! | 5 | a fit was refused: too few or degenerate observations |
//! | 6 | over budget, paused, or too large for the memory of every worker |
//! | 75 | the worker drained and wants to be started again |
//! | 130 | interrupted |
//!
//! A reader that closes the pipe early is no failure: the command ends with 0.

use std::{fmt, io, process::ExitCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done,
    /// Some runs failed, or an operation failed while it ran.
    Failed,
    /// Wrong usage or a bad recipe.
    Usage,
    /// The coordinator cannot be reached, or refused this client.
    Unreachable,
    /// Nothing matched.
    NoMatch,
    /// A fit was refused.
    FitRefused,
    /// Over budget, paused, or too large for the memory of every worker.
    OverBudget,
    /// The worker drained.
    Drained,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// The number that a script sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NoMatch => 4,
            Self::FitRefused => 5,
            Self::OverBudget => 6,
            Self::Drained => 75,
            Self::Interrupted => 130,
        }
    }
}

impl Exit {
    /// What to do about a failure whose own text names no cure.
    const fn hint(self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Drained => None,
            Self::Failed => Some("`sweep doctor` looks for the cause"),
            Self::Usage => Some("`--help` after the command says what it takes"),
            Self::Unreachable => Some("`sweep doctor` says whether a coordinator answers"),
            Self::NoMatch => Some("`sweep status` lists what the coordinator knows"),
            Self::FitRefused => Some("train more sizes and token counts, or choose another --law"),
            Self::OverBudget => Some("`sweep submit` sets other limits"),
            Self::Interrupted => Some("the same command goes on from here"),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error with the exit code it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// A failure from an error or a message.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// A failure from a message alone.
    pub(crate) fn message(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}") }
    }

    /// The exit code; 0 where the reader of stdout went away.
    pub(crate) fn exit(&self) -> Exit {
        let broken_pipe = self
            .error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if broken_pipe { Exit::Done } else { self.exit }
    }

    /// What is said of it at the end of a command: never without a hint.
    pub(crate) fn told(&self) -> String {
        let text = self.to_string();
        match self.exit().hint() {
            Some(hint) if !text.contains("hint:") => format!("{text}; hint: {hint}"),
            _ => text,
        }
    }
}

impl fmt::Display for Failure {
    /// The error and its causes on one line, each cause once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.error.to_string();
        f.write_str(&shown)?;
        for cause in self.error.chain().skip(1) {
            let text = cause.to_string();
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
        }
        Ok(())
    }
}

/// Output that cannot be written is a failure of the operation, unless the reader went away.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        // `io::Error` knows whether the JSON failed or the pipe closed.
        Self::from(io::Error::from(error))
    }
}

/// Gives an error its exit code.
pub(crate) trait OrExit<T> {
    /// Ends the command with `exit` on an error.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let table: Vec<u8> = include_str!("exit.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | ")?.split(' ').next()?.parse().ok())
            .collect();
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NoMatch,
            Exit::FitRefused,
            Exit::OverBudget,
            Exit::Drained,
            Exit::Interrupted,
        ]
        .map(Exit::code);
        assert_eq!(table, codes);
    }

    #[test]
    fn a_closed_pipe_is_success() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit(), Exit::Done);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit(), Exit::Failed);
    }

    #[test]
    fn nothing_is_said_without_a_hint() {
        let failures =
            [Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::NoMatch, Exit::FitRefused];
        for exit in failures.into_iter().chain([Exit::OverBudget, Exit::Interrupted]) {
            let told = Failure::message(exit, "it broke").told();
            assert!(told.starts_with("it broke; hint: "), "{told}");
        }
        let own = Failure::message(Exit::Failed, "it broke; hint: mend it");
        assert_eq!(own.told(), "it broke; hint: mend it");
    }

    #[test]
    fn causes_are_shown_once() {
        let inner = io::Error::other("disk is on fire");
        let error = anyhow::Error::new(inner).context("cannot write `a.csv`");
        assert_eq!(
            Failure::new(Exit::Failed, error).to_string(),
            "cannot write `a.csv`: disk is on fire"
        );
    }
}
