//! The coupled law, L = E + A (N^-alpha + R D^-beta)^k ("Skaling", Videau et al. 2026): the two
//! shortages add up before the outer power. k = 1 is the separable law; tables have .28 to .94.
//!
//! The outer power is monotone, so the optimum is that of the separable law with A = 1, B = R.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    objective::Objective,
};

/// Working parameters: ln E, ln A and ln R at the centre, alpha, beta, ln k.
pub(crate) struct Coupled;

impl Formula<6> for Coupled {
    fn loss<S: Scalar>(&self, theta: &[S; 6], point: &Point) -> S {
        let [e, a, r, alpha, beta, k] = *theta;
        let inner = (alpha * -point.x).log_add_exp(r + beta * -point.y);
        e.exp() + (a + k.exp() * inner).exp()
    }

    fn valid(&self, theta: &[f64; 6]) -> bool {
        theta[3] > 0.0 && theta[4] > 0.0
    }

    fn natural(&self, theta: &[f64; 6], centre: Centre) -> [f64; 6] {
        let [e, a, r, alpha, beta, k] = *theta;
        let k = k.exp();
        [
            e.exp(),
            (a + k * alpha * centre.x).exp(),
            (r - alpha * centre.x + beta * centre.y).exp(),
            alpha,
            beta,
            k,
        ]
    }

    fn working(&self, natural: &[f64; 6], centre: Centre) -> [f64; 6] {
        let [e, a, r, alpha, beta, k] = *natural;
        [
            log_or_none(e),
            log_or_none(a) - k * alpha * centre.x,
            log_or_none(r) + alpha * centre.x - beta * centre.y,
            alpha,
            beta,
            log_or_none(k),
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// 72 starts reach the least minimum of every table tried; 135 found none lower.
    fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; 6]> {
        let least = least_loss(points);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 points")]
        let mean = points.iter().map(|p| p.loss).sum::<f64>() / points.len() as f64;
        let mut starts = Vec::new();
        for k in [0.2_f64, 0.5, 1.0, 2.0] {
            for alpha in [0.15, 0.4, 0.9] {
                for beta in [0.15, 0.4, 0.9] {
                    for share in [0.3, 0.7] {
                        let floor = share * least;
                        // At the centre the inner sum is 2, so A 2^k is what the mean has above E.
                        let a = (mean - floor).ln() - k * std::f64::consts::LN_2;
                        starts.push([floor.ln(), a, 0.0, alpha, beta, k.ln()]);
                    }
                }
            }
        }
        starts
    }
}
