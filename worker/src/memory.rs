//! The memory of this machine: how much of it the daemon and its children may use, and what tells that
//! it did not suffice. Linux limits a control group, and counts the kills for lack of memory in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the control groups are seen.
const GROUPS: &str = "/sys/fs/cgroup";

/// What is said where memory did not suffice, in small letters: by Rust before it aborts, by wgpu
/// and wgpu-core, by Vulkan's results, by CUDA's, and by the memory management of CubeCL.
const RAN_OUT: &[&str] = &[
    "memory allocation of",
    "out of memory",
    "outofmemory",
    "not enough memory left",
    "memory allocation has failed",
    "out_of_device_memory",
    "out_of_host_memory",
    "out_of_memory",
    "out of device memory",
    "out-of-memory",
    "can't allocate ",
];

/// Whether a message of a trainer, of a driver or of what lies between says that memory did not
/// suffice.
pub(crate) fn ran_out(message: &str) -> bool {
    let message = message.to_lowercase();
    RAN_OUT.iter().any(|words| message.contains(words))
}

/// Processes of this daemon's control group that were killed for lack of memory so far; absent where
/// the system does not count them.
pub(crate) fn kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let events = Path::new(GROUPS).join(own_group(&groups)?).join("memory.events");
    count(&fs::read_to_string(events).ok()?)
}

/// Bytes that this process and its children may use together; absent where nothing limits them but
/// the machine.
pub(crate) fn limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    least_limit(Path::new(GROUPS), &groups)
}

/// The least limit of a process's own group and of those that it lies in.
fn least_limit(root: &Path, groups: &str) -> Option<u64> {
    let limit = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let above = |group: &Path, file: &str| {
        let limits = group.ancestors().take_while(|at| at.starts_with(root));
        limits.filter_map(|at| limit(at.join(file))).min()
    };
    let second = own_group(groups).and_then(|own| above(&root.join(own), "memory.max"));
    let first = own_group_of_memory(groups)
        .and_then(|own| above(&root.join("memory").join(own), "memory.limit_in_bytes"));
    second.into_iter().chain(first).min()
}

/// The control group of a process, as a path below their root.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The same in the first version of control groups, which has a tree for each resource.
fn own_group_of_memory(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.split_once(":memory:/").map(|(_, group)| group))
}

fn count(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_in_the_group_of_this_process() {
        assert_eq!(own_group("1:cpu:/x\n0::/system.slice/worker\n"), Some("system.slice/worker"));
        assert_eq!(own_group("1:cpu:/x\n"), None);
        let events = "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((count(events), count("oom 3\n")), (Some(2), None));
    }

    #[test]
    fn the_least_limit_above_a_process_counts() {
        let home = tempfile::tempdir().unwrap();
        let set = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let least = |groups: &str| least_limit(home.path(), groups);
        assert_eq!(least("0::/a/b\n"), None, "a group without a limit");
        set("a/b/memory.max", "max\n");
        set("a/memory.max", "4096\n");
        assert_eq!(least("0::/a/b\n"), Some(4096));
        set("a/b/memory.max", "1024\n");
        assert_eq!(least("0::/a/b\n"), Some(1024));
        assert_eq!(least("0::/\n"), None, "beside it");
        set("memory/memory.limit_in_bytes", "9223372036854771712\n");
        set("memory/job/memory.limit_in_bytes", "2048\n");
        assert_eq!(least("3:memory:/job\n1:cpu:/x\n"), Some(2048));
        assert_eq!(least("nonsense"), None);
    }

    /// The words are those of the libraries, as they stand in their sources.
    #[test]
    fn a_lack_of_memory_is_told_by_its_words() {
        for message in [
            "memory allocation of 4096 bytes failed",
            "wgpu error: Out of Memory",
            "Error in Device::create_buffer: Not enough memory left.",
            "A device memory allocation has failed",
            "ERROR_OUT_OF_DEVICE_MEMORY",
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "out of device memory allocating 1073741824 bytes",
            "An out-of-memory error happened during launch",
            "can't allocate buffer of size: 17179869184",
        ] {
            assert!(ran_out(message), "{message}");
        }
        for message in ["index out of bounds", "the device is lost", "cannot read the memory map"] {
            assert!(!ran_out(message), "{message}");
        }
    }
}
