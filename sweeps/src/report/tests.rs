//! A page of a small sweep, of an empty one, and of one whose texts try to leave their place.

use sweep_fit::{Law, Observation, Options};
use sweep_plot::input::{AttemptInput, CurvePoint, Ending, FrontierInput, TimelineInput};

use super::*;

fn law(n: f64, d: f64) -> f64 {
    1.2 + 90.0 * n.powf(-0.42) + 300.0 * d.powf(-0.4)
}

/// Noise of about 0.3 % without a generator.
fn wobble(i: usize) -> f64 {
    1.0 + 0.004 * (2.4 * widened(i as u64)).sin()
}

fn run(label: String, n: f64, d: f64, role: RunRole, i: usize) -> RunCurve {
    let loss = law(n, d) * wobble(i);
    let place = |share: f64, loss: f64| CurvePoint {
        step: (share * d / 1024.0).ceil(),
        tokens: share * d,
        flops: 5.2 * n * share * d,
        seconds: Some(2e-10 * n * share * d),
        loss,
        points: 1,
        spread: None,
    };
    let shares = |count: u8, least: f64| {
        (1..=count).map(move |k| (k, least.powf(1.0 - f64::from(k) / f64::from(count))))
    };
    RunCurve {
        label,
        n,
        d,
        flops: 5.2 * n * d,
        budget: None,
        seed: 7,
        learning_rate: 0.01,
        unique: None,
        speed: None,
        role,
        state: RunState::Done,
        reason: None,
        loss: Some(loss),
        train: shares(200, 0.01)
            .map(|(k, share)| place(share, (law(n, share * d) + 0.05) * wobble(usize::from(k) * 5)))
            .collect(),
        validation: shares(12, 0.01)
            .map(|(k, share)| place(share, if k == 12 { loss } else { law(n, share * d) + 0.04 }))
            .collect(),
        thinned: 0,
    }
}

fn device() -> ReportDevice {
    ReportDevice {
        name: "AMD EPYC".to_owned(),
        backend: "flex".to_owned(),
        canary: "passed".to_owned(),
        runs: 21,
    }
}

/// An item that is stated and one that is open.
fn checklist() -> Vec<Item> {
    vec![
        Item { item: "what C counts", stated: Some("6 N D".to_owned()), open: None },
        Item { item: "held-out error", stated: None, open: Some("too few observations") },
    ]
}

fn cost() -> ReportCost {
    ReportCost {
        planned_seconds: Some(280.0),
        spent_seconds: Some(301.4),
        planned_flops: Some(2.2e13),
        done_flops: Some(2.1e13),
        wall_seconds: None,
    }
}

/// 5 sizes x 4 data sizes, one of them diverged, and a check run.
fn example() -> ReportInput {
    let mut runs = Vec::new();
    for (i, n) in [14e3, 29e3, 62e3, 110e3, 180e3].into_iter().enumerate() {
        for (j, d) in [0.25e6, 0.5e6, 1e6, 2e6].into_iter().enumerate() {
            runs.push(run(format!("r{i}{j}"), n, d, RunRole::Fit, 4 * i + j));
        }
    }
    let largest = runs.last_mut().expect("20 runs");
    largest.state = RunState::Diverged;
    largest.loss = None;
    largest.reason = Some("loss became infinite at step 1000".to_owned());
    runs.push(run("check".to_owned(), 490e3, 4e6, RunRole::Check, 3));
    let observations: Vec<Observation> = runs
        .iter()
        .filter(|run| run.role == RunRole::Fit)
        .filter_map(|run| Some(Observation::new(run.n, run.d, run.loss?)))
        .collect();
    let options = Options { law: Law::Separable, bootstrap: 100, ..Options::default() };
    let fit = sweep_fit::fit(&observations, &options).expect("19 observations");
    let rehearsal = crate::law::rehearsal(&observations, &options);
    let facts = |run: &RunCurve| ReportRun {
        id: format!("{}-0123456789abcdef", run.label),
        parameters_total: 14_000,
        parameters_non_embedding: 9_000,
        steps: 977,
        bits_per_byte: run.loss.map(|loss| loss / std::f64::consts::LN_2),
        seconds: run.loss.map(|_| run.flops / 1e10),
        attempts: 1,
        device: Some("AMD EPYC".to_owned()),
        peak_memory_bytes: Some(120 << 20),
    };
    ReportInput {
        sweep: "quickstart".to_owned(),
        recipe: "name = \"quickstart\"\n[grid]\nsizes = [\"14k\"]\n".to_owned(),
        command: "sweep run quickstart.toml".to_owned(),
        written: "2026-01-02 03:04 UTC".to_owned(),
        runs: runs.iter().map(facts).collect(),
        plot: PlotInput {
            runs,
            fit: Some(fit),
            isoflop: None,
            rehearsal,
            frontier: FrontierInput::default(),
            repeat_law: None,
            interval: Some("100 case bootstraps, 95 %".to_owned()),
            n_convention: "N: all parameters".to_owned(),
            entropy: None,
            diffusion: None,
            tasks: Vec::new(),
            calibrations: Vec::new(),
            timeline: TimelineInput::default(),
        },
        fit_refused: None,
        measures: Vec::new(),
        loss_unit: "nats per token",
        units: "Loss: nats per token at the end.",
        cost: cost(),
        devices: vec![device()],
        facts: vec![("sweep".to_owned(), "0.1.0".to_owned())],
        texts: vec![SampleText {
            run: "abc".to_owned(),
            size: "N = 30 k".to_owned(),
            text: "fn <main>() {".to_owned(),
        }],
        checklist: checklist(),
    }
}

fn page_of(input: &ReportInput) -> Result<String, ReportError> {
    render(input, &FigureKind::build_all(&input.plot))
}

#[test]
fn the_checklist_tells_what_is_open() {
    let page = page_of(&example()).expect("it is filled");
    assert!(page.contains(">what C counts</th><td class=\"long\">6 N D<"), "stated");
    assert!(page.contains("<em>open: too few observations</em>"), "open");
    let without = ReportInput { checklist: Vec::new(), ..example() };
    assert!(
        !page_of(&without).expect("it is filled").contains("id=\"checklist\""),
        "no empty section"
    );
}

#[test]
fn samples_stand_on_the_page_as_text() {
    let page = page_of(&example()).expect("it is filled");
    assert!(page.contains("N = 30 k") && page.contains("fn &#60;main&#62;() {"), "samples");
}

#[test]
fn a_page_says_law_forecast_and_error_and_needs_no_network() {
    let input = example();
    let page = page_of(&input).expect("it is filled");
    if let Ok(path) = std::env::var("REPORT_PREVIEW") {
        std::fs::write(path, &page).expect("the preview is written");
    }
    let fit = input.plot.fit.as_ref().expect("a fit");
    let check = input.plot.runs.last().expect("the check run");
    let error = text::percent(text::error_percent(fit, check).expect("it is done"));
    let sentence = text::forecast_text(fit, check).expect("a law of N and D");
    assert!(sentence.contains(&error));
    assert!(page.contains(&sentence), "{sentence}");
    for part in
        ["loss became infinite at step 1000", "sweep run quickstart.toml", "4 m 40 s", "5 m 01 s"]
    {
        assert!(page.contains(part), "{part}");
    }
    // And the resampled fits; the sweep has no data for the other figures of some sweeps.
    assert_eq!(page.matches("<svg").count(), FigureKind::ALL.len() + 1);
    assert!(
        page.contains("<li>learning-rate: No place was trained at several"),
        "what is missing is said"
    );
    for reference in ["href=\"http", "src=", "@import", "url(http"] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(
        page.matches("http").count()
            == page.matches("http-equiv").count()
                + page.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn every_row_has_a_cell_for_every_heading() {
    let page = page_of(&example()).expect("it is filled");
    let headings = page.matches("<button").count();
    for row in run_rows(&example()) {
        assert_eq!(row.len(), headings);
    }
}

#[test]
fn runs_at_other_rates_are_told_apart_from_the_law() {
    let mut input = example();
    let law = page_of(&input).expect("it is filled");
    assert!(!law.contains("Learning rate:"));
    let own = input.plot.runs[6].clone();
    let tried =
        [(0.005, own.loss.map(|loss| loss * 1.05)), (0.02, own.loss.map(|loss| loss * 0.9))];
    for (rate, loss) in tried {
        let role = RunRole::Sensitivity;
        let label = format!("rate-{rate}");
        input.plot.runs.push(RunCurve { label, learning_rate: rate, loss, role, ..own.clone() });
        input.runs.push(input.runs[6].clone());
    }
    let page = page_of(&input).expect("it is filled");
    assert!(page.contains("Learning rate: at 1 of 1 places tried another is better"), "summary");
    assert!(page.contains("by 10.00 % at most"), "and by how much");
    assert!(page.contains("One seed at a rate"), "the caveat");
    assert!(page.contains("id=\"figure-learning-rate\""), "the figure");
    assert!(page.contains("<td>sensitivity</td>") && page.contains(">5.00e-3</td>"), "the table");
    let rows = run_rows(&input);
    let error = law_column(&rows[21]);
    assert_eq!(error, "\u{2013}", "no law is held against another rate");
    assert_ne!(law_column(&rows[6]), error);
}

/// The error against the law in a row of the run table.
fn law_column(row: &[Cell]) -> &str {
    &row[13].text
}

#[test]
fn the_numbers_read_back_from_the_page() {
    let input = example();
    let page = page_of(&input).expect("it is filled");
    let (_, rest) = page.split_once("id=\"data\">").expect("the data is there");
    let (data, _) = rest.split_once("</script>").expect("its end is there");
    let data: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
    assert_eq!(data["schema"], SCHEMA);
    assert_eq!(data["runs"].as_array().map(Vec::len), Some(21));
    assert_eq!(data["runs"][20]["loss"].as_f64(), input.plot.runs[20].loss);
    let figures = FigureKind::of(&input.plot).len();
    assert_eq!(data["figures"].as_array().map(Vec::len), Some(figures));
    let fit = input.plot.fit.as_ref().expect("a fit");
    assert_eq!(data["fit"]["params"]["E"]["value"].as_f64(), fit.param("E"));
}

#[test]
fn texts_of_others_stay_texts() {
    let evil = "</script></pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let mut input = example();
    for text in [&mut input.sweep, &mut input.recipe, &mut input.command, &mut input.written] {
        *text = evil.to_owned();
    }
    input.plot.n_convention = evil.to_owned();
    input.plot.runs[19].reason = Some(evil.to_owned());
    input.plot.runs[0].label = evil.to_owned();
    input.runs[0].device = Some(evil.to_owned());
    input.devices[0].name = evil.to_owned();
    input.devices[0].canary = evil.to_owned();
    input.facts.push((evil.to_owned(), evil.to_owned()));
    input.texts[0].text = evil.to_owned();
    let harmless = page_of(&example()).expect("it is filled");
    let page = page_of(&input).expect("it is filled");
    for tag in ["<script", "</script", "<pre", "</pre", "<img"] {
        let (found, own) = (page.matches(tag).count(), harmless.matches(tag).count());
        assert_eq!(found, own, "{tag}");
    }
}

#[test]
fn a_sweep_with_nothing_still_has_a_page() {
    let mut input = example();
    input.plot.runs.clear();
    input.runs.clear();
    input.devices.clear();
    input.plot.fit = None;
    input.fit_refused = Some("there are no observations".to_owned());
    let page = page_of(&input).expect("it is filled");
    assert!(page.contains("No law was fitted: there are no observations."));
    assert!(page.contains("This sweep has no runs yet."));
}

#[test]
fn a_thousand_runs_make_a_page_below_3_mb() {
    let mut input = example();
    let (run, facts) = (input.plot.runs[0].clone(), input.runs[0].clone());
    let labels = (0..1000).map(|i| format!("{i:08x}"));
    input.plot.runs = labels.map(|label| RunCurve { label, ..run.clone() }).collect();
    input.runs = vec![facts; 1000];
    let attempt = |place: u32| {
        let from = f64::from(place / 64) * 611.3;
        AttemptInput {
            run: format!("{:08x}", place / 3),
            number: place % 3 + 1,
            worker: format!("{:032x}", place % 64 / 8),
            host: format!("gpu-{}", place % 64 / 8),
            slot: place % 8,
            granted: Some(from),
            ended: Some(from + 600.0),
            ending: if place % 3 == 2 { Ending::Finished } else { Ending::Lost },
            trained: Some(590.0),
        }
    };
    input.plot.timeline.attempts = (0..3000).map(attempt).collect();
    let page = page_of(&input).expect("it is filled");
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("runs drawn: 100, hidden: 900"));
    assert!(page.contains("id=\"figure-timeline\"") && page.contains("24 slots."), "the timeline");
}

#[test]
fn facts_that_do_not_belong_to_the_runs_are_refused() {
    let mut input = example();
    input.runs.pop();
    let error = page_of(&input).expect_err("one fact is missing").to_string();
    assert!(error.contains("20 facts") && error.contains("21 curves"), "{error}");
}

#[test]
fn durations_are_read_at_a_glance() {
    for (seconds, text) in [(4.14, "4.1 s"), (200.0, "3 m 20 s"), (3720.0, "1 h 02 m")] {
        assert_eq!(duration(seconds), text);
    }
}
