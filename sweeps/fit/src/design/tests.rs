//! Each doubt on a table made to raise it, and its absence on a sound one.

use crate::{
    Law, Observation, Options, WarningCode, fit,
    warning::{Warning, WarningCode as Code},
};

const TRUTH: [f64; 5] = [1.69, 406.4, 410.7, 0.34, 0.28];

fn row(n: f64, d: f64, noise: f64) -> Observation {
    let mut row = Observation::new(n, d, 1.0);
    row.loss = Law::Separable.loss(&TRUTH, &row).unwrap() * noise.exp();
    row
}

/// Sizes by tokens near the frontier, three decades of each diagonal, with a fixed ripple of about
/// 0.1 %.
fn sound() -> Vec<Observation> {
    (0..49)
        .map(|i| {
            let (size, ratio) = (f64::from(i / 7), f64::from(i % 7));
            let n = 1e8 * 10.0_f64.powf(size / 2.5);
            row(n, n * 5.0 * 2.0_f64.powf(ratio), 1e-3 * f64::from((i * 5) % 9 - 4) / 4.0)
        })
        .collect()
}

fn messages(rows: &[Observation], options: &Options) -> Vec<Warning> {
    fit(rows, options).unwrap().warnings
}

/// The message of a code that must be there.
fn message(code: WarningCode, rows: &[Observation], options: &Options) -> String {
    let found = messages(rows, options);
    let wanted = found.iter().find(|w| w.code == code);
    wanted.unwrap_or_else(|| panic!("no {code} in {found:?}")).message.clone()
}

fn plain() -> Options {
    Options::default()
}

#[test]
fn a_sound_table_raises_no_doubt() {
    let options = Options { bootstrap: 50, ..plain() };
    assert_eq!(messages(&sound(), &options), Vec::new());
}

#[test]
fn outliers_are_named_with_the_constants_without_them() {
    let mut rows = sound();
    rows[20].loss *= 1.1;
    rows[20].line = Some(22);
    let text = message(Code::Outliers, &rows, &plain());
    assert!(text.starts_with("1 of 49") && text.contains("line 22") && text.contains("beta"));
}

#[test]
fn tokens_in_proportion_to_parameters_are_collinear() {
    let rows: Vec<Observation> = (0..16)
        .map(|i| {
            let n = 1e7 * 10.0_f64.powf(f64::from(i) / 5.0);
            row(n, 20.0 * n, 1e-3 * f64::from(i % 3 - 1))
        })
        .collect();
    assert!(message(Code::CollinearDesign, &rows, &plain()).contains("tokens per parameter"));
}

/// A floor over one decade: A, alpha and E trade against each other along a ridge.
#[test]
fn a_flat_direction_is_named_with_its_ends() {
    let rows: Vec<Observation> = (0..15)
        .map(|i| {
            let x = 10.0_f64.powf(17.0 + f64::from(i) / 14.0);
            let ripple = 1.0 + 5e-4 * f64::from((i * 5) % 9 - 4);
            let loss = (1.6 + 95.0 * x.powf(-0.094)) * ripple;
            Observation { flops: Some(x), loss, ..Observation::default() }
        })
        .collect();
    let options = Options { law: Law::PowerFloor, ..plain() };
    let text = message(Code::FlatDirection, &rows, &options);
    assert!(text.contains("95 % profile interval of E"), "{text}");
    assert!(text.contains("runs from beyond a factor of 10 to"), "{text}");
}

#[test]
fn a_floor_that_the_data_does_not_show_is_said_to_be_none() {
    let rows: Vec<Observation> = (0..30)
        .map(|i| {
            let x = 10.0_f64.powf(15.0 + f64::from(i) / 5.0);
            // Bends downwards in the logarithm: any floor makes it worse.
            let loss = (8.0 - 0.01 * (x.ln() - 34.0) - 2e-3 * (x.ln() - 34.0).powi(2)).exp();
            Observation { flops: Some(x), loss, ..Observation::default() }
        })
        .collect();
    let options = Options { law: Law::PowerFloor, ..plain() };
    assert!(message(Code::FloorAtZero, &rows, &options).contains("E is 0"));
}

#[test]
fn a_free_floor_over_a_short_range_is_doubtful() {
    let rows: Vec<Observation> =
        sound().into_iter().filter(|r| r.compute().unwrap() < 5e18).collect();
    assert!(message(Code::ShortRange, &rows, &plain()).contains("decades"));
    let options = Options { law: Law::Kaplan, ..plain() };
    assert!(messages(&rows, &options).iter().all(|w| w.code != Code::ShortRange));
}

#[test]
fn few_observations_and_few_units_are_counted() {
    let rows: Vec<Observation> = sound().into_iter().step_by(4).collect();
    assert_eq!(message(Code::FewObservations, &rows, &plain()), "13 observations for 5 parameters");
    let options = Options { bootstrap: 20, ..plain() };
    assert!(message(Code::FewGroups, &rows, &options).starts_with("13 observations"));
    let mut grouped = sound();
    for (i, row) in grouped.iter_mut().enumerate() {
        row.group = Some(format!("run {}", i / 7));
    }
    assert!(message(Code::FewGroups, &grouped, &options).starts_with("7 groups"));
}

#[test]
fn budgets_far_beyond_the_data_are_guesses() {
    let options = Options { budgets: vec![1e20, 1e26], ..plain() };
    let found = messages(&sound(), &options);
    let far: Vec<&Warning> = found.iter().filter(|w| w.code == Code::Extrapolation).collect();
    assert!(far.len() == 1 && far[0].message.starts_with("1.000e26 FLOPs is"), "{found:?}");
}

/// The top of compute bends upwards, which no law of the rest can know.
#[test]
fn a_worse_held_out_top_is_told() {
    let mut rows = sound();
    let limit = 1e21;
    for row in &mut rows {
        let over = (row.compute().unwrap() / limit).max(1.0);
        row.loss *= over.powf(0.05);
    }
    let options = Options { hold_out_top: Some(0.2), ..plain() };
    assert!(message(Code::HeldOutWorse, &rows, &options).contains("held-out mean error"));
}

#[test]
fn observations_far_from_the_frontier_are_counted() {
    let rows: Vec<Observation> = (0..48)
        .map(|i| {
            row(1e6 * 10.0_f64.powi(i / 8 % 6), 1e8 * 10.0_f64.powf(f64::from(i % 8) / 2.0), 0.0)
        })
        .collect();
    assert!(message(Code::FarFromFrontier, &rows, &plain()).contains("more than 10 % above"));
}

#[test]
fn repeated_sizes_give_the_seed_noise() {
    let mut rows = sound();
    for i in [3, 17, 40] {
        let mut again = rows[i].clone();
        again.loss *= 1.004;
        rows.push(again);
    }
    let text = message(Code::Duplicates, &rows, &plain());
    // Deviations of 0.2 % to either side have a standard deviation of 0.28 %.
    assert!(text.starts_with("3 sizes") && text.contains("0.28"), "{text}");
}

#[test]
fn a_run_column_that_is_not_mapped_is_pointed_to() {
    let ungrouped_column = Some(String::from("run_id"));
    let options = Options { bootstrap: 20, ungrouped_column, ..plain() };
    assert!(message(Code::Ungrouped, &sound(), &options).contains("--map group=run_id"));
    let quiet = Options { bootstrap: 0, ..options };
    assert_eq!(messages(&sound(), &quiet), Vec::new());
}

#[test]
fn repeated_tokens_counted_as_fresh_are_told() {
    let mut rows = sound();
    for row in rows.iter_mut().take(10) {
        row.unique = row.d.map(|d| d / 4.0);
    }
    assert!(message(Code::RepeatedData, &rows, &plain()).starts_with("10 of 49"));
}

#[test]
fn units_that_do_not_fit_together_are_told() {
    let mut rows = sound();
    for row in &mut rows {
        // N in millions beside C in FLOPs.
        row.flops = row.compute();
        row.n = row.n.map(|n| n / 1e6);
    }
    assert!(message(Code::UnitMismatch, &rows, &plain()).contains("check the units"));
}

/// Every patch of an image costs 2 FLOPs per parameter and pass, and D counts images.
#[test]
fn the_patches_of_an_image_are_no_mismatch() {
    let images = |positions: Option<f64>| {
        let mut rows = sound();
        for row in &mut rows {
            row.flops = row.compute().map(|flops| 16.0 * flops);
            row.positions = positions;
        }
        rows
    };
    assert!(message(Code::UnitMismatch, &images(None), &plain()).contains("1.600e1"));
    let known = messages(&images(Some(16.0)), &plain());
    assert!(known.iter().all(|warning| warning.code != Code::UnitMismatch), "{known:?}");
}

/// What is no number, not finite or not above zero is refused by line, whatever the objective.
#[test]
fn bad_cells_are_named_by_line() {
    let bad = [f64::NAN, f64::INFINITY, 0.0, -2.5];
    let cells: [fn(&mut Observation, f64); 5] = [
        |row, v| row.n = Some(v),
        |row, v| row.d = Some(v),
        |row, v| row.flops = Some(v),
        |row, v| row.unique = Some(v),
        |row, v| row.loss = v,
    ];
    for (name, set) in ["N", "D", "C", "U", "loss"].into_iter().zip(cells) {
        for value in bad {
            let mut rows = sound();
            rows[4].line = Some(6);
            set(&mut rows[4], value);
            let text = fit(&rows, &plain()).unwrap_err().to_string();
            assert!(text.starts_with(&format!("line 6: {name} is {value};")), "{text}");
        }
    }
}

#[test]
fn tables_that_carry_no_law_are_refused() {
    let refused =
        |rows: &[Observation], options: &Options| fit(rows, options).unwrap_err().to_string();
    let one_d: Vec<Observation> = sound()
        .iter()
        .enumerate()
        .map(|(i, r)| row(r.n.unwrap(), 1e10, 1e-3 * f64::from(u8::try_from(i % 3).unwrap())))
        .collect();
    assert!(refused(&one_d, &plain()).contains("same D"));
    let too_many = vec![row(1e8, 1e9, 0.0); crate::MAX_OBSERVATIONS + 1];
    assert!(refused(&too_many, &plain()).contains("500001 observations are more than 500000"));
    let starts = Options { starts: crate::MAX_STARTS + 1, ..plain() };
    assert!(refused(&sound(), &starts).contains("--starts is 100001"));
}
