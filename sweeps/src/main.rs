//! The command `sweep`: from a recipe to runs, curves, fitted laws, figures and a report.
//!
//! With the default feature `local` it also holds the coordinator, the worker and the trainer;
//! without it it is a light client. It holds no scheduling and no mathematics.

mod analysis;
mod cli;
mod client;
mod cmd;
mod console;
mod exit;
mod export;
mod forecast;
mod law;
mod limit;
#[cfg(feature = "local")]
mod local;
mod machine;
mod output;
mod outputs;
mod page;
mod progress;
mod recipe_file;
mod report;
mod results;
mod scores;
mod source;
mod speed;
mod submission;
mod texts;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "local")]
    if let Some(code) = worker::child::route(std::env::args_os()) {
        return code;
    }
    cli::main()
}
