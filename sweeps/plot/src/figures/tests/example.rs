//! A small sweep with known constants: 4 sizes x 3 data sizes, one run failed, one diverged, and
//! a check run of 8 times the largest compute.

use sweep_fit::{
    Bin, Estimate, Exponents, Fit, Law, Method, Objective, Observation, Options, Parameter,
    calibration,
    emergence::{Axis, Bend},
};
use sweep_spec::run::RunRole;

use crate::input::{
    AttemptInput, BendInput, BendOf, CalibrationInput, CurvePoint, Ending, FrontierInput,
    PlotInput, RunCurve, RunState, Speed, TaskInput, TaskScore, TimelineInput,
};

const E: f64 = 1.2;
const A: f64 = 90.0;
const B: f64 = 300.0;
const ALPHA: f64 = 0.42;
const BETA: f64 = 0.40;

fn law(n: f64, d: f64) -> f64 {
    E + A * n.powf(-ALPHA) + B * d.powf(-BETA)
}

/// A wave in place of noise: fixed, and without a trend.
fn wobble(i: usize) -> f64 {
    1.0 + 0.006 * (2.4 * i as f64).sin()
}

fn run(label: &str, n: f64, d: f64, role: RunRole, seed: usize) -> RunCurve {
    let point = |share: f64, loss: f64| CurvePoint {
        step: (share * d / 1024.0).ceil(),
        tokens: share * d,
        flops: 5.2 * n * share * d,
        seconds: Some(2e-10 * n * share * d),
        loss,
        points: 1,
        spread: None,
    };
    // On the way the learning rate is still high.
    let on_the_way =
        |share: f64| law(n, share * d) + 0.08 * (1.0 - share) + 0.4 * (-60.0 * share).exp();
    let train = (1..=24)
        .map(|i| {
            let share = 0.01f64.powf(1.0 - i as f64 / 24.0);
            point(share, on_the_way(share) * wobble(7 * i + seed))
        })
        .collect();
    let validation = (1..=8)
        .map(|i| {
            let share = 0.01f64.powf(1.0 - f64::from(i) / 8.0);
            let noise = if i == 8 { wobble(seed) } else { 1.0 };
            point(share, on_the_way(share) * noise)
        })
        .collect();
    RunCurve {
        label: label.to_owned(),
        n,
        d,
        flops: 5.2 * n * d,
        budget: None,
        seed: 0,
        learning_rate: 0.01,
        unique: None,
        speed: None,
        role,
        state: RunState::Done,
        reason: None,
        loss: Some(law(n, d) * wobble(seed)),
        train,
        validation,
        thinned: 0,
    }
}

/// The law without the fitted runs of highest compute.
fn rehearsal(runs: &[RunCurve]) -> Option<Fit> {
    let fitted = runs.iter().filter(|run| run.role == RunRole::Fit);
    let rows: Vec<Observation> =
        fitted.filter_map(|run| Some(Observation::new(run.n, run.d, run.final_loss()?))).collect();
    let options = Options { hold_out_top: Some(0.2), ..Options::default() };
    sweep_fit::fit(&rows, &options).ok()
}

/// Power laws over the fitted runs of least loss for their compute.
fn frontier(runs: &[RunCurve]) -> FrontierInput {
    let fitted = runs.iter().filter(|run| run.role == RunRole::Fit);
    let rows: Vec<Observation> =
        fitted.filter_map(|run| Some(Observation::new(run.n, run.d, run.final_loss()?))).collect();
    let law = |law| {
        let options = Options { law, ..Options::default() };
        sweep_fit::fit(&sweep_fit::frontier(&rows), &options).ok()
    };
    FrontierInput { without_floor: law(Law::Power), with_floor: law(Law::PowerFloor) }
}

/// The whole sweep.
pub(in crate::figures) fn sweep() -> PlotInput {
    let mut runs = Vec::new();
    for (i, n) in [14_000.0, 42_000.0, 96_000.0, 230_000.0].into_iter().enumerate() {
        for (j, d) in [0.5e6, 1.4e6, 4e6].into_iter().enumerate() {
            runs.push(run(&format!("n{i}-d{j}"), n, d, RunRole::Fit, 3 * i + j));
        }
    }
    runs.push(run("check", 640_000.0, 12e6, RunRole::Check, 5));
    spoil(&mut runs[2], RunState::Failed, "the device ran out of memory", 6);
    spoil(&mut runs[9], RunState::Diverged, "loss became infinite at step 97", 4);
    PlotInput {
        rehearsal: rehearsal(&runs),
        frontier: frontier(&runs),
        repeat_law: None,
        runs,
        fit: Some(fit()),
        isoflop: None,
        interval: Some("200 case bootstraps, 95 %".to_owned()),
        n_convention: "N: all parameters".to_owned(),
        entropy: None,
        diffusion: None,
        tasks: Vec::new(),
        calibrations: Vec::new(),
        timeline: TimelineInput::default(),
    }
}

/// 24 runs on 3 workers with 2 slots each. One worker goes silent for a while: its attempts are lost,
/// and their runs are trained by others. One attempt fails and is made again, one diverges, one is
/// stopped with a checkpoint, two still run.
fn timeline() -> TimelineInput {
    // Run, number, worker, slot, minutes from grant to end.
    type Row = (u32, u32, usize, u32, [f64; 2], Ending);
    let rows: [Row; 29] = [
        (0, 1, 0, 0, [0.2, 6.0], Ending::Finished),
        (1, 1, 0, 1, [0.2, 7.1], Ending::Finished),
        (2, 1, 1, 0, [0.4, 5.2], Ending::Finished),
        (3, 1, 1, 1, [0.4, 8.3], Ending::Finished),
        (4, 1, 2, 0, [2.0, 9.4], Ending::Finished),
        (5, 1, 2, 1, [2.0, 4.1], Ending::Failed),
        (5, 2, 2, 1, [4.2, 12.0], Ending::Finished),
        (6, 1, 0, 0, [6.1, 14.0], Ending::Finished),
        (7, 1, 1, 0, [5.3, 16.9], Ending::Lost),
        (8, 1, 0, 1, [7.2, 15.0], Ending::Finished),
        (9, 1, 1, 1, [8.4, 16.9], Ending::Lost),
        (10, 1, 2, 0, [9.5, 17.0], Ending::Finished),
        (11, 1, 2, 1, [12.1, 13.0], Ending::Diverged),
        (12, 1, 2, 1, [13.1, 22.0], Ending::Finished),
        (13, 1, 0, 0, [14.1, 19.0], Ending::Stopped),
        (14, 1, 0, 1, [15.1, 24.0], Ending::Finished),
        (7, 2, 2, 0, [17.1, 27.0], Ending::Finished),
        (9, 2, 0, 0, [19.1, 28.0], Ending::Finished),
        (15, 1, 2, 1, [22.1, 30.0], Ending::Finished),
        (16, 1, 1, 0, [25.0, 33.0], Ending::Finished),
        (13, 2, 1, 1, [25.0, 31.0], Ending::Finished),
        (17, 1, 0, 1, [24.1, 34.0], Ending::Finished),
        (18, 1, 2, 0, [27.1, 36.0], Ending::Finished),
        (19, 1, 0, 0, [28.1, 37.0], Ending::Finished),
        (20, 1, 2, 1, [30.1, 38.0], Ending::Finished),
        (21, 1, 1, 1, [31.1, 34.0], Ending::Cancelled),
        (22, 1, 1, 0, [33.1, 0.0], Ending::Running),
        (23, 1, 1, 1, [34.1, 0.0], Ending::Running),
        (23, 2, 1, 1, [9.0, 8.0], Ending::Failed),
    ];
    let attempt = |(run, number, worker, slot, [from, to], ending): Row| {
        let running = ending == Ending::Running;
        AttemptInput {
            run: format!("{:08x}", 0x3a91_7c00_u32 + 7919 * run),
            number,
            worker: ["5f01", "9ab3", "c77e"][worker].repeat(8),
            host: ["gpu-east-1", "gpu-east-2", "gpu-west-1"][worker].to_owned(),
            slot,
            granted: Some(60.0 * from),
            ended: Some(60.0 * to).filter(|_| !running),
            ending,
            trained: Some(57.0 * (to - from)).filter(|_| !running && ending != Ending::Lost),
        }
    };
    TimelineInput { attempts: rows.into_iter().map(attempt).collect(), read: Some(60.0 * 40.0) }
}

/// The sweep with data that the longest runs see again, two devices, several learning rates, a
/// resampled fit, and the attempts of several workers.
pub(in crate::figures) fn further() -> PlotInput {
    let mut input = PlotInput { timeline: timeline(), ..sweep() };
    let tuned = [2, 4].into_iter().zip([(0.003, 1.02), (0.03, 1.05)]);
    let tuned = tuned.map(|(from, (rate, worse))| {
        let run = input.runs[4].clone();
        let loss = run.loss.map(|loss| loss * worse);
        RunCurve {
            label: format!("tuned-{from}"),
            learning_rate: rate,
            role: RunRole::Sensitivity,
            loss,
            ..run
        }
    });
    let tuned: Vec<RunCurve> = tuned.collect();
    input.runs.extend(tuned);
    for (i, run) in input.runs.iter_mut().enumerate() {
        run.unique = Some(1e6);
        let (device, peak) =
            if i % 3 == 0 { ("NVIDIA A100", Some(19.5e12)) } else { ("AMD EPYC", None) };
        let flops_per_second = run.n.sqrt() * if peak.is_some() { 3e9 } else { 1e8 };
        run.speed = run.final_loss().map(|_| Speed {
            tokens_per_second: flops_per_second / (5.2 * run.n),
            flops_per_second,
            device: device.to_owned(),
            peak,
        });
    }
    let rows: Vec<Observation> = input
        .runs
        .iter()
        .filter(|run| run.role != RunRole::Sensitivity)
        .filter_map(|run| {
            let sizes = Observation::new(run.n, run.d, run.final_loss()?);
            Some(Observation { unique: Some(run.d.min(1e6)), ..sizes })
        })
        .collect();
    let options = Options { law: Law::Repeat, ..Options::default() };
    input.repeat_law = sweep_fit::fit(&rows, &options).ok();
    let fit = input.fit.as_mut().expect("the sweep has one");
    fit.replicates = (0..500)
        .map(|i| {
            let t = wobble(i) - 1.0;
            let u = wobble(3 * i + 1) - 1.0;
            vec![
                E * (1.0 + 8.0 * t),
                A,
                B,
                ALPHA * (1.0 + 9.0 * t),
                BETA * (1.0 + 6.0 * t + 2.0 * u),
            ]
        })
        .collect();
    input
}

/// A sweep of 3 budgets with 5 sizes each, the last budget with its minimum at the edge.
pub(in crate::figures) fn budgets() -> PlotInput {
    let mut runs = Vec::new();
    for (i, budget) in [1e11, 1e12, 1e13].into_iter().enumerate() {
        let centre = if i == 2 { 50_000.0 } else { (budget / 120.0f64).sqrt() * 0.8 };
        for (j, factor) in [0.25, 0.5, 1.0, 2.0, 4.0].into_iter().enumerate() {
            let n = centre * factor;
            let planned = run(&format!("c{i}-n{j}"), n, budget / (6.0 * n), RunRole::Fit, i + j);
            runs.push(RunCurve { budget: Some(budget), ..planned });
        }
    }
    let observations: Vec<Observation> = runs
        .iter()
        .map(|run| Observation {
            budget: run.budget,
            ..Observation::new(run.n, run.d, run.loss.expect("every run is done"))
        })
        .collect();
    let options = Options { method: Method::Isoflop, ..Options::default() };
    let isoflop = sweep_fit::fit(&observations, &options).expect("two budgets have a minimum");
    PlotInput { runs, isoflop: Some(isoflop), ..sweep() }
}

/// Ends a run after `kept` evaluations.
pub(in crate::figures) fn spoil(run: &mut RunCurve, state: RunState, reason: &str, kept: usize) {
    run.state = state;
    run.reason = Some(reason.to_owned());
    run.loss = None;
    run.validation.truncate(kept);
    run.train.truncate(3 * kept);
    if state == RunState::Diverged {
        let last = *run.validation.last().expect("a few are kept");
        run.validation.push(CurvePoint { loss: f64::NAN, ..last });
    }
}

fn fit() -> Fit {
    let values = [E, A, B, ALPHA, BETA];
    let spread = [0.06, 0.1, 0.12, 0.04, 0.04];
    let params = Law::Separable
        .parameters()
        .iter()
        .zip(values.iter().zip(spread))
        .map(|(name, (value, spread))| Parameter {
            name,
            estimate: Estimate {
                value: *value,
                se: Some(value * spread / 2.0),
                ci95: Some([value * (1.0 - spread), value * (1.0 + spread)]),
            },
        })
        .collect();
    let exponent =
        |value: f64| Estimate { value, se: Some(0.02), ci95: Some([value - 0.04, value + 0.04]) };
    Fit {
        method: Method::Direct,
        law: Law::Separable,
        objective: Objective::HuberLog { delta: 1e-3 },
        objective_value: 1e-4,
        params,
        exponents: Some(Exponents {
            a: exponent(BETA / (ALPHA + BETA)),
            b: exponent(ALPHA / (ALPHA + BETA)),
        }),
        optimum: Vec::new(),
        held_out: None,
        certificate: None,
        warnings: Vec::new(),
        n_points: 10,
        n_dropped: 0,
        points: Vec::new(),
        replicates: Vec::new(),
        resampling: None,
        isoflop: None,
    }
}

/// The sweep scored on a task whose exact match is p^8 of a smooth accuracy p, with calibrations
/// of its text.
pub(super) fn scored() -> PlotInput {
    let mut input = sweep();
    let done: Vec<&RunCurve> =
        input.runs.iter().filter(|run| run.state == RunState::Done).collect();
    let mut scores = Vec::new();
    let mut calibrations = Vec::new();
    for run in done {
        let accuracy = 1.0 / (1.0 + (-1.2 * (run.compute().ln() - 28.0)).exp());
        let exact_match = accuracy.powi(8);
        let score = TaskScore {
            exact_match,
            exact_ci95: [(exact_match - 0.03).max(0.0), (exact_match + 0.03).min(1.0)],
            answer_nats: -8.0 * accuracy.ln(),
            token_accuracy: accuracy,
            edit_distance: 1.0 - accuracy,
            items: 200,
            answer_tokens: 8.0,
        };
        scores.push((run.label.clone(), score));
        let bin = |place: u64| Bin {
            count: 40 * (10 - place),
            right: 40 * (10 - place) * place / 12,
            confidence: Some((place as f64 + 0.5) / 10.0),
        };
        let bins: Vec<Bin> = (0..10).map(bin).collect();
        let calibration = calibration(&bins, 100, 0).expect("predictions");
        let run = run.label.clone();
        calibrations.push(CalibrationInput { task: 0, run, calibration, brier: Some(0.2) });
    }
    let verdicts = vec![
        "Over C: the jump is in the metric. The bend of exact match is at 1.1T (95 %: 600G to \
         2.1T)."
            .to_owned(),
    ];
    let name = "copying 8".to_owned();
    let headline = verdicts.first().cloned();
    let bend = |of, axis, x, ci95| BendInput { of, axis, bend: Bend { x, ci95 } };
    let bends = vec![
        bend(BendOf::ExactMatch, Axis::Compute, 1.1e12, [6e11, 2.1e12]),
        bend(BendOf::ExactMatch, Axis::Loss, 3.4, [3.1, 3.6]),
        bend(BendOf::AnswerNats, Axis::Loss, 3.9, [3.7, 4.1]),
    ];
    input.tasks =
        vec![TaskInput { name, chance: Some(2.3e-10), scores, verdicts, headline, bends }];
    input.calibrations = calibrations;
    input
}
