use super::*;
use crate::warning::WarningCode;

/// Seven sizes times seven token counts, three decades each.
fn grid(law: Law, values: &[f64]) -> Vec<Observation> {
    let step = |low: f64, i: i32| low * 10.0_f64.powf(f64::from(i) / 2.0);
    (0..49)
        .map(|i| {
            let mut row = Observation::new(step(1e7, i / 7), step(1e9, i % 7), 1.0);
            row.loss = law.loss(values, &row).unwrap();
            row
        })
        .collect()
}

fn line(law: Law, values: &[f64], low: f64, decades: f64, count: u32) -> Vec<Observation> {
    (0..count)
        .map(|i| {
            let share = f64::from(i) / f64::from(count - 1);
            let flops = Some(low * 10.0_f64.powf(decades * share));
            let mut row = Observation { flops, loss: 1.0, ..Observation::default() };
            row.loss = law.loss(values, &row).unwrap();
            row
        })
        .collect()
}

/// Multiplies the losses by e^(sigma z) with normal z.
fn noisy(mut rows: Vec<Observation>, sigma: f64) -> Vec<Observation> {
    let mut draws =
        sweep_spec::random::Stream::new(5, sweep_spec::random::Purpose::Resampling, 1 << 40);
    for row in &mut rows {
        row.loss *= (sigma * draws.normal()).exp();
    }
    rows
}

const CHINCHILLA: [f64; 5] = [1.69, 406.4, 410.7, 0.34, 0.28];

fn law(law: Law) -> Options {
    Options { law, ..Options::default() }
}

fn worst(fit: &Fit, truth: &[f64]) -> f64 {
    fit.values().iter().zip(truth).map(|(v, t)| (v / t - 1.0).abs()).fold(0.0, f64::max)
}

/// Tolerances are the contract's: the condition number of each law times the rounding of f64.
#[test]
fn noise_free_tables_give_their_constants_back() {
    let cases: [(Law, &[f64], f64); 4] = [
        (Law::Separable, &CHINCHILLA, 1e-8),
        (Law::Coupled, &[1.5, 300.0, 2.0, 0.6, 0.5, 0.5], 1e-6),
        (Law::Kaplan, &[5e13, 2e13, 0.08, 0.1], 1e-6),
        (Law::Gadre, &[1.8, 170.0, 290.0, 0.27], 1e-6),
    ];
    for (name, truth, tolerance) in cases {
        let found = fit(&grid(name, truth), &law(name)).unwrap();
        assert!(worst(&found, truth) < tolerance, "{name}: {:?}", found.values());
        assert!(!found.warned(WarningCode::Outliers), "{name}");
    }
}

#[test]
fn every_objective_finds_a_noise_free_minimum() {
    let rows = grid(Law::Separable, &CHINCHILLA);
    for objective in Objective::NAMES {
        let objective = Objective::from_name(objective, 1e-3).unwrap();
        let found = fit(&rows, &Options { objective, ..Options::default() }).unwrap();
        assert!(worst(&found, &CHINCHILLA) < 1e-8, "{objective}: {:?}", found.values());
    }
}

#[test]
fn laws_of_one_variable_give_their_constants_back() {
    let cases: [(Law, &[f64]); 3] = [
        (Law::Power, &[20.0, 0.05]),
        (Law::Power, &[0.02, -0.5]),
        (Law::PowerFloor, &[1.6, 95.0, 0.094]),
    ];
    for (name, truth) in cases {
        let found = fit(&line(name, truth, 1e17, 7.0, 15), &law(name)).unwrap();
        assert!(worst(&found, truth) < 1e-8, "{name}: {:?}", found.values());
        assert_eq!(found.exponents, None);
    }
}

/// Bend and floor trade against each other, so a broken law is judged by what it predicts.
#[test]
fn a_broken_law_predicts_past_its_break() {
    let rows = line(Law::Broken, &[0.4, 6.0, 0.05, 0.6, 1e9, 0.3], 1e6, 6.0, 31);
    let options =
        Options { objective: Objective::MseLog, hold_out_top: Some(0.2), ..law(Law::Broken) };
    let held = fit(&rows, &options).unwrap().held_out.unwrap();
    assert_eq!(held.n, 6);
    assert!(held.max_abs_rel_error < 1e-3, "{held:?}");
}

#[test]
fn repeats_give_their_constants_back() {
    let truth = [1.87, 520.0, 1490.0, 0.35, 0.35, 15.4, 5.3];
    let mut rows = Vec::new();
    for size in 0..5 {
        for tokens in 0..5 {
            for epochs in [1.0, 2.0, 5.0, 12.0, 30.0, 75.0] {
                let unique = 1e8 * 10.0_f64.powf(0.75 * f64::from(tokens));
                let n = 1e8 * 10.0_f64.powf(0.5 * f64::from(size));
                let mut row = Observation::new(n, unique * epochs, 1.0);
                row.unique = Some(unique);
                row.loss = Law::Repeat.loss(&truth, &row).unwrap();
                rows.push(row);
            }
        }
    }
    let found = fit(&rows, &law(Law::Repeat)).unwrap();
    assert!(worst(&found, &truth) < 1e-4, "{:?}", found.values());
    let plain = fit(&rows, &Options::default()).unwrap();
    assert!(plain.warned(WarningCode::RepeatedData));
}

/// The closed form against a search along the budget.
#[test]
fn the_optimum_is_the_least_loss_of_its_budget() {
    for name in [Law::Separable, Law::Coupled, Law::Kaplan, Law::Gadre] {
        let truth: &[f64] = match name {
            Law::Coupled => &[1.5, 300.0, 2.0, 0.6, 0.5, 0.5],
            Law::Kaplan => &[5e13, 2e13, 0.08, 0.1],
            Law::Gadre => &[1.8, 170.0, 290.0, 0.27],
            _ => &CHINCHILLA,
        };
        let (n, d) = name.split(truth, 1e21).unwrap();
        assert!((6.0 * n * d / 1e21 - 1.0).abs() < 1e-12);
        let loss = |n: f64| name.loss(truth, &Observation::new(n, 1e21 / 6.0 / n, 1.0)).unwrap();
        for factor in [0.99, 1.01] {
            assert!(loss(n * factor) > loss(n), "{name}");
        }
        let (a, wider) = (name.exponent(truth).unwrap(), name.split(truth, 1e23).unwrap().0);
        assert!(((wider / n).ln() / 100.0_f64.ln() - a).abs() < 1e-12, "{name}");
    }
}

#[test]
fn refusals_name_their_numbers() {
    let rows = grid(Law::Separable, &CHINCHILLA);
    let refused =
        |rows: &[Observation], options: &Options| fit(rows, options).unwrap_err().to_string();
    let few: Vec<Observation> = rows.iter().step_by(13).cloned().collect();
    let message = refused(&few, &Options::default());
    assert!(message.contains('4') && message.contains('5'), "{message}");
    assert_eq!(fit(&[], &Options::default()), Err(FitError::Empty));

    let mut bad = rows.clone();
    bad[3].loss = f64::NAN;
    bad[5].line = Some(7);
    bad[5].n = Some(-1.0);
    let message = refused(&bad, &Options::default());
    assert!(message.contains("observation 4: loss is NaN") && message.contains("line 7: N is -1"));

    let one_size: Vec<Observation> =
        rows.iter().map(|row| Observation { n: Some(1e8), ..row.clone() }).collect();
    assert!(refused(&one_size, &Options::default()).contains("same N"));
    let flat: Vec<Observation> =
        rows.iter().map(|row| Observation { loss: 3.0, ..row.clone() }).collect();
    assert!(refused(&flat, &Options::default()).contains("same loss"));
    assert!(refused(&rows, &law(Law::Power)).contains("exactly one of N, D and C"));
    assert!(refused(&rows, &law(Law::Repeat)).contains("unique"));
    let drop_all = Options { drop_highest: 49, ..Options::default() };
    assert!(refused(&rows, &drop_all).contains("leaves nothing"));
    let share = Options { hold_out_top: Some(1.5), ..Options::default() };
    assert!(refused(&rows, &share).contains("--hold-out-top is 1.5"));
}

#[test]
fn a_design_along_one_ray_and_an_outlier_are_warned_of() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.003);
    let found = fit(&rows, &Options::default()).unwrap();
    assert!(!found.warned(WarningCode::CollinearDesign) && !found.warned(WarningCode::Outliers));
    assert!(found.certificate.unwrap().global);

    let mut off = rows.clone();
    off[10].loss *= 1.2;
    off[10].line = Some(12);
    let found = fit(&off, &Options::default()).unwrap();
    let warning = found.warnings.iter().find(|w| w.code == WarningCode::Outliers).unwrap();
    assert!(warning.message.contains("line 12") && warning.message.contains("alpha"));

    let ray: Vec<Observation> = (0..14)
        .map(|i| {
            let n = 1e7 * 10.0_f64.powf(f64::from(i) / 4.0);
            let mut row = Observation::new(n, 20.0 * n, 1.0);
            row.loss = Law::Separable.loss(&CHINCHILLA, &row).unwrap();
            row
        })
        .collect();
    assert!(
        fit(&noisy(ray, 0.002), &Options::default()).unwrap().warned(WarningCode::CollinearDesign)
    );
}

/// Both ways of resampling reach about the spread that the noise predicts, and the same seed gives
/// the same bits on one thread and on several.
#[test]
fn resampling_is_reproducible_and_scales_with_the_noise() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.003);
    let options = Options { bootstrap: 100, seed: 7, ..Options::default() };
    let found = fit(&rows, &options).unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| fit(&rows, &options).unwrap()), found);
    let se = |fit: &Fit| fit.params[3].estimate.se.unwrap();
    let other = fit(&rows, &Options { seed: 8, ..options.clone() }).unwrap();
    assert!(se(&other) != se(&found));

    let mut grouped = rows.clone();
    for (i, row) in grouped.iter_mut().enumerate() {
        row.group = Some(format!("run {i}"));
    }
    let wild = fit(&grouped, &options).unwrap();
    assert!((0.4..2.5).contains(&(se(&wild) / se(&found))), "{} {}", se(&wild), se(&found));

    let forecast = found.forecast(1e11, 1e13).unwrap();
    let [low, high] = forecast.ci95.unwrap();
    let truth = Law::Separable.loss(&CHINCHILLA, &Observation::new(1e11, 1e13, 1.0)).unwrap();
    assert!(low < truth && truth < high, "{forecast:?} {truth}");
}

/// Every way to an interval and every search, on one thread and on four.
#[test]
fn threads_change_no_bit() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.003);
    let mut grouped = rows.clone();
    for (i, row) in grouped.iter_mut().enumerate() {
        row.group = Some(format!("run {}", i / 3));
    }
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for intervals in Intervals::ALL {
        let options = Options {
            intervals,
            bootstrap: 40,
            starts: 60,
            budgets: vec![1e20],
            ..Options::default()
        };
        for rows in [&rows, &grouped] {
            let once = pool(1).install(|| fit(rows, &options).unwrap());
            let again = pool(4).install(|| fit(rows, &options).unwrap());
            assert_eq!(once, again, "{}", intervals.name());
            let split = |fit: &Fit| fit.best_split(&crate::Surface::Flops, 1e20);
            assert_eq!(split(&once), split(&again));
        }
    }
}

/// Losses half as noisy count four times: as four rows do.
#[test]
fn weights_by_seed_noise_are_repeated_rows() {
    let mut rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.003);
    let mut repeated = Vec::new();
    for (i, row) in rows.iter_mut().enumerate() {
        let copies = if i % 3 == 0 { 4 } else { 1 };
        repeated.extend(vec![row.clone(); copies]);
        row.noise = Some(row.loss * if copies == 4 { 0.001 } else { 0.002 });
    }
    for objective in [Objective::default(), Objective::MseLog] {
        let options = Options { objective, ..Options::default() };
        let weighting = Weighting::SeedNoise;
        let weighted = fit(&rows, &Options { weighting, ..options.clone() }).unwrap();
        let copied = fit(&repeated, &options).unwrap();
        assert!(worst(&weighted, &copied.values()) < 1e-6, "{objective}");
        let equal = fit(&rows, &options).unwrap();
        assert!(worst(&weighted, &equal.values()) > 1e-4, "{objective}");
    }
}

/// Where an overestimate costs nine times as much, a tenth of the losses lie below the law.
#[test]
fn costly_overestimates_lower_the_law() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.02);
    let objective = Objective::AsymmetricLog { delta: 1e-3, over: 9.0 };
    let found = fit(&rows, &Options { objective, ..Options::default() }).unwrap();
    let above = found.points.iter().filter(|p| p.log_residual > 1e-3).count();
    // 49 losses, of which the law passes through up to five.
    assert!((1..=8).contains(&above), "{above}");
}

/// The brute force finds nothing below what the grid of starts led to.
#[test]
fn random_starts_confirm_the_minimum() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.003);
    let found = fit(&rows, &Options::default()).unwrap();
    let searched = fit(&rows, &Options { starts: 500, ..Options::default() }).unwrap();
    assert!((searched.objective_value / found.objective_value - 1.0).abs() < 1e-9);
}

/// The quadratic of the minimum and the resampled scatter agree on a well-determined exponent, so
/// the profile interval is about as wide as that of the residual bootstrap.
#[test]
fn profile_and_residual_intervals_agree_where_noise_is_small() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.001);
    let options = Options { objective: Objective::MseLog, ..Options::default() };
    let profiled = Options { intervals: Intervals::Profile, ..options.clone() };
    let resampled = Options { intervals: Intervals::Residual, bootstrap: 400, ..options };
    let [profiled, resampled] = [profiled, resampled].map(|o| fit(&rows, &o).unwrap());
    let width = |estimate: &Estimate| estimate.ci95.map(|[low, high]| high - low).unwrap();
    for (a, b) in profiled.params.iter().zip(&resampled.params) {
        let ratio = width(&a.estimate) / width(&b.estimate);
        assert!((0.8..1.25).contains(&ratio), "{} {ratio}", a.name);
        assert!(a.estimate.se.is_none() && b.estimate.se.is_some());
    }
    let [a, b] = [&profiled, &resampled].map(|fit| width(&fit.exponents.unwrap().a));
    assert!((0.8..1.25).contains(&(a / b)), "{a} {b}");
    let ends = profiled.exponents.unwrap();
    let (a, b) = (ends.a.ci95.unwrap(), ends.b.ci95.unwrap());
    assert!((a[0] + b[1] - 1.0).abs() < 1e-12 && a[0] < ends.a.value && ends.a.value < a[1]);
}

/// A least absolute deviation passes through as many points as it has parameters.
#[test]
fn the_absolute_minimum_is_a_vertex() {
    let rows = noisy(grid(Law::Separable, &CHINCHILLA), 0.01);
    let found = fit(&rows, &Options { objective: Objective::L1Log, ..Options::default() }).unwrap();
    let hit = found.points.iter().filter(|p| p.log_residual.abs() < 1e-12).count();
    assert_eq!(hit, 5);
}

#[test]
fn a_table_without_a_floor_gives_none() {
    let truth = [1e-12, 40.0, 30.0, 0.2, 0.18];
    let found = fit(&noisy(grid(Law::Separable, &truth), 0.002), &Options::default()).unwrap();
    let e = found.param("E").unwrap();
    assert!(e == 0.0 && found.warned(WarningCode::FloorAtZero) || e < 0.2, "{e}");
    assert!(found.values().iter().all(|v| v.is_finite()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// Whatever the table, a fit is refused or finite, and never a panic.
    #[test]
    fn no_table_panics(
        rows in proptest::collection::vec((1.0..30.0_f64, 1.0..30.0_f64, -3.0..3.0_f64), 2..12),
        which in 0..5_usize,
    ) {
        let law = [Law::Separable, Law::Coupled, Law::Kaplan, Law::Gadre, Law::PowerFloor][which];
        let rows: Vec<Observation> = rows
            .iter()
            .map(|&(n, d, loss)| {
                let (n, d, loss) = (10.0_f64.powf(n), 10.0_f64.powf(d), 10.0_f64.powf(loss));
                if law.one_variable() {
                    Observation { n: Some(n), loss, ..Observation::default() }
                } else {
                    Observation::new(n, d, loss)
                }
            })
            .collect();
        let budgets = if law.one_variable() { Vec::new() } else { vec![1e20] };
        let options = Options { law, budgets, ..Options::default() };
        if let Ok(found) = fit(&rows, &options) {
            proptest::prop_assert!(found.objective_value.is_finite());
            proptest::prop_assert!(found.values().iter().all(|v| v.is_finite()));
        }
        let _ = isoflop::isoflop(&rows);
    }
}
