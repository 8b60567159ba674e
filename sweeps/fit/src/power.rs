//! A pure power law, L = A x^-alpha (Kaplan et al. 2020, arXiv 2001.08361); x is N, D or C, and
//! alpha may have either sign, so that a column of optima can be fitted against compute.

use crate::{
    formula::{Centre, Formula, Point, log_or_none},
    jet::Scalar,
    line::LogLine,
    objective::Objective,
};

/// Working parameters: ln A at the centre, alpha.
pub(crate) struct Power;

impl Formula<2> for Power {
    fn loss<S: Scalar>(&self, theta: &[S; 2], point: &Point) -> S {
        let [a, alpha] = *theta;
        (a + alpha * -point.x).exp()
    }

    fn valid(&self, _: &[f64; 2]) -> bool {
        true
    }

    fn natural(&self, theta: &[f64; 2], centre: Centre) -> [f64; 2] {
        let [a, alpha] = *theta;
        [(a + alpha * centre.x).exp(), alpha]
    }

    fn working(&self, natural: &[f64; 2], centre: Centre) -> [f64; 2] {
        let [a, alpha] = *natural;
        [log_or_none(a) - alpha * centre.x, alpha]
    }

    fn floor(&self) -> Option<usize> {
        None
    }

    fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; 2]> {
        let logs = points.iter().map(|p| (p.x, p.loss.ln()));
        LogLine::through(logs).map(|line| vec![[line.scale.ln(), -line.slope]]).unwrap_or_default()
    }
}
