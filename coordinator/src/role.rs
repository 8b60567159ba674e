//! What the holder of a token may do. Each role has an access file of its own in the state folder.

use std::fmt;

use sweep_proto::access::ACCESS_FILE;

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Everything: submit, change, look, train
    Operator,
    /// Train: join, take runs, send what was measured
    Worker,
    /// Look: sweeps, runs, curves, workers, metrics
    Reader,
}

impl Role {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::Operator, Self::Worker, Self::Reader];

    /// Its access file.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Operator => ACCESS_FILE,
            Self::Worker => "worker-access.json",
            Self::Reader => "reader-access.json",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Worker => "worker",
            Self::Reader => "reader",
        })
    }
}
