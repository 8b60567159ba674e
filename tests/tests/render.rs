//! The batch script that `sweep render` prints, run as Slurm would run a task of its array.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Result;
use sweep_tests::{Process, Sandbox, binary, wait_until};

use crate::services::{coordinator, in_state, runs, slow};

/// Task 3 of an array, with what Slurm sets for it; an old Slurm, which sets no end.
fn task(sandbox: &Sandbox, script: &Path, restarts: &str) -> Result<Process> {
    let mut command = Command::new("bash");
    command.arg(script).current_dir(sandbox.path(".")).stdin(Stdio::null());
    for (variable, value) in sandbox.command("sweep", &[]).get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
        // Another one than the script names: that of the script counts.
        .env("SWEEP_ACCESS", sandbox.path("no-access.json"))
        .env_remove("SLURM_JOB_END_TIME")
        .envs([
            ("SLURM_JOB_ID", "4711"),
            ("SLURM_ARRAY_JOB_ID", "4708"),
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_RESTART_COUNT", restarts),
        ]);
    sandbox.start_command("task", command)
}

#[test]
fn a_task_of_the_array_is_a_worker_that_leaves_at_the_notice() {
    let sandbox = Sandbox::new().unwrap();
    // The runs take even a fast machine far longer than the worker stays.
    let long = slow().replace("[\"60k\", \"120k\", \"240k\"]", "[\"2M\"]");
    sandbox.write("recipe.toml", long).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();

    let path = |name: &str| sandbox.path(name).display().to_string();
    let (access, state) = (path("state/worker-access.json"), path("it's a pool"));
    let program = binary("sweep").display().to_string();
    let size = ["--workers", "8", "--at-once", "2", "--time", "4h"];
    let places = ["--access", &access, "--state", &state, "--program", &program];
    let text = sandbox.sweep(&[&["render", "slurm"][..], &size, &places].concat()).unwrap();
    assert!(text.contains("\n#SBATCH --array=0-7%2\n"), "{text}");
    let script = sandbox.write("workers.sh", text).unwrap();

    let mut first = task(&sandbox, &script, "0").unwrap();
    let begun = || Ok((in_state(&runs(&sandbox)?, "running") > 0).then_some(()));
    wait_until("a run to begin", || first.log(), begun).unwrap();
    assert!(first.log().contains("joined the coordinator at"), "{}", first.log());
    assert!(sandbox.path("it's a pool/3/worker-id").is_file(), "its state has a folder of its own");
    // To the process that Slurm started: it is the worker itself.
    first.signal("USR2").unwrap();
    let status = first.wait().unwrap();
    let log = format!("{}\n{}", first.log(), coordinator.log());
    assert_eq!(status.code(), Some(75), "work was left: {log}");
    assert!(log.contains("draining: asked to leave"), "{log}");
    let stopped = runs(&sandbox).unwrap();
    assert_eq!(in_state(&stopped, "running"), 0, "{stopped:#?}\n{log}");

    // Slurm starts the task again: the same worker, in its folder.
    let again = task(&sandbox, &script, "1").unwrap();
    wait_until("a run to go on", || again.log(), begun).unwrap();
    let incarnation = std::fs::read_to_string(sandbox.path("it's a pool/3/incarnation")).unwrap();
    assert_eq!(incarnation, "2", "{}", again.log());
}
