//! The command on tables, good and bad.

use std::{fmt::Write as _, fs};

use super::*;
use crate::cmd::called::{self, Said};

const STEPS: u32 = 2000;
const WARMUP: u32 = 50;

/// Rates as shares of the peak after the warm-up, by progress.
fn cosine(t: f64) -> f64 {
    0.1 + 0.45 * (1.0 + (std::f64::consts::PI * t).cos())
}

fn cooldown(t: f64) -> f64 {
    if t < 0.8 { 1.0 } else { 1.0 - 0.95 * ((t - 0.8) / 0.2).sqrt() }
}

fn two_steps(t: f64) -> f64 {
    if t < 0.6 { 1.0 } else { 0.3 }
}

/// Rows of a curve whose losses the annealing law gives: L0 2.6, A .55, alpha .42, C .35, lambda .99.
fn rows(name: &str, after: fn(f64) -> f64) -> String {
    let mut text = String::new();
    let (mut sum, mut momentum, mut fallen, mut last) = (0.0, 0.0, 0.0, f64::NAN);
    for step in 1..=STEPS {
        let rate = if step <= WARMUP {
            1e-3 * f64::from(step) / f64::from(WARMUP)
        } else {
            1e-3 * after(f64::from(step - WARMUP) / f64::from(STEPS - WARMUP))
        };
        sum += rate;
        if step > WARMUP {
            momentum = 0.99 * momentum + (last - rate);
            fallen += momentum;
        }
        last = rate;
        let loss: f64 = 2.6 + 0.55 * f64::powf(sum, -0.42) - 0.35 * fallen;
        let measured = if step % 20 == 0 { loss.to_string() } else { String::new() };
        writeln!(text, "{name},{step},{rate},{measured}").unwrap();
    }
    text
}

/// Calls the command on a table of this text.
fn call(text: &str, format: Format, more: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.csv");
    fs::write(&path, text).unwrap();
    let input = path.display().to_string();
    called::call(run, format, &[&["curves", "--input", &input], more].concat())
}

/// What a call that ends well prints.
fn printed(text: &str, format: Format, more: &[&str]) -> String {
    let said = call(text, format, more);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    said.out
}

fn refusal(text: &str, more: &[&str]) -> (Exit, String) {
    let said = call(text, Format::Json, more);
    assert_ne!(said.exit, Exit::Done, "{}", said.out);
    (said.exit, said.err)
}

#[test]
fn two_curves_forecast_a_third() {
    let text = format!(
        "curve,step,rate,loss\n{}{}{}",
        rows("cosine", cosine),
        rows("cooldown", cooldown),
        rows("two-steps", two_steps)
    );
    let out = printed(&text, Format::Json, &["--predict", "two-steps"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["schema"], "sweep.curves/1");
    let fit = &document["fits"][0];
    for (name, truth) in [("L0", 2.6), ("A", 0.55), ("alpha", 0.42), ("C", 0.35), ("lambda", 0.99)]
    {
        let found = fit["params"][name].as_f64().unwrap();
        assert!((found / truth - 1.0).abs() < 1e-4, "{name} {found}");
    }
    let curves = fit["curves"].as_array().unwrap();
    let predicted: Vec<bool> = curves.iter().map(|c| c["predicted"].as_bool().unwrap()).collect();
    assert_eq!(predicted, [false, false, true]);
    for curve in curves {
        assert!(curve["max_abs_rel_error"].as_f64().unwrap() < 1e-5, "{curve}");
        assert_eq!(curve["last_step"], STEPS);
    }
    // Losses at 20 and 40 lie before the peak.
    assert_eq!((fit["n_points"].as_u64(), fit["n_warmup"].as_u64()), (Some(196), Some(4)));
}

#[test]
fn a_schedule_without_losses_is_forecast_at_its_end() {
    let bare: String = rows("planned", two_steps)
        .lines()
        .map(|row| row.rsplit_once(',').unwrap().0.to_owned() + ",\n")
        .collect();
    let text = format!("run,s,eta,L\n{}{bare}", rows("cooldown", cooldown));
    let maps = ["--map", "curve=run", "--map", "step=s", "--map", "rate=eta", "--map", "loss=L"];
    let out = printed(&text, Format::Table, &maps);
    let planned = out.lines().find(|line| line.starts_with("planned")).unwrap();
    let truth = rows("", two_steps);
    let last: f64 = truth.lines().last().unwrap().rsplit_once(',').unwrap().1.parse().unwrap();
    let words: Vec<&str> = planned.split_whitespace().collect();
    assert_eq!(words[words.len() - 5..words.len() - 1], ["0", "-", "-", "-"], "{planned}");
    let forecast: f64 = words[words.len() - 1].parse().unwrap();
    assert!((forecast / last - 1.0).abs() < 1e-4, "{forecast} {last}");
}

#[test]
fn what_is_no_curve_is_named_by_its_line() {
    let head = "curve,step,rate,loss\n";
    for (row, problem) in [
        ("a,0,1,2", "line 2: step is '0'"),
        ("a,1.5,1,2", "line 2: step is '1.5'"),
        ("a,,1,2", "line 2: step is ''"),
        ("a,1,-1,2", "line 2: rate is '-1'"),
        ("a,1,,2", "line 2: rate is ''"),
        ("a,1,1,0", "line 2: loss is '0'"),
        ("a,1,1,x", "line 2: loss is 'x'"),
        (",1,1,2", "line 2: curve is empty"),
        ("a,1,1,2\na,1,1,2", "curve `a` has step 1 twice"),
        ("a,1,1,2", "1 observations"),
        ("a,9000000,1,2\nb,9000000,1,2", "18000000 steps together"),
    ] {
        let (exit, message) = refusal(&format!("{head}{row}\n"), &[]);
        assert_eq!(exit, Exit::FitRefused, "{message}");
        assert!(message.contains(problem), "{row}: {message}");
        assert!(message.contains("hint:"), "{row}: {message}");
    }
}

#[test]
fn a_rate_that_never_falls_and_a_curve_beyond_the_law_are_told() {
    let head = "curve,step,rate,loss\n";
    let constant: String =
        (1..40).map(|s| format!("flat,{s},0.001,{}\n", 3.0 - f64::from(s) * 0.01)).collect();
    let (exit, message) = refusal(&format!("{head}{constant}"), &[]);
    assert_eq!(exit, Exit::FitRefused);
    assert!(message.contains("hint: add a curve that cools down"), "{message}");

    // A rate a thousand times as large leaves the positive losses: the others are told all the same.
    let wild: String =
        (1..=200).map(|s| format!("wild,{s},{},\n", if s < 100 { 9.0 } else { 0.1 })).collect();
    let text = format!("{head}{}{wild}", rows("cooldown", cooldown));
    let out = printed(&text, Format::Json, &[]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let fit = &document["fits"][0];
    assert!(fit["problems"][0].as_str().unwrap().starts_with("curve wild: "), "{fit}");
    assert!(fit["curves"][0]["mean_abs_rel_error"].is_number(), "{fit}");
    assert!(fit["curves"][1]["last_predicted"].is_null(), "{fit}");
}

#[test]
fn unknown_roles_columns_and_curves_are_refused_with_those_that_exist() {
    let text = format!("curve,step,rate,loss\n{}", rows("cooldown", cooldown));
    for (more, expected) in [
        (["--map", "lr=rate"], "roles are step, rate, loss, curve"),
        (["--map", "rate=lr"], "the columns are curve, step, rate, loss"),
        (["--objective", "best"], "huber-log"),
        (["--delta", "nan"], "--delta"),
        (["--delta=-1", "--every=1"], "--delta"),
        (["--delta", "0"], "--delta"),
        (["--law=multi-power", "--lambda=0.9"], "--law annealing"),
        (["--map=rate=rate", "--map=rate=rate"], "mapped twice"),
    ] {
        let (exit, message) = refusal(&text, &more);
        assert_eq!(exit, Exit::Usage, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let (exit, message) = refusal(&text, &["--predict", "cosine"]);
    assert_eq!(exit, Exit::NoMatch);
    assert!(message.contains("the curves are cooldown"), "{message}");
}
