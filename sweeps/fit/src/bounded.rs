//! The bounded repeat form (arXiv 2605.09189): L = E + (L0 - E) h/(1 + h) with
//! h = a N^-alpha + b D^-beta + c N^gamma U^-delta. E and L0 in nats, N in parameters, D in tokens
//! seen, U in unique tokens.
//!
//! L0 is the loss of an untrained model: no shortage, however large, goes beyond it. The third term
//! is overfitting, which grows with N and falls with U. Where h is small and c is 0 this is the
//! separable law with A = (L0 - E) a, B = (L0 - E) b.
//!
//! h is convex in ln N along C = 6 N D with all tokens unique, so the optimum is the one root of
//! its slope; as there are three terms the optima lie on no power law.

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    objective::{Objective, Rho},
    projection::{Measure, Targets, project},
};

/// Working parameters: ln E, ln L0, ln a, ln b, ln c at the centre, alpha, beta, gamma, delta.
pub(crate) struct Bounded;

impl Formula<9> for Bounded {
    fn loss<S: Scalar>(&self, theta: &[S; 9], point: &Point) -> S {
        let [e, top, a, b, c, alpha, beta, gamma, delta] = *theta;
        let short = (a + alpha * -point.x).log_add_exp(b + beta * -point.y);
        let h = short.log_add_exp(c + gamma * point.x + delta * -point.u);
        // 1/(1 + h) and h/(1 + h) by logarithms: neither loses digits at the other's end.
        let zero = h * 0.0;
        (e + -h.log_add_exp(zero)).exp() + (top + -(-h).log_add_exp(zero)).exp()
    }

    fn valid(&self, theta: &[f64; 9]) -> bool {
        // A bound beyond e^12 times the floor is none on any table.
        let bounded = theta[1] > theta[0] && theta[1] < 12.0 + theta[0].max(0.0);
        bounded && theta[5..].iter().all(|exponent| *exponent > 0.0)
    }

    fn natural(&self, theta: &[f64; 9], centre: Centre) -> [f64; 9] {
        let [e, top, a, b, c, alpha, beta, gamma, delta] = *theta;
        let over = c - gamma * centre.x + delta * centre.y;
        [
            e.exp(),
            top.exp(),
            (a + alpha * centre.x).exp(),
            (b + beta * centre.y).exp(),
            over.exp(),
            alpha,
            beta,
            gamma,
            delta,
        ]
    }

    fn working(&self, natural: &[f64; 9], centre: Centre) -> [f64; 9] {
        let [e, top, a, b, c, alpha, beta, gamma, delta] = *natural;
        [
            log_or_none(e),
            log_or_none(top),
            log_or_none(a) - alpha * centre.x,
            log_or_none(b) - beta * centre.y,
            log_or_none(c) + gamma * centre.x - delta * centre.y,
            alpha,
            beta,
            gamma,
            delta,
        ]
    }

    fn floor(&self) -> Option<usize> {
        Some(0)
    }

    /// At fixed bounds and exponents h is known at every point and linear in a, b and c.
    fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; 9]> {
        let least = least_loss(points);
        let most = points.iter().map(|p| p.loss).fold(0.0, f64::max);
        let mut starts = Vec::new();
        for share in [0.3, 0.7, 0.93] {
            for factor in [1.1, 1.6, 4.0] {
                let (floor, top) = (share * least, factor * most);
                let h = |p: &Point| (p.loss - floor) / (top - p.loss);
                for [alpha, beta] in [[0.25, 0.25], [0.5, 0.5], [0.25, 0.6], [0.6, 0.25]] {
                    for [gamma, delta] in [[0.3, 0.3], [0.6, 0.9], [1.5, 1.5]] {
                        let [c, a, b] = shortages(points, h, [alpha, beta, gamma, delta]);
                        let logs = [a, b, c].map(|v| log_or_none(v.max(1e-4)));
                        let [a, b, c] = logs;
                        let ends = [floor.ln(), top.ln()];
                        starts.push([ends[0], ends[1], a, b, c, alpha, beta, gamma, delta]);
                    }
                }
            }
        }
        starts
    }
}

/// The non-negative (c, a, b) of h at fixed exponents, by relative error: that does not change when
/// every column is divided by the third, which makes it the constant of the projection.
fn shortages(points: &[Point], h: impl Fn(&Point) -> f64, exponents: [f64; 4]) -> [f64; 3] {
    let [alpha, beta, gamma, delta] = exponents;
    let over = |p: &Point| (gamma * p.x - delta * p.u).exp();
    let left: Vec<f64> = points.iter().map(|p| (-alpha * p.x).exp() / over(p)).collect();
    let right: Vec<f64> = points.iter().map(|p| (-beta * p.y).exp() / over(p)).collect();
    let targets = Targets::new(points, |p| h(p) / over(p));
    project(&left, &right, &targets, Measure { rho: Rho::Square, log: true }, None, 3).coefficients
}

/// N at which a budget C = 6 N D, all tokens unique, has the least h.
pub(crate) fn best_size(values: &[f64; 9], flops: f64) -> Option<f64> {
    let [_, _, a, b, c, alpha, beta, gamma, delta] = *values;
    let tokens = (flops / 6.0).ln();
    // Derivative of h in ln N, where ln D = ln(C/6) - ln N; it rises throughout.
    let slope = |x: f64| {
        let over = c.ln() + gamma * x - delta * (tokens - x);
        -alpha * (a.ln() - alpha * x).exp()
            + beta * (b.ln() - beta * (tokens - x)).exp()
            + (gamma + delta) * over.exp()
    };
    // Sizes from e^-50 to e^150; 200 halvings end at the last bit.
    let (mut low, mut high) = (-50.0, 150.0);
    if !(slope(low) < 0.0 && slope(high) > 0.0) {
        return None;
    }
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    Some(f64::midpoint(low, high).exp())
}

#[cfg(test)]
mod tests {
    use crate::{Law, Observation, Options, fit};

    const TRUTH: [f64; 9] = [1.9, 11.0, 60.0, 220.0, 2e-3, 0.35, 0.37, 0.6, 0.4];

    fn table() -> Vec<Observation> {
        let mut rows = Vec::new();
        for size in 0..5 {
            for tokens in 0..4 {
                for epochs in [1.0, 3.0, 10.0, 40.0, 150.0] {
                    let unique = 1e7 * 10.0_f64.powf(0.8 * f64::from(tokens));
                    let n = 1e6 * 10.0_f64.powf(0.7 * f64::from(size));
                    let mut row = Observation::new(n, unique * epochs, 1.0);
                    row.unique = Some(unique);
                    row.loss = Law::Bounded.loss(&TRUTH, &row).unwrap();
                    rows.push(row);
                }
            }
        }
        rows
    }

    /// Nine parameters on 100 points: the condition number costs three more digits than separable.
    #[test]
    fn a_noise_free_table_gives_its_constants_back() {
        let found = fit(&table(), &Options { law: Law::Bounded, ..Options::default() }).unwrap();
        for (parameter, truth) in found.params.iter().zip(TRUTH) {
            let error = (parameter.estimate.value / truth - 1.0).abs();
            assert!(error < 1e-4, "{} {:e}", parameter.name, parameter.estimate.value);
        }
        assert_eq!(found.exponents, None);
    }

    /// More passes help, more parameters on few unique tokens harm, and nothing passes the bound.
    #[test]
    fn it_overfits_and_is_bounded() {
        let loss = |n: f64, d: f64, unique: f64| {
            let row = Observation { unique: Some(unique), ..Observation::new(n, d, 1.0) };
            Law::Bounded.loss(&TRUTH, &row).unwrap()
        };
        assert!(loss(1e8, 1e10, 1e9) < loss(1e8, 1e9, 1e9));
        assert!(loss(1e12, 1e9, 1e6) > loss(1e9, 1e9, 1e6));
        assert!(loss(1.0, 1.0, 1.0) < TRUTH[1] && loss(1e15, 1e20, 1.0) <= TRUTH[1]);
    }

    #[test]
    fn the_optimum_is_the_least_loss_of_its_budget() {
        let (n, d) = Law::Bounded.split(&TRUTH, 1e20).unwrap();
        assert!((6.0 * n * d / 1e20 - 1.0).abs() < 1e-12);
        let loss =
            |n: f64| Law::Bounded.loss(&TRUTH, &Observation::new(n, 1e20 / 6.0 / n, 1.0)).unwrap();
        assert!(loss(n) < loss(1.02 * n) && loss(n) < loss(n / 1.02));
    }

    #[test]
    fn unique_tokens_are_needed() {
        let rows: Vec<Observation> =
            table().into_iter().map(|row| Observation { unique: None, ..row }).collect();
        let refusal = fit(&rows, &Options { law: Law::Bounded, ..Options::default() }).unwrap_err();
        assert!(refusal.to_string().contains("unique=COLUMN"), "{refusal}");
    }
}
