//! Kaplan's joint law, L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (Kaplan et al. 2020, arXiv
//! 2001.08361, equation 1.5). N without embeddings in the paper; no floor.
//!
//! The outer power is monotone, so the optimum is that of a separable law with exponents
//! alpha_N/alpha_D and 1: a = alpha_D/(alpha_N + alpha_D).

use crate::{
    formula::{Centre, Formula, Point, log_or_none},
    jet::Scalar,
    objective::{Objective, Rho},
    projection::{Measure, Targets, project},
};

/// Working parameters: ln N_c and ln D_c less the centre, alpha_N, alpha_D.
pub(crate) struct Kaplan;

impl Formula<4> for Kaplan {
    fn loss<S: Scalar>(&self, theta: &[S; 4], point: &Point) -> S {
        let [n_c, d_c, alpha_n, alpha_d] = *theta;
        let left = alpha_n * alpha_d.recip() * (n_c + -point.x);
        (alpha_d * left.log_add_exp(d_c + -point.y)).exp()
    }

    fn valid(&self, theta: &[f64; 4]) -> bool {
        theta[2] > 0.0 && theta[3] > 0.0
    }

    fn natural(&self, theta: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [n_c, d_c, alpha_n, alpha_d] = *theta;
        [(n_c + centre.x).exp(), (d_c + centre.y).exp(), alpha_n, alpha_d]
    }

    fn working(&self, natural: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [n_c, d_c, alpha_n, alpha_d] = *natural;
        [log_or_none(n_c) - centre.x, log_or_none(d_c) - centre.y, alpha_n, alpha_d]
    }

    fn floor(&self) -> Option<usize> {
        None
    }

    /// At fixed exponents L^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c.
    fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; 4]> {
        let exponents = [0.03, 0.06, 0.1, 0.16, 0.25, 0.4, 0.7];
        let mut starts = Vec::new();
        for alpha_d in exponents {
            for alpha_n in exponents {
                let ratio = alpha_n / alpha_d;
                // Relative to the mean power of the losses, which would overflow at small alpha_D.
                let typical = points.iter().map(|p| p.loss.ln()).sum::<f64>() / count(points);
                let left: Vec<f64> = points.iter().map(|p| (-ratio * p.x).exp()).collect();
                let right: Vec<f64> = points.iter().map(|p| (-p.y).exp()).collect();
                let powers = Targets::new(points, |p| ((p.loss.ln() - typical) / alpha_d).exp());
                let square = Measure { rho: Rho::Square, log: true };
                let [_, a, b] = project(&left, &right, &powers, square, None, 3).coefficients;
                // A constant would be a floor, which this law has not: spread it over both.
                let (a, b) = (a.max(1e-3), b.max(1e-3));
                let n_c = (a.ln() + typical / alpha_d) / ratio;
                let d_c = b.ln() + typical / alpha_d;
                starts.push([n_c, d_c, alpha_n, alpha_d]);
            }
        }
        starts
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 points")]
const fn count(points: &[Point]) -> f64 {
    points.len() as f64
}
