//! A command as a test calls it: from its words to what it printed and how it ended.

use clap::Parser as _;

use crate::{
    console::{Console, Format, When},
    exit::{Exit, Failure},
};

#[derive(clap::Parser)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// The arguments of a command, from its words, the first of them its name.
pub(crate) fn parsed<A: clap::Args>(words: &[&str]) -> Result<A, clap::Error> {
    Line::try_parse_from(words).map(|line| line.args)
}

/// What a call printed and how it ended; a failure stands last on stderr.
pub(crate) struct Said {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Calls a command with these words.
pub(crate) fn call<A: clap::Args>(
    run: fn(&A, &mut Console<'_>) -> Result<Exit, Failure>,
    format: Format,
    words: &[&str],
) -> Said {
    let args = parsed(words).unwrap_or_else(|error| panic!("{error}"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console =
        Console { out: &mut out, err: &mut err, format, colour: When::Never, terminal: false };
    let (exit, failure) = match run(&args, &mut console) {
        Ok(exit) => (exit, String::new()),
        Err(failure) => (failure.exit(), failure.to_string()),
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { exit, out: text(out), err: text(err) + &failure }
}
