//! Whether the system kills for lack of memory: Linux counts such kills for each control group.

use std::path::Path;

/// Where the control groups are seen.
const GROUPS: &str = "/sys/fs/cgroup";

/// Processes of this daemon's control group that were killed for lack of memory so far; absent where
/// the system does not count them.
pub(crate) fn kills() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = own_group(&group)?;
    let events = Path::new(GROUPS).join(group).join("memory.events");
    count(&std::fs::read_to_string(events).ok()?)
}

/// The control group of a process, as a path below their root.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
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
}
