//! A coordinator and a worker of our own, for `sweep run`: the coordinator inside this process on a
//! loopback port, the worker as a child process that is this same executable.

pub(crate) mod calibrate;
pub(crate) mod coordinator;
pub(crate) mod samples;
pub(crate) mod store;
pub(crate) mod worker;

/// A trainer child is this same executable, and the system allocator gives freed blocks back to
/// the kernel: 15 to 30 % of training time on a processor went into page faults (measured).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
