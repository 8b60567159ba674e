//! Tasks and samples through the command: scores reach the store, figures and report show them,
//! text is written from a checkpoint, and what is wrong is said.

use std::fs;

use sweep_tests::{Sandbox, assert_refused};

use crate::services::SMALL;

const TASKS: &str = "\n[[task]]\nsuite = \"brackets\"\nlength = 8\nfraction = 0.25\nitems = 20\n\
                     [[task]]\nsuite = \"file\"\npath = \"items.jsonl\"\n";

fn with_tasks(items: &str) -> Sandbox {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("items.jsonl", items).unwrap();
    sandbox.write("recipe.toml", format!("{SMALL}{TASKS}")).unwrap();
    sandbox
}

#[test]
fn a_task_file_with_a_bad_line_is_refused_before_anything_is_trained() {
    let sandbox = with_tasks("{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"c\"}\n");
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &["recipe.toml", "items.jsonl:2", "there is no `answer`"]);
    fs::remove_file(sandbox.path("items.jsonl")).unwrap();
    let output = sandbox.run("sweep", &["run", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &["items.jsonl"]);
}

#[test]
fn a_fraction_outside_0_to_1_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    let recipe = format!("{SMALL}{TASKS}").replace("fraction = 0.25", "fraction = 1.25");
    sandbox.write("recipe.toml", recipe).unwrap();
    let output = sandbox.run("sweep", &["plan", "recipe.toml"]).unwrap();
    assert_refused(&output, 2, &["recipe.toml", "task[0].fraction", "1.25"]);
}

#[test]
fn scores_are_stored_and_text_is_written_from_the_checkpoint() {
    let items = "{\"prompt\": \"a\", \"answer\": \"b\"}\n\
                 {\"prompt\": \"c\", \"choices\": [\"d\", \"e\"], \"answer\": 1}\n";
    let sandbox = with_tasks(items);
    let missing = sandbox.run("sweep", &["sample", "abc"]).unwrap();
    assert_refused(&missing, 4, &["no run `abc` has checkpoints"]);
    // The fit may be refused: three runs are few. What counts here is what was measured.
    let _ = sandbox.run("sweep", &["run", "recipe.toml", "--out", "out", "--slots", "1"]).unwrap();
    let points = fs::read_to_string(sandbox.path("out/points.csv")).unwrap();
    for metric in ["task/1/exact_match", "task/2/answer_nats", "text/bin/0/count"] {
        assert!(points.contains(metric), "{metric}");
    }
    let report = fs::read_to_string(sandbox.path("out/report.html")).unwrap();
    for part in ["figure-emergence-1", "figure-calibration", "id=\"samples\""] {
        assert!(report.contains(part), "{part}");
    }
    let db = ["--db", "out/state/sweep.db"];
    let told = sandbox.sweep_json(&[&["emergence", "last"][..], &db].concat()).unwrap();
    let metrics = told["metrics"].as_array().unwrap();
    assert_eq!((metrics.len(), &told["rows"]), (2, &9.into()), "{told}");
    for metric in metrics {
        assert!(metric["metric"].as_str().unwrap().starts_with("exact match of "), "{metric}");
        let axes = metric["axes"].as_array().unwrap();
        assert_eq!(axes.len(), 4, "{metric}");
        assert!(axes.iter().all(|axis| axis["n"] == 9 && axis["contrast"].is_string()), "{metric}");
    }
    let draw = |more: &[&str]| {
        sandbox.run("sweep", &[&["plot", "emergence-1", "last"][..], &db, more].concat()).unwrap()
    };
    assert!(draw(&["-o", "emergence.png"]).status.success());
    let drawn = fs::read(sandbox.path("emergence.png")).unwrap();
    assert!(drawn.starts_with(b"\x89PNG") && drawn.len() > 10_000);
    assert_refused(&draw(&["-o", "emergence.gif"]), 2, &["emergence.gif", ".png"]);
    assert_refused(&draw(&["-o", "large.png", "--scale", "99"]), 2, &["pixels", "--scale"]);

    let checkpoints = sandbox.path("out/state/worker/checkpoints");
    let run = fs::read_dir(&checkpoints).unwrap().next().unwrap().unwrap().file_name();
    let (run, folder) = (run.to_str().unwrap(), checkpoints.to_str().unwrap());
    let sample = |arguments: &[&str]| {
        let fixed = ["sample", run, "--checkpoints", folder, "--tokens", "30"];
        sandbox.run("sweep", &[&fixed, arguments].concat()).unwrap()
    };
    let once = sample(&["--prompt", "a", "--seed", "3"]);
    assert!(once.status.success(), "{}", sweep_tests::said(&once));
    assert!(once.stdout.starts_with(b"a"));
    assert_eq!(once.stdout, sample(&["--prompt", "a", "--seed", "3"]).stdout);
    assert!(sweep_tests::said(&once).contains("tokens/s"));
    assert_refused(&sample(&["--prompt", &"a".repeat(513)]), 2, &["513 tokens", "context"]);
    assert_refused(&sample(&["--top-p", "1.5"]), 2, &["--top-p 1.5"]);
}
