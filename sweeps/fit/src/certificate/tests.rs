use crate::{Certificate, Law, Observation, Options, Warning, WarningCode, fit};

fn grid(law: Law, truth: &[f64], side: i32) -> Vec<Observation> {
    let step = |low: f64, i: i32| low * 10.0_f64.powf(3.0 * f64::from(i) / f64::from(side - 1));
    (0..side * side)
        .map(|i| {
            let mut row = Observation::new(step(1e7, i / side), step(1e9, i % side), 1.0);
            row.loss = law.loss(truth, &row).unwrap();
            // A ripple, so that weights and residuals are not all alike.
            row.loss *= 1.0 + 1e-3 * f64::from(i % 7 - 3);
            row
        })
        .collect()
}

fn certified(law: Law, rows: &[Observation], certify: bool) -> Option<Certificate> {
    fit(rows, &Options { law, certify, ..Options::default() }).unwrap().certificate
}

const SEPARABLE: [f64; 5] = [1.69, 406.4, 410.7, 0.34, 0.28];

#[test]
fn laws_are_certified_always_on_demand_or_never() {
    let rows = grid(Law::Separable, &SEPARABLE, 6);
    for (law, without, with) in [
        (Law::Separable, true, true),
        (Law::Gadre, true, true),
        (Law::Kaplan, false, true),
        (Law::Coupled, false, true),
    ] {
        assert_eq!(certified(law, &rows, false).is_some(), without, "{law}");
        let certificate = certified(law, &rows, true);
        assert_eq!(certificate.is_some(), with, "{law}");
        assert!(certificate.is_some_and(|c| c.resolution > 0.0 && c.resolution < 0.2), "{law}");
    }
}

#[test]
fn a_law_of_one_variable_is_certified() {
    let rows: Vec<Observation> = (0..12)
        .map(|i| {
            let x = 10.0_f64.powf(17.0 + 0.4 * f64::from(i));
            let loss = 1.6 + 95.0 * x.powf(-0.094);
            Observation { flops: Some(x), loss, ..Observation::default() }
        })
        .collect();
    for law in [Law::Power, Law::PowerFloor] {
        assert!(certified(law, &rows, false).unwrap().global, "{law}");
    }
    assert_eq!(certified(Law::Broken, &rows, false), None);
    assert!(certified(Law::Broken, &rows, true).is_some());
}

/// The search may only lower the objective, and never depends on the number of threads.
#[test]
fn the_search_keeps_or_improves_the_minimum() {
    let rows = grid(Law::Coupled, &[1.5, 300.0, 2.0, 0.6, 0.5, 0.5], 6);
    let options = |certify| Options { law: Law::Coupled, certify, ..Options::default() };
    let plain = fit(&rows, &options(false)).unwrap();
    let searched = fit(&rows, &options(true)).unwrap();
    assert!(searched.objective_value <= plain.objective_value * (1.0 + 1e-9));
    assert!(searched.certificate.as_ref().unwrap().global);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| fit(&rows, &options(true)).unwrap()), searched);
}

/// Along the ridge of a separable law E, A and alpha (or B and beta) move together; the run named
/// must really shrink it, and cost no more than the dearest.
#[test]
fn the_flattest_direction_names_a_run_that_shrinks_it() {
    let rows = grid(Law::Separable, &SEPARABLE, 6);
    let certificate = certified(Law::Separable, &rows, false).unwrap();
    let flat = &certificate.directions[0];
    assert!(flat.eigenvalue < 0.01 && certificate.condition_number.unwrap() > 100.0);
    assert_eq!(flat.along.iter().map(|a| a.1.abs()).fold(0.0, f64::max), 1.0);
    assert!(flat.along.iter().any(|a| a.0 == "ln A") && flat.along.iter().any(|a| a.0 == "alpha"));
    let run = flat.run.unwrap();
    let dearest = rows.iter().filter_map(Observation::compute).fold(0.0, f64::max);
    assert!(run.shrinks_to < 1.0 && run.flops.unwrap() <= dearest * (1.0 + 1e-6), "{run:?}");

    let mut more = rows.clone();
    for _ in 0..4 {
        let mut row = Observation::new(run.n.unwrap(), run.d.unwrap(), 1.0);
        row.loss = Law::Separable.loss(&SEPARABLE, &row).unwrap();
        more.push(row);
    }
    let after = certified(Law::Separable, &more, false).unwrap();
    assert!(after.directions[0].eigenvalue > 1.02 * flat.eigenvalue);
}

#[test]
fn a_minimum_at_the_edge_of_the_grid_is_not_certified() {
    let rows = grid(Law::Separable, &[1.69, 4e11, 410.7, 1.6, 0.28], 6);
    let found = fit(&rows, &Options::default()).unwrap();
    let certificate = found.certificate.as_ref().unwrap();
    assert!(!certificate.global, "{:?}", found.values());
    let warned = |w: &&Warning| w.code == WarningCode::NotCertified;
    assert!(found.warnings.iter().find(warned).unwrap().message.contains("edge"));
}
