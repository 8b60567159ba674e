//! How a checkpoint lies on a disk: a folder for each step, with files under a manifest of hashes.
//!
//! The trainer writes and verifies them; workers and coordinator pass them on by their hashes alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The file that names the others.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Layout of this version.
pub const FORMAT: u32 = 2;

/// The layout before: its manifests have no hash of their own.
const FORMAT_UNSEALED: u32 = 1;

/// Files of one checkpoint at most: a manifest that names more was not written by us.
const FILES_MAX: usize = 16;

/// Longest manifest.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// What a checkpoint holds beside tensors; the numbers make a resumed curve equal the
/// uninterrupted one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Raised when the layout changes.
    pub format: u32,
    /// The run's identity.
    pub run: String,
    /// Optimiser steps done.
    pub step: u64,
    /// Sum and number of the losses since the last report.
    pub loss_sum: f64,
    /// See `loss_sum`.
    pub loss_count: u64,
    /// Seconds of training so far, over all attempts.
    pub seconds: f64,
    /// File name to BLAKE3 hash.
    pub files: BTreeMap<String, String>,
    /// BLAKE3 hash of everything above: a number that a disk changed must not go into a curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

impl Manifest {
    /// The manifest as it is written, under its own hash.
    #[must_use]
    pub fn sealed(mut self) -> Vec<u8> {
        self.seal = Some(self.own_hash());
        text(&self)
    }

    fn own_hash(&self) -> String {
        blake3::hash(&text(&Self { seal: None, ..self.clone() })).to_hex().to_string()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Text that is no manifest, is not what was written, or whose files are no plain names with
    /// hashes.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match (manifest.format, &manifest.seal) {
            (FORMAT_UNSEALED, None) => {}
            (FORMAT, Some(seal)) if *seal == manifest.own_hash() => {}
            (FORMAT, _) => return Err("does not match its own hash".to_owned()),
            (other, _) => return Err(format!("format {other} is not {FORMAT}")),
        }
        if manifest.files.len() > FILES_MAX {
            return Err(format!("{} files are above {FILES_MAX}", manifest.files.len()));
        }
        for (name, hash) in &manifest.files {
            if !is_plain(name) {
                return Err(format!("{name:?} is no name of a file"));
            }
            if !is_hash(hash) {
                return Err(format!("{hash:?} is no hash of a file"));
            }
        }
        Ok(manifest)
    }
}

fn text(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec_pretty(manifest).expect("numbers and texts have a JSON form")
}

/// Whether a text is a BLAKE3 hash as we write them.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name that stays in its folder on every system.
fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The name of the folder of a step; names sort like steps.
#[must_use]
pub fn folder_name(step: u64) -> String {
    format!("step-{step:012}")
}

/// The step whose folder has this name.
#[must_use]
pub fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, hash: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            run: "ab".to_owned(),
            step: 3,
            loss_sum: 0.1 + 0.2,
            loss_count: 1,
            seconds: 1e-7,
            files: BTreeMap::from([(name.to_owned(), hash.to_owned())]),
            seal: None,
        }
    }

    #[test]
    fn a_manifest_names_plain_files_only() {
        let hash = "0f".repeat(32);
        let read = Manifest::parse(&manifest("model.safetensors", &hash).sealed()).unwrap();
        assert_eq!(Manifest { seal: None, ..read }, manifest("model.safetensors", &hash));
        for name in ["../model", "a/b", ".hidden", "", "a\\b"] {
            let error = Manifest::parse(&manifest(name, &hash).sealed()).unwrap_err();
            assert!(error.contains("is no name of a file"), "{name}: {error}");
        }
        let error = Manifest::parse(&manifest("model", "../../x").sealed()).unwrap_err();
        assert!(error.contains("is no hash"), "{error}");
    }

    #[test]
    fn a_manifest_that_was_cut_or_changed_is_refused() {
        let written = manifest("model.safetensors", &"0f".repeat(32));
        let text = written.clone().sealed();
        for length in 0..text.len() {
            assert!(Manifest::parse(&text[..length]).is_err(), "cut to {length}");
        }
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[place] ^= 1 << bit;
                // Space that became other space says the same.
                if let Ok(read) = Manifest::parse(&changed) {
                    assert_eq!(Manifest { seal: None, ..read }, written, "byte {place} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_manifest_of_the_layout_before_is_read() {
        let old = Manifest { format: FORMAT_UNSEALED, ..manifest("model", &"0f".repeat(32)) };
        assert_eq!(Manifest::parse(&super::text(&old)).unwrap(), old);
        let unsealed = manifest("model", &"0f".repeat(32));
        assert!(Manifest::parse(&super::text(&unsealed)).is_err());
        let later = Manifest { format: 9, ..unsealed };
        assert!(Manifest::parse(&later.sealed()).unwrap_err().contains("format 9"));
    }

    #[test]
    fn folders_sort_like_their_steps() {
        assert!(folder_name(9) < folder_name(10));
        assert_eq!(step_of(&folder_name(123)), Some(123));
        assert_eq!(step_of("forks.json"), None);
    }
}
