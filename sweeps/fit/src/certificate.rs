//! The certificate of a minimum: the profile over the exponents is searched on the whole grid,
//! every local minimum of it is descended from, and the best lies inside.
//!
//! It proves the minimum to the resolution of the grid: a valley narrower than one step could
//! hide. The four published tables tried have exactly one valley each.

use std::array::from_fn;

use crate::{
    fit::{Certificate, Fit},
    formula::{Centre, Formula, Point},
    linear::{eigenvalues, unit_diagonal},
    projection::{HIGH, LOW, resolution},
    solver::{Problem, Solution},
    warning::{Warning, WarningCode},
};

/// The points of a problem without their centre, in which the named parameters' logarithms are the
/// working parameters.
pub(crate) fn uncentred(points: &[Point], centre: Centre) -> Vec<Point> {
    points
        .iter()
        .map(|p| Point { x: p.x + centre.x, y: p.y + centre.y, u: p.u + centre.y, ..*p })
        .collect()
}

/// The certificate of the best of all descents over the grid of (alpha, beta), which are the last
/// two parameters.
pub(crate) fn certify<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    centre: Centre,
) -> Certificate {
    let inside = best.theta[P - 2..].iter().all(|exponent| *exponent > LOW && *exponent < HIGH);
    let on_bound = best.free.iter().any(|free| !free);
    let condition_number = if on_bound { None } else { condition(problem, formula, best, centre) };
    Certificate { global: inside, resolution: resolution(), condition_number }
}

/// The condition number of the Gauss-Newton matrix in the named parameters' logarithms, scaled to
/// unit diagonal.
fn condition<const P: usize, F: Formula<P>>(
    problem: &Problem<'_>,
    formula: &F,
    best: &Solution<P>,
    centre: Centre,
) -> Option<f64> {
    let natural = formula.natural(&best.theta, centre);
    let theta = formula.working(&natural, Centre::default());
    let points = uncentred(problem.points, centre);
    let here = Problem { points: &points, ..*problem }.expand(formula, &theta);
    let scaled = unit_diagonal(&here.majorant)?;
    let values: [f64; P] = eigenvalues(&from_fn(|i| scaled[i]));
    let ratio = values[P - 1] / values[0];
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// Warns where nothing was proved though it was tried.
pub(crate) fn doubts(fit: &mut Fit) {
    if fit.certificate.is_some_and(|certificate| !certificate.global) {
        fit.warnings.push(Warning::new(
            WarningCode::NotCertified,
            format!(
                "the least profile lies on or beyond the edge of the exponents searched, {LOW} to \
                 {HIGH}; hint: widen the spread of N and D, or choose another law"
            ),
        ));
    }
}
