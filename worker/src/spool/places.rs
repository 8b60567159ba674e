//! Files read and written from a place, read with a count, and synced so that a failed sync loses
//! nothing.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::disk;

/// Bytes that are written again at a time.
const AGAIN_BYTES: u64 = 1 << 20;

/// How much of a file is known to be on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Synced {
    /// End of that part.
    upto: u64,
    /// A sync failed since: the system may have dropped what was written and call it clean.
    doubted: bool,
}

impl Synced {
    /// All of a file.
    pub(super) fn all(length: u64) -> Self {
        Self { upto: length, doubted: false }
    }

    /// Brings a file to the disk up to `end`. After a failed sync the next one answers for nothing
    /// that was written before it, so all of that is written again.
    pub(super) fn reach(&mut self, file: &File, end: u64) -> io::Result<()> {
        if self.doubted {
            let mut offset = self.upto;
            while offset < end {
                let length = AGAIN_BYTES.min(end - offset);
                let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, offset)?;
                disk::write_at(file, &bytes, offset)?;
                offset += length;
            }
        }
        self.doubted = true;
        disk::sync(file)?;
        *self = Self::all(end);
        Ok(())
    }
}

/// A reader that counts, so that a loaded journal knows where its records start.
pub(super) struct Counted {
    pub(super) inner: File,
    pub(super) count: u64,
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// Reads a file from a place without moving its cursor.
pub(super) struct ReadAt<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Writes a file from a place without moving its cursor.
pub(super) struct WriteAt<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl io::Write for WriteAt<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(buffer, self.offset)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
