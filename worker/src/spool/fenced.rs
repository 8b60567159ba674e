//! Files of attempts that the coordinator takes nothing of: kept beside the spool, the latest of them.

use std::{fs, io, path::Path};

/// Their ending; the spool reads no such file.
pub(super) const FENCED: &str = "fenced";

/// How many are kept.
pub(super) const FENCED_MAX: usize = 16;

/// Renames a file of the spool, and makes room for it.
pub(super) fn set_aside(file: &Path, folder: &Path) -> io::Result<()> {
    let aside = file.with_extension(FENCED);
    fs::rename(file, &aside)?;
    tracing::warn!("what was spooled is kept as {}", aside.display());
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == FENCED) {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(FENCED_MAX);
    kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}
