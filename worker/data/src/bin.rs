//! Token files of little-endian u16 without a header, as nanoGPT writes them, read where they lie.
//!
//! Several files make one stream, in the order of their content hashes. Every token is checked
//! against the vocabulary once per content; the index remembers the largest of each file.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use sweep_spec::{data::DataManifest, id::DataId};

use crate::{
    dataset::Dataset,
    error::DataError,
    globs,
    index::{self, DocumentFacts, FileFacts},
    shard::{self, CHUNK_BYTES, TokenFile, Width},
};

/// Raised when the same files would be read as other tokens.
const FORMAT: &str = "sweep.data.bin/1";

/// A source that was read: its facts and where its tokens lie.
pub(crate) struct Resolved {
    pub(crate) manifest: DataManifest,
    train: Vec<TokenPath>,
    validation: Vec<TokenPath>,
}

struct TokenPath {
    path: PathBuf,
    facts: DocumentFacts,
}

impl Resolved {
    /// Opens the files.
    pub(crate) fn open(self) -> Result<Dataset, DataError> {
        let files = |part: Vec<TokenPath>| -> Vec<(PathBuf, u64)> {
            part.into_iter().map(|file| (file.path, file.facts.bytes / 2)).collect()
        };
        let train = TokenFile::open_raw(&files(self.train))?;
        let validation = TokenFile::open_raw(&files(self.validation))?;
        Ok(Dataset::new(self.manifest, train, validation))
    }
}

/// Reads the files of both parts, or takes what is known of them from the index.
pub(crate) fn resolve(
    train: &[String],
    validation: &[String],
    vocabulary: u32,
    cache: &Path,
) -> Result<Resolved, DataError> {
    if !(2..=1 << 16).contains(&vocabulary) {
        return Err(DataError::Tokenizer {
            name: format!("vocabulary = {vocabulary}"),
            reason: "not from 2 to 65536".to_owned(),
            hint: "tokens are u16; give the size the files were written with",
        });
    }
    let train = part(train, vocabulary, cache)?;
    let validation = part(validation, vocabulary, cache)?;
    if let Some(shared) =
        validation.iter().find(|held| train.iter().any(|file| file.facts.hash == held.facts.hash))
    {
        return Err(DataError::Shared { path: shared.path.clone() });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT.as_bytes());
    hasher.update(&vocabulary.to_le_bytes());
    for part in [&train, &validation] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|file| {
            hasher.update(file.facts.hash.as_bytes());
        });
    }
    let tokens = |part: &[TokenPath]| part.iter().map(|file| file.facts.bytes / 2).sum();
    let manifest = DataManifest {
        id: DataId::from_hash(&hasher.finalize()),
        vocabulary,
        train_tokens: tokens(&train),
        validation_tokens: tokens(&validation),
        bytes_per_token: None,
        train_documents: train.len() as u64,
        validation_documents: validation.len() as u64,
        entropy: None,
        image: None,
    };
    Ok(Resolved { manifest, train, validation })
}

/// The files of one part in the order of their hashes, copies once.
fn part(globs: &[String], vocabulary: u32, cache: &Path) -> Result<Vec<TokenPath>, DataError> {
    let paths = globs::files(globs)?;
    let name = blake3::hash(format!("bin\0{}", globs.join("\0")).as_bytes());
    let facts = index::facts_of(&paths, cache, &name, &mut read_facts)?;
    let mut part = Vec::with_capacity(paths.len());
    for (path, facts) in paths.into_iter().zip(facts) {
        if facts.largest_token.is_some_and(|token| token >= vocabulary) {
            return Err(first_beyond(&path, vocabulary)?);
        }
        part.extend(
            facts.documents.into_iter().map(|facts| TokenPath { path: path.clone(), facts }),
        );
    }
    part.retain(|file| file.facts.bytes > 0);
    part.sort_by_key(|file| *file.facts.hash.as_bytes());
    part.dedup_by_key(|file| file.facts.hash);
    if part.is_empty() {
        return Err(DataError::Tokenizer {
            name: format!("files of `{}`", globs.join("`, `")),
            reason: "all files are empty".to_owned(),
            hint: "write the tokens as little-endian u16",
        });
    }
    Ok(part)
}

fn read_facts(path: &Path) -> Result<FileFacts, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let (bytes, largest_token) = shard::scan(&mut file, path, Width::Two, &mut hasher)?;
    if bytes % 2 == 1 {
        return Err(DataError::OddLength { path: path.to_owned(), bytes });
    }
    let document = DocumentFacts { hash: hasher.finalize(), bytes };
    Ok(FileFacts { documents: vec![document], largest_token })
}

/// The error that names the first token which is not below the vocabulary.
fn first_beyond(path: &Path, vocabulary: u32) -> Result<DataError, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let filled = shard::fill(&mut file, &mut buffer).map_err(DataError::io("read", path))?;
        if filled == 0 {
            // The index knew a larger token than the file holds now.
            return Ok(DataError::Changed { path: path.to_owned() });
        }
        let mut beyond = None;
        let mut at = offset;
        shard::for_each_token(&buffer[..filled], Width::Two, &mut |token| {
            let token = u32::from(token);
            if token >= vocabulary && beyond.is_none() {
                beyond = Some((at, token));
            }
            at += 2;
        });
        if let Some((offset, token)) = beyond {
            let path = path.to_owned();
            return Ok(DataError::TokenOutOfRange { path, offset, token, vocabulary });
        }
        offset += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sweep_spec::data::DataSource;

    use super::*;
    use crate::dataset;

    fn write(folder: &Path, name: &str, tokens: &[u16]) {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        fs::write(folder.join(name), bytes).unwrap();
    }

    fn source(folder: &Path, vocabulary: u32) -> DataSource {
        let glob = |name: &str| vec![format!("{}/{name}", folder.display())];
        DataSource::Bin { train: glob("train*.bin"), validation: glob("val.bin"), vocabulary }
    }

    #[test]
    fn files_are_read_as_they_are_in_one_order() {
        let folder = tempfile::tempdir().unwrap();
        let (data, cache) = (folder.path().join("data"), folder.path().join("cache"));
        fs::create_dir(&data).unwrap();
        write(&data, "train_1.bin", &[1, 2, 3]);
        write(&data, "train_2.bin", &[40_000, 5]);
        write(&data, "val.bin", &[6, 7, 8, 9]);
        let manifest = dataset::resolve(&source(&data, 50_304), &cache).unwrap();
        assert_eq!((manifest.train_tokens, manifest.validation_tokens), (5, 4));
        assert_eq!(manifest.bytes_per_token, None);
        let opened = dataset::open(&source(&data, 50_304), &cache, &manifest.id).unwrap();
        let mut tokens = [0; 5];
        opened.train().copy(0, &mut tokens);
        assert!(tokens == [1, 2, 3, 40_000, 5] || tokens == [40_000, 5, 1, 2, 3], "{tokens:?}");
        // Names and their order do not matter.
        fs::rename(data.join("train_1.bin"), data.join("train_9.bin")).unwrap();
        let again = dataset::open(&source(&data, 50_304), &cache, &manifest.id).unwrap();
        let mut same = [0; 5];
        again.train().copy(0, &mut same);
        assert_eq!(tokens, same);
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_named_with_its_offset() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train.bin", &[1, 2, 300, 400]);
        write(folder.path(), "val.bin", &[1]);
        let cache = folder.path().join("cache");
        // The second look goes through the index.
        for _ in 0..2 {
            let error = dataset::resolve(&source(folder.path(), 300), &cache).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("train.bin`: token 300 at byte 4"), "{error}");
        }
        assert!(dataset::resolve(&source(folder.path(), 401), &cache).is_ok());
    }

    #[test]
    fn odd_lengths_empty_files_and_shared_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let error = || dataset::resolve(&source(folder.path(), 300), &cache).unwrap_err();
        fs::write(folder.path().join("train.bin"), [1, 0, 2]).unwrap();
        write(folder.path(), "val.bin", &[1, 2]);
        assert!(matches!(error(), DataError::OddLength { bytes: 3, .. }));
        fs::write(folder.path().join("train.bin"), []).unwrap();
        assert!(error().to_string().contains("all files are empty"), "{}", error());
        write(folder.path(), "train.bin", &[1, 2]);
        assert!(matches!(error(), DataError::Shared { .. }));
    }

    #[test]
    fn other_content_is_other_data() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        write(folder.path(), "train.bin", &[1, 2]);
        write(folder.path(), "val.bin", &[3]);
        let id = dataset::resolve(&source(folder.path(), 300), &cache).unwrap().id;
        write(folder.path(), "train.bin", &[2, 1]);
        let error = dataset::open(&source(folder.path(), 300), &cache, &id).unwrap_err();
        assert!(matches!(error, DataError::OtherData { .. }), "{error}");
    }
}
