//! Tables that come with the project say what is written beside them.

use std::fs;

use sweep_tests::{Sandbox, repository};

/// The row of a constant in a table of the text: its value and the ends of its interval, as written.
fn written<'a>(text: &'a str, name: &str) -> [&'a str; 3] {
    let row = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .find(|cells| cells.get(1).is_some_and(|cell| cell.split(' ').next() == Some(name)))
        .unwrap_or_else(|| panic!("no row of {name}"));
    let (low, high) = row[3].split_once(" to ").expect("an interval");
    [row[2], low, high]
}

/// Whether a number rounds to what is written, to the digits that are written.
fn rounds_to(number: f64, text: &str) -> bool {
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    format!("{number:.decimals$}") == text
}

#[test]
fn the_law_of_diffusion_models_is_that_of_their_table() {
    let sandbox = Sandbox::new().unwrap();
    let folder = repository().join("sweeps/tables");
    let table = folder.join("diffusion-isoflop.csv");
    let table = table.to_str().unwrap();
    let fit = sandbox.sweep_json(&["fit", "--bootstrap", "1000", "--input", table]).unwrap();
    assert_eq!(fit["n_points"], 20, "the check is held out");
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    for (group, name) in [
        ("params", "E"),
        ("params", "A"),
        ("params", "B"),
        ("params", "alpha"),
        ("params", "beta"),
        ("exponents", "a"),
        ("exponents", "b"),
    ] {
        let estimate = &fit[group][name];
        let numbers = [&estimate["value"], &estimate["ci95"][0], &estimate["ci95"][1]];
        for (number, text) in numbers.into_iter().zip(written(&text, name)) {
            let number = number.as_f64().unwrap();
            assert!(rounds_to(number, text), "{name}: {number} is not {text}");
        }
    }
}
