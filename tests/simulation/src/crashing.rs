//! `crashing-coordinator`: the program `coordinator`, which crashes at a commit where the environment
//! says so.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::main()
}
