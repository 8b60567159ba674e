//! What a coordinator needs to know before it starts.

use std::path::PathBuf;

/// Configuration of a coordinator; the listener comes beside it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the store: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`.
    pub store: String,
    /// Folder of the access file; made when there is none.
    pub state: PathBuf,
}
