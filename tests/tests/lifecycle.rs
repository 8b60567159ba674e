//! From recipe to report, as three processes and as one command.

use std::{fs, path::Path};

use serde_json::Value;
use sweep_tests::{Sandbox, assert_refused, files_with, said};

use crate::services::{SMALL, SMALL_RUNS, coordinator, in_state, runs, worker};

const FORECAST: &str = "\n[[check]]\nsize = { width = 32, layers = 2 }\ntokens = \"56k\"\n";

/// Holds a folder of results to what is promised of it.
fn check_results(folder: &Path, rows: usize) {
    let csv = fs::read_to_string(folder.join("observations.csv")).unwrap();
    assert!(csv.starts_with("C,N,D,loss"), "{csv}");
    assert_eq!(csv.lines().count(), rows + 1, "{csv}");
    let fit: Value = serde_json::from_slice(&fs::read(folder.join("fit.json")).unwrap()).unwrap();
    assert!(fit["params"].as_object().is_some_and(|params| !params.is_empty()), "{fit}");
    let figures = files_with(&folder.join("figures"), "svg").unwrap();
    assert!(figures.len() >= 4, "{figures:?}");
    for figure in figures {
        let text = fs::read_to_string(&figure).unwrap();
        assert!(text.contains("<svg") && text.trim_end().ends_with("</svg>"), "{figure:?}");
        assert!(!text.contains("NaN"), "{figure:?}");
    }
    let report = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("<svg"), "the report has no figure");
    for fetched in ["src=\"http", "href=\"http://", "<link ", "@import", "url(http"] {
        assert!(!report.contains(fetched), "the report fetches: {fetched}");
    }
}

#[test]
fn three_processes_do_the_documented_job() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    let mut coordinator = coordinator(&sandbox).unwrap();
    let mut worker = worker(&sandbox, "worker").unwrap();

    let id = sandbox.sweep(&["submit", "recipe.toml", "--yes", "--quiet"]).unwrap();
    sandbox.sweep(&["watch"]).unwrap();
    let done = runs(&sandbox).unwrap();
    assert_eq!(in_state(&done, "finished"), SMALL_RUNS, "{done:#?}\n{}", worker.log());
    assert!(done.iter().all(|run| run["attempts"] == 1), "{done:#?}");
    assert!(
        done.iter().all(|run| run["loss"].as_f64().is_some_and(|loss| loss < 5.6)),
        "{done:#?}"
    );

    // Handing it in again is free, under the same id.
    let again = sandbox.sweep_json(&["submit", "recipe.toml", "--yes"]).unwrap();
    assert_eq!(again["sweep"], id.trim());
    assert_eq!((&again["runs_new"], &again["runs_finished"]), (&0.into(), &SMALL_RUNS.into()));
    // An edited recipe trains what is new.
    sandbox.write("recipe.toml", SMALL.replace("\"28k\"", "\"42k\"")).unwrap();
    let edited = sandbox.sweep_json(&["submit", "recipe.toml", "--yes"]).unwrap();
    assert_eq!((&edited["runs_new"], &edited["runs_finished"]), (&3.into(), &6.into()), "{edited}");
    sandbox.sweep(&["watch"]).unwrap();

    let curves = sandbox.sweep(&["export", id.trim(), "--points"]).unwrap();
    assert!(curves.contains("validation/loss") && curves.contains("train/loss"), "{curves}");
    let fit = sandbox.sweep_json(&["fit", id.trim()]).unwrap();
    assert!(fit["params"]["alpha"]["value"].is_number(), "{fit}");
    // The store's file tells the same beside the coordinator, and the runs choose their successors.
    let store = sandbox.path("state").join("sweep.db").display().to_string();
    assert_eq!(sandbox.sweep_json(&["fit", id.trim(), "--db", &store]).unwrap(), fit);
    let absent = sandbox.run("sweep", &["fit", "nothing-of-that-name", "--db", &store]).unwrap();
    assert_refused(&absent, 4, &["nothing-of-that-name"]);
    let missing = sandbox.run("sweep", &["fit", "last", "--db", "no.db"]).unwrap();
    assert_refused(&missing, 2, &["no.db"]);
    let both = ["fit", "last", "--db", &store, "--access", "access.json"];
    assert_eq!(sandbox.run("sweep", &both).unwrap().status.code(), Some(2), "two places");
    let wish = ["suggest", id.trim(), "--spend-seconds", "1000", "--runs", "3", "--reach", "2"];
    sandbox.sweep(&[&wish[..], &["--out", "next.toml"]].concat()).unwrap();
    let planned = sandbox.sweep_json(&["plan", "next.toml"]).unwrap();
    assert!((1..=3).contains(&planned["runs"].as_array().unwrap().len()), "{planned}");
    sandbox.sweep(&["report", id.trim(), "--out", "report"]).unwrap();
    sandbox.sweep(&["report", id.trim(), "--out", "alone.html"]).unwrap();
    let page = std::fs::read_to_string(sandbox.path("alone.html")).unwrap();
    for told in
        ["sweep run small.toml", "deviation from the reference curve", "from submission to the end"]
    {
        assert!(page.contains(told), "{told}");
    }
    check_results(&sandbox.path("report"), SMALL_RUNS);

    for process in [&mut worker, &mut coordinator] {
        process.signal("TERM").unwrap();
        let status = process.wait().unwrap();
        let code = status.code().unwrap_or(-1);
        assert!([0, 75].contains(&code), "{status}\n{}", process.log());
        assert!(!process.log().contains("panicked"), "{}", process.log());
    }
}

#[test]
fn one_command_writes_everything_and_again_trains_nothing() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", format!("{SMALL}{FORECAST}")).unwrap();
    let run = ["run", "recipe.toml", "--out", "out", "--device", "cpu"];
    let output = sandbox.run("sweep", &run).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("forecast"), "{}", said(&output));
    let out = sandbox.path("out");
    check_results(&out, SMALL_RUNS + 1);
    let forecasts = files_with(&out, "json").unwrap();
    let kept = forecasts.iter().any(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("forecast-"))
    });
    assert!(kept, "the forecast is not kept: {forecasts:?}");

    // The seconds of training stand in the table: equal bytes mean that nothing was trained.
    let table = fs::read(out.join("observations.csv")).unwrap();
    let fit = fs::read(out.join("fit.json")).unwrap();
    let again = sandbox.run("sweep", &run).unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(fs::read(out.join("observations.csv")).unwrap(), table);
    assert_eq!(fs::read(out.join("fit.json")).unwrap(), fit);
}

#[test]
fn the_synthetic_source_knows_its_entropy() {
    let sandbox = Sandbox::new().unwrap();
    let data =
        "source = \"synthetic\"\nvocabulary = 32\nentropy = 1.2\ncontexts = 100\ntokens = 60000";
    let recipe =
        SMALL.replace("source = \"text\"\nglobs = [\"texts/*.txt\"]\nheld_out = 0.2", data);
    sandbox.write("recipe.toml", recipe).unwrap();
    sandbox.sweep(&["run", "recipe.toml", "--out", "out", "--device", "cpu"]).unwrap();
    let csv = fs::read_to_string(sandbox.path("out/observations.csv")).unwrap();
    let losses: Vec<f64> =
        csv.lines().skip(1).map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect();
    // Nothing is predicted better than the process allows, and all better than uniform.
    assert!(losses.iter().all(|&loss| loss > 1.2 && loss < 32_f64.ln()), "{losses:?}");
}
