//! Where a run's checkpoints are read: on this disk, where a worker left them, or in the cache, where
//! they come to from the coordinator that keeps them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sweep_proto::{access::state_folder, client::Connection, convert, v1};
use sweep_spec::{
    data::DataSource,
    run::{Run, RunConfig},
    shape::Shape,
};
use worker::sample::{CONFIG_FILE, TrainError, fetch};

use crate::{
    client::{AccessArgs, block_on, refused},
    console::Console,
    exit::{Exit, Failure, OrExit as _},
    local::worker::LocalWorker,
    machine,
};

/// A run whose checkpoints lie on this disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) config: RunConfig,
    /// Folder of its checkpoints.
    pub(super) folder: PathBuf,
    /// Where its tokens come from; a worker's folder does not tell.
    pub(super) source: Option<DataSource>,
}

/// Finds a run by the beginning of its id: in `checkpoints`, where that is given; from a coordinator,
/// where one is named; else in the folders of this place's workers, and then from a coordinator.
pub(super) fn find(
    run: &str,
    checkpoints: Option<&Path>,
    access: &AccessArgs,
    console: &mut Console<'_>,
) -> Result<Found, Failure> {
    let here = checkpoints.map_or_else(worker_folders, |folder| vec![folder.to_owned()]);
    if access.given().is_none() {
        if let Some(folder) = on_disk(run, &here)? {
            return Ok(Found { config: config(&folder)?, folder, source: None });
        }
        if checkpoints.is_some() || !access.path().exists() {
            return Err(nowhere(run, &here));
        }
    }
    block_on(async {
        let connection = access.open().await?;
        fetched(run, &connection, console).await
    })
}

/// Where workers that were started in this folder keep checkpoints.
fn worker_folders() -> Vec<PathBuf> {
    let mut folders = vec![LocalWorker::checkpoints(&state_folder())];
    let outputs = fs::read_dir("sweep-out").into_iter().flatten().flatten();
    folders.extend(outputs.map(|entry| LocalWorker::checkpoints(&entry.path().join("state"))));
    folders.retain(|folder| folder.is_dir());
    folders
}

/// The folder of the run's checkpoints in one of these folders.
fn on_disk(run: &str, folders: &[PathBuf]) -> Result<Option<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let (shown, hint) = (folder.display(), "hint: name a folder that you may read");
                let message = format!("cannot read `{shown}`: {error}; {hint}");
                return Err(Failure::message(Exit::Usage, message));
            }
        };
        let named = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            !run.is_empty() && name.starts_with(run)
        };
        found.extend(entries.flatten().map(|entry| entry.path()).filter(named));
    }
    found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    // One run may have been trained in two output folders: either copy is the run.
    found.dedup_by(|a, b| a.file_name() == b.file_name());
    if found.len() > 1 {
        let message =
            format!("`{run}` begins the ids of {} runs; hint: give more of the id", found.len());
        return Err(Failure::message(Exit::Usage, message));
    }
    Ok(found.pop())
}

fn nowhere(run: &str, folders: &[PathBuf]) -> Failure {
    let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Failure::message(
        Exit::NoMatch,
        format!(
            "no run `{run}` has checkpoints in {}; hint: `sweep status` lists the runs, \
             --checkpoints DIR says where a worker keeps theirs, and --access FILE names a \
             coordinator that keeps them",
            if places.is_empty() { "this folder".to_owned() } else { places.join(", ") }
        ),
    )
}

fn config(folder: &Path) -> Result<RunConfig, Failure> {
    let path = folder.join(CONFIG_FILE);
    let text = fs::read(&path)
        .map_err(|error| {
            let hint = "hint: the run has not begun to train here";
            anyhow::anyhow!("cannot read `{}`: {error}; {hint}", path.display())
        })
        .or_exit(Exit::NoMatch)?;
    serde_json::from_slice(&text)
        .map_err(|error| {
            let hint = "hint: was it written by another version?";
            anyhow::anyhow!("`{}` is no configuration of a run: {error}; {hint}", path.display())
        })
        .or_exit(Exit::Failed)
}

/// A run of a coordinator, its newest kept checkpoint fetched into the cache.
async fn fetched(
    selector: &str,
    connection: &Connection,
    console: &mut Console<'_>,
) -> Result<Found, Failure> {
    let mut control = connection.control();
    let Run { config, source, .. } = run_of(selector, connection).await?;
    let id = config.id();
    if !matches!(config.shape, Shape::Lm(_)) {
        return Err(Failure::new(Exit::Usage, TrainError::Wordless));
    }
    let request = v1::GetCheckpointRequest { run: id.to_string() };
    let kept = control.get_checkpoint(request).await.map_err(refused)?.into_inner();
    let folder = machine::cache_folder().join("checkpoints").join(id.as_str());
    let mut work = connection.work();
    fetch(&mut work, &id, &folder, kept.step, &kept.hash).await.map_err(|reason| {
        let hint = "hint: see that the cache folder has room, and that the access file is a \
                    worker's or an operator's";
        let hint = if reason.contains("hint:") { String::new() } else { format!("; {hint}") };
        let message = format!(
            "cannot fetch the checkpoint of run {} at step {}: {reason}{hint}",
            id.short(),
            kept.step
        );
        Failure::message(Exit::Failed, message)
    })?;
    console.say(format_args!(
        "run {}: the checkpoint at step {} that the coordinator keeps",
        id.short(),
        kept.step
    ))?;
    Ok(Found { config, folder, source: Some(source) })
}

/// The one run of a coordinator that a selector means.
async fn run_of(selector: &str, connection: &Connection) -> Result<Run, Failure> {
    let request = v1::ListRunsRequest {
        runs: vec![selector.to_owned()],
        with_json: true,
        ..v1::ListRunsRequest::default()
    };
    let reply = connection.control().list_runs(request).await.map_err(refused)?;
    let row = reply.into_inner().message().await.map_err(refused)?.ok_or_else(|| {
        let message = format!("no run is called `{selector}`; hint: `sweep status` lists the runs");
        Failure::message(Exit::NoMatch, message)
    })?;
    let id = convert::run_id("run_id", &row.run_id).or_exit(Exit::Failed)?;
    convert::run("run_json", &id, &row.run_json.unwrap_or_default()).or_exit(Exit::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        for id in ["abc1", "abd2"] {
            fs::create_dir(folder.path().join(id)).expect("writes");
        }
        let folders = [folder.path().to_owned()];
        let find = |run: &str| on_disk(run, &folders);
        assert_eq!(find("abc").expect("one"), Some(folder.path().join("abc1")));
        let failure = find("ab").expect_err("two");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("hint:"), "{failure}");
        assert_eq!(find("x").expect("none"), None);
        assert_eq!(find("").expect("none"), None);
        assert_eq!(nowhere("x", &folders).exit(), Exit::NoMatch);
        let failure = config(&folder.path().join("abc1")).expect_err("no configuration");
        assert_eq!(failure.exit(), Exit::NoMatch);
    }

    #[test]
    fn a_run_that_was_trained_in_two_folders_is_one() {
        let home = tempfile::tempdir().expect("a folder");
        let folders = ["a", "b"].map(|name| home.path().join(name));
        for (folder, id) in [(&folders[0], "abc1"), (&folders[1], "abc1"), (&folders[1], "b")] {
            fs::create_dir_all(folder.join(id)).expect("writes");
        }
        assert_eq!(on_disk("abc", &folders).expect("one"), Some(folders[0].join("abc1")));
    }
}
