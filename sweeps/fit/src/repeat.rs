//! Data-constrained repeats (Muennighoff et al. 2023, arXiv 2305.16264):
//! L = E + A N'^-alpha + B D'^-beta with D' = U + U R_D (1 - e^(-r_D/R_D)), r_D = D/U - 1, and N'
//! likewise from U_N, R_N, r_N = N/U_N - 1. Repeated tokens and parameters beyond what the unique
//! tokens deserve are worth less and less.
//!
//! U_N = min(N, G (U G)^(beta/alpha)), which is min(N, (alpha A/(beta B) U^beta)^(1/alpha)). The
//! paper fits the base law first and then R_D and R_N; here all seven are free. 1 - e^-x goes
//! through expm1: without it a fit runs away to R_N of 1e17 and reports an objective that is not
//! there.

use crate::{
    fit::Fit,
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    law::Law,
    objective::Objective,
    projection::{Targets, measure, project},
};

/// Working parameters: ln E, ln A, ln B at the centre, alpha, beta, ln R_D, ln R_N.
pub(crate) struct Repeat;

/// ln of the effective size: `unique` (a logarithm) used `passes` = r + 1 times.
fn effective<S: Scalar>(unique: S, repeats: S, log_r: S) -> S {
    let r = log_r.exp();
    unique + (-(r * (-(repeats * r.recip())).exp_m1())).ln_1p()
}

impl Fit {
    /// D', what D tokens are worth of which `unique` are new; `None` for laws that do not tell
    /// repeats apart.
    #[must_use]
    pub fn effective_tokens(&self, d: f64, unique: f64) -> Option<f64> {
        let r_d = self.param("R_D").filter(|_| self.law == Law::Repeat)?;
        if d <= unique {
            return Some(d);
        }
        Some(effective(unique.ln(), d / unique - 1.0, r_d.ln()).exp())
    }
}

impl Formula<7> for Repeat {
    fn loss<S: Scalar>(&self, theta: &[S; 7], point: &Point) -> S {
        let [e, a, b, alpha, beta, r_d, r_n] = *theta;
        let zero = alpha * 0.0;
        let tokens = if point.y > point.u {
            effective(zero + point.u, zero + (point.y - point.u).exp_m1(), r_d)
        } else {
            zero + point.y
        };
        // ln U_N from the balance of the two shortages at U tokens.
        let balance = alpha.ln() + a - beta.ln() - b + beta * point.u;
        let deserved = balance * alpha.recip();
        let parameters = if deserved.value() < point.x {
            effective(deserved, (-deserved + point.x).exp_m1(), r_n)
        } else {
            zero + point.x
        };
        e.exp() + (a - alpha * parameters).exp() + (b - beta * tokens).exp()
    }

    fn valid(&self, theta: &[f64; 7]) -> bool {
        // Beyond e^60 a saturation constant is infinite for every table.
        theta[3] > 0.0 && theta[4] > 0.0 && theta[5].abs() < 60.0 && theta[6].abs() < 60.0
    }

    fn natural(&self, theta: &[f64; 7], centre: Centre) -> [f64; 7] {
        let [e, a, b, alpha, beta, r_d, r_n] = *theta;
        [
            e.exp(),
            (a + alpha * centre.x).exp(),
            (b + beta * centre.y).exp(),
            alpha,
            beta,
            r_d.exp(),
            r_n.exp(),
        ]
    }

    fn working(&self, natural: &[f64; 7], centre: Centre) -> [f64; 7] {
        let [e, a, b, alpha, beta, r_d, r_n] = *natural;
        [
            log_or_none(e),
            log_or_none(a) - alpha * centre.x,
            log_or_none(b) - beta * centre.y,
            alpha,
            beta,
            log_or_none(r_d),
            log_or_none(r_n),
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// Exponents and saturations on a grid, the linear part by projection over effective sizes.
    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 7]> {
        let least = least_loss(points);
        let targets = Targets::of(points);
        let mut starts = Vec::new();
        for alpha in [0.15, 0.35, 0.6] {
            for beta in [0.15, 0.35, 0.6] {
                for r_d in [3.0_f64, 15.0, 60.0] {
                    let left: Vec<f64> = points.iter().map(|p| (-alpha * p.x).exp()).collect();
                    let right: Vec<f64> = points
                        .iter()
                        .map(|p| {
                            let repeats = (p.y - p.u).max(0.0).exp_m1();
                            (-beta * effective(p.u.min(p.y), repeats, r_d.ln())).exp()
                        })
                        .collect();
                    let node = project(&left, &right, &targets, measure(objective), None, 10);
                    let [e, a, b] = node.coefficients.map(|c| log_or_none(c.max(1e-3 * least)));
                    for r_n in [1.0_f64, 6.0, 100.0] {
                        starts.push([e, a, b, alpha, beta, r_d.ln(), r_n.ln()]);
                    }
                }
            }
        }
        starts
    }
}
