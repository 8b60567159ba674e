//! Measured speeds of this machine, kept between sweeps in the cache folder, so that the next plan
//! starts from them. Losing the file costs nothing but the accuracy of the next estimate.

use std::{fs, path::PathBuf};

use sweep_spec::cost::CostModel;

use crate::machine;

fn path() -> PathBuf {
    machine::cache_folder().join("speed.json")
}

/// What was measured before; an empty model where there is nothing, or nothing that reads.
pub(crate) fn load() -> CostModel {
    fs::read(path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Keeps what was measured, by renaming a whole file into place.
///
/// # Errors
/// When the cache folder cannot be written.
#[cfg(feature = "local")]
pub(crate) fn save(cost: &CostModel) -> std::io::Result<()> {
    let path = path();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let staged = path.with_extension(format!("json.{}", std::process::id()));
    fs::write(&staged, serde_json::to_vec(cost)?)?;
    fs::rename(staged, path)
}
