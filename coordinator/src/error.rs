//! Why a coordinator does not start, or ends.

use std::{io, net::SocketAddr, path::PathBuf};

use sweep_proto::access::AccessError;
use sweep_store::StoreError;

use crate::authority::AuthorityError;

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
    /// Client certificates, and nobody but this machine to show them.
    #[error(
        "{0} is reached from this machine alone, in plain text, where no client shows a certificate; \
         hint: leave out --client-certificates, or listen on an address of the network"
    )]
    PlainText(SocketAddr),
    /// No certificate to listen with.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// What is to be handed out is not there yet.
    #[error("{source}; hint: start the coordinator once on an address of the network")]
    NoAccess {
        /// Why.
        source: AccessError,
    },
    /// A coordinator that only this machine reaches.
    #[error(
        "the coordinator of {} listens on this machine alone, and its clients need no certificate; \
         hint: start it with --listen on an address of the network",
        .0.display()
    )]
    NotReached(PathBuf),
    /// Whoever holds one of them would have the rights of both.
    #[error("{one} and {other} in {} hold the same token; hint: remove one of them", state.display())]
    SameToken {
        /// The folder.
        state: PathBuf,
        /// One file.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// Access files of the coordinator itself stay as they are.
    #[error("{} is an access file of the coordinator itself; hint: another name for --out", .0.display())]
    OwnAccess(PathBuf),
    /// No certificate was made for a client of this name.
    #[error(
        "no certificate was made for `{name}`; hint: {}",
        if known.is_empty() { "none was made at all".to_owned() } else { format!("there are {}", known.join(", ")) }
    )]
    NoClient {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The state folder cannot be used.
    #[error(
        "cannot use {} of the state folder: {source}; hint: choose a folder of yours with --state",
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
    /// The place for checkpoints cannot be used.
    #[error("cannot keep checkpoints in {place}: {why}; hint: {hint}")]
    Artifacts {
        /// The folder or the address.
        place: String,
        /// Why not.
        why: String,
        /// The cure.
        hint: &'static str,
    },
    /// The store counts on checkpoints that this start does not reach.
    #[error(
        "the store counts on checkpoints in {kept}, not in {place}; hint: --artifacts {kept}, or \
         --forget-artifacts to go on without them"
    )]
    KeptElsewhere {
        /// Where they are kept.
        kept: String,
        /// Where this start looks.
        place: String,
    },
    /// The network failed while serving.
    #[error("serving failed: {0}")]
    Serve(String),
}
