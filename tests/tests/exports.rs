//! What a sweep gives to other tools, read back by them.

use std::process::Command;

use sweep_tests::{Sandbox, files_with};

use crate::services::{SMALL, SMALL_RUNS, coordinator, skipped, worker};

/// Prints the last validation loss of each folder of event files, by TensorBoard's own reader.
const READER: &str = "
import sys, pathlib
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
for run in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    events = EventAccumulator(str(run), size_guidance={'scalars': 0})
    events.Reload()
    last = events.Scalars('validation/loss')[-1]
    print(run.name.rsplit('-', 1)[1], last.step, repr(last.value))
";

#[test]
fn tables_and_events_are_read_back_as_they_were() {
    let sandbox = Sandbox::new().unwrap();
    sandbox.write("recipe.toml", SMALL).unwrap();
    let _coordinator = coordinator(&sandbox).unwrap();
    let _worker = worker(&sandbox, "worker").unwrap();
    sandbox.sweep(&["submit", "recipe.toml", "--yes"]).unwrap();
    sandbox.sweep(&["watch"]).unwrap();

    // Parquet, by our own reader: the same observations give the same law.
    let law = |arguments: &[&str]| {
        let fit = sandbox.sweep_json(&[&["fit"], arguments].concat()).unwrap();
        assert_eq!(fit["n_points"], SMALL_RUNS, "{fit}");
        fit["params"]["alpha"]["value"].as_f64().unwrap().to_bits()
    };
    sandbox.sweep(&["export", "last", "--output", "runs.parquet"]).unwrap();
    sandbox.sweep(&["export", "last", "--output", "runs.csv"]).unwrap();
    assert_eq!(law(&["--input", "runs.parquet"]), law(&["last"]));
    assert_eq!(law(&["--input", "runs.csv"]), law(&["last"]));
    sandbox.sweep(&["export", "last", "--points", "--output", "points.parquet"]).unwrap();
    assert!(sandbox.path("points.parquet").is_file());

    // A choice of runs, by place and by id.
    let table = sandbox.sweep(&["export", "last", "--runs", "1-2,last"]).unwrap();
    assert_eq!(table.lines().count(), 1 + 3, "{table}");
    let third = sandbox.sweep_json(&["status", "last", "--runs", "3"]).unwrap();
    let id = third["runs"][0]["run"].as_str().unwrap();
    assert_eq!(sandbox.sweep(&["status", "last", "-q", "--runs", &id[..8]]).unwrap().trim(), id);

    sandbox.sweep(&["export", "last", "--tensorboard", "events"]).unwrap();
    let written: Vec<_> = files_with(&sandbox.path("events"), "sweep").unwrap();
    assert_eq!(written.len(), SMALL_RUNS, "{written:?}");
    let name = "tables_and_events_are_read_back_as_they_were, by TensorBoard";
    let read = Command::new("python3").args(["-c", READER]).arg(sandbox.path("events")).output();
    let Some(read) = read.ok().filter(|output| output.status.success()) else {
        skipped(name, "python3 with tensorboard is not at hand");
        return;
    };
    let points = sandbox.sweep(&["export", "last", "--points"]).unwrap();
    let lines = String::from_utf8(read.stdout).unwrap();
    assert_eq!(lines.lines().count(), SMALL_RUNS, "{lines}");
    for line in lines.lines() {
        let [run, step, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let of_run = |point: &&str| point.starts_with(run) && point.contains(",validation/loss,");
        let last = points.lines().rfind(of_run).unwrap();
        let [.., at, loss] = last.split(',').collect::<Vec<_>>()[..] else { panic!("{last}") };
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars are f32")]
        let loss = loss.parse::<f64>().unwrap() as f32;
        assert_eq!((at, loss), (step, value.parse().unwrap()), "{line}");
    }
}
