//! Which file systems a store in a file must not lie on.
//!
//! SQLite's WAL shares memory between processes and counts on locks that hold. On a network file
//! system neither is sure: two machines may write at once, and the file is damaged without a word.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{Place, error::StoreError};

/// Network file systems by the number that Linux has for them. FUSE and 9p are not among them: what
/// lies under them may be a local disk.
const NETWORK: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00c3_6400, "Ceph"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0xaad7_aaea, "PanFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
];

/// The network file system of this number; `None` for every other.
fn network(number: u32) -> Option<&'static str> {
    NETWORK.iter().find(|(of, _)| *of == number).map(|(_, name)| *name)
}

/// Refuses a store in a file on a network file system; the file need not be there yet.
///
/// # Errors
/// [`StoreError::NetworkFileSystem`], or [`StoreError::Folder`] where the system does not tell what it is.
pub fn refuse_network_file_system(address: &str) -> Result<(), StoreError> {
    let Place::Sqlite(path) = Place::of(address)? else { return Ok(()) };
    let number = number_at(existing(path))
        .map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    match number.and_then(network) {
        Some(kind) => Err(StoreError::NetworkFileSystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

/// The file, or the folder nearest above it that is there.
fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|above| !above.as_os_str().is_empty() && above.exists());
    there.unwrap_or(Path::new(".")).to_owned()
}

/// The number of the file system that something lies on.
#[cfg(target_os = "linux")]
fn number_at(path: PathBuf) -> io::Result<Option<u32>> {
    let facts = rustix::fs::statfs(&path)?;
    // Its width differs by architecture; the numbers have 32 bits, and a sign may be carried on.
    let bytes = facts.f_type.to_le_bytes();
    Ok(bytes.first_chunk().map(|number| u32::from_le_bytes(*number)))
}

/// Other systems have no such numbers.
#[cfg(not(target_os = "linux"))]
fn number_at(_path: PathBuf) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        for (number, name) in [(0x6969, "NFS"), (0x0bd0_0bd0, "Lustre"), (0x4750_4653, "GPFS")] {
            assert_eq!(network(number), Some(name));
        }
        // ext4, XFS, Btrfs, tmpfs, overlay, ZFS, FUSE, 9p.
        let local = [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
            0x6573_5546,
            0x0102_1997,
        ];
        assert!(local.into_iter().all(|number| network(number).is_none()));
    }

    #[test]
    fn what_is_not_there_yet_lies_where_its_folder_will() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep.db");
        assert_eq!(existing(&file), folder.path());
        assert_eq!(existing(&folder.path().join("a/b/sweep.db")), folder.path());
        std::fs::write(&file, "").unwrap();
        assert_eq!(existing(&file), file);
        assert_eq!(existing(Path::new("no-such-folder-here/sweep.db")), Path::new("."));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_the_number() {
        // Mounted wherever Linux runs our tests: we read it for the use of processors too.
        assert_eq!(number_at("/proc/self".into()).unwrap(), Some(0x9fa0));
    }

    #[test]
    fn a_server_has_no_file_system_and_the_refusal_names_all() {
        refuse_network_file_system("postgres://sweep@localhost/sweep").unwrap();
        let path = PathBuf::from("/home/me/.sweep/sweep.db");
        let text = StoreError::NetworkFileSystem { path, kind: "NFS" }.to_string();
        let told = ["/home/me/.sweep/sweep.db", "NFS", "hint: ", "--allow-network-filesystem"];
        assert!(told.iter().all(|part| text.contains(part)), "{text}");
    }
}
