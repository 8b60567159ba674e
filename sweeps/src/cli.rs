//! The command line: global options and the way from arguments to an exit code.

use std::{
    env,
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    cmd::Command,
    console::{Console, Format, When},
    exit::Exit,
};

/// Trains a grid of model sizes and data sizes and fits scaling laws to the results.
#[derive(Debug, Parser)]
#[command(name = "sweep", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON instead of tables
    #[arg(long, global = true, conflicts_with = "quiet")]
    json: bool,
    /// Print identifiers only, and no messages
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Colour what is printed
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    color: When,
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    #[command(flatten)]
    Command(Command),
    /// Serve a store of sweeps: grant runs to workers, take in their curves
    #[cfg(feature = "local")]
    Coordinator(coordinator::CoordinatorArgs),
    /// Train runs that a coordinator grants
    #[cfg(feature = "local")]
    Worker(worker::WorkerArgs),
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let colour = When::asked(env::args_os()).unwrap_or_default();
    let parsed = Cli::command().color(colour.into()).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and go to stdout; a closed pipe is no failure.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match cli.program {
        Program::Command(command) => run(command, cli.json, cli.quiet, cli.color),
        // Services have exit codes and a log of their own, which is coloured as asked here.
        #[cfg(feature = "local")]
        Program::Coordinator(args) => args.run(cli.color.into()),
        #[cfg(feature = "local")]
        Program::Worker(args) => args.run(cli.color.into()),
    }
}

fn run(command: Command, json: bool, quiet: bool, colour: When) -> ExitCode {
    let format = match (json, quiet) {
        (true, _) => Format::Json,
        (_, true) => Format::Quiet,
        _ => Format::Table,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr();
    let mut console =
        Console { out: &mut out, err: &mut err, format, colour, terminal: Console::can_redraw() };
    let result = command.run(&mut console).and_then(|exit| {
        console.out.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let exit = failure.exit();
            if exit != Exit::Done {
                // Where stderr is closed too, the exit code is all that is left to say.
                let _ = writeln!(err, "error: {}", failure.told());
            }
            exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
