//! Tokens on disk: our shards (one file per part of a data set) and raw files of u16.
//!
//! A shard is a header of 64 bytes and the tokens, one byte each where the vocabulary is at most
//! 256, else little-endian u16:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `SWEEPTOK` |
//! | 8..12 | version, u32 |
//! | 12..16 | bytes per token, 1 or 2, u32 |
//! | 16..24 | number of tokens, u64 |
//! | 24..32 | zero |
//! | 32..64 | BLAKE3 of the tokens followed by bytes 8..24 |
//!
//! All numbers are little-endian. The hash and every token are checked when a shard is opened.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::error::DataError;

const MAGIC: [u8; 8] = *b"SWEEPTOK";
/// Raised with the layout above.
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 64;

/// What is read at once while checking or copying: large enough that calls cost nothing, small
/// beside a trainer.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of a token on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Vocabularies of at most 256.
    One = 1,
    /// Vocabularies of at most 65,536.
    Two = 2,
}

impl Width {
    /// The width for a vocabulary, which is at most 65,536.
    pub(crate) fn of(vocabulary: u32) -> Self {
        assert!(vocabulary <= 1 << 16, "a vocabulary of {vocabulary} does not go into u16");
        if vocabulary <= 1 << 8 { Self::One } else { Self::Two }
    }

    const fn bytes(self) -> u64 {
        self as u64
    }
}

/// Calls `each` with every token in `bytes`.
pub(crate) fn for_each_token(bytes: &[u8], width: Width, each: &mut dyn FnMut(u16)) {
    match width {
        Width::One => bytes.iter().for_each(|&byte| each(u16::from(byte))),
        Width::Two => {
            bytes.chunks_exact(2).for_each(|pair| each(u16::from_le_bytes([pair[0], pair[1]])))
        }
    }
}

/// Writes a shard token by token.
pub(crate) struct ShardWriter {
    path: PathBuf,
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    width: Width,
    buffer: Vec<u8>,
    tokens: u64,
}

impl ShardWriter {
    /// A new shard at `path` for tokens below `vocabulary`.
    pub(crate) fn create(path: &Path, vocabulary: u32) -> Result<Self, DataError> {
        let failed = DataError::io("write", path);
        let mut out = match File::create(path) {
            Ok(file) => BufWriter::with_capacity(CHUNK_BYTES, file),
            Err(error) => return Err(failed(error)),
        };
        out.write_all(&[0; HEADER_BYTES as usize]).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            out,
            hasher: blake3::Hasher::new(),
            width: Width::of(vocabulary),
            buffer: Vec::new(),
            tokens: 0,
        })
    }

    /// Appends tokens, each below the vocabulary.
    pub(crate) fn push(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        self.buffer.clear();
        for &token in tokens {
            let token = u16::try_from(token).expect("a vocabulary is at most 65,536");
            match self.width {
                Width::One => self
                    .buffer
                    .push(u8::try_from(token).expect("a vocabulary of one byte is at most 256")),
                Width::Two => self.buffer.extend_from_slice(&token.to_le_bytes()),
            }
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.write(&bytes, tokens.len() as u64)?;
        self.buffer = bytes;
        Ok(())
    }

    /// Appends bytes, each a token of a vocabulary of 256.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        assert_eq!(self.width, Width::One, "bytes are tokens of one byte");
        self.write(bytes, bytes.len() as u64)
    }

    fn write(&mut self, bytes: &[u8], tokens: u64) -> Result<(), DataError> {
        self.hasher.update(bytes);
        self.tokens += tokens;
        self.out.write_all(bytes).map_err(DataError::io("write", &self.path))
    }

    /// Completes the shard and tells its tokens.
    pub(crate) fn finish(self) -> Result<u64, DataError> {
        let Self { path, mut out, mut hasher, width, tokens, .. } = self;
        let facts = header_facts(width, tokens);
        hasher.update(&facts);
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&facts);
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(hasher.finalize().as_bytes());
        let written = out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&header));
        written.and_then(|()| out.flush()).map_err(DataError::io("write", &path))?;
        Ok(tokens)
    }
}

/// Bytes 8..24 of a header.
fn header_facts(width: Width, tokens: u64) -> [u8; 16] {
    let mut facts = [0; 16];
    facts[..4].copy_from_slice(&VERSION.to_le_bytes());
    facts[4..8].copy_from_slice(&(width as u32).to_le_bytes());
    facts[8..].copy_from_slice(&tokens.to_le_bytes());
    facts
}

/// One file that holds a stretch of tokens.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    /// Where its tokens begin, in bytes.
    offset: u64,
    /// Place of its first token in the whole.
    start: u64,
    tokens: u64,
}

/// The tokens of one part of a data set, on disk.
#[derive(Debug)]
pub struct TokenFile {
    segments: Vec<Segment>,
    width: Width,
    tokens: u64,
}

impl TokenFile {
    /// Opens a shard and checks the whole of it.
    pub(crate) fn open(path: &Path, vocabulary: u32) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(DataError::io("open", path))?;
        let damaged = |reason: String| DataError::Damaged { path: path.to_owned(), reason };
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact(&mut header).map_err(|_| damaged("cut inside its header".to_owned()))?;
        if header[..8] != MAGIC {
            return Err(damaged("not a token shard".to_owned()));
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        if word(8) != VERSION {
            return Err(damaged(format!("version {} where {VERSION} is read", word(8))));
        }
        let width = Width::of(vocabulary);
        if word(12) != width as u32 {
            return Err(damaged(format!("{} bytes per token", word(12))));
        }
        let tokens = u64::from_le_bytes(header[16..24].try_into().expect("8 bytes"));
        let mut hasher = blake3::Hasher::new();
        let (bytes, largest) = scan(&mut file, path, width, &mut hasher)?;
        hasher.update(&header[8..24]);
        if tokens.checked_mul(width.bytes()) != Some(bytes) {
            return Err(damaged(format!("{bytes} bytes where {tokens} tokens are announced")));
        }
        if hasher.finalize().as_bytes() != &header[32..64] {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        if largest.is_some_and(|token| token >= vocabulary) {
            return Err(damaged(format!("a token is not below the vocabulary of {vocabulary}")));
        }
        let segment =
            Segment { path: path.to_owned(), file, offset: HEADER_BYTES, start: 0, tokens };
        Ok(Self { segments: vec![segment], width, tokens })
    }

    /// Joins raw files of little-endian u16, which were checked before, in this order.
    pub(crate) fn open_raw(files: &[(PathBuf, u64)]) -> Result<Self, DataError> {
        let mut segments = Vec::with_capacity(files.len());
        let mut start = 0;
        for (path, tokens) in files {
            let file = File::open(path).map_err(DataError::io("open", path))?;
            segments.push(Segment { path: path.clone(), file, offset: 0, start, tokens: *tokens });
            start += tokens;
        }
        Ok(Self { segments, width: Width::Two, tokens: start })
    }

    /// Number of tokens.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no part of a data set is empty")]
    pub fn len(&self) -> u64 {
        self.tokens
    }

    /// Copies the tokens from `start` on into `out`.
    ///
    /// # Errors
    /// When a file cannot be read, or was cut since it was opened.
    ///
    /// # Panics
    /// When `start + out.len()` is beyond the last token.
    pub fn try_copy(&self, start: u64, out: &mut [i32]) -> Result<(), DataError> {
        let end = start + out.len() as u64;
        assert!(end <= self.tokens, "tokens {start}..{end} of {}", self.tokens);
        let first = self.segments.partition_point(|s| s.start + s.tokens <= start);
        let mut done = 0;
        for segment in &self.segments[first..] {
            if done == out.len() {
                break;
            }
            let within = start + done as u64 - segment.start;
            let room = usize::try_from(segment.tokens - within).unwrap_or(usize::MAX);
            let count = room.min(out.len() - done);
            self.copy_from(segment, within, &mut out[done..done + count])?;
            done += count;
        }
        Ok(())
    }

    /// Copies the tokens from `start` on into `out`, as [`Self::try_copy`].
    ///
    /// # Panics
    /// When `start + out.len()` is beyond the last token, or where a file that was whole when it
    /// was opened can no longer be read: a run cannot go on without its data, and its process is
    /// replaced after the panic.
    pub fn copy(&self, start: u64, out: &mut [i32]) {
        self.try_copy(start, out).unwrap_or_else(|error| panic!("{error}"));
    }

    fn copy_from(&self, segment: &Segment, within: u64, out: &mut [i32]) -> Result<(), DataError> {
        // A training window goes into this without an allocation.
        let mut buffer = [0; 4096];
        let bytes_each = self.width as usize;
        let mut at = segment.offset + within * self.width.bytes();
        for part in out.chunks_mut(buffer.len() / bytes_each) {
            let bytes = &mut buffer[..part.len() * bytes_each];
            let read = segment.file.read_exact_at(bytes, at);
            read.map_err(DataError::io("read", &segment.path))?;
            let mut place = part.iter_mut();
            for_each_token(bytes, self.width, &mut |token| {
                *place.next().expect("one place per token") = i32::from(token);
            });
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Hashes what is left of a file; tells its bytes and its largest token.
pub(crate) fn scan(
    file: &mut File,
    path: &Path,
    width: Width,
    hasher: &mut blake3::Hasher,
) -> Result<(u64, Option<u32>), DataError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    let mut largest = None;
    loop {
        let filled = fill(file, &mut buffer).map_err(DataError::io("read", path))?;
        if filled == 0 {
            return Ok((bytes, largest));
        }
        hasher.update(&buffer[..filled]);
        for_each_token(&buffer[..filled], width, &mut |token| {
            largest = largest.max(Some(u32::from(token)));
        });
        bytes += filled as u64;
    }
}

/// Reads until the buffer is full or the file ends, so that no token is cut in two.
pub(crate) fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(folder: &tempfile::TempDir, vocabulary: u32, tokens: &[u32]) -> PathBuf {
        let path = folder.path().join("tokens");
        let mut writer = ShardWriter::create(&path, vocabulary).unwrap();
        for part in tokens.chunks(1000) {
            writer.push(part).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), tokens.len() as u64);
        path
    }

    fn ramp(count: u32, vocabulary: u32) -> Vec<u32> {
        (0..count).map(|i| i * 7919 % vocabulary).collect()
    }

    #[test]
    fn tokens_come_back_at_every_place() {
        let folder = tempfile::tempdir().unwrap();
        for vocabulary in [2, 256, 257, 65_536] {
            let tokens = ramp(10_000, vocabulary);
            let file = TokenFile::open(&shard(&folder, vocabulary, &tokens), vocabulary).unwrap();
            assert_eq!(file.len(), 10_000);
            for (start, count) in [(0, 10_000), (9_999, 1), (4_321, 4_097), (10_000, 0)] {
                let mut out = vec![-1; count];
                file.copy(start as u64, &mut out);
                let expected = tokens[start..start + count].iter().map(|&t| t as i32);
                assert!(out.into_iter().eq(expected), "{vocabulary}: {count} from {start}");
            }
        }
    }

    #[test]
    fn raw_files_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (name, tokens) in [("a", vec![1_u16, 2, 3]), ("b", vec![4]), ("c", vec![5, 60_000])] {
            let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
            std::fs::write(folder.path().join(name), bytes).unwrap();
            files.push((folder.path().join(name), tokens.len() as u64));
        }
        let file = TokenFile::open_raw(&files).unwrap();
        let mut out = [0; 5];
        file.copy(1, &mut out);
        assert_eq!(out, [2, 3, 4, 5, 60_000]);
    }

    #[test]
    #[should_panic(expected = "tokens 3..5 of 4")]
    fn nothing_is_read_beyond_the_end() {
        let folder = tempfile::tempdir().unwrap();
        TokenFile::open(&shard(&folder, 256, &[1, 2, 3, 4]), 256).unwrap().copy(3, &mut [0; 2]);
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(&folder, 300, &ramp(40, 300));
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).filter(|at| !(24..32).contains(at)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = TokenFile::open(&path, 300).unwrap_err();
            assert!(matches!(error, DataError::Damaged { .. }), "byte {at}: {error}");
        }
        for length in [0, 63, 64, whole.len() - 1, whole.len() - 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(TokenFile::open(&path, 300).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(&folder, 256, &[1, 99, 2]);
        assert!(TokenFile::open(&path, 100).is_ok());
        assert!(TokenFile::open(&path, 99).unwrap_err().to_string().contains("vocabulary of 99"));
    }

    #[test]
    fn a_file_cut_after_opening_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(&folder, 256, &ramp(1000, 256));
        let file = TokenFile::open(&path, 256).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(file.try_copy(500, &mut [0; 10]).is_err());
    }
}
