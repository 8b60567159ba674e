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
