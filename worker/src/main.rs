//! The program `worker`: a thin shell over the library, and its own trainer child.

use std::process::ExitCode;

/// Trainer children are this same executable: 15 to 30 % of CPU training time was page faults
/// under the system allocator (measured).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = worker::child::route(std::env::args_os()) {
        return code;
    }
    worker::args::main()
}
