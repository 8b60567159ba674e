//! Polynomials through the losses of a budget, their minimum and its interval.
//!
//! The interval is the set of places at which the slope of the polynomial does not differ from zero
//! by Student's t (Fieller 1954): for a polynomial with normal noise its coverage is exact, whatever
//! the curvature, and where the losses cannot tell a minimum it rightly has no end.

use std::array::from_fn;

use crate::{
    linear::{Matrix, solve_positive},
    statistics::{count, student_975},
};

/// A least-squares polynomial with P coefficients, the constant first.
pub(super) struct Polynomial<const P: usize> {
    pub(super) coefficients: [f64; P],
    /// Normal equations in t over `spread`.
    gram: Matrix<P>,
    spread: f64,
    /// Variance of a loss and its degrees of freedom; absent where the fit took them all.
    noise: Option<(f64, usize)>,
}

impl<const P: usize> Polynomial<P> {
    pub(super) fn through(t: &[f64], y: &[f64]) -> Option<Self> {
        let spread = t.iter().fold(0.0_f64, |a, v| a.max(v.abs())).max(1e-12);
        // About the mean of y and in units of the spread, for the roundings' sake.
        let y0 = y.iter().sum::<f64>() / count(y.len());
        let (mut gram, mut right) = ([[0.0; P]; P], [0.0; P]);
        for (t, y) in t.iter().zip(y) {
            let row = powers::<P>(t / spread);
            for i in 0..P {
                right[i] += row[i] * (y - y0);
                for j in 0..P {
                    gram[i][j] += row[i] * row[j];
                }
            }
        }
        let scaled = solve_positive(&gram, &right)?;
        let misfit = |(t, y): (&f64, &f64)| {
            let fitted: f64 = powers::<P>(t / spread).iter().zip(scaled).map(|(r, c)| r * c).sum();
            (y - y0 - fitted).powi(2)
        };
        let degrees = t.len().saturating_sub(P);
        let squares: f64 = t.iter().zip(y).map(misfit).sum();
        let noise = (degrees > 0).then(|| (squares / count(degrees), degrees));
        let mut coefficients = scaled;
        let mut scale = 1.0;
        for coefficient in &mut coefficients {
            *coefficient /= scale;
            scale *= spread;
        }
        coefficients[0] += y0;
        Some(Self { coefficients, gram, spread, noise })
    }

    /// The slope at a place.
    fn slope(&self, t: f64) -> f64 {
        (1..P).rev().fold(0.0, |sum, i| sum * t + count(i) * self.coefficients[i])
    }

    /// The standard error of the slope at a place, for losses of variance 1.
    fn slope_error(&self, t: f64) -> Option<f64> {
        let powers = powers::<P>(t / self.spread);
        let row: [f64; P] =
            from_fn(|i| if i == 0 { 0.0 } else { count(i) * powers[i - 1] / self.spread });
        let solved = solve_positive(&self.gram, &row)?;
        Some(row.iter().zip(solved).map(|(a, b)| a * b).sum::<f64>().max(0.0).sqrt())
    }

    /// The 95 % interval of the minimum at `at`, searched within `low..high`; `None` where an end
    /// is not found there or no degree of freedom is left for the noise.
    pub(super) fn interval(&self, at: f64, [low, high]: [f64; 2]) -> Option<[f64; 2]> {
        let (variance, degrees) = self.noise?;
        let width = student_975(degrees) * variance.sqrt();
        // Beyond an end the slope surely points back to the minimum.
        let beyond = |t: f64, side: f64| {
            self.slope_error(t).is_some_and(|error| side * self.slope(t) > width * error)
        };
        let end = |side: f64, limit: f64| {
            // 400 steps to the limit, then halvings of one.
            const STEPS: usize = 400;
            let place = |i: usize| at + (limit - at) * count(i) / count(STEPS);
            let first = (1..=STEPS).find(|&i| beyond(place(i), side))?;
            let (mut inside, mut outside) = (place(first - 1), place(first));
            for _ in 0..40 {
                let middle = f64::midpoint(inside, outside);
                if beyond(middle, side) { outside = middle } else { inside = middle }
            }
            Some(f64::midpoint(inside, outside))
        };
        Some([end(-1.0, low)?, end(1.0, high)?])
    }
}

fn powers<const P: usize>(t: f64) -> [f64; P] {
    let mut row = [1.0; P];
    for i in 1..P {
        row[i] = row[i - 1] * t;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweep_spec::random::{Purpose, Stream};

    /// 2,000 noisy parabolas: the share covered lies within four standard deviations of 95 %.
    #[test]
    fn the_interval_of_a_vertex_covers_as_often_as_it_says() {
        let t: Vec<f64> = (0..7).map(|i| f64::from(i) / 3.0 - 1.0).collect();
        let mut draws = Stream::new(1, Purpose::Resampling, 1 << 41);
        let (mut covered, mut open) = (0, 0);
        for _ in 0..2000 {
            let y: Vec<f64> = t.iter().map(|t| (t - 0.2).powi(2) + 0.05 * draws.normal()).collect();
            let fitted = Polynomial::<3>::through(&t, &y).unwrap();
            let [_, b, c] = fitted.coefficients;
            match fitted.interval(-b / (2.0 * c), [-9.0, 9.0]) {
                Some([low, high]) => covered += i32::from(low <= 0.2 && 0.2 <= high),
                None => open += 1,
            }
        }
        assert!(open < 20 && (1860..=1940).contains(&(covered + open)), "{covered} {open}");
    }

    #[test]
    fn flat_losses_have_no_ends_and_exact_ones_no_width() {
        let t: Vec<f64> = (0..7).map(|i| f64::from(i) / 3.0 - 1.0).collect();
        let waves: Vec<f64> = (0..7).map(|i| 3.0 + 0.1 * f64::from(i % 2)).collect();
        assert_eq!(Polynomial::<3>::through(&t, &waves).unwrap().interval(0.0, [-2.0, 2.0]), None);
        let exact: Vec<f64> = t.iter().map(|t| 2.0 + t * t).collect();
        let fitted = Polynomial::<3>::through(&t, &exact).unwrap();
        let [low, high] = fitted.interval(0.0, [-2.0, 2.0]).unwrap();
        assert!(low.abs() < 1e-6 && high.abs() < 1e-6);
        assert!(
            Polynomial::<3>::through(&t[..3], &exact[..3])
                .unwrap()
                .interval(0.0, [-2.0, 2.0])
                .is_none()
        );
    }
}
