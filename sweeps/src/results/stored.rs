//! Where a sweep that was trained is read from: a coordinator, or the file of a store.

use std::{ffi::OsString, path::PathBuf};

use crate::{
    client::{AccessArgs, block_on, select_sweep},
    exit::Failure,
    results::{self, Asked, PartSink, SweepResults},
};

/// Which store to read.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct StoredArgs {
    /// Read the sweep from this SQLite store instead of asking a coordinator
    #[cfg(feature = "local")]
    #[arg(long, value_name = "FILE", conflicts_with = "access")]
    db: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
}

impl StoredArgs {
    /// A sweep by name, id, beginning of an id, or `last`, with the curves that are asked for.
    ///
    /// # Errors
    /// Exit code 2 for a file that is no store, 3 where no coordinator answers, 4 for a sweep that
    /// is not there, 1 for what does not read.
    pub(crate) fn results(&self, name: &str, curves: Asked<'_>) -> Result<SweepResults, Failure> {
        #[cfg(feature = "local")]
        if let Some(path) = &self.db {
            let mut results = block_on(crate::local::store::results(path, name, curves))?;
            if let Some(checkpoints) = self.checkpoints().filter(|_| results.is_diffusion()) {
                for line in results.read_samples(&checkpoints) {
                    tracing::warn!("samples are left out: {line}");
                }
            }
            return Ok(results);
        }
        block_on(async {
            let mut control = self.access.connect().await?;
            let sweep = select_sweep(&mut control, name).await?;
            results::fetch(&mut control, &sweep, curves).await
        })
    }

    /// Options of `sweep sample` that find the checkpoints of these runs.
    pub(crate) fn sampling(&self) -> Vec<OsString> {
        match (self.checkpoints(), self.access.given()) {
            (Some(folder), _) => vec!["--checkpoints".into(), folder.into()],
            (None, Some(access)) => vec!["--access".into(), access.into()],
            (None, None) => Vec::new(),
        }
    }

    /// Hands over every point of every curve of a sweep.
    ///
    /// # Errors
    /// As for the results, and of the sink.
    pub(crate) fn stream(
        &self,
        results: &SweepResults,
        sink: &mut PartSink<'_>,
    ) -> Result<(), Failure> {
        #[cfg(feature = "local")]
        if let Some(path) = &self.db {
            return block_on(crate::local::store::stream(path, results, sink));
        }
        block_on(async {
            let mut control = self.access.connect().await?;
            results::stream(&mut control, results, sink).await
        })
    }

    /// Where the worker beside the store left its checkpoints: `sweep run` puts both into one folder.
    pub(crate) fn checkpoints(&self) -> Option<PathBuf> {
        #[cfg(feature = "local")]
        if let Some(path) = &self.db {
            let beside = crate::local::worker::LocalWorker::checkpoints(path.parent()?);
            return Some(beside).filter(|folder| folder.is_dir());
        }
        None
    }
}
