//! `simulate`: plays seeds through simulated disasters.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use sweep_simulation::command::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
