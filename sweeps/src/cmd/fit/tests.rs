//! The command on tables, good and bad: what is printed, what is refused, with which exit code.

use std::{fmt::Write as _, fs, path::PathBuf};

use super::*;
use crate::cmd::called::{Said, call, parsed};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn table(&self, text: &str) -> String {
        fs::write(self.path("runs.csv"), text).unwrap();
        self.path("runs.csv").display().to_string()
    }

    fn call(&self, format: Format, arguments: &[&str]) -> Said {
        call(run, format, &[&["fit"], arguments].concat())
    }

    /// Fits a table of N, D, loss.
    fn fit(&self, text: &str, more: &[&str]) -> Said {
        let input = self.table(text);
        let maps = ["--input", &input, "--map", "N=N", "--map", "D=D", "--map", "loss=loss"];
        self.call(Format::Table, &[&maps, more].concat())
    }

    fn json(&self, text: &str, more: &[&str]) -> serde_json::Value {
        let input = self.table(text);
        let maps = ["--input", &input, "--map", "N=N", "--map", "D=D", "--map", "loss=loss"];
        let said = self.call(Format::Json, &[&maps, more].concat());
        assert_eq!(said.exit, Exit::Done, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }
}

fn loss(n: f64, d: f64) -> f64 {
    1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28)
}

/// 25 runs with a little scatter, and what they cost.
fn runs() -> String {
    let mut text = String::from("N,D,loss,s,run\n");
    for i in 0..5_i32 {
        for j in 0..5_i32 {
            let (n, d) = (1e6 * 3_f64.powi(i), 2e7 * 4_f64.powi(j));
            let wave = 1.0 + 0.002 * f64::from((7 * i + 3 * j) % 5 - 2);
            let seconds = 2e-11 * n.powf(0.9) * d;
            writeln!(text, "{n},{d},{},{seconds},r{i}{j}", loss(n, d) * wave).unwrap();
        }
    }
    text
}

/// The table with one cell replaced; the header is line 1.
fn with_cell(line: usize, column: usize, cell: &str) -> String {
    let rows: Vec<String> = runs()
        .lines()
        .enumerate()
        .map(|(at, row)| {
            let mut cells: Vec<&str> = row.split(',').collect();
            if at + 1 == line {
                cells[column] = cell;
            }
            cells.join(",")
        })
        .collect();
    rows.join("\n") + "\n"
}

fn refused_with(said: &Said, exit: Exit, parts: &[&str]) {
    assert_eq!(said.exit, exit, "{}", said.err);
    assert!(said.out.is_empty(), "a refusal prints nothing: {}", said.out);
    for part in parts.iter().chain(&["hint:"]) {
        assert!(said.err.contains(part), "no `{part}` in {}", said.err);
    }
}

#[test]
fn cells_that_no_law_can_use_are_named_by_line() {
    let bench = Bench::new();
    for (column, name) in ["N", "D", "loss"].into_iter().enumerate() {
        for cell in ["nan", "NaN", "inf", "-inf", "0", "-3", "", "abc"] {
            let said = bench.fit(&with_cell(7, column, cell), &[]);
            refused_with(&said, Exit::FitRefused, &[&format!("line 7: {name} is '{cell}'")]);
        }
    }
}

/// A log objective needs losses above 0, and so do the laws: both refuse.
#[test]
fn a_loss_below_zero_is_refused_under_every_objective() {
    let bench = Bench::new();
    for objective in Objective::NAMES {
        let said = bench.fit(&with_cell(3, 2, "-0.5"), &["--objective", objective]);
        refused_with(&said, Exit::FitRefused, &["line 3: loss is '-0.5'"]);
    }
}

#[test]
fn a_column_of_text_is_refused() {
    let bench = Bench::new();
    let input = bench.table(&runs());
    let maps = ["--input", &input, "--map", "N=run", "--map", "D=D", "--map", "loss=loss"];
    let said = bench.call(Format::Table, &maps);
    refused_with(&said, Exit::FitRefused, &["line 2: N is 'r00'", "and 5 more rows"]);
}

#[test]
fn an_unknown_column_is_answered_with_those_that_exist() {
    let bench = Bench::new();
    let input = bench.table(&runs());
    let said = bench.call(
        Format::Table,
        &["--input", &input, "--map", "N=size", "--map", "D=D", "--map", "loss=loss"],
    );
    refused_with(&said, Exit::Usage, &["`size`", "N, D, loss, s, run"]);
}

#[test]
fn tables_that_carry_no_law_are_refused() {
    let bench = Bench::new();
    let few: String = runs().lines().take(5).map(|row| format!("{row}\n")).collect();
    let said = bench.fit(&few, &[]);
    refused_with(&said, Exit::FitRefused, &["5 parameters", "4 observations"]);
    refused_with(&bench.fit("", &[]), Exit::FitRefused, &["empty"]);
    refused_with(&bench.fit("N,D,loss\n", &[]), Exit::FitRefused, &["no observations"]);
    let one_size: String =
        (1..9).map(|i| format!("1e6,{i}e8,{}\n", 4.0 - 0.1 * f64::from(i))).collect();
    let said = bench.fit(&format!("N,D,loss\n{one_size}"), &[]);
    refused_with(&said, Exit::FitRefused, &["the same N"]);
    let equal: String = (1..9).map(|i| format!("{i}e6,{}e8,3\n", i * i)).collect();
    let said = bench.fit(&format!("N,D,loss\n{equal}"), &[]);
    refused_with(&said, Exit::FitRefused, &["the same loss"]);
}

#[test]
fn a_parquet_file_cut_short_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("runs.parquet"), b"PAR1 and then the disk was full").unwrap();
    let input = bench.path("runs.parquet").display().to_string();
    let maps = ["--input", &input, "--map", "N=N", "--map", "D=D", "--map", "loss=loss"];
    refused_with(&bench.call(Format::Table, &maps), Exit::FitRefused, &["cut short"]);
}

#[test]
fn a_collinear_design_and_seed_noise_are_warned_of() {
    let bench = Bench::new();
    let line: String = (0..12)
        .map(|i| {
            let n = 1e6 * 2_f64.powi(i);
            format!("{n},{},{}\n", 20.0 * n, loss(n, 20.0 * n) * (1.0 + 0.001 * f64::from(i % 3)))
        })
        .collect();
    let said = bench.fit(&format!("N,D,loss\n{line}"), &[]);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(said.err.contains("warning[collinear-design]"), "{}", said.err);
    let twice = runs() + "1000000,20000000,8.9,1,again\n";
    let said = bench.fit(&twice, &[]);
    assert!(said.err.contains("warning[duplicates]"), "{}", said.err);
    assert!(said.err.contains("seed noise of"), "{}", said.err);
}

#[test]
fn laws_are_ranked_with_weights_that_add_up() {
    let bench = Bench::new();
    let json = bench.json(&runs(), &["--rank", "--at", "N=1e9,D=2e10"]);
    let laws = json["ranking"]["laws"].as_array().unwrap();
    let weights: f64 = laws.iter().filter_map(|law| law["weight"].as_f64()).sum();
    assert!((weights - 1.0).abs() < 1e-9, "{weights}");
    let errors: Vec<f64> =
        laws.iter().filter_map(|law| law["held_out"]["mean_abs_rel_error"].as_f64()).collect();
    assert!(errors.len() >= 3 && errors.is_sorted(), "{errors:?}");
    assert!(json["ranking"]["extrapolation"].as_f64().unwrap() > 1.0);
    let averaged = json["forecasts"][0]["averaged"]["loss"].as_f64().unwrap();
    assert!((averaged / loss(1e9, 2e10) - 1.0).abs() < 0.1, "{averaged}");
    let table = bench.fit(&runs(), &["--rank"]).out;
    assert!(table.contains("mean error") && table.contains("separable"), "{table}");
}

#[test]
fn the_best_law_is_the_first_of_the_ranking() {
    let bench = Bench::new();
    let first = bench.json(&runs(), &["--rank"])["ranking"]["laws"][0]["law"].clone();
    assert_eq!(bench.json(&runs(), &["--law", "best"])["law"], first);
    assert!(parsed::<Args>(&["fit", "last", "--law", "worst"]).is_err());
}

#[test]
fn forecasts_and_allocations_have_intervals() {
    let bench = Bench::new();
    let input = bench.table(&runs());
    let said = bench.call(
        Format::Json,
        &[
            "--input",
            &input,
            "--map",
            "N=N",
            "--map",
            "D=D",
            "--map",
            "loss=loss",
            "--map",
            "seconds=s",
            "--bootstrap",
            "60",
            "--budget",
            "1e20",
            "--tokens-per-parameter",
            "20",
            "--gpu-seconds",
            "1e7",
            "--at",
            "N=1e9,D=2e10",
        ],
    );
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let splits = json["allocations"].as_array().unwrap();
    assert_eq!(splits.len(), 3, "{splits:?}");
    for split in splits {
        let [low, high] = [0, 1].map(|end| split["loss"]["ci95"][end].as_f64().unwrap());
        let value = split["loss"]["value"].as_f64().unwrap();
        assert!(low <= value && value <= high, "{split}");
    }
    assert!((json["cost_law"]["p"].as_f64().unwrap() - 0.9).abs() < 1e-9);
    let optimum = &splits[0];
    assert_eq!(optimum["N"]["value"], json["optimum"][0]["N"]);
    let forecast = &json["forecasts"][0];
    assert!(forecast["run95"][0].as_f64() < forecast["ci95"][0].as_f64());
    assert!(forecast["times_largest"].as_f64().unwrap() > 1.0);
}

#[test]
fn gpu_seconds_need_seconds() {
    let bench = Bench::new();
    let said = bench.fit(&runs(), &["--gpu-seconds", "1e6"]);
    refused_with(&said, Exit::Usage, &["seconds"]);
    let said = bench.fit(&runs(), &["--method", "isoflop", "--at", "N=1e9,D=2e10"]);
    assert!(matches!(said.exit, Exit::Usage | Exit::FitRefused), "{}", said.err);
}

#[test]
fn without_wishes_the_document_is_the_contract() {
    let bench = Bench::new();
    let json = bench.json(&runs(), &["--budget", "1e20"]);
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "certificate",
            "exponents",
            "held_out",
            "law",
            "n_dropped",
            "n_points",
            "objective",
            "optimum",
            "params",
            "schema",
            "warnings"
        ]
    );
}

#[test]
fn choices_methods_and_the_checklist_are_tables_and_json() {
    let bench = Bench::new();
    let more = ["--sensitivity", "--compare", "--checklist", "--budget", "1e18"];
    let said = bench.fit(&with_cell(9, 2, "9.9"), &more);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    for part in
        ["outliers", "line 9", "without", "l1-log", "side by side", "isoflop", "[x] law:", "[ ] "]
    {
        assert!(said.out.contains(part), "no `{part}` in\n{}", said.out);
    }
    let json = bench.json(&runs(), &more);
    assert_eq!(json["sensitivity"]["variants"].as_array().unwrap().len(), 5);
    assert_eq!(json["comparison"]["methods"][0]["method"], "direct");
    assert!(json["checklist"].as_array().unwrap().len() > 10);
}

#[test]
fn stored_forecasts_are_held_against_later_runs() {
    let bench = Bench::new();
    let register = bench.path("register.jsonl").display().to_string();
    let at = ["--at", "N=1e9,D=2e10", "--at", "N=3e8,D=2e10", "--bootstrap", "50"];
    let stored = [&at[..], &["--preregister", &register]].concat();
    let said = bench.fit(&runs(), &stored);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(said.err.contains("stored in"), "{}", said.err);
    let later = format!("N,D,loss\n1e9,2e10,{}\n", loss(1e9, 2e10));
    let fared = bench.fit(&later, &["--fared", &register]);
    assert_eq!(fared.exit, Exit::Done, "{}", fared.err);
    assert!(fared.out.contains("1 of 2 forecasts measured"), "{}", fared.out);
    let json = bench.json(&later, &["--fared", &register]);
    assert_eq!(json["measured"], 1);
    assert!(json["mean_abs_error"].as_f64().unwrap() < 0.02);
    let other = bench.fit("N,D,loss\n5,5,3\n", &["--fared", &register]);
    assert_eq!(other.exit, Exit::NoMatch, "{}", other.err);
    assert!(parsed::<Args>(&["fit", "last", "--preregister", "a"]).is_err(), "needs --at");
    let missing = bench.path("none.jsonl").display().to_string();
    refused_with(&bench.fit(&later, &["--fared", &missing]), Exit::Usage, &["none.jsonl"]);
}
