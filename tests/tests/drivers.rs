//! GPU drivers that are missing, crash or lie: the worker still starts, says in one line which
//! devices it refused and why, and trains on the processor.
//!
//! The bad drivers are compiled here from `drivers/*.c` and put in the place of the real ones by
//! the environment variables of the Vulkan loader. The lying one wraps a software driver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sweep_tests::{Sandbox, said};

use crate::services::{coordinator, in_state, runs, skipped};

/// Environment variables that name the drivers to use; older loaders know the first only.
const DRIVERS: [&str; 2] = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];

/// Compiles a driver and writes the file by which the loader finds it.
fn driver(sandbox: &Sandbox, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name);
    let library = sandbox.path(&format!("{name}.so"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let manifest = json!({
        "file_format_version": "1.0.0",
        "ICD": { "library_path": library, "api_version": "1.3.0" },
    });
    sandbox.write(&format!("{name}.json"), manifest.to_string()).unwrap()
}

/// The library of the installed software driver.
fn software_driver() -> Option<PathBuf> {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let manifest = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd"))
    })?;
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
    Some(manifest["ICD"]["library_path"].as_str()?.into())
}

fn has_loader() -> bool {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .iter()
        .any(|folder| Path::new(folder).join("libvulkan.so.1").exists())
}

fn with_driver(command: &mut Command, manifest: &Path) {
    for variable in DRIVERS {
        command.env(variable, manifest);
    }
}

/// Lists the devices under a driver.
fn devices(sandbox: &Sandbox, manifest: &Path, settings: &[(&str, &Path)]) -> Value {
    let cache = sandbox.path("cache").display().to_string();
    let mut command = sandbox.command("worker", &["devices", "--json", "--cache", &cache]);
    with_driver(&mut command, manifest);
    command.envs(settings.iter().copied());
    let output = sandbox.run_command("worker devices", command).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The processor is what is left, and the refusal of the GPU says why.
fn only_the_processor(listing: &Value, why: &[&str]) {
    let devices = listing["devices"].as_array().unwrap();
    assert!(devices.len() == 1 && devices[0]["id"] == "cpu", "{listing:#}");
    let refused = listing["refused"].as_array().unwrap();
    assert!(!refused.is_empty(), "{listing:#}");
    let reason = refused[0]["reason"].as_str().unwrap();
    assert!(why.iter().any(|why| reason.contains(why)), "{listing:#}");
    assert_eq!(reason.lines().count(), 1, "a refusal is one line: {reason}");
}

/// A worker under a driver joins, says what it refused, and trains.
fn trains_on_the_processor(sandbox: &Sandbox, manifest: &Path, settings: &[(&str, &Path)]) {
    let recipe = crate::services::SMALL
        .replace("[\"7k\", \"14k\", \"28k\"]", "[\"7k\"]")
        .replace(", { width = 16, layers = 1 }, { width = 24, layers = 2 }", "");
    sandbox.write("recipe.toml", recipe).unwrap();
    let _coordinator = coordinator(sandbox).unwrap();
    let mut command = sandbox.command("worker", &["--state", "worker", "--cache", "cache"]);
    with_driver(&mut command, manifest);
    command.envs(settings.iter().copied());
    let mut worker = sandbox.start_command("worker", command).unwrap();
    worker.wait_for_log("devices refused").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(sandbox).unwrap();
    assert_eq!(in_state(&done, "finished"), done.len(), "{done:#?}\n{}", worker.log());
}

#[test]
fn without_a_driver_the_processor_trains() {
    let sandbox = Sandbox::new().unwrap();
    let nowhere = sandbox.path("no-such-driver.json");
    only_the_processor(&devices(&sandbox, &nowhere, &[]), &["driver absent"]);
    trains_on_the_processor(&sandbox, &nowhere, &[]);
}

#[test]
fn a_driver_that_crashes_costs_only_itself() {
    if !has_loader() {
        skipped("a_driver_that_crashes_costs_only_itself", "no Vulkan loader (libvulkan1)");
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let crashing = driver(&sandbox, "crashing.c");
    only_the_processor(&devices(&sandbox, &crashing, &[]), &["signal", "SIGSEGV"]);
    trains_on_the_processor(&sandbox, &crashing, &[]);
}

#[test]
fn a_driver_that_lies_does_not_pass_its_canary() {
    let Some(real) = software_driver().filter(|_| has_loader()) else {
        let why = "no software driver to wrap (mesa-vulkan-drivers)";
        skipped("a_driver_that_lies_does_not_pass_its_canary", why);
        return;
    };
    let sandbox = Sandbox::new().unwrap();
    let lying = driver(&sandbox, "lying.c");
    let settings = [("REAL_DRIVER", real.as_path())];
    only_the_processor(&devices(&sandbox, &lying, &settings), &["canary"]);
    trains_on_the_processor(&sandbox, &lying, &settings);
}

#[test]
fn a_software_driver_is_not_offered_as_a_gpu() {
    let Some(real) = software_driver().filter(|_| has_loader()) else {
        let why = "no software driver (mesa-vulkan-drivers)";
        skipped("a_software_driver_is_not_offered_as_a_gpu", why);
        return;
    };
    let sandbox = Sandbox::new().unwrap();
    let manifest = json!({
        "file_format_version": "1.0.0",
        "ICD": { "library_path": real, "api_version": "1.3.0" },
    });
    let manifest = sandbox.write("software.json", manifest.to_string()).unwrap();
    only_the_processor(&devices(&sandbox, &manifest, &[]), &["software"]);
}
