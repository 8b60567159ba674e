//! The text source: files to documents to token shards in the cache, under the data id.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use sweep_spec::{
    data::{DataManifest, Tokenizer},
    id::DataId,
};

use crate::{
    codec,
    dataset::{self, Part},
    documents::{self, Limits},
    error::DataError,
    globs,
    index::{self, DocumentFacts, FileFacts},
    select::{self, Chosen, Selection},
    shard::ShardWriter,
    tokenizer::Encoder,
};

/// Raised when the same documents would be kept as other tokens.
const FORMAT: &str = "sweep.data.text/1";

/// What a recipe says of a text source.
pub(crate) struct TextSource<'a> {
    pub(crate) globs: &'a [String],
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) held_out: f64,
}

/// Reads the source, makes its shards where the cache has none, and tells its facts.
pub(crate) fn resolve(source: &TextSource<'_>, cache: &Path) -> Result<DataManifest, DataError> {
    let paths = globs::files(source.globs)?;
    let name = blake3::hash(format!("text\0{}", source.globs.join("\0")).as_bytes());
    let facts = index::facts_of(&paths, cache, &name, &mut read_facts)?;
    let selection = select::select(&facts, source.max_bytes, source.held_out)?;
    let mut gathered = || Spool::gather(cache, &paths, &selection);
    let encoder = Encoder::new(source.tokenizer, cache, &selection.train, &mut gathered)?;
    let id = identity(&selection, &encoder);
    if let Some(manifest) = dataset::cached(cache, &id) {
        codec::keep(&dataset::folder(cache, &id), &encoder)?;
        return Ok(manifest);
    }
    let spool = Spool::gather(cache, &paths, &selection)?;
    dataset::store(cache, &id, |folder| build(folder, &id, &selection, &encoder, &spool))
}

/// The documents of one file, for the index.
fn read_facts(path: &Path) -> Result<FileFacts, DataError> {
    let mut documents = Vec::new();
    documents::read(path, Limits::DEFAULT, &mut |_, document| {
        documents
            .push(DocumentFacts { hash: blake3::hash(document), bytes: document.len() as u64 });
        Ok(())
    })?;
    Ok(FileFacts { documents, largest_token: None })
}

fn identity(selection: &Selection, encoder: &Encoder) -> DataId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT.as_bytes());
    hasher.update(b"\0");
    hasher.update(encoder.identity().as_bytes());
    for part in [&selection.train, &selection.validation] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for document in part {
            hasher.update(document.facts.hash.as_bytes());
        }
    }
    DataId::from_hash(&hasher.finalize())
}

fn build(
    folder: &Path,
    id: &DataId,
    selection: &Selection,
    encoder: &Encoder,
    spool: &Spool,
) -> Result<DataManifest, DataError> {
    let write = |part: Part, documents: &[Chosen]| {
        let mut shard = ShardWriter::create(&folder.join(part.file()), encoder.vocabulary())?;
        for document in documents {
            let bytes = spool.read(document)?;
            match encoder {
                Encoder::Bytes => shard.push_bytes(&bytes)?,
                Encoder::Model(model) => {
                    let mut push = |tokens: &[u32]| shard.push(tokens);
                    model.encode(&bytes, spool.path(document), &mut push)?;
                }
            }
            shard.push(encoder.separator())?;
        }
        shard.finish()
    };
    codec::keep(folder, encoder)?;
    let train_tokens = write(Part::Train, &selection.train)?;
    let validation_tokens = write(Part::Validation, &selection.validation)?;
    // A separator counts as one byte, so that a byte is a byte per token and not a little less.
    let bytes: u64 = selection.validation.iter().map(|document| document.facts.bytes + 1).sum();
    #[expect(clippy::cast_precision_loss, reason = "byte counts are below 2^53")]
    let bytes_per_token = bytes as f64 / validation_tokens as f64;
    Ok(DataManifest {
        id: id.clone(),
        vocabulary: encoder.vocabulary(),
        train_tokens,
        validation_tokens,
        bytes_per_token: Some(bytes_per_token),
        train_documents: selection.train.len() as u64,
        validation_documents: selection.validation.len() as u64,
        entropy: None,
        image: None,
    })
}

/// The chosen documents in one unnamed file, so that they can be read in any order while memory
/// holds one of them.
pub(crate) struct Spool {
    file: File,
    places: HashMap<blake3::Hash, Place>,
    paths: Vec<PathBuf>,
    folder: PathBuf,
}

#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    bytes: usize,
}

impl Spool {
    fn gather(cache: &Path, paths: &[PathBuf], chosen: &Selection) -> Result<Self, DataError> {
        fs::create_dir_all(cache).map_err(DataError::io("create the folder", cache))?;
        let failed = DataError::io("write a temporary file in", cache);
        let file = match tempfile::tempfile_in(cache) {
            Ok(file) => file,
            Err(error) => return Err(failed(error)),
        };
        let mut by_file: BTreeMap<usize, BTreeMap<usize, blake3::Hash>> = BTreeMap::new();
        for document in chosen.train.iter().chain(&chosen.validation) {
            by_file.entry(document.file).or_default().insert(document.place, document.facts.hash);
        }
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        let mut places = HashMap::new();
        let mut offset = 0;
        for (index, mut wanted) in by_file {
            let path = &paths[index];
            documents::read(path, Limits::DEFAULT, &mut |place, document| {
                let Some(hash) = wanted.remove(&place) else { return Ok(()) };
                if blake3::hash(document) != hash {
                    return Err(DataError::Changed { path: path.clone() });
                }
                out.write_all(document).map_err(DataError::io("write in", cache))?;
                places.insert(hash, Place { offset, bytes: document.len() });
                offset += document.len() as u64;
                Ok(())
            })?;
            if !wanted.is_empty() {
                return Err(DataError::Changed { path: path.clone() });
            }
        }
        out.flush().map_err(DataError::io("write in", cache))?;
        drop(out);
        Ok(Self { file, places, paths: paths.to_vec(), folder: cache.to_owned() })
    }

    /// The content of a chosen document.
    pub(crate) fn read(&self, document: &Chosen) -> Result<Vec<u8>, DataError> {
        let place = self.places[&document.facts.hash];
        let mut bytes = vec![0; place.bytes];
        let read = self.file.read_exact_at(&mut bytes, place.offset);
        read.map_err(DataError::io("read a temporary file in", &self.folder))?;
        Ok(bytes)
    }

    /// The file a chosen document came from.
    pub(crate) fn path(&self, document: &Chosen) -> &Path {
        &self.paths[document.file]
    }
}
