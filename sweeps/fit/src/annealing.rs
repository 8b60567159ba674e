//! The annealing law of whole loss curves (Tissue et al. 2024, arXiv 2408.11029):
//! L(s) = L0 + A S1^-alpha - C S2. L0 and A S1^-alpha in nats; S1 is the sum of the learning rates
//! of steps 1..s, S2 = sum_(i<=s) m_i with m_i = lambda m_(i-1) + (eta_(i-1) - eta_i), so that a
//! fall of the rate keeps paying, by ever less, for about 1/(1 - lambda) steps.
//!
//! Steps before the first peak of the rate (the warm-up) count in S1 and not in S2: a rising rate
//! there anneals nothing. lambda is not part of the descent; the caller profiles over it.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    objective::Objective,
    projection::{Targets, measure, project},
};

/// S1 and S2 after each step of a schedule; index 0 is before the first step.
pub(crate) fn areas(rates: &[f64], peak: usize, lambda: f64) -> Vec<[f64; 2]> {
    let (mut s1, mut s2, mut momentum) = (0.0, 0.0, 0.0);
    let mut areas = Vec::with_capacity(rates.len() + 1);
    areas.push([0.0, 0.0]);
    for (i, rate) in rates.iter().enumerate() {
        if i > peak {
            momentum = lambda * momentum + rates[i - 1] - rate;
        }
        s1 += rate;
        s2 += momentum;
        areas.push([s1, s2]);
    }
    areas
}

/// Working parameters: ln L0, ln A at the centre of ln S1, alpha, ln C. A point's x is ln S1, its
/// y is S2 itself.
pub(crate) struct Annealing;

impl Formula<4> for Annealing {
    fn loss<S: Scalar>(&self, theta: &[S; 4], point: &Point) -> S {
        let [e, a, alpha, c] = *theta;
        e.exp() + (a + alpha * -point.x).exp() - c.exp() * point.y
    }

    fn valid(&self, theta: &[f64; 4]) -> bool {
        theta[2] > 0.0
    }

    fn natural(&self, theta: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [e, a, alpha, c] = *theta;
        [e.exp(), (a + alpha * centre.x).exp(), alpha, c.exp()]
    }

    fn working(&self, natural: &[f64; 4], centre: Centre) -> [f64; 4] {
        let [e, a, alpha, c] = *natural;
        [log_or_none(e), log_or_none(a) - alpha * centre.x, alpha, log_or_none(c)]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// At a fixed exponent the law is linear in (L0, A, C).
    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 4]> {
        const NODES: u32 = 24;
        let least = least_loss(points);
        let targets = Targets::of(points);
        let fallen: Vec<f64> = points.iter().map(|p| -p.y).collect();
        let deepest = points.iter().map(|p| p.y.abs()).fold(f64::MIN_POSITIVE, f64::max);
        (0..NODES)
            .map(|node| {
                let alpha = 0.02 * 100.0_f64.powf(f64::from(node) / f64::from(NODES - 1));
                let power: Vec<f64> = points.iter().map(|p| (-alpha * p.x).exp()).collect();
                let [e, a, c] =
                    project(&power, &fallen, &targets, measure(objective), None, 10).coefficients;
                let inside = |v: f64| v.max(1e-4 * least).ln();
                // C S2 is a share of the loss, so C starts no lower than that share at the end.
                [inside(e), inside(a), alpha, c.max(1e-4 * least / deepest).ln()]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2 by its definition as a double sum.
    #[test]
    fn areas_are_those_of_the_definition() {
        let rates = [0.5, 1.0, 1.0, 0.9, 0.7, 0.7, 0.2, 0.3];
        let (peak, lambda) = (1, 0.9);
        let areas = areas(&rates, peak, lambda);
        for s in 1..=rates.len() {
            let s1: f64 = rates[..s].iter().sum();
            let mut s2 = 0.0;
            for i in 1..s {
                for k in (peak + 1)..=i {
                    let exponent = i32::try_from(i - k).unwrap();
                    s2 += (rates[k - 1] - rates[k]) * lambda.powi(exponent);
                }
            }
            assert!((areas[s][0] - s1).abs() < 1e-14 && (areas[s][1] - s2).abs() < 1e-14, "{s}");
        }
    }
}
