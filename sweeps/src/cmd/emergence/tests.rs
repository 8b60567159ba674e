//! The command on a table of scores.

use std::{fmt::Write as _, fs};

use super::*;
use crate::cmd::called;

fn call(table: &str, format: Format, more: &[&str]) -> (Exit, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.csv");
    fs::write(&path, table).unwrap();
    let path = path.display().to_string();
    let said = called::call(run, format, &[&["emergence", "--input", &path], more].concat());
    (said.exit, said.out, said.err)
}

/// 20 models: token accuracy rises smoothly, exact match of eight tokens is its power; a step of its
/// own lies in `jump`.
fn scores() -> String {
    let mut text = String::from("N,D,loss,tokens,exact,jump,empty\n");
    for i in 0..20 {
        let t = f64::from(i) / 19.0;
        let (n, d) = (1e7 * 100_f64.powf(t), 1e9 * 100_f64.powf(t * t));
        let loss = 1.8 + 400.0 * n.powf(-0.34) + 410.0 * d.powf(-0.28);
        let wave = 0.004 * f64::from(i * 7 % 5 - 2);
        let token = 0.35 + 0.6 * t + wave;
        let jump = 0.25 + 0.6 / (1.0 + (-50.0 * (t - 0.6)).exp()) + wave;
        writeln!(text, "{n},{d},{loss},{token},{},{jump},", token.powi(8)).unwrap();
    }
    text
}

const MAPS: [&str; 6] = ["--map", "N=N", "--map", "D=D", "--map", "loss=loss"];

#[test]
fn a_table_of_scores_gets_verdicts_on_every_axis() {
    let more = [
        &MAPS[..],
        &[
            "--metric",
            "jump",
            "--metric",
            "exact",
            "--soft",
            "tokens",
            "--token-accuracy",
            "tokens",
        ],
        &["--length", "8", "--items", "1000", "--chance", "0.25"],
    ]
    .concat();
    let (exit, out, err) = call(&scores(), Format::Table, &more);
    assert_eq!(exit, Exit::Done, "{err}");
    for part in [
        "jump against C, 20 scores",
        "jump against loss",
        "emergent under jump against C",
        "smooth under tokens",
        "p^8 of token accuracy explains",
        "knee at",
        "resolution 1/items = 1.00e-3",
    ] {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
    let (_, quiet, _) = call(&scores(), Format::Quiet, &more);
    assert_eq!(quiet.lines().count(), 8, "{quiet}");
}

#[test]
fn forecasts_carry_the_errors_of_both_steps() {
    let more = [&MAPS[..], &["--metric", "jump", "--soft", "tokens", "--bootstrap", "60"]].concat();
    let at = [&more[..], &["--at", "N=2e9,D=2e11"]].concat();
    let (exit, out, err) = call(&scores(), Format::Json, &at);
    assert_eq!(exit, Exit::Done, "{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let forecast = &json["metrics"][0]["forecast"];
    assert!(forecast["score"]["ci95"][0].is_number(), "{forecast}");
    assert_eq!(forecast["chain"]["steps"].as_array().unwrap().len(), 2);
    let (exit, _, err) =
        call(&scores(), Format::Json, &[&more[..], &["--at-loss", "2.3"]].concat());
    assert_eq!(exit, Exit::Done, "{err}");
}

#[test]
fn tables_without_scores_are_refused() {
    let refused = |maps: &[&str], exit: Exit, part: &str| {
        let (ended, out, err) = call(&scores(), Format::Table, maps);
        assert_eq!(ended, exit, "{err}");
        assert!(out.is_empty() && err.contains(part), "{err}");
    };
    refused(&["--map", "N=N", "--metric", "nothing"], Exit::Usage, "`nothing`");
    refused(&["--map", "N=N", "--metric", "empty"], Exit::FitRefused, "0 observations");
    refused(&["--map", "group=N", "--metric", "jump"], Exit::Usage, "no axis");
    refused(&["--map", "N=N", "--metric", "jump", "--at-loss", "2"], Exit::Usage, "loss=COLUMN");
    refused(&["--map", "N=N", "--metric", "jump", "--chance", "1.5"], Exit::Usage, "--chance");
    let text = scores()
        .replace("N,D,loss,tokens,exact,jump,empty", "N,D,loss,tokens,exact,jump,e\nx,1,1,1,1,1,1");
    let (exit, _, err) = call(&text, Format::Table, &["--map", "N=N", "--metric", "jump"]);
    assert_eq!(exit, Exit::FitRefused);
    assert!(err.contains("line 2: N is 'x'"), "{err}");
}
