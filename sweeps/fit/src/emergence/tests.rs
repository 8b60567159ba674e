//! Simulated scores whose truth is known.

use sweep_spec::random::{Purpose, Stream};

use super::*;

const ITEMS: u64 = 2000;

/// Scores over 16 scales from 1e17 to 1e23, drawn from a binomial's normal approximation.
fn simulated(truth: impl Fn(f64) -> f64, seed: u64) -> Vec<Scored> {
    let mut draws = Stream::new(seed, Purpose::Resampling, 9);
    (0..16)
        .map(|i| {
            let t = f64::from(i) / 15.0;
            let p: f64 = truth(t);
            let noise = (p * (1.0 - p) / 2000.0).sqrt() * draws.normal();
            let score = (p + noise).clamp(0.0, 1.0);
            Scored { x: 1e17 * 10_f64.powf(6.0 * t), score, items: Some(ITEMS) }
        })
        .collect()
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[test]
fn a_jump_is_emergent_and_its_place_is_found() {
    let chance = Scale { chance: Some(0.25) };
    let (mut inside, mut located) = (0, 0);
    for seed in 0..5 {
        let points = simulated(|t| 0.25 + 0.6 * logistic(40.0 * (t - 0.6)), seed);
        let found = assess(Axis::Compute, &points, chance).unwrap();
        assert_eq!(found.verdict, Verdict::Emergent, "{:?} {:?}", found.why, found.forms);
        let sentence = found.sentence("exact match");
        assert!(sentence.starts_with("emergent under exact match against C"), "{sentence}");
        assert!(found.at_chance >= 5, "{}", found.at_chance);
        let from = found.above_chance_from.unwrap();
        assert!((1e19..1e22).contains(&from), "{from:e}");
        let knee = found.knee.unwrap();
        // The rise begins near t = .55 and ends near .65: 2e20 to 8e20 FLOPs, give a scale's step.
        inside += usize::from((5e19..4e21).contains(&knee.x));
        if let Some(Bend { x, ci95: [low, high] }) = found.bend() {
            assert!(x == knee.x && low < x && x < high, "{low:e} {x:e} {high:e}");
            located += 1;
        }
    }
    assert!(inside >= 4 && located >= 4, "{inside} {located}");
}

#[test]
fn a_line_and_a_power_law_are_smooth() {
    for seed in 0..5 {
        let line = simulated(|t| 0.1 + 0.6 * t, seed);
        let found = assess(Axis::Compute, &line, Scale::default()).unwrap();
        assert_eq!(found.verdict, Verdict::Smooth, "{:?}", found.why);
        assert_eq!(found.bend(), None, "the broken curve of a line bends somewhere too");
        let power = simulated(|t| 0.02 * (3.0 * t).exp(), seed);
        let found = assess(Axis::Compute, &power, Scale { chance: Some(0.0) }).unwrap();
        assert_eq!(found.verdict, Verdict::Smooth, "{:?}", found.why);
        let place = |kind| found.forms.iter().position(|form| form.kind == kind);
        assert!(place(FormKind::Power) < place(FormKind::Line), "{:?}", found.forms);
    }
}

/// Log-probabilities of an answer over the same scales.
fn log_probabilities(truth: impl Fn(f64) -> f64, seed: u64) -> Vec<Scored> {
    let mut draws = Stream::new(seed, Purpose::Resampling, 11);
    let noise = |p: f64, draws: &mut Stream| p * (0.05 * draws.normal()).exp();
    (0..16)
        .map(|i| {
            let t = f64::from(i) / 15.0;
            let score = -noise(truth(t), &mut draws);
            Scored { x: 1e17 * 10_f64.powf(6.0 * t), score, items: None }
        })
        .collect()
}

#[test]
fn a_log_probability_may_be_smooth_or_jump_itself() {
    for seed in 0..5 {
        let power = log_probabilities(|t| 20.0 * (-2.5 * t).exp(), seed);
        let found = assess(Axis::Compute, &power, Scale::default()).unwrap();
        assert_eq!(found.verdict, Verdict::Smooth, "{:?} {:?}", found.why, found.forms);
        let place = |kind| found.forms.iter().position(|form| form.kind == kind);
        assert!(place(FormKind::Power) < place(FormKind::Line), "{:?}", found.forms);
        let jump = log_probabilities(|t| 22.0 - 21.9 * logistic(60.0 * (t - 0.6)), seed);
        let found = assess(Axis::Compute, &jump, Scale::default()).unwrap();
        assert_eq!(found.verdict, Verdict::Emergent, "{:?} {:?}", found.why, found.forms);
        let place = |kind| found.forms.iter().position(|form| form.kind == kind);
        assert!(place(FormKind::Sigmoid) < place(FormKind::SigmoidFloor), "{:?}", found.forms);
    }
}

#[test]
fn a_fall_is_told_as_one_and_a_valley_is_no_jump() {
    let fall = simulated(|t| 0.8 - 0.6 * logistic(40.0 * (t - 0.6)), 1);
    let found = assess(Axis::Compute, &fall, Scale::default()).unwrap();
    assert!(matches!(found.why, Why::Jump { rises: false, .. }), "{:?}", found.why);
    assert!(found.sentence("accuracy").contains("then it falls"));
    let valley = simulated(|t| 0.2 + 1.3 * (t - 0.5).powi(2), 1);
    let found = assess(Axis::Compute, &valley, Scale::default()).unwrap();
    assert_ne!(found.verdict, Verdict::Emergent, "{:?} {:?}", found.why, found.forms);
}

/// Scores that a line describes as badly as a step are no evidence of smoothness.
#[test]
fn scatter_that_both_describe_cannot_tell() {
    let scores = [
        -22.3, -22.2, -22.2, -10.2, -22.2, -22.2, 0.0, -19.8, 0.0, -0.1, -0.1, 0.0, 0.0, 0.0, 0.0,
        0.0,
    ];
    let points: Vec<Scored> = (0..)
        .zip(scores)
        .map(|(i, score)| Scored { x: 2e10 * 1.33_f64.powi(i), score, items: None })
        .collect();
    let found = assess(Axis::Compute, &points, Scale::default()).unwrap();
    assert_ne!(found.verdict, Verdict::Smooth, "{:?} {:?}", found.why, found.forms);
}

#[test]
fn noise_and_few_scores_cannot_tell() {
    let flat = simulated(|_| 0.25, 1);
    let found = assess(Axis::Compute, &flat, Scale { chance: Some(0.25) }).unwrap();
    assert_eq!(found.verdict, Verdict::CannotTell, "{:?}", found.why);
    assert!(found.sentence("accuracy").contains("noise"), "{}", found.sentence("accuracy"));
    let few = &simulated(|t| t, 1)[..6];
    let found = assess(Axis::Compute, few, Scale::default()).unwrap();
    assert_eq!(found.why, Why::FewScores { n: 6 });
}

/// Per-token accuracy rises smoothly; exact match of ten tokens looks like a jump and is p^10.
#[test]
fn exact_match_is_what_length_makes_of_token_accuracy() {
    let token = |t: f64| 0.3 + 0.65 * t;
    let exact = simulated(|t| token(t).powi(10), 2);
    let soft = simulated(token, 3);
    let hard = assess(Axis::Compute, &exact, Scale { chance: Some(0.0) }).unwrap();
    let gentle = assess(Axis::Compute, &soft, Scale::default()).unwrap();
    assert_eq!(gentle.verdict, Verdict::Smooth);
    let pairs: Vec<(f64, f64)> = soft.iter().zip(&exact).map(|(s, e)| (s.score, e.score)).collect();
    let by = by_length(&pairs, 10.0).unwrap();
    assert!(by.explained > 0.98, "{by:?}");
    assert!((by.best_length / 10.0).ln().abs() < 0.1, "{}", by.best_length);
    let said = contrast(("exact match", hard.verdict), ("token accuracy", gentle.verdict));
    assert!(said.contains("token accuracy"), "{said}");
}

#[test]
fn the_loss_axis_runs_the_other_way() {
    let points: Vec<Scored> = simulated(|t| 0.25 + 0.6 * logistic(40.0 * (t - 0.6)), 4)
        .into_iter()
        .enumerate()
        .map(|(i, point)| Scored { x: 4.0 - 0.1 * count(i), ..point })
        .collect();
    let found = assess(Axis::Loss, &points, Scale { chance: Some(0.25) }).unwrap();
    assert_eq!(found.verdict, Verdict::Emergent, "{:?}", found.why);
    let knee = found.knee.unwrap();
    assert!((2.7..3.5).contains(&knee.x), "{knee:?}");
    if let [Some(low), Some(high)] = knee.ci95 {
        assert!(low < high);
    }
}

#[test]
fn wilson_intervals_are_those_of_tables() {
    let [low, high] = wilson(0.0, 100);
    assert!(low < 1e-12 && (high - 0.036_99).abs() < 1e-4, "{high}");
    let [low, high] = wilson(0.5, 100);
    assert!((low - 0.4038).abs() < 1e-4 && (high - 0.5962).abs() < 1e-4, "{low} {high}");
}

#[test]
fn steepness_is_signed_and_absent_without_a_rise() {
    let rising = score::steepness(&[0.0, 0.1, 0.2, 0.3]).unwrap();
    assert!((rising.linearity - 3.0).abs() < 1e-9);
    assert!((rising.breakthroughness.unwrap() - 3.0).abs() < 1e-9);
    let jump = score::steepness(&[0.0, 0.001, 0.002, 0.9, 0.901]).unwrap();
    assert!(jump.breakthroughness.unwrap() > 100.0 && jump.linearity < 3.0);
    assert!(score::steepness(&[0.3, 0.2, 0.1]).unwrap().linearity < 0.0);
    assert_eq!(score::steepness(&[0.5, 0.5]), None);
}

#[test]
fn size_matters_only_where_it_does() {
    let mut draws = Stream::new(1, Purpose::Resampling, 3);
    let sizes: Vec<f64> = (0..40).map(|i| f64::from(i % 8)).collect();
    let alone: Vec<f64> = sizes.iter().map(|_| draws.normal()).collect();
    let mixed: Vec<f64> = sizes.iter().map(|s| 0.5 * s + draws.normal()).collect();
    assert!(size_matters(&alone, &sizes, 0).unwrap() > 0.02);
    assert!(size_matters(&mixed, &sizes, 0).unwrap() < 0.01);
    assert_eq!(size_matters(&alone[..4], &sizes, 0), None);
}

fn task(seed: u64, runs: usize) -> Vec<TaskRow> {
    let mut draws = Stream::new(seed, Purpose::Resampling, 7);
    (0..runs)
        .map(|i| {
            let loss = 4.0 - 1.6 * count(i) / count(runs - 1) + 0.01 * draws.normal();
            let soft = -0.9 * loss + 1.0 + 0.02 * draws.normal();
            let score = 0.25 + 0.65 * logistic(3.0 * (soft + 1.8)) + 0.01 * draws.normal();
            TaskRow { loss, soft: Some(soft), score, group: None }
        })
        .collect()
}

/// Forecasts at an unseen loss hold the truth as often as they say, within what 60 sweeps resolve.
#[test]
fn chained_intervals_hold_the_truth() {
    let soft = -0.9 * 2.2 + 1.0;
    let truth = 0.25 + 0.65 * logistic(3.0 * (soft + 1.8));
    let held = (0..60)
        .filter(|seed| {
            let forecast = chain(&task(*seed, 30), 2.2, &[], 200, 0).unwrap();
            let [low, high] = forecast.score.ci95.unwrap();
            low <= truth && truth <= high
        })
        .count();
    assert!((49..=60).contains(&held), "{held} of 60");
}

#[test]
fn both_steps_carry_their_error() {
    let rows = task(1, 24);
    let sure = chain(&rows, 2.4, &[], 200, 0).unwrap();
    let draws: Vec<f64> = (0..50).map(|i| 2.4 + 0.004 * f64::from(i - 25)).collect();
    let unsure = chain(&rows, 2.4, &draws, 200, 0).unwrap();
    let width = |ci: [f64; 2]| ci[1] - ci[0];
    assert!(width(unsure.score.ci95.unwrap()) > width(sure.score.ci95.unwrap()));
    assert!(sure.first_step_ci95.is_some() && sure.second_step_ci95.is_some());
    assert_eq!(sure.chain.steps.len(), 2);
    assert!((sure.soft.unwrap() + 0.9 * 2.4 - 1.0).abs() < 0.05);
    let single: Vec<TaskRow> = rows.iter().map(|r| TaskRow { soft: None, ..r.clone() }).collect();
    assert_eq!(chain(&single, 2.4, &[], 0, 0).unwrap().chain.steps.len(), 1);
}

#[test]
fn tables_that_carry_nothing_are_refused() {
    assert!(assess(Axis::Compute, &simulated(|t| t, 1)[..3], Scale::default()).is_err());
    let one = vec![Scored { x: 1e20, score: 0.5, items: None }; 9];
    assert!(matches!(
        assess(Axis::Compute, &one, Scale::default()),
        Err(FitError::NoSpread { axis: "C", .. })
    ));
    let mut bad = simulated(|t| t, 1);
    bad[3].score = f64::NAN;
    assert!(matches!(assess(Axis::Compute, &bad, Scale::default()), Err(FitError::BadRows(_))));
    assert!(chain(&task(1, 24)[..5], 2.4, &[], 0, 0).is_err());
}
