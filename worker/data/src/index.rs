//! What was read before: per set of globs, the documents of each file by path, size and time of
//! change, so that resolving again reads no file that stayed as it was.
//!
//! The index is a shortcut, never a truth: a file of any other size or time is read again, so is
//! one that changed within [`RACY_SECONDS`] of the index (a second write within the same tick of
//! the file system's clock would not show), and an unreadable index counts as none.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::Write,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Raised with the meaning of an entry.
const VERSION: u32 = 1;

/// Two seconds: the coarsest clock of a file system in use.
const RACY_SECONDS: i64 = 2;

/// A content hash, as hexadecimal text in JSON.
pub(crate) type ContentHash = blake3::Hash;

/// The facts of one document: its hash and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DocumentFacts {
    /// Hash of the content.
    pub(crate) hash: ContentHash,
    /// Length of the content.
    pub(crate) bytes: u64,
}

/// The facts of one file, as far as its reader wants them kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileFacts {
    /// Every document in the order of the file.
    pub(crate) documents: Vec<DocumentFacts>,
    /// For files of tokens, the largest.
    pub(crate) largest_token: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// By hash of the path, since a path need not be text.
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    documents: Vec<(String, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    largest_token: Option<u32>,
}

impl Entry {
    fn new(metadata: &Metadata, facts: &FileFacts) -> Self {
        let documents =
            facts.documents.iter().map(|d| (d.hash.to_hex().to_string(), d.bytes)).collect();
        Self {
            size: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            documents,
            largest_token: facts.largest_token,
        }
    }

    /// The facts, when the file has not changed since; `written` is the index's own time.
    fn facts(&self, metadata: &Metadata, written: i64) -> Option<FileFacts> {
        let same = self.size == metadata.len()
            && self.seconds == metadata.mtime()
            && self.nanoseconds == metadata.mtime_nsec()
            && self.seconds < written - RACY_SECONDS;
        if !same {
            return None;
        }
        let documents = self
            .documents
            .iter()
            .map(|(hash, bytes)| {
                let hash = ContentHash::from_hex(hash).ok()?;
                Some(DocumentFacts { hash, bytes: *bytes })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(FileFacts { documents, largest_token: self.largest_token })
    }
}

/// The facts of `files`, from the index `name` in `cache` or else by `read`; the index is written
/// anew when a file was read.
pub(crate) fn facts_of(
    files: &[PathBuf],
    cache: &Path,
    name: &blake3::Hash,
    read: &mut dyn FnMut(&Path) -> Result<FileFacts, DataError>,
) -> Result<Vec<FileFacts>, DataError> {
    let folder = cache.join("index");
    let path = folder.join(format!("{}.json", &name.to_hex()[..32]));
    let (known, written) = load(&path).unwrap_or_default();
    let mut stored = Stored { version: VERSION, files: BTreeMap::new() };
    let mut facts = Vec::with_capacity(files.len());
    let mut was_read = false;
    for file in files {
        let metadata = fs::metadata(file).map_err(DataError::io("read", file))?;
        let key = blake3::hash(file.as_os_str().as_bytes()).to_hex()[..32].to_owned();
        let kept = known.get(&key).and_then(|entry| entry.facts(&metadata, written));
        was_read |= kept.is_none();
        let found = match kept {
            Some(found) => found,
            None => read(file)?,
        };
        stored.files.insert(key, Entry::new(&metadata, &found));
        facts.push(found);
    }
    if was_read {
        save(&folder, &path, &stored)?;
    }
    Ok(facts)
}

fn load(path: &Path) -> Option<(BTreeMap<String, Entry>, i64)> {
    let written = fs::metadata(path).ok()?.mtime();
    let stored: Stored = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (stored.version == VERSION).then_some((stored.files, written))
}

fn save(folder: &Path, path: &Path, stored: &Stored) -> Result<(), DataError> {
    let text = serde_json::to_vec(stored).expect("an index has text keys and finite numbers");
    write_atomically(folder, path, &text)
}

/// Writes a file of the cache so that a reader sees the old one or the whole new one.
pub(crate) fn write_atomically(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(DataError::io("create the folder", folder))?;
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(DataError::io("write in", folder))?;
    file.write_all(bytes).map_err(DataError::io("write", path))?;
    file.persist(path).map_err(|error| DataError::io("write", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    /// Resolves the facts of one file and tells whether it was read.
    fn look(file: &Path, cache: &Path) -> (u64, bool) {
        let mut was_read = false;
        let facts = facts_of(&[file.to_owned()], cache, &blake3::hash(b"globs"), &mut |path| {
            was_read = true;
            let content = fs::read(path).unwrap();
            let document =
                DocumentFacts { hash: blake3::hash(&content), bytes: content.len() as u64 };
            Ok(FileFacts { documents: vec![document], largest_token: None })
        });
        (facts.unwrap()[0].documents[0].bytes, was_read)
    }

    fn set_time(path: &Path, seconds: u64) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn only_a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("a"), folder.path().join("cache"));
        fs::write(&file, "one").unwrap();
        set_time(&file, 1_000_000);
        assert_eq!(look(&file, &cache), (3, true));
        assert_eq!(look(&file, &cache), (3, false));
        fs::write(&file, "three").unwrap();
        set_time(&file, 1_000_001);
        assert_eq!(look(&file, &cache), (5, true));
    }

    #[test]
    fn a_file_as_young_as_the_index_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("a"), folder.path().join("cache"));
        fs::write(&file, "one").unwrap();
        assert_eq!(look(&file, &cache), (3, true));
        // Same size, perhaps the same tick: only reading can tell.
        fs::write(&file, "two").unwrap();
        assert_eq!(look(&file, &cache), (3, true));
    }

    #[test]
    fn a_damaged_index_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("a"), folder.path().join("cache"));
        fs::write(&file, "one").unwrap();
        set_time(&file, 1_000_000);
        look(&file, &cache);
        let index = fs::read_dir(cache.join("index")).unwrap().next().unwrap().unwrap().path();
        fs::write(index, "{").unwrap();
        assert_eq!(look(&file, &cache), (3, true));
        assert_eq!(look(&file, &cache), (3, false));
    }
}
