//! A broken power law with one break, y = E + A x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1) (BNSL, Caballero
//! et al. 2022, arXiv 2210.14891): exponent c0 before the break at d1, c0 + c1 after it, f1 the
//! width of the bend in ln x. x is N, D or C.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    linear::solve_positive,
    objective::Objective,
};

/// Working parameters: ln E, ln A at the centre, c0, c1, ln d1 less the centre, ln f1.
pub(crate) struct Broken;

impl Formula<6> for Broken {
    fn loss<S: Scalar>(&self, theta: &[S; 6], point: &Point) -> S {
        let [e, a, c0, c1, d1, f1] = *theta;
        let f = f1.exp();
        let bend = softplus((-d1 + point.x) * f.recip()) * f;
        e.exp() + (a - c0 * point.x - c1 * bend).exp()
    }

    fn valid(&self, theta: &[f64; 6]) -> bool {
        // A bend narrower than e^-6 in ln x or wider than e^6 is no bend on any table.
        theta[5].abs() < 6.0 && theta[4].abs() < 200.0
    }

    fn natural(&self, theta: &[f64; 6], centre: Centre) -> [f64; 6] {
        let [e, a, c0, c1, d1, f1] = *theta;
        [e.exp(), (a + c0 * centre.x).exp(), c0, c1, (d1 + centre.x).exp(), f1.exp()]
    }

    fn working(&self, natural: &[f64; 6], centre: Centre) -> [f64; 6] {
        let [e, a, c0, c1, d1, f1] = *natural;
        [
            log_or_none(e),
            log_or_none(a) - c0 * centre.x,
            c0,
            c1,
            log_or_none(d1) - centre.x,
            log_or_none(f1),
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// At fixed floor, break and width, ln(L - E) is linear in (ln A, c0, c1).
    fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; 6]> {
        let least = least_loss(points);
        let (low, high) = points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.x), h.max(p.x)));
        let mut starts = Vec::new();
        for share in [1e-3, 0.3, 0.6, 0.85, 0.97] {
            let floor = share * least;
            for step in 1..10 {
                let d1 = low + (high - low) * f64::from(step) / 10.0;
                for f in [0.1_f64, 0.4, 1.5] {
                    let bend = |p: &Point| softplus((p.x - d1) / f) * f;
                    if let Some([a, c0, c1]) = regress(points, bend, floor) {
                        starts.push([floor.ln(), a, c0, c1, d1, f.ln()]);
                    }
                }
            }
        }
        starts
    }
}

/// ln(1 + e^t).
fn softplus<S: Scalar>(t: S) -> S {
    t.log_add_exp(t * 0.0)
}

fn regress(points: &[Point], bend: impl Fn(&Point) -> f64, floor: f64) -> Option<[f64; 3]> {
    let (mut matrix, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for point in points {
        let row = [1.0, -point.x, -bend(point)];
        let target = (point.loss - floor).ln();
        for i in 0..3 {
            right[i] += row[i] * target;
            for j in 0..3 {
                matrix[i][j] += row[i] * row[j];
            }
        }
    }
    solve_positive(&matrix, &right)
}
