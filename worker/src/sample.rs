//! Text from the checkpoints that workers of this machine keep, or that a coordinator gives out; the
//! trainer writes it.

use std::{fs, io, path::Path};

use sweep_proto::client::Work;
use sweep_spec::{checkpoint::folder_name, id::RunId};

use crate::{
    checkpoints::{checkpoints_in, files_of, has},
    transfer::{self, Kept},
};

pub use sweep_train::{CONFIG_FILE, DeviceId, Draw, SampleRequest, Samples, TrainError, sample};

/// Fetches a kept checkpoint into a folder of the run's own, unless it is there whole; every file is
/// held to its hash, and older checkpoints in the folder make room for it.
///
/// # Errors
/// Why it could not be fetched.
pub async fn fetch(
    work: &mut Work,
    run: &RunId,
    folder: &Path,
    step: u64,
    hash: &str,
) -> Result<(), String> {
    if is_whole(folder, step, hash) {
        return Ok(());
    }
    let kept = Kept { step, hash: hash.to_owned() };
    transfer::get_patiently(work, run, folder, &kept).await?;
    remove_others(folder, step).map_err(|error| format!("{}: {error}", folder.display()))
}

fn is_whole(folder: &Path, step: u64, hash: &str) -> bool {
    let same = |(hash, path): (String, std::path::PathBuf)| {
        fs::read(path).is_ok_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == hash)
    };
    has(folder, step, hash)
        && files_of(&folder.join(folder_name(step)), hash)
            .is_ok_and(|files| files.into_iter().all(same))
}

fn remove_others(folder: &Path, step: u64) -> io::Result<()> {
    let mut others = checkpoints_in(folder)?.into_iter().filter(|(other, _)| *other != step);
    others.try_for_each(|(_, path)| fs::remove_dir_all(path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sweep_spec::checkpoint::{FORMAT, MANIFEST_FILE, Manifest};

    use super::*;

    #[test]
    fn only_a_checkpoint_with_every_byte_is_whole() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(folder_name(7));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(home.path().join(folder_name(3))).unwrap();
        let weights = blake3::hash(b"weights").to_hex().to_string();
        let manifest = Manifest {
            format: FORMAT,
            run: "r".to_owned(),
            step: 7,
            loss_sum: 0.5,
            loss_count: 1,
            seconds: 2.0,
            files: BTreeMap::from([("model.safetensors".to_owned(), weights)]),
            seal: None,
        };
        let text = manifest.sealed();
        let hash = blake3::hash(&text).to_hex().to_string();
        fs::write(folder.join(MANIFEST_FILE), &text).unwrap();
        assert!(!is_whole(home.path(), 7, &hash), "its file is missing");
        fs::write(folder.join("model.safetensors"), b"weights").unwrap();
        assert!(is_whole(home.path(), 7, &hash));
        assert!(!is_whole(home.path(), 7, &"0".repeat(64)), "another one of that step");
        fs::write(folder.join("model.safetensors"), b"weightz").unwrap();
        assert!(!is_whole(home.path(), 7, &hash), "a byte changed");
        remove_others(home.path(), 7).unwrap();
        assert_eq!(checkpoints_in(home.path()).unwrap().len(), 1);
    }
}
