//! Files read and written from a place, and read with a count.

use std::{fs::File, io, os::unix::fs::FileExt};

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
