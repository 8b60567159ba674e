//! What a coordinator needs to know before it starts.

use std::path::PathBuf;

use crate::limits::Limits;

/// What stands for keeping no checkpoints.
pub(crate) const NO_ARTIFACTS: &str = "none";

/// Configuration of a coordinator; the listener comes beside it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Address of the store: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    pub store: String,
    /// Folder of the access file; made when there is none.
    pub state: PathBuf,
    /// Name or address by which other machines reach this one; else that of the listener, or the
    /// name of this machine.
    pub advertise: Option<String>,
    /// Where checkpoints are kept so that a run can go on on any worker: a folder, `s3://BUCKET/PREFIX`
    /// or `gs://BUCKET/PREFIX`; else they only lie on the workers that wrote them.
    pub artifacts: Option<String>,
    /// Go on without the checkpoints that are kept in another place.
    pub forget_artifacts: bool,
    /// Take a store in a file on a network file system, where nothing keeps two machines from writing
    /// at once.
    pub allow_network_filesystem: bool,
    /// Clients must show a certificate of the coordinator's authority beside the token.
    pub client_certificates: bool,
    /// What is borne of clients.
    pub limits: Limits,
}
