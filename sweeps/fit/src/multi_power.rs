//! The multi-power law of whole loss curves (Luo et al. 2025, arXiv 2503.12811):
//! L(t) = L0 + A S(t)^-alpha - B sum_(k<=t) (eta_(k-1) - eta_k) G(eta_k^-gamma S_k(t)) with
//! G(x) = 1 - (1 + C x)^-beta. S(t) is the sum of the learning rates up to t, warm-up included,
//! S_k(t) that from step k on; L0 and A S^-alpha in nats. Each fall of the rate pays off along a
//! power law of its own.
//!
//! Falls beyond 64 per point are merged, neighbours with neighbours, each at its mean S_k: for a
//! cosine of 10,000 steps the loss moves by less than 1e-4 of itself.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::{Jet, Scalar},
    objective::Objective,
    projection::{Targets, measure, project},
};

/// Falls of the rate that one point sums over.
const GROUPS: usize = 64;

/// A fall of the rate as one point sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fall {
    /// ln eta_k, centred by [`Falls::rate`].
    rate: f64,
    /// ln S_k(t), centred by [`Falls::area`].
    area: f64,
    /// eta_(k-1) - eta_k; negative where the rate rises again.
    drop: f64,
}

/// The falls that every point of a table sees.
pub(crate) struct Falls {
    of_point: Vec<Vec<Fall>>,
    /// Mean of ln eta_k.
    rate: f64,
    /// Mean of ln S_k.
    area: f64,
}

impl Falls {
    /// From the falls of each point, not yet centred.
    pub(crate) fn new(mut of_point: Vec<Vec<Fall>>) -> Self {
        let all = || of_point.iter().flatten();
        #[expect(clippy::cast_precision_loss, reason = "at most 64 a point")]
        let count = all().count().max(1) as f64;
        let rate = all().map(|f| f.rate).sum::<f64>() / count;
        let area = all().map(|f| f.area).sum::<f64>() / count;
        for fall in of_point.iter_mut().flatten() {
            fall.rate -= rate;
            fall.area -= area;
        }
        Self { of_point, rate, area }
    }
}

/// The falls that a point at `step` (rates of steps 1..=step) sees, merged to [`GROUPS`].
///
/// `sums` are the sums of the rates up to each step, from 0 before the first.
pub(crate) fn falls(rates: &[f64], sums: &[f64], peak: usize, step: usize) -> Vec<Fall> {
    let changes: Vec<(f64, f64, f64)> = (peak + 1..step)
        .filter(|&k| rates[k] != rates[k - 1])
        .map(|k| (rates[k - 1] - rates[k], rates[k], sums[step] - sums[k]))
        // A rate of zero has no area from there on and pays nothing.
        .filter(|&(_, rate, area)| rate > 0.0 && area > 0.0)
        .collect();
    let size = changes.len().div_ceil(GROUPS).max(1);
    changes
        .chunks(size)
        .map(|part| {
            #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
            let count = part.len() as f64;
            let mean =
                |pick: fn(&(f64, f64, f64)) -> f64| part.iter().map(pick).sum::<f64>() / count;
            Fall {
                rate: mean(|c| c.1).ln(),
                area: mean(|c| c.2).ln(),
                drop: part.iter().map(|c| c.0).sum(),
            }
        })
        .collect()
}

/// Working parameters: ln L0, ln A at the centre of ln S, alpha, ln B, ln C at the centres of the
/// falls, beta, gamma. A point's x is ln S.
pub(crate) struct MultiPower {
    pub(crate) falls: Falls,
}

impl MultiPower {
    /// The sum over the falls of a point at fixed (ln C, beta, gamma).
    fn paid<S: Scalar>(&self, c: S, beta: S, gamma: S, point: &Point) -> S {
        let mut sum = c * 0.0;
        for fall in &self.falls.of_point[point.index] {
            let w = c + gamma * -fall.rate + fall.area;
            // G = 1 - (1 + e^w)^-beta.
            let g = -(-(beta * w.log_add_exp(w * 0.0))).exp_m1();
            sum = sum + g * fall.drop;
        }
        sum
    }
}

impl Formula<7> for MultiPower {
    fn loss<S: Scalar>(&self, theta: &[S; 7], point: &Point) -> S {
        let [e, a, alpha, b, c, beta, gamma] = *theta;
        e.exp() + (a + alpha * -point.x).exp() - b.exp() * self.paid(c, beta, gamma, point)
    }

    /// By hand, because each point sums over 64 falls.
    fn jet(&self, theta: &[f64; 7], point: &Point) -> Jet<7> {
        let [e, a, alpha, b, c, beta, gamma] = *theta;
        let (floor, power, scale) = (e.exp(), (a - alpha * point.x).exp(), b.exp());
        // Value, gradient and Hessian of the paid sum in (ln C, beta, gamma).
        let (mut sum, mut g, mut h) = (0.0, [0.0; 3], [[0.0; 3]; 3]);
        for fall in &self.falls.of_point[point.index] {
            let w = c - gamma * fall.rate + fall.area;
            let log = w.log_add_exp(0.0);
            let share = (w - log).exp();
            let rest = (-beta * log).exp();
            let d = fall.drop * rest;
            let first = d * beta * share;
            let second = first * (1.0 - share) - first * beta * share;
            let cross = d * share - first * log;
            sum += fall.drop - d;
            g[0] += first;
            g[1] += d * log;
            g[2] -= first * fall.rate;
            h[0][0] += second;
            h[0][1] += cross;
            h[0][2] -= second * fall.rate;
            h[1][1] -= d * log * log;
            h[1][2] -= cross * fall.rate;
            h[2][2] += second * fall.rate * fall.rate;
        }
        let x = point.x;
        let mut jet =
            Jet { value: floor + power - scale * sum, gradient: [0.0; 7], hessian: [[0.0; 7]; 7] };
        jet.gradient =
            [floor, power, -x * power, -scale * sum, -scale * g[0], -scale * g[1], -scale * g[2]];
        jet.hessian[0][0] = floor;
        jet.hessian[1][1] = power;
        jet.hessian[1][2] = -x * power;
        jet.hessian[2][2] = x * x * power;
        jet.hessian[3][3] = -scale * sum;
        for i in 0..3 {
            jet.hessian[3][4 + i] = -scale * g[i];
            for (j, second) in h[i].iter().enumerate().skip(i) {
                jet.hessian[4 + i][4 + j] = -scale * second;
            }
        }
        for i in 0..7 {
            for j in 0..i {
                jet.hessian[i][j] = jet.hessian[j][i];
            }
        }
        jet
    }

    fn valid(&self, theta: &[f64; 7]) -> bool {
        let [.., alpha, _, c, beta, gamma] = *theta;
        // Beyond these G is a step or a line on every schedule.
        alpha > 0.0 && c.abs() < 40.0 && beta > 1e-3 && beta < 40.0 && gamma.abs() < 5.0
    }

    fn natural(&self, theta: &[f64; 7], centre: Centre) -> [f64; 7] {
        let [e, a, alpha, b, c, beta, gamma] = *theta;
        let c = c + gamma * self.falls.rate - self.falls.area;
        [e.exp(), (a + alpha * centre.x).exp(), alpha, b.exp(), c.exp(), beta, gamma]
    }

    fn working(&self, natural: &[f64; 7], centre: Centre) -> [f64; 7] {
        let [e, a, alpha, b, c, beta, gamma] = *natural;
        let c = log_or_none(c) - gamma * self.falls.rate + self.falls.area;
        [log_or_none(e), log_or_none(a) - alpha * centre.x, alpha, log_or_none(b), c, beta, gamma]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// At fixed alpha, C, beta and gamma the law is linear in (L0, A, B).
    fn starts(&self, points: &[Point], objective: Objective) -> Vec<[f64; 7]> {
        let least = least_loss(points);
        let targets = Targets::of(points);
        let mut starts = Vec::new();
        for c in [-2.0, 0.0, 2.0] {
            for beta in [0.3, 0.8] {
                for gamma in [0.2, 0.7] {
                    let fallen: Vec<f64> =
                        points.iter().map(|p| -self.paid(c, beta, gamma, p)).collect();
                    let deepest = fallen.iter().map(|v| v.abs()).fold(f64::MIN_POSITIVE, f64::max);
                    for alpha in [0.15, 0.35, 0.7] {
                        let power: Vec<f64> = points.iter().map(|p| (-alpha * p.x).exp()).collect();
                        let node = project(&power, &fallen, &targets, measure(objective), None, 10);
                        let [e, a, b] = node.coefficients;
                        let inside = |v: f64| v.max(1e-4 * least).ln();
                        let b = b.max(1e-4 * least / deepest).ln();
                        starts.push([inside(e), inside(a), alpha, b, c, beta, gamma]);
                    }
                }
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The derivatives by hand against those that the jets propagate; both are exact, so only
    /// roundings differ.
    #[test]
    fn derivatives_by_hand_are_those_of_the_formula() {
        let rates: Vec<f64> = (0..40).map(|i| 1e-3 * (1.0 - 0.02 * f64::from(i))).collect();
        let sums: Vec<f64> = std::iter::once(0.0)
            .chain(rates.iter().scan(0.0, |s, r| {
                *s += r;
                Some(*s)
            }))
            .collect();
        let law = MultiPower { falls: Falls::new(vec![falls(&rates, &sums, 0, 37)]) };
        let point = Point { x: 0.7, y: 0.0, u: 0.0, loss: 3.0, target: 0.0, weight: 1.0, index: 0 };
        let theta = [0.4, 0.2, 0.5, 6.0, 0.3, 0.6, 0.45];
        let (ours, theirs): (Jet<7>, Jet<7>) =
            (law.jet(&theta, &point), law.loss(&Jet::variables(&theta), &point));
        assert!((ours.value - theirs.value).abs() < 1e-13);
        for i in 0..7 {
            assert!((ours.gradient[i] - theirs.gradient[i]).abs() < 1e-12, "{i}");
            for j in 0..7 {
                assert!((ours.hessian[i][j] - theirs.hessian[i][j]).abs() < 1e-12, "{i} {j}");
            }
        }
    }
}
