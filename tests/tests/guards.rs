//! House rules that a compiler does not hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sweep_tests::repository;

/// Lines of a `main.rs`: it is a thin shell over its library.
const MAIN_LINES_MAX: usize = 40;

/// Lines of a file without its tests: what is longer holds more than one thing.
const FILE_LINES_MAX: usize = 600;

/// The Rust sources under the repository, without build output.
fn sources() -> Vec<PathBuf> {
    fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                collect(&path, out);
            } else if name.ends_with(".rs") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    collect(&repository(), &mut out);
    assert!(out.len() > 50, "only {} sources were found", out.len());
    out
}

fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(repository()).unwrap();
    path.starts_with("tests") || path.ends_with("tests.rs")
}

/// The lines of a source before its unit tests.
fn product_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().take_while(|line| *line != "#[cfg(test)]").map(str::to_owned).collect()
}

#[test]
fn every_main_is_a_thin_shell() {
    for path in sources().iter().filter(|path| path.ends_with("src/main.rs")) {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= MAIN_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_file_is_long() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|path| !is_test(path))
        .map(|path| (path, product_lines(path).len()))
        .filter(|&(_, lines)| lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn nothing_is_left_to_be_written() {
    let holes = ["todo!(", "unimplemented!(", "Stub, being written", "Placeholder."];
    for path in sources().iter().filter(|path| !is_test(path)) {
        for (number, line) in product_lines(path).iter().enumerate() {
            let hole = holes.iter().find(|hole| line.contains(**hole));
            assert!(hole.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for path in sources().iter().filter(|path| !path.ends_with("tests.rs")) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with `//!`", path.display());
    }
}

#[test]
fn the_lock_file_is_kept_and_the_toolchain_named() {
    let ignored = fs::read_to_string(repository().join(".gitignore")).unwrap();
    assert!(!ignored.lines().any(|line| line.contains("Cargo.lock")));
    let root: toml::Table =
        fs::read_to_string(repository().join("Cargo.toml")).unwrap().parse().unwrap();
    assert!(root["workspace"]["package"]["rust-version"].is_str());
    for member in root["workspace"]["members"].as_array().unwrap() {
        let path = repository().join(member.as_str().unwrap()).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let inherits = |table: &str, key: &str| {
            manifest[table].get(key).is_some_and(|value| match value {
                toml::Value::Boolean(inherits) => *inherits,
                value => value.get("workspace").and_then(toml::Value::as_bool) == Some(true),
            })
        };
        assert!(inherits("lints", "workspace"), "{} has lints of its own", path.display());
        assert!(inherits("package", "rust-version"), "{}", path.display());
    }
}
