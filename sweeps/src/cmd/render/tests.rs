//! The rendered files against snapshots, and against what reads them: a shell, systemd, and this
//! program itself.

use std::{
    fs,
    io::{self, Write as _},
    process::Command,
};

use super::*;
use crate::cmd::called::parsed;

/// What `sweep render` prints, or what it says instead.
fn rendered(words: &[&str]) -> Result<String, String> {
    let words = [&["render"], words].concat();
    let args: Args = parsed(&words).map_err(|error| error.to_string())?;
    let file = match &args.site {
        Site::Slurm(args) => args.file(),
        Site::Kubernetes(args) => args.file(),
        Site::Skypilot(args) => args.file(),
        Site::Systemd(service) => service.file(),
    };
    file.map_err(|failure| failure.told())
}

/// A file with every option given.
fn slurm() -> String {
    let access = ["slurm", "--access", "/shared/it's ours/worker-access.json"];
    let size = ["--workers", "32", "--at-once", "8", "--time", "4h", "--cpus", "8"];
    let place = ["--partition", "gpu", "--gres", "gpu:a100:1", "--program", "/opt/my sweep/sweep"];
    rendered(&[&access[..], &size, &place, &["--state", "/scratch/sweep"]].concat()).unwrap()
}

fn kubernetes() -> String {
    let size = ["--workers", "16", "--at-once", "4", "--gpus", "1", "--cpus", "8"];
    let disks = ["--memory", "32Gi", "--disk", "100Gi", "--data", "texts", "--queue", "training"];
    let image = ["kubernetes", "--image", "registry.example/sweep:0.1.0"];
    rendered(&[&image[..], &size, &disks, &["--program", "/opt/$(HOME)/sweep"]].concat()).unwrap()
}

fn systemd(service: &str, more: &[&str]) -> String {
    rendered(&[&["systemd", service], more].concat()).unwrap()
}

#[test]
fn files_are_as_reviewed() {
    insta::assert_snapshot!("slurm", slurm());
    insta::assert_snapshot!("kubernetes", kubernetes());
    let devices = ["--accelerators", "L4:1", "--cpus", "4+", "--spot", "--workers", "8"];
    let sky = [&["skypilot", "--program", "/home/me/sweep \"new\""][..], &devices].concat();
    insta::assert_snapshot!("skypilot", rendered(&sky).unwrap());
    let reached = ["--advertise", "login.cluster.example", "--user", "trainer"];
    insta::assert_snapshot!("systemd_coordinator", systemd("coordinator", &reached));
    let access = ["--access", "/srv/50% \"full\"/worker-access.json"];
    insta::assert_snapshot!("systemd_worker", systemd("worker", &access));
}

#[test]
fn what_is_not_asked_for_is_not_in_the_file() {
    let bare = rendered(&["slurm", "--access", "/a.json"]).unwrap();
    assert!(bare.contains("\n#SBATCH --array=0-0\n"), "{bare}");
    assert!(bare.ends_with("\nexec sweep worker --state \"$state\""), "{bare}");
    for option in ["--partition", "--gres", "--time", "--cpus-per-task", "lifetime"] {
        assert!(!bare.contains(option), "{option} in:\n{bare}");
    }
    let bare = rendered(&["kubernetes", "--image", "sweep"]).unwrap();
    assert!(bare.contains("\n  completions: 1\n  parallelism: 1\n"), "{bare}");
    for key in ["nvidia.com", "/data", "kueue"] {
        assert!(!bare.contains(key), "{key} in:\n{bare}");
    }
    let bare = rendered(&["skypilot", "--program", "/sweep"]).unwrap();
    assert!(!bare.contains("accelerators") && bare.contains("use_spot: false"), "{bare}");
    // No empty line where a part was left out of a list.
    for file in [bare, systemd("coordinator", &[]), systemd("worker", &[])] {
        assert!(!file.contains("\n\n\n"), "{file}");
    }
}

#[test]
fn bad_input_is_refused_with_a_hint() {
    let slurm = ["slurm", "--access", "/a.json"];
    let image = ["kubernetes", "--image"];
    let cases: &[&[&str]] = &[
        &[&slurm[..], &["--workers", "0"]].concat(),
        &[&slurm[..], &["--workers", "4", "--at-once", "5"]].concat(),
        &[&slurm[..], &["--time", "10s"]].concat(),
        &[&slurm[..], &["--partition", "gpu\n#SBATCH --uid=0"]].concat(),
        &[&slurm[..], &["--gres", "gpu 1"]].concat(),
        &[&slurm[..], &["--program", "sweep\nrm"]].concat(),
        &[&slurm[..], &["--state", ""]].concat(),
        &["slurm", "--access", "worker-access.json"],
        &[&image[..], &[""]].concat(),
        &[&image[..], &["sweep\nimage"]].concat(),
        &[&image[..], &["sweep", "--workers", "1", "--at-once", "2"]].concat(),
        &[&image[..], &["sweep", "--memory", "4 Gi"]].concat(),
        &["skypilot", "--program", "sweep"],
        &["systemd", "coordinator", "--listen", "7171"],
        &["systemd", "coordinator", "--advertise", "a b"],
        &["systemd", "worker", "--program", "sweep"],
        &["systemd", "worker", "--program", "/opt/my sweep"],
        &["systemd", "worker", "--access", "/a\nUser=root"],
    ];
    for words in cases {
        let said = rendered(words).unwrap_err();
        assert!(said.contains("hint: "), "{words:?}: {said}");
    }
    // Without an image there is nothing to start, and without access nobody to work for.
    assert!(rendered(&["kubernetes"]).unwrap_err().contains("--image"));
    assert!(rendered(&["slurm"]).unwrap_err().contains("--access"));
}

#[test]
fn a_shell_reads_the_script_and_the_command_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let sky = rendered(&["skypilot", "--program", "/sweep"]).unwrap();
    let run = sky.split_once("run: |\n").unwrap().1;
    let bare = rendered(&["slurm", "--access", "/a.json"]).unwrap();
    for (name, script) in [("full", slurm().as_str()), ("bare", &bare), ("sky", run)] {
        let path = folder.path().join(name);
        fs::write(&path, script).unwrap();
        let read = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success() && said.is_empty(), "{said}\n{script}");
    }
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    // A program that is there, since systemd looks for it.
    let units = ["coordinator", "worker"].map(|service| {
        let path = folder.path().join(format!("sweep-{service}.service"));
        fs::write(&path, systemd(service, &["--program", "/bin/sh", "--user", "root"])).unwrap();
        path
    });
    let verified = Command::new("systemd-analyze").arg("verify").args(&units).output();
    let Ok(verified) = verified else {
        // Where stderr is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "SKIPPED systemd_takes_the_units: no systemd-analyze here");
        return;
    };
    // Units of the machine itself may be at fault too; those are none of ours.
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("sweep-")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// The words of a list of JSON strings, as YAML has it after `command: `.
fn containers(manifest: &str) -> Vec<Vec<String>> {
    let lists = manifest.lines().filter_map(|line| line.trim().strip_prefix("command: "));
    lists.map(|list| serde_json::from_str(list).unwrap()).collect()
}

#[cfg(feature = "local")]
#[test]
fn the_program_knows_every_command_in_the_files() {
    use clap::Parser as _;

    use crate::cli::Cli;

    let split = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let units = [systemd("coordinator", &["--advertise", "a.example"]), systemd("worker", &[])];
    let mut commands: Vec<Vec<String>> = units
        .iter()
        .map(|unit| unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap())
        .map(split)
        .collect();
    let words = ["slurm", "--access", "/a.json", "--time", "4h"];
    let script = rendered(&words).unwrap();
    let last = script.lines().last().unwrap().strip_prefix("exec ").unwrap();
    let optional = "${lifetime:+--lifetime \"$lifetime\"}";
    assert!(last.contains(optional) && script.contains("|| lifetime=14400s\n"), "{script}");
    commands.push(split(&last.replace(optional, "--lifetime 14400s")));
    let sky = rendered(&["skypilot", "--program", "/sweep"]).unwrap();
    commands.push(split(sky.lines().last().unwrap().trim().strip_prefix("exec ").unwrap()));
    commands.extend(containers(&rendered(&["kubernetes", "--image", "sweep"]).unwrap()));
    assert_eq!(commands.len(), 6);
    for command in commands {
        let known = Cli::try_parse_from(&command);
        assert!(known.is_ok(), "{command:?}: {known:?}");
    }
}

#[test]
fn kubernetes_replaces_nothing_in_a_command() {
    let commands = containers(&kubernetes());
    assert_eq!(commands.len(), 2);
    assert!(commands.iter().all(|words| words[0] == "/opt/$$(HOME)/sweep"), "{commands:?}");
}
