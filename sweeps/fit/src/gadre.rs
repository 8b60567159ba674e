//! The over-training form, L = E + A N^-alpha + B D^-alpha: one exponent for both axes (Gadre et
//! al. 2024, arXiv 2403.08540, where M = D/N). Its optimum keeps D/N constant: a = 1/2.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    objective::Objective,
    projection::{GADRE, line_valleys, measure},
};

/// Working parameters: ln E, ln A, ln B at the centre, alpha.
pub(crate) struct Gadre;

impl Formula<4> for Gadre {
    fn loss<S: Scalar>(&self, theta: &[S; 4], point: &Point) -> S {
        let [e, a, b, alpha] = *theta;
        e.exp() + (a + alpha * -point.x).exp() + (b + alpha * -point.y).exp()
    }

    fn valid(&self, theta: &[f64; 4]) -> bool {
        theta[3] > 0.0
    }

    fn natural(&self, theta: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [e, a, b, alpha] = *theta;
        [e.exp(), (a + alpha * centre.x).exp(), (b + alpha * centre.y).exp(), alpha]
    }

    fn working(&self, natural: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [e, a, b, alpha] = *natural;
        [
            log_or_none(e),
            log_or_none(a) - alpha * centre.x,
            log_or_none(b) - alpha * centre.y,
            alpha,
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 4]> {
        let least = least_loss(points);
        line_valleys(points, measure(objective), true, GADRE)
            .iter()
            .map(|valley| {
                let [e, a, b] = valley.logs(least);
                [e, a, b, valley.alpha]
            })
            .collect()
    }
}
