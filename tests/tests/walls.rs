//! The walls of `.deny.toml` over the dependency graph that Cargo resolves (`cargo metadata`): the
//! same rules that `cargo deny check bans sources` reads, without installing that tool.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use sweep_tests::repository;

/// Crates that only named packages may depend on.
type Rules = BTreeMap<String, BTreeSet<String>>;

/// Direct dependents by package.
type Dependents = BTreeMap<String, BTreeSet<String>>;

/// What `.deny.toml` says.
struct Deny {
    rules: Rules,
    registries: Vec<String>,
}

fn deny() -> Deny {
    let text = std::fs::read_to_string(repository().join(".deny.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let names = |value: &toml::Value| -> Vec<String> {
        let list = value.as_array().unwrap();
        list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let rules = table["bans"]["deny"].as_array().unwrap().iter().map(|rule| {
        (rule["crate"].as_str().unwrap().to_owned(), names(&rule["wrappers"]).into_iter().collect())
    });
    Deny { rules: rules.collect(), registries: names(&table["sources"]["allow-registry"]) }
}

fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Only what this platform builds: the rest need not even be downloaded.
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn dependents(metadata: &Value) -> Dependents {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut dependents = Dependents::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let parent = names[node["id"].as_str().unwrap()];
        for dependency in node["deps"].as_array().unwrap() {
            let child = names[dependency["pkg"].as_str().unwrap()];
            dependents.entry(child.to_owned()).or_default().insert(parent.to_owned());
        }
    }
    dependents
}

/// Every dependency that breaks a rule, as a sentence.
fn broken(rules: &Rules, dependents: &Dependents) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, wrappers) in rules {
        for parent in dependents.get(name).into_iter().flatten() {
            if !wrappers.contains(parent) {
                broken.push(format!("{parent} depends on {name}"));
            }
        }
    }
    broken
}

#[test]
fn no_crate_reaches_through_a_wall() {
    let broken = broken(&deny().rules, &dependents(&metadata()));
    assert!(broken.is_empty(), "see .deny.toml: {broken:#?}");
}

#[test]
fn a_wrong_dependency_is_found() {
    let rules = Rules::from([("burn".to_owned(), BTreeSet::from(["sweep-train".to_owned()]))]);
    let parents = ["sweep-train", "worker"].map(str::to_owned);
    let graph = Dependents::from([("burn".to_owned(), BTreeSet::from(parents))]);
    assert_eq!(broken(&rules, &graph), ["worker depends on burn"]);
}

#[test]
fn every_rule_is_about_something_that_exists() {
    let metadata = metadata();
    let names: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let ours: Vec<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let rules = deny().rules;
    for (name, wrappers) in &rules {
        assert!(names.contains(name.as_str()), "nothing is called {name}");
        // A rule that no crate of ours may pass and none of ours is held by guards nothing.
        let inner = ours.contains(&name.as_str()) || !name.starts_with("sweep");
        assert!(inner, "{name} is no crate of the workspace");
        for wrapper in wrappers.iter().filter(|wrapper| wrapper.starts_with("sweep")) {
            assert!(ours.contains(&wrapper.as_str()), "{wrapper} is no crate of the workspace");
        }
    }
    // The domain stands at the bottom: it has no rule because all may depend on it.
    for name in ours.iter().filter(|name| !["sweep-spec", "sweep-tests"].contains(name)) {
        assert!(rules.contains_key(*name), "{name} has no wall");
    }
}

#[test]
fn the_domain_depends_on_no_crate_of_ours() {
    let dependents = dependents(&metadata());
    for (child, parents) in &dependents {
        if child.starts_with("sweep") || child == "worker" || child == "coordinator" {
            assert!(!parents.contains("sweep-spec"), "sweep-spec depends on {child}");
        }
    }
}

#[test]
fn every_package_comes_from_an_allowed_registry() {
    let registries = deny().registries;
    for package in metadata()["packages"].as_array().unwrap() {
        let Some(source) = package["source"].as_str() else { continue };
        let allowed = registries.iter().any(|url| source == format!("registry+{url}"));
        assert!(allowed, "{} comes from {source}", package["name"]);
    }
}
