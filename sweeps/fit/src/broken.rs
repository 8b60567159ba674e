//! Broken power laws, y = E + A x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i) (BNSL, Caballero et
//! al. 2022, arXiv 2210.14891), with one, two or three breaks: exponent c0 before the first break,
//! c_i more after the break at d_i, f_i the width of its bend in ln x. x is N, D or C.
//!
//! Breaks may change places without changing the curve; they are named by ascending d.

use std::array::from_fn;

use crate::{
    formula::{Centre, Formula, Point, least_loss, log_or_none},
    jet::Scalar,
    linear::{Matrix, solve_positive},
    objective::Objective,
};

/// One break.
pub(crate) struct Broken;
/// Two breaks.
pub(crate) struct Broken2;
/// Three breaks.
pub(crate) struct Broken3;

/// The place of the first break among the parameters; each takes three.
const FIRST: usize = 3;
/// Starts kept of those that two or three breaks give, by the residuals of their regression.
const KEPT: usize = 60;

/// Working parameters: ln E, ln A at the centre, c0, and for each break c, ln d less the centre,
/// ln f.
macro_rules! broken {
    ($law:ident, $parameters:literal, $linear:literal, $breaks:literal) => {
        impl Formula<$parameters> for $law {
            fn loss<S: Scalar>(&self, theta: &[S; $parameters], point: &Point) -> S {
                loss(theta, point)
            }

            fn valid(&self, theta: &[f64; $parameters]) -> bool {
                // A bend narrower than e^-6 in ln x or wider than e^6 is no bend on any table.
                theta[FIRST..].chunks(3).all(|b| b[2].abs() < 6.0 && b[1].abs() < 200.0)
            }

            fn natural(&self, theta: &[f64; $parameters], centre: Centre) -> [f64; $parameters] {
                natural(theta, centre)
            }

            fn working(&self, natural: &[f64; $parameters], centre: Centre) -> [f64; $parameters] {
                working(natural, centre)
            }

            fn floor(&self) -> Option<usize> {
                Some(0)
            }

            fn starts(&self, points: &[Point], _: Objective) -> Vec<[f64; $parameters]> {
                starts::<$parameters, $linear, $breaks>(points)
            }
        }
    };
}
broken!(Broken, 6, 3, 1);
broken!(Broken2, 9, 4, 2);
broken!(Broken3, 12, 5, 3);

fn loss<S: Scalar, const P: usize>(theta: &[S; P], point: &Point) -> S {
    let mut log = theta[1] - theta[2] * point.x;
    for bend in theta[FIRST..].chunks(3) {
        let f = bend[2].exp();
        log = log - bend[0] * (softplus((-bend[1] + point.x) * f.recip()) * f);
    }
    theta[0].exp() + log.exp()
}

fn natural<const P: usize>(theta: &[f64; P], centre: Centre) -> [f64; P] {
    let mut values = *theta;
    values[0] = theta[0].exp();
    values[1] = (theta[1] + theta[2] * centre.x).exp();
    let mut breaks: Vec<[f64; 3]> =
        theta[FIRST..].chunks(3).map(|b| [b[0], (b[1] + centre.x).exp(), b[2].exp()]).collect();
    breaks.sort_by(|a, b| a[1].total_cmp(&b[1]));
    for (place, value) in values[FIRST..].iter_mut().zip(breaks.into_iter().flatten()) {
        *place = value;
    }
    values
}

fn working<const P: usize>(natural: &[f64; P], centre: Centre) -> [f64; P] {
    let mut theta = *natural;
    theta[0] = log_or_none(natural[0]);
    theta[1] = log_or_none(natural[1]) - natural[2] * centre.x;
    for bend in theta[FIRST..].chunks_mut(3) {
        bend[1] = log_or_none(bend[1]) - centre.x;
        bend[2] = log_or_none(bend[2]);
    }
    theta
}

/// ln(1 + e^t).
fn softplus<S: Scalar>(t: S) -> S {
    t.log_add_exp(t * 0.0)
}

/// At a fixed floor, breaks and width ln(L - E) is linear in (ln A, c0, c_i): Q of them.
fn starts<const P: usize, const Q: usize, const K: usize>(points: &[Point]) -> Vec<[f64; P]> {
    let least = least_loss(points);
    let (low, high) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.x), h.max(p.x)));
    let mut starts = Vec::new();
    for share in [1e-3, 0.3, 0.6, 0.85, 0.97] {
        let floor = share * least;
        for steps in ascending::<K>() {
            let breaks = steps.map(|step| low + (high - low) * f64::from(step) / 10.0);
            for f in [0.1_f64, 0.4, 1.5] {
                if let Some((c, misfit)) = regress::<Q, K>(points, &breaks, f, floor) {
                    let theta = from_fn(|i| match i {
                        0 => floor.ln(),
                        1 => c[0],
                        2 => c[1],
                        _ if i % 3 == 0 => c[i / 3 + 1],
                        _ if i % 3 == 1 => breaks[i / 3 - 1],
                        _ => f.ln(),
                    });
                    starts.push((misfit, theta));
                }
            }
        }
    }
    if K > 1 {
        starts.sort_by(|a, b| a.0.total_cmp(&b.0));
        starts.truncate(KEPT);
    }
    starts.into_iter().map(|(_, theta)| theta).collect()
}

/// K ascending steps out of 1..=9.
fn ascending<const K: usize>() -> Vec<[u8; K]> {
    (1_u32..512)
        .filter(|mask| mask.count_ones() as usize == K)
        .map(|mask| {
            let mut steps = (1_u8..10).filter(|step| mask >> (step - 1) & 1 == 1);
            from_fn(|_| steps.next().expect("K bits are set"))
        })
        .collect()
}

/// The coefficients and their sum of squares in ln(L - E), relative to (L - E)/L: what it is in
/// ln L.
fn regress<const Q: usize, const K: usize>(
    points: &[Point],
    breaks: &[f64; K],
    f: f64,
    floor: f64,
) -> Option<([f64; Q], f64)> {
    let row = |point: &Point| -> [f64; Q] {
        from_fn(|i| match i {
            0 => 1.0,
            1 => -point.x,
            _ => -f * softplus((point.x - breaks[i - 2]) / f),
        })
    };
    let (mut matrix, mut right): (Matrix<Q>, _) = ([[0.0; Q]; Q], [0.0; Q]);
    for point in points {
        let row = row(point);
        let target = (point.loss - floor).ln();
        for i in 0..Q {
            right[i] += row[i] * target;
            for j in 0..Q {
                matrix[i][j] += row[i] * row[j];
            }
        }
    }
    let found = solve_positive(&matrix, &right)?;
    let misfit = |point: &Point| {
        let fitted: f64 = row(point).iter().zip(found).map(|(r, c)| r * c).sum();
        let share = (point.loss - floor) / point.loss;
        (share * (fitted - (point.loss - floor).ln())).powi(2)
    };
    Some((found, points.iter().map(misfit).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Law, Observation, Options, fit};

    fn curve(law: Law, truth: &[f64], count: u32) -> Vec<Observation> {
        (0..count)
            .map(|i| {
                let x = 1e4 * 10.0_f64.powf(10.0 * f64::from(i) / f64::from(count - 1));
                let mut row = Observation { d: Some(x), ..Observation::default() };
                row.loss = law.loss(truth, &row).unwrap();
                row
            })
            .collect()
    }

    /// Bends trade against each other, so the curve is judged: a noise-free one is met to 1e-6 of
    /// the loss everywhere.
    #[test]
    fn curves_with_more_breaks_are_followed() {
        let two: &[f64] = &[0.4, 6.0, 0.02, 0.25, 1e7, 0.3, -0.2, 1e11, 0.4];
        let three: &[f64] = &[0.4, 6.0, 0.02, 0.25, 1e6, 0.3, -0.22, 1e9, 0.3, 0.3, 1e12, 0.3];
        for (law, truth) in [(Law::Broken2, two), (Law::Broken3, three)] {
            let rows = curve(law, truth, 61);
            let found = fit(&rows, &Options { law, ..Options::default() }).unwrap();
            let worst = found.points.iter().map(|p| p.log_residual.abs()).fold(0.0, f64::max);
            assert!(worst < 1e-6, "{law}: {worst:e} {:?}", found.values());
            let breaks: Vec<f64> = found.values()[FIRST..].chunks(3).map(|b| b[1]).collect();
            assert!(breaks.is_sorted(), "{breaks:?}");
        }
    }

    /// A curve with two bends, which one break cannot follow.
    #[test]
    fn one_break_is_not_two() {
        let truth = [0.4, 6.0, 0.02, 0.25, 1e7, 0.3, -0.2, 1e11, 0.4];
        let rows = curve(Law::Broken2, &truth, 61);
        let found = fit(&rows, &Options { law: Law::Broken, ..Options::default() }).unwrap();
        assert!(found.points.iter().any(|p| p.log_residual.abs() > 1e-3));
    }

    #[test]
    fn steps_are_all_choices() {
        assert_eq!((ascending::<1>().len(), ascending::<2>().len()), (9, 36));
        assert!(ascending::<3>().contains(&[1, 5, 9]) && ascending::<3>().len() == 84);
    }
}
