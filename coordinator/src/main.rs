//! The program `coordinator`: a thin shell over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::main()
}
