//! A network that is cut: coordinator and worker in network namespaces of their own, between which
//! nothing passes for longer than a lease, then nothing one way, then nothing the other way.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sweep_tests::{Process, Sandbox, wait_until};

use crate::services::{
    BEYOND_A_LEASE, answers, curves, curves_in_peace, in_state, runs, skipped, slow,
};

/// Addresses of the two ends.
const COORDINATOR: &str = "10.213.71.1";
const WORKER: &str = "10.213.71.2";

/// Long enough that what is on its way is sent again.
const ONE_WAY: Duration = Duration::from_secs(8);

/// Two namespaces and a cable between them; gone with this value.
struct Cable {
    coordinator: String,
    worker: String,
}

impl Cable {
    /// Lays the cable; the reason where this machine does not allow it.
    fn lay() -> Result<Self> {
        let process = std::process::id();
        let cable = Self {
            coordinator: format!("sweep-{process}-c"),
            worker: format!("sweep-{process}-w"),
        };
        let (c, w) = (cable.coordinator.as_str(), cable.worker.as_str());
        ip(&["netns", "add", c])?;
        ip(&["netns", "add", w])?;
        ip(&[
            "-n", c, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", w,
        ])?;
        for (namespace, address) in [(c, COORDINATOR), (w, WORKER)] {
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", "cable", "up"])?;
        }
        Ok(cable)
    }

    /// Nothing passes for a while.
    fn cut(&self, time: Duration) -> Result<()> {
        ip(&["-n", &self.coordinator, "link", "set", "cable", "down"])?;
        thread::sleep(time);
        ip(&["-n", &self.coordinator, "link", "set", "cable", "up"])
    }

    /// Nothing that leaves this namespace arrives at the other one for a while.
    fn swallow(namespace: &str, other: &str, time: Duration) -> Result<()> {
        ip(&["-n", namespace, "route", "add", "blackhole", &format!("{other}/32")])?;
        thread::sleep(time);
        ip(&["-n", namespace, "route", "del", "blackhole", &format!("{other}/32")])
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.coordinator, &self.worker] {
            // One that was never made cannot be removed.
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("there is no `ip`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

/// Runs of several seconds each.
fn recipe() -> String {
    slow().replace("\"slow\"", "\"cut\"").replace("\"240k\"", "\"480k\"")
}

fn coordinator(sandbox: &Sandbox) -> Result<Process> {
    let (state, listen) = (sandbox.path("state"), format!("{COORDINATOR}:0"));
    let store = format!("sqlite:{}", state.join("sweep.db").display());
    let state = state.display().to_string();
    let arguments = ["--listen", &listen, "--store", &store, "--state", &state];
    let mut process = sandbox.start("coordinator", &arguments)?;
    answers(sandbox, &mut process)?;
    Ok(process)
}

fn worker(sandbox: &Sandbox, namespace: &str) -> Result<Process> {
    let state = sandbox.path("worker").display().to_string();
    let arguments = ["--state", &state, "--device", "cpu", "--slots", "2"];
    sandbox.start_command("worker", sandbox.command_in(Some(namespace), "worker", &arguments))
}

fn log(coordinator: &Process, worker: &Process) -> String {
    format!("{}\n---\n{}", coordinator.log(), worker.log())
}

#[test]
fn a_network_that_is_cut_costs_no_point() {
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(error) => return skipped("a_network_that_is_cut_costs_no_point", &error.to_string()),
    };
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.enter(&cable.coordinator);
    sandbox.write("recipe.toml", recipe()).unwrap();
    let coordinator = coordinator(&sandbox).unwrap();
    let worker = worker(&sandbox, &cable.worker).unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    let all_log = || log(&coordinator, &worker);
    let begun = || Ok((in_state(&runs(&sandbox)?, "running") == 2).then_some(()));
    wait_until("two runs to begin", all_log, begun).unwrap();
    cable.cut(BEYOND_A_LEASE).unwrap();
    Cable::swallow(&cable.coordinator, WORKER, ONE_WAY).unwrap();
    Cable::swallow(&cable.worker, COORDINATOR, ONE_WAY).unwrap();
    let done = || {
        let runs = runs(&sandbox)?;
        match in_state(&runs, "failed") {
            0 => Ok((in_state(&runs, "finished") == runs.len()).then_some(())),
            _ => bail!("a run failed: {runs:#?}"),
        }
    };
    wait_until("the sweep to finish", all_log, done).unwrap();
    assert!(worker.log().contains("no link to the coordinator"), "{}", all_log());
    let found = curves(&sandbox).unwrap();
    let expected = curves_in_peace(&recipe()).unwrap();
    let first = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    assert_eq!((first, expected.len()), (None, found.len()), "{}", all_log());
}
