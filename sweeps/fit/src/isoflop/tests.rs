use super::*;

/// Budgets 1e17 to 1e21 of L = 1.69 + 400 N^-a + 400 D^-b, sizes to both sides of the optimum.
fn table(alpha: f64, beta: f64, width: f64, sizes: i32) -> Vec<Observation> {
    let law = [1.69, 400.0, 400.0, alpha, beta];
    let mut rows = Vec::new();
    for budget in 0..5 {
        let flops = 10.0_f64.powi(17 + budget);
        let (best, _) = Law::Separable.split(&law, flops).unwrap();
        for step in 0..sizes {
            let share = 2.0 * f64::from(step) / f64::from(sizes - 1) - 1.0;
            let n = best * width.powf(share);
            let mut row = Observation::new(n, flops / 6.0 / n, 1.0);
            row.loss = Law::Separable.loss(&law, &row).unwrap();
            row.flops = Some(flops);
            rows.push(row);
        }
    }
    rows
}

/// On a symmetric surface the parabola's bias vanishes; the rest is rounding.
#[test]
fn symmetric_surfaces_have_exact_vertices() {
    let found = isoflop(&table(0.31, 0.31, 8.0, 15)).unwrap();
    assert!((found.n_line.slope - 0.5).abs() < 1e-9 && found.warnings.is_empty());
    assert!(found.budgets.iter().all(|b| b.verdict == Verdict::Sound));
}

#[test]
fn defects_are_named() {
    let few = isoflop(&table(0.34, 0.28, 3.0, 4)).unwrap();
    assert!(few.warnings.iter().all(|w| w.code == WarningCode::IsoflopFewSizes));
    let wide = isoflop(&table(0.465, 0.155, 16.0, 15)).unwrap();
    assert!(wide.budgets.iter().all(|b| b.verdict == Verdict::CubicDisagrees));
    let mut rising = table(0.34, 0.28, 2.0, 15);
    for row in &mut rising {
        row.loss = row.n.unwrap().ln();
    }
    assert!(matches!(isoflop(&rising), Err(FitError::NoOptimum(_))));
}

/// Rows of one budget whose sizes all lie to one side of the optimum's middle.
#[test]
fn an_optimum_off_the_middle_is_named() {
    let mut rows = table(0.31, 0.31, 3.0, 15);
    let law = [1.69, 400.0, 400.0, 0.31, 0.31];
    for row in &mut rows {
        let n = row.n.unwrap() * 1.9;
        *row = Observation {
            flops: row.flops,
            ..Observation::new(n, row.flops.unwrap() / 6.0 / n, 1.0)
        };
        row.loss = Law::Separable.loss(&law, row).unwrap();
    }
    let found = isoflop(&rows).unwrap();
    assert!(found.budgets.iter().all(|b| b.verdict == Verdict::OffCentre), "{:?}", found.budgets);
}

/// With noise of 0.2 % every interval has ends around its optimum, and at most one of five at 95 %
/// misses the true one.
#[test]
fn minima_have_intervals() {
    let mut rows = table(0.34, 0.28, 6.0, 9);
    let mut draws =
        sweep_spec::random::Stream::new(3, sweep_spec::random::Purpose::Resampling, 1 << 42);
    for row in &mut rows {
        row.loss *= (0.002 * draws.normal()).exp();
    }
    let found = isoflop(&rows).unwrap();
    let law = [1.69, 400.0, 400.0, 0.34, 0.28];
    let mut covered = 0;
    for budget in &found.budgets {
        let [low, high] = budget.n95.unwrap();
        let (truth, cubic) =
            (Law::Separable.split(&law, budget.flops).unwrap().0, budget.cubic_n.unwrap());
        assert!(low < cubic && cubic < high && high < 1.5 * low, "{budget:?}");
        covered += i32::from(low < truth && truth < high);
    }
    assert!(covered >= 4, "{:?}", found.budgets);
    let [low, high] = found.a95.unwrap();
    assert!(low < found.n_line.slope && found.n_line.slope < high);
    assert!(isoflop(&rows[..18]).unwrap().a95.is_none());
}

#[test]
fn budgets_that_differ_by_rounding_are_merged_and_said_to_be() {
    let mut rows = table(0.31, 0.31, 8.0, 15);
    for (i, row) in rows.iter_mut().enumerate() {
        row.flops = row.flops.map(|c| if i % 2 == 0 { c * 1.004 } else { c });
    }
    let found = isoflop(&rows).unwrap();
    assert_eq!(found.budgets.len(), 5);
    assert!(found.warnings.iter().any(|w| w.code == WarningCode::IsoflopMergedBudgets));
}

/// Sizes fixed while the optimum grows with the budget: the centres drift, and at the ends the
/// least loss is at the edge.
#[test]
fn drifting_centres_and_edge_minima_are_warned_of() {
    let law = [1.69, 400.0, 400.0, 0.34, 0.28];
    let mut rows = Vec::new();
    for budget in 0..4 {
        let flops = 10.0_f64.powi(18 + budget);
        for step in 0..9 {
            let n = 3e7 * 10.0_f64.powf(f64::from(step) / 4.0);
            let mut row = Observation::new(n, flops / 6.0 / n, 1.0);
            row.loss = Law::Separable.loss(&law, &row).unwrap();
            row.flops = Some(flops);
            rows.push(row);
        }
    }
    let found = isoflop(&rows).unwrap();
    let warned = |code| found.warnings.iter().any(|w| w.code == code);
    assert!(warned(WarningCode::IsoflopDriftingCentres), "{:?}", found.warnings);
    let narrow =
        isoflop(&rows.iter().filter(|r| r.n.unwrap() > 3.5e8).cloned().collect::<Vec<_>>());
    let edge = match &narrow {
        Ok(found) => found.warnings.iter().any(|w| w.code == WarningCode::IsoflopEdgeMinimum),
        Err(error) => matches!(error, FitError::NoOptimum(_)),
    };
    assert!(edge, "{narrow:?}");
    let cubic = isoflop(&table(0.465, 0.155, 16.0, 15)).unwrap();
    assert!(cubic.warnings.iter().any(|w| w.code == WarningCode::IsoflopCubicDisagrees));
}
