//! `sweep completions`: a completion script, made from the command line itself.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::{
    cli::Cli,
    console::Console,
    exit::{Exit, Failure},
};

/// Arguments of `sweep completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    // Made in memory first: the generator panics where it cannot write, such as on a closed pipe.
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "sweep", &mut script);
    console.out.write_all(&script)?;
    Ok(Exit::Done)
}
