//! A power law with a floor, L = E + A x^-alpha (Henighan et al. 2020, arXiv 2010.14701); x is N,
//! D or C. A known floor is pinned by subtracting it from the losses and fitting [`Power`].
//!
//! [`Power`]: crate::power::Power

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    objective::Objective,
    projection::{POWER_FLOOR, line_valleys, measure},
};

/// Working parameters: ln E, ln A at the centre, alpha.
pub(crate) struct PowerFloor;

impl Formula<3> for PowerFloor {
    fn loss<S: Scalar>(&self, theta: &[S; 3], point: &Point) -> S {
        let [e, a, alpha] = *theta;
        e.exp() + (a + alpha * -point.x).exp()
    }

    fn valid(&self, theta: &[f64; 3]) -> bool {
        theta[2] > 0.0
    }

    fn natural(&self, theta: &[f64; 3], centre: Centre) -> [f64; 3] {
        let [e, a, alpha] = *theta;
        [e.exp(), (a + alpha * centre.x).exp(), alpha]
    }

    fn working(&self, natural: &[f64; 3], centre: Centre) -> [f64; 3] {
        let [e, a, alpha] = *natural;
        [log_or_none(e), log_or_none(a) - alpha * centre.x, alpha]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 3]> {
        let least = least_loss(points);
        line_valleys(points, measure(objective), false, POWER_FLOOR)
            .iter()
            .map(|valley| {
                let [e, a, _] = valley.logs(least);
                [e, a, valley.alpha]
            })
            .collect()
    }
}
