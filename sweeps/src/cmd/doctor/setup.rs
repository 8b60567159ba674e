//! The access file, the coordinator behind it with its workers, and the disks of this machine.

use std::{fs, path::Path};

use sweep_proto::{
    access::{Access, state_folder},
    client::Control,
    v1, version,
};
use sweep_spec::units::bytes;

use super::Line;
use crate::{
    client::{AccessArgs, refused},
    exit::Failure,
    machine::{self, clock::unix_ms},
    output::table::duration,
};

/// A clock that is further off than this makes the times of two machines read oddly beside each
/// other. Nothing is decided by them.
const CLOCK_SECONDS_MAX: f64 = 60.0;

/// Below this a coordinator cannot keep what it acknowledges for long: a spool and a few checkpoints.
const DISK_NEEDED: u64 = 1 << 30;

/// Below this nothing can be written at all in a minute's time.
const DISK_LEAST: u64 = 64 << 20;

/// Whether the access file is there, is one, and is its owner's alone.
pub(super) fn access(path: &Path) -> Vec<Line> {
    let shown = path.display();
    if !path.exists() {
        let hint = "start `sweep coordinator` here, or name its file with --access or SWEEP_ACCESS; \
                    `sweep run` needs none";
        return vec![Line::warn("access", format!("there is no {shown}"), hint)];
    }
    let access = match Access::read(path) {
        Ok(access) => access,
        Err(error) => {
            let failure = Failure::new(crate::exit::Exit::Unreachable, error);
            return vec![Line::failed("access", &failure)];
        }
    };
    vec![owned(path, &access.address)]
}

/// Whether a file is its owner's alone. A group may share one on purpose.
fn owned(path: &Path, address: &str) -> Line {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display();
    let mode = fs::metadata(path).map_or(0o600, |facts| facts.permissions().mode() & 0o777);
    let hint = "chmod 600 on it; remove it and start the coordinator again for another token";
    let found =
        |whose| format!("{shown} can be read by {whose} (mode {mode:o}), and holds a token");
    match mode {
        open if open & 0o007 != 0 => Line::fail("access", found("everyone"), hint),
        open if open & 0o070 != 0 => Line::warn("access", found("its group"), hint),
        _ => Line::ok("access", format!("{shown}, of {address}, yours alone")),
    }
}

/// Whether the coordinator answers, what it is, and its workers. Nothing where no access file is.
pub(super) async fn coordinator(args: &AccessArgs) -> Vec<Line> {
    if !args.path().exists() {
        return Vec::new();
    }
    let mut control = match args.connect().await {
        Ok(control) => control,
        Err(failure) => return vec![Line::failed("coordinator", &failure)],
    };
    match told(&mut control).await {
        Ok(lines) => lines,
        Err(failure) => vec![Line::failed("coordinator", &failure)],
    }
}

async fn told(control: &mut Control) -> Result<Vec<Line>, Failure> {
    let before = unix_ms();
    let info = control.get_info(v1::GetInfoRequest {}).await.map_err(refused)?.into_inner();
    let after = unix_ms();
    let reply = control.list_workers(v1::ListWorkersRequest {}).await.map_err(refused)?;
    let mut lines = vec![about(&info)];
    lines.extend(info.unix_ms.map(|theirs| clock(before, theirs, after)));
    lines.extend(workers(&reply.into_inner().workers));
    Ok(lines)
}

fn about(info: &v1::GetInfoReply) -> Line {
    let schema = info.schema.map_or_else(String::new, |schema| format!(", schema {schema}"));
    #[expect(clippy::cast_precision_loss, reason = "shown in minutes")]
    let up = duration(info.uptime_ms as f64 / 1000.0);
    // A call of another version is refused before it is answered.
    let found = format!("version {}{schema}, store {}, up for {up}", version(), info.store);
    Line::ok("coordinator", found)
}

/// Its clock against ours, as far as the time of the call lets it be known.
fn clock(before: i64, theirs: i64, after: i64) -> Line {
    #[expect(clippy::cast_precision_loss, reason = "shown in seconds")]
    let (early, late) = ((theirs - after) as f64 / 1000.0, (theirs - before) as f64 / 1000.0);
    let off = if early > 0.0 { early } else { late.min(0.0) };
    let way = if off > 0.0 { "ahead of" } else { "behind" };
    if off.abs() <= CLOCK_SECONDS_MAX {
        return Line::ok(
            "clock",
            format!("the coordinator's is this machine's to {:.1} s", off.abs()),
        );
    }
    let found = format!("the coordinator's is {} {way} this machine's", duration(off.abs()));
    Line::warn("clock", found, "set both by NTP; times in reports are the coordinator's")
}

fn workers(workers: &[v1::Worker]) -> Vec<Line> {
    let here = |worker: &&v1::Worker| worker.state() != v1::WorkerState::Offline;
    let online: Vec<&v1::Worker> = workers.iter().filter(here).collect();
    let mut lines: Vec<Line> = online.iter().flat_map(|worker| worker_lines(worker)).collect();
    if online.is_empty() {
        let found = format!("none is online, {} have left", workers.len());
        let hint = "start `sweep worker` on each machine that is to train";
        lines.push(Line::warn("workers", found, hint));
    }
    lines
}

/// A line for a worker, and one for each of its devices that takes no runs.
fn worker_lines(worker: &v1::Worker) -> Vec<Line> {
    let used = worker.devices.iter().filter(|device| device.refused.is_none());
    let devices: Vec<String> = used
        .map(|device| {
            let canary = device.canary.as_deref().unwrap_or("no canary yet");
            format!("{} {} ({canary})", device.id, device.name)
        })
        .collect();
    let draining = if worker.state() == v1::WorkerState::Draining { ", draining" } else { "" };
    let found = format!(
        "{} on {}, {} slots{draining}: {}",
        worker.worker_id,
        worker.host,
        worker.slots.len(),
        devices.join(", ")
    );
    let mut lines = vec![if devices.is_empty() {
        Line::warn("worker", found, "see its log: every device was refused")
    } else {
        Line::ok("worker", found)
    }];
    lines.extend(worker.devices.iter().filter_map(|device| {
        let reason = device.refused.as_deref()?;
        let found = format!("{} {} on {}: {reason}", device.id, device.name, worker.host);
        Some(super::device_refused(found, reason))
    }));
    lines
}

/// Room in the state folder and in the cache.
pub(super) fn disks() -> Vec<Line> {
    [("disk", state_folder()), ("cache", machine::cache_folder())]
        .into_iter()
        .map(|(check, folder)| disk(check, &folder))
        .collect()
}

fn disk(check: &'static str, folder: &Path) -> Line {
    // A folder that is yet to be made lies on the disk of the one above it.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let place = absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let shown = folder.display();
    let hint = "free some space, or choose another folder with SWEEP_STATE or SWEEP_CACHE";
    match machine::disk_left(place) {
        Some(left) if left < DISK_LEAST => {
            Line::fail(check, format!("{} left for {shown}", bytes(left)), hint)
        }
        Some(left) if left < DISK_NEEDED => {
            Line::warn(check, format!("{} left for {shown}", bytes(left)), hint)
        }
        Some(left) => Line::ok(check, format!("{} left for {shown}", bytes(left))),
        None => Line::warn(check, format!("room for {shown} is unknown"), "look with `df`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn an_access_file_is_private_or_fails() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.json");
        assert_eq!(access(&path)[0].status, Status::Warn);
        fs::write(&path, "{}").expect("writes");
        assert_eq!(access(&path)[0].status, Status::Fail);
        fs::write(&path, Access::plain("http://127.0.0.1:1", "secret").to_json()).expect("writes");
        let with_mode = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changes");
            access(&path).remove(0)
        };
        let sound = with_mode(0o600);
        assert_eq!((sound.status, sound.found.contains("secret")), (Status::Ok, false));
        let open = with_mode(0o644);
        assert_eq!(open.status, Status::Fail);
        assert!(open.found.contains("mode 644"), "{}", open.found);
        assert_eq!(with_mode(0o640).status, Status::Warn);
    }

    #[test]
    fn clocks_are_compared_within_the_time_of_a_call() {
        assert_eq!(clock(1000, 1500, 2000).found, "the coordinator's is this machine's to 0.0 s");
        assert_eq!(clock(0, 2500, 1000).found, "the coordinator's is this machine's to 1.5 s");
        let ahead = clock(0, 96_000, 1000);
        assert_eq!(ahead.status, Status::Warn);
        assert_eq!(ahead.found, "the coordinator's is 1 min 35 s ahead of this machine's");
        assert!(clock(200_000, 1000, 201_000).found.contains("behind"));
    }

    #[test]
    fn workers_and_their_devices_are_told() {
        assert_eq!(workers(&[])[0].status, Status::Warn);
        let device = v1::Device {
            id: "cpu".to_owned(),
            name: "AMD EPYC".to_owned(),
            canary: Some("loss within 0.01 %".to_owned()),
            ..v1::Device::default()
        };
        let refused = v1::Device {
            id: "vulkan:1".to_owned(),
            refused: Some("canary failed: loss off by 3 %".to_owned()),
            ..v1::Device::default()
        };
        let worker = v1::Worker {
            worker_id: "w-1".to_owned(),
            host: "box".to_owned(),
            state: v1::WorkerState::Online.into(),
            devices: vec![device, refused],
            ..v1::Worker::default()
        };
        let lines = workers(&[worker]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0].status, Status::Ok);
        assert!(lines[0].found.contains("AMD EPYC (loss within 0.01 %)"), "{}", lines[0].found);
        assert_eq!(lines[1].status, Status::Warn);
        assert!(lines[1].found.contains("off by 3 %"), "{}", lines[1].found);
    }

    #[test]
    fn room_is_told_also_of_a_folder_that_is_yet_to_be_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = disk("disk", &folder.path().join("a/b/c"));
        assert!(line.found.contains("a/b/c"), "{}", line.found);
    }
}
