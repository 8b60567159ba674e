//! What this machine offers without opening any device: the processor's name, cores and memory.
//!
//! Devices are listed by the worker's inventory; this serves plans made before a worker exists.

pub(crate) mod clock;

use std::{
    ffi::OsString,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use sweep_spec::plan::{DeviceKind, slot_memory_bytes};

/// The processor as a kind of device with one slot per core, or `slots` of them.
pub(crate) fn processor(slots: Option<u32>) -> DeviceKind {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let slots = slots.unwrap_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX)).max(1);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = field(&info, "model name").unwrap_or("cpu").to_owned();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_bytes = field(&memory, "MemAvailable")
        .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| slot_memory_bytes(kib * 1024, slots));
    DeviceKind { name, slots, memory_bytes }
}

/// The first value of `key : value` lines.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Bytes that are left to us on the disk of a folder; unknown where the system does not tell.
///
/// Rust has no call for it, and `df -P` is the same on every system.
pub(crate) fn disk_left(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(folder).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    available(&text).filter(|_| output.status.success())
}

/// The fourth number of the last line, in KiB.
fn available(text: &str) -> Option<u64> {
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The folder of what can be made again: token files and measured speeds. `SWEEP_CACHE`, else the
/// user's cache folder, else a folder of the system's temporary files.
pub(crate) fn cache_folder() -> PathBuf {
    cache_folder_of(&|name| std::env::var_os(name).filter(|value| !value.is_empty())).0
}

/// The same by the variables of an environment, with the one that decided.
pub(crate) fn cache_folder_of(
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> (PathBuf, Option<&'static str>) {
    if let Some(folder) = variable("SWEEP_CACHE") {
        return (folder.into(), Some("SWEEP_CACHE"));
    }
    let user = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = user {
        return (folder.join("sweep"), Some("XDG_CACHE_HOME"));
    }
    match variable("HOME") {
        Some(home) => (PathBuf::from(home).join(".cache/sweep"), Some("HOME")),
        None => (std::env::temp_dir().join("sweep"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_name() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel\t\t: 17\n";
        assert_eq!(field(info, "model name"), Some("AMD EPYC"));
        assert_eq!(field(info, "model"), Some("17"));
        assert_eq!(field(info, "cache"), None);
    }

    #[test]
    fn the_room_on_a_disk_is_read() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                    /dev/sda1 1000 400 600 40% /\n";
        assert_eq!(available(text), Some(600 << 10));
        assert_eq!(available("nothing"), None);
        assert_eq!(disk_left(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_machine_has_a_slot() {
        assert!(processor(None).slots >= 1);
        assert_eq!(processor(Some(3)).slots, 3);
    }
}
