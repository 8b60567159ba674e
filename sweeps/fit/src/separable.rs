//! The separable law, L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, arXiv 2203.15556,
//! approach 3). E, A and B in nats, N in parameters, D in tokens.
//!
//! Optimum at C = 6 N D: G = (alpha A/(beta B))^(1/(alpha+beta)), N* = G (C/6)^a,
//! D* = (C/6)^b / G, a = beta/(alpha+beta), b = 1 - a.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::{Jet, Scalar},
    objective::Objective,
    projection::{measure, valleys},
};

/// Working parameters: ln E, ln A, ln B at the centre, alpha, beta.
pub(crate) struct Separable;

impl Formula<5> for Separable {
    fn loss<S: Scalar>(&self, theta: &[S; 5], point: &Point) -> S {
        let [e, a, b, alpha, beta] = *theta;
        e.exp() + (a + alpha * -point.x).exp() + (b + beta * -point.y).exp()
    }

    /// By hand, because thousands of resampled fits go through here.
    fn jet(&self, theta: &[f64; 5], point: &Point) -> Jet<5> {
        let [e, a, b, alpha, beta] = *theta;
        let (x, y) = (point.x, point.y);
        let floor = e.exp();
        let left = (a - alpha * x).exp();
        let right = (b - beta * y).exp();
        let mut hessian = [[0.0; 5]; 5];
        hessian[0][0] = floor;
        hessian[1][1] = left;
        hessian[1][3] = -left * x;
        hessian[3][1] = hessian[1][3];
        hessian[3][3] = left * x * x;
        hessian[2][2] = right;
        hessian[2][4] = -right * y;
        hessian[4][2] = hessian[2][4];
        hessian[4][4] = right * y * y;
        Jet {
            value: floor + left + right,
            gradient: [floor, left, right, -left * x, -right * y],
            hessian,
        }
    }

    fn valid(&self, theta: &[f64; 5]) -> bool {
        theta[3] > 0.0 && theta[4] > 0.0
    }

    fn natural(&self, theta: &[f64; 5], centre: Centre) -> [f64; 5] {
        let [e, a, b, alpha, beta] = *theta;
        [e.exp(), (a + alpha * centre.x).exp(), (b + beta * centre.y).exp(), alpha, beta]
    }

    fn working(&self, natural: &[f64; 5], centre: Centre) -> [f64; 5] {
        let [e, a, b, alpha, beta] = *natural;
        [
            log_or_none(e),
            log_or_none(a) - alpha * centre.x,
            log_or_none(b) - beta * centre.y,
            alpha,
            beta,
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 5]> {
        let least = least_loss(points);
        valleys(points, measure(objective))
            .iter()
            .map(|valley| {
                let [e, a, b] = valley.logs(least);
                [e, a, b, valley.alpha, valley.beta]
            })
            .collect()
    }
}
