//! The image source: files to shards in the cache, under the data id.
//!
//! What a file is, its content says, not its name: see [`decode`]. All images have one square size
//! and one number of channels. An image counts as a document does: exact copies once, in the order
//! of content hashes, held out by hash. A shard has a byte of label (0 where there is none) and the
//! values row by row, channels together, image after image.
//!
//! Classes are the labels of IDX label files and of CIFAR-10, or, for PNG and JPEG in folders of
//! several names, the folders in the order of their names.

mod array;
mod jpeg;
mod png;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use sweep_spec::{
    data::{DataManifest, ImageFacts},
    id::DataId,
};

use crate::{
    dataset::{self, Part},
    error::DataError,
    globs,
    index::{DocumentFacts, FileFacts},
    select::{self, Chosen, Selection},
    shard::ShardWriter,
};

/// Raised when the same images would be kept as other bytes.
const FORMAT: &str = "sweep.data.images/1";

/// A decoded file at most: CIFAR-10 whole is 184 MB, MNIST 47 MB.
const FILE_BYTES: u64 = 1 << 30;

/// Sides of images that a model can be built for.
const SIDES: std::ops::RangeInclusive<u32> = 8..=64;

/// Height, width, channels of an image.
type Size = [u32; 3];

/// What a file was decoded to.
#[derive(Debug, PartialEq)]
enum Decoded {
    /// Images of one size; labels where the format has them.
    Images(Pixels),
    /// Labels of the images of another file.
    Labels(Vec<u8>),
}

/// Images of one size.
#[derive(Debug, PartialEq)]
struct Pixels {
    size: Size,
    /// Values of all images, row by row, channels together.
    values: Vec<u8>,
    labels: Option<Vec<u8>>,
}

impl Pixels {
    fn image_len(&self) -> usize {
        self.size.iter().map(|&n| n as usize).product()
    }
}

/// A file of images with a label for each.
struct Source {
    path: PathBuf,
    pixels: Pixels,
    labels: Vec<u8>,
}

/// Reads the files, makes the shards where the cache has none, and tells their facts.
pub(crate) fn resolve(
    patterns: &[String],
    held_out: f64,
    cache: &Path,
) -> Result<DataManifest, DataError> {
    let paths = globs::files(patterns)?;
    let (sources, classes) = read(&paths)?;
    let image = facts(&sources, classes)?;
    let files: Vec<FileFacts> = sources.iter().map(file_facts).collect();
    let selection = select::select(&files, None, held_out)?;
    let id = identity(&image, &selection);
    if let Some(manifest) = dataset::cached(cache, &id) {
        return Ok(manifest);
    }
    dataset::store(cache, &id, |folder| build(folder, &id, image, &selection, &sources))
}

/// Decodes every file and joins images with their labels.
fn read(paths: &[PathBuf]) -> Result<(Vec<Source>, u32), DataError> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        match decode(path)? {
            Decoded::Images(pixels) => images.push((path.clone(), pixels)),
            Decoded::Labels(list) => labels.push((path.clone(), list)),
        }
    }
    if images.is_empty() {
        let reason = "labels without images".to_owned();
        return Err(DataError::image(&paths[0], reason, "let the globs match the images too"));
    }
    same_size(&images)?;
    if !labels.is_empty() {
        return with_label_files(images, labels);
    }
    if images.iter().all(|(_, pixels)| pixels.labels.is_some()) {
        let sources = images.into_iter().map(|(path, mut pixels)| {
            let labels = pixels.labels.take().unwrap_or_default();
            Source { path, pixels, labels }
        });
        let sources: Vec<Source> = sources.collect();
        let classes = classes_of(&sources);
        return Ok((sources, classes));
    }
    by_folder(images)
}

fn classes_of(sources: &[Source]) -> u32 {
    let largest = sources.iter().flat_map(|source| &source.labels).max();
    largest.map_or(0, |&largest| u32::from(largest) + 1)
}

/// Images and label files in the order of their names, one by one.
fn with_label_files(
    images: Vec<(PathBuf, Pixels)>,
    labels: Vec<(PathBuf, Vec<u8>)>,
) -> Result<(Vec<Source>, u32), DataError> {
    if images.len() != labels.len() {
        let reason = format!("{} files of labels for {} of images", labels.len(), images.len());
        let hint = "let the globs match one label file for every image file, or none";
        return Err(DataError::image(&labels[0].0, reason, hint));
    }
    let mut sources = Vec::with_capacity(images.len());
    for ((path, pixels), (label_path, labels)) in images.into_iter().zip(labels) {
        let count = pixels.values.len() / pixels.image_len();
        if count != labels.len() {
            let reason =
                format!("{} labels for the {count} images of `{}`", labels.len(), path.display());
            let hint = "check that both were copied whole and belong together";
            return Err(DataError::image(&label_path, reason, hint));
        }
        sources.push(Source { path, pixels, labels });
    }
    let classes = classes_of(&sources);
    Ok((sources, classes))
}

/// Folders of several names are classes; one folder is none.
fn by_folder(images: Vec<(PathBuf, Pixels)>) -> Result<(Vec<Source>, u32), DataError> {
    let folder = |path: &Path| -> OsString {
        path.parent().and_then(Path::file_name).map_or_else(OsString::new, OsString::from)
    };
    let names: BTreeSet<OsString> = images.iter().map(|(path, _)| folder(path)).collect();
    if names.len() > 256 {
        let reason = format!("{} folders, more than the 256 classes there can be", names.len());
        let hint = "let the globs match fewer folders";
        return Err(DataError::image(&images[0].0, reason, hint));
    }
    let several = names.len() > 1 && images.iter().all(|(_, pixels)| pixels.labels.is_none());
    let sources = images.into_iter().map(|(path, pixels)| {
        let place = names.iter().position(|name| *name == folder(&path)).unwrap_or(0);
        let label = if several { u8::try_from(place).expect("at most 256 folders") } else { 0 };
        let labels = vec![label; pixels.values.len() / pixels.image_len()];
        Source { path, pixels, labels }
    });
    let sources: Vec<Source> = sources.collect();
    let classes = if several { u32::try_from(names.len()).expect("at most 256") } else { 0 };
    Ok((sources, classes))
}

fn same_size(images: &[(PathBuf, Pixels)]) -> Result<(), DataError> {
    let (first_path, first) = &images[0];
    match images.iter().find(|(_, pixels)| pixels.size != first.size) {
        None => Ok(()),
        Some((path, other)) => {
            let reason = format!(
                "{} where `{}` is {}",
                size_text(other.size),
                first_path.display(),
                size_text(first.size)
            );
            Err(DataError::image(path, reason, "bring all images to one size and colour"))
        }
    }
}

fn size_text([height, width, channels]: Size) -> String {
    format!("{width} x {height} with {channels} channel(s)")
}

fn facts(sources: &[Source], classes: u32) -> Result<ImageFacts, DataError> {
    let [height, width, channels] = sources[0].pixels.size;
    if height != width || !SIDES.contains(&height) {
        let reason = format!("images of {width} x {height}");
        let hint = "crop or resize them to squares of 8 to 64 pixels";
        return Err(DataError::image(&sources[0].path, reason, hint));
    }
    Ok(ImageFacts { side: height, channels, classes })
}

/// Every image as a document: its hash is that of label and values.
fn file_facts(source: &Source) -> FileFacts {
    let images = source.pixels.values.chunks_exact(source.pixels.image_len());
    let documents = images.zip(&source.labels).map(|(values, &label)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[label]).update(values);
        DocumentFacts { hash: hasher.finalize(), bytes: values.len() as u64 }
    });
    FileFacts { documents: documents.collect(), largest_token: None }
}

fn identity(image: &ImageFacts, selection: &Selection) -> DataId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT.as_bytes());
    for number in [image.side, image.channels, image.classes] {
        hasher.update(&number.to_le_bytes());
    }
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
    image: ImageFacts,
    selection: &Selection,
    sources: &[Source],
) -> Result<DataManifest, DataError> {
    let write = |part: Part, chosen: &[Chosen]| -> Result<u64, DataError> {
        let mut shard = ShardWriter::create(&folder.join(part.file()), 256)?;
        for document in chosen {
            let source = &sources[document.file];
            let length = source.pixels.image_len();
            shard.push_bytes(&[source.labels[document.place]])?;
            shard.push_bytes(&source.pixels.values[document.place * length..][..length])?;
        }
        shard.finish()?;
        Ok(chosen.len() as u64)
    };
    let train = write(Part::Train, &selection.train)?;
    let validation = write(Part::Validation, &selection.validation)?;
    Ok(DataManifest {
        id: id.clone(),
        vocabulary: 256,
        train_tokens: train,
        validation_tokens: validation,
        bytes_per_token: None,
        train_documents: train,
        validation_documents: validation,
        entropy: None,
        image: Some(image),
    })
}

/// Reads one file: IDX (optionally gzipped), `.npy`, PNG, JPEG by their first bytes, and CIFAR-10
/// binary, which has no mark, by the ending `.bin`.
fn decode(path: &Path) -> Result<Decoded, DataError> {
    let mut bytes = bounded(File::open(path).map_err(DataError::io("open", path))?, path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = bounded(flate2::read::MultiGzDecoder::new(bytes.as_slice()), path)?;
    }
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => png::decode(path, &bytes).map(Decoded::Images),
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(path, bytes).map(Decoded::Images),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => array::npy(path, &bytes).map(Decoded::Images),
        [0, 0, 8, 1, ..] => array::idx_labels(path, &bytes).map(Decoded::Labels),
        [0, 0, 8, 3, ..] => array::idx_images(path, &bytes).map(Decoded::Images),
        _ if ending == "bin" => array::cifar(path, bytes).map(Decoded::Images),
        _ => {
            let hint = "give IDX of bytes, CIFAR-10 `.bin`, `.npy` of bytes, PNG or JPEG";
            Err(DataError::image(path, "no image format that is read".to_owned(), hint))
        }
    }
}

fn bounded(from: impl Read, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(DataError::TooLarge {
            path: path.to_owned(),
            place: "of images".to_owned(),
            limit_bytes: FILE_BYTES,
            hint: "split it",
        });
    }
    Ok(bytes)
}

/// Says of a glob without a match whether its folder is empty: that is what people then ask.
pub(crate) fn explain(error: DataError) -> DataError {
    let DataError::NoMatch { glob, expanded } = &error else { return error };
    let folder = Path::new(expanded).parent().unwrap_or(Path::new("."));
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {
            let reason = format!("the folder is empty, so glob `{glob}` finds no image");
            DataError::image(folder, reason, "put images there, or correct the glob")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
