//! Why a coordinator does not start, or ends.

use std::{io, net::SocketAddr, path::PathBuf};

use sweep_store::StoreError;

/// An error of the coordinator; it ends in a hint where there is a cure.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Not an address to listen on.
    #[error("`{0}` is no address; hint: write it as 127.0.0.1:PORT, with port 0 for any free one")]
    Address(String),
    /// Someone else listens there.
    #[error(
        "port {} is in use at {}; hint: stop the other program, or listen on another port with \
         --listen {}:0",
        .0.port(), .0.ip(), .0.ip()
    )]
    PortInUse(SocketAddr),
    /// The system refuses the address.
    #[error("cannot listen on {address}: {source}; hint: choose an address of this machine")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Plain text must not leave the machine.
    #[error(
        "{0} can be reached from other machines, and the connection is not encrypted; hint: listen \
         on 127.0.0.1 and let workers of other machines come through an SSH tunnel"
    )]
    NotLoopback(SocketAddr),
    /// The state folder cannot be used.
    #[error(
        "cannot write the access file {}: {source}; hint: choose a folder of yours with --state",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no random numbers for a token.
    #[error("cannot draw a token: {0}; hint: see whether /dev/urandom can be read")]
    Random(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network failed while serving.
    #[error("serving failed: {0}")]
    Serve(String),
}
