//! A coordinator that cannot have its port or its store, and a disk that fills up.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sweep_tests::{Sandbox, assert_refused, said};

use crate::services::{SMALL, answers, coordinator, coordinator_arguments, skipped};

fn try_coordinator(sandbox: &Sandbox, folder: &Path, listen: &str) -> Output {
    let arguments = coordinator_arguments(folder, listen);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    sandbox.run("coordinator", &arguments).unwrap()
}

/// A failure of a service: not 0, the reason, a hint.
fn refused(output: &Output, parts: &[&str]) {
    let code = output.status.code().unwrap();
    assert!([1, 2].contains(&code), "{}", said(output));
    assert_refused(output, code, parts);
}

#[test]
fn a_port_in_use_is_named() {
    let sandbox = Sandbox::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = try_coordinator(&sandbox, &sandbox.path("state"), &address.to_string());
    refused(&output, &[&address.port().to_string(), "in use"]);
}

#[test]
fn a_store_folder_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new().unwrap();
    // Root passes every permission, but nobody makes a folder under a file.
    let folder = sandbox.write("file", "").unwrap().join("state");
    let output = try_coordinator(&sandbox, &folder, "127.0.0.1:0");
    refused(&output, &[&folder.display().to_string()]);
}

#[test]
fn a_store_that_is_no_database_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.write("state/sweep.db", "not a database, ".repeat(100)).unwrap();
    let output = try_coordinator(&sandbox, &sandbox.path("state"), "127.0.0.1:0");
    refused(&output, &["sweep.db"]);
    assert!(fs::read_to_string(file).unwrap().starts_with("not a database"));
}

#[test]
fn a_second_coordinator_on_the_same_store_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    let _first = coordinator(&sandbox).unwrap();
    let before = fs::read(sandbox.access()).unwrap();
    let output = try_coordinator(&sandbox, &sandbox.path("state"), "127.0.0.1:0");
    refused(&output, &[]);
    // Another state folder, the same store.
    let store = format!("sqlite:{}", sandbox.path("state/sweep.db").display());
    let other = sandbox.path("other").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--store", &store, "--state", &other];
    refused(&sandbox.run("coordinator", &arguments).unwrap(), &["sweep.db"]);
    assert_eq!(fs::read(sandbox.access()).unwrap(), before, "the first is still the one to find");
    sandbox.sweep(&["status"]).unwrap();
}

/// A file system of a few MiB in memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(path))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let file = self.0.join("ballast");
        let mut size = 1 << 22;
        let mut kept = Vec::new();
        while size > 0 {
            kept.resize(kept.len() + size, 0_u8);
            if fs::write(&file, &kept).is_err() {
                kept.truncate(kept.len() - size);
                size /= 2;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a process that is being killed may still hold a file.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let sandbox = Sandbox::new().unwrap();
    let Some(disk) = SmallDisk::mount(sandbox.path("state")) else {
        skipped("a_full_disk_is_told_and_survived", "mounting a small disk needs root");
        return;
    };
    sandbox.write("recipe.toml", SMALL).unwrap();
    let mut coordinator = coordinator(&sandbox).unwrap();
    disk.fill();
    let output = sandbox.run("sweep", &["submit", "recipe.toml", "--yes"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}\n{}", said(&output), coordinator.log());
    let said = said(&output).to_lowercase();
    assert!(said.contains("full") || said.contains("space"), "{said}");
    // What was refused is not half there, and the coordinator lives.
    let sweeps = sandbox.sweep_json(&["status"]).unwrap();
    assert_eq!(sweeps["sweeps"].as_array().unwrap().len(), 0, "{sweeps}");
    fs::remove_file(disk.0.join("ballast")).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    // And it comes back with what it acknowledged.
    coordinator.signal("KILL").unwrap();
    coordinator.wait().unwrap();
    let arguments = coordinator_arguments(&sandbox.path("state"), "127.0.0.1:0");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut again = sandbox.start("coordinator", &arguments).unwrap();
    answers(&sandbox, &mut again).unwrap();
    let sweeps = sandbox.sweep_json(&["status"]).unwrap();
    assert_eq!(sweeps["sweeps"].as_array().unwrap().len(), 1, "{sweeps}");
}
