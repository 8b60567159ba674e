//! Writes and syncs of files that must outlive this process; under test a disk that refuses them.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Writes bytes at a place of a file.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    faults::on_write(offset)?;
    file.write_all_at(bytes, offset)
}

/// Waits until a file is on the disk, with what a reader of it needs.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    faults::on_sync()?;
    file.sync_data()
}

/// A disk that refuses, for the thread of one test.
#[cfg(test)]
pub(crate) mod faults {
    use std::{
        cell::{Cell, RefCell},
        io,
    };

    /// What the disk does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Disk {
        Sound,
        /// Takes no byte.
        Full,
        /// Takes bytes and may lose them.
        Unsyncable,
    }

    thread_local! {
        static DISK: Cell<Disk> = const { Cell::new(Disk::Sound) };
        static WRITTEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    /// Sets what the disk does from now on.
    pub(crate) fn set(disk: Disk) {
        DISK.set(disk);
    }

    /// Where was written since the last call.
    pub(crate) fn take_written() -> Vec<u64> {
        WRITTEN.with_borrow_mut(std::mem::take)
    }

    pub(super) fn on_write(offset: u64) -> io::Result<()> {
        if DISK.get() == Disk::Full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        WRITTEN.with_borrow_mut(|written| written.push(offset));
        Ok(())
    }

    pub(super) fn on_sync() -> io::Result<()> {
        if DISK.get() == Disk::Sound { Ok(()) } else { Err(io::Error::other("scripted")) }
    }
}
