//! Straight lines through logarithms: y = y_0 x^slope.

/// A least-squares line of ln y against ln x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogLine {
    /// y_0, the value at x = 1.
    pub scale: f64,
    /// The exponent.
    pub slope: f64,
    /// Sum of squared residuals in ln y.
    pub squares: f64,
}

impl LogLine {
    /// The line through points given by their logarithms; `None` below two distinct x.
    pub(crate) fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let count = points.clone().count();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 points")]
        let n = count as f64;
        let (sx, sy) = points.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let (x0, y0) = (sx / n, sy / n);
        let (mut xx, mut xy) = (0.0, 0.0);
        for (x, y) in points.clone() {
            xx += (x - x0) * (x - x0);
            xy += (x - x0) * (y - y0);
        }
        if count < 2 || xx <= 1e-18 {
            return None;
        }
        let slope = xy / xx;
        let squares = points.map(|(x, y)| (y - y0 - slope * (x - x0)).powi(2)).sum();
        Some(Self { scale: (y0 - slope * x0).exp(), slope, squares })
    }

    /// The value at `x`.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        (self.scale.ln() + self.slope * x.ln()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_comes_back() {
        let points = (1..9).map(|i| (f64::from(i), 2.0 + 0.5 * f64::from(i)));
        let line = LogLine::through(points).unwrap();
        assert!((line.slope - 0.5).abs() < 1e-14 && (line.scale.ln() - 2.0).abs() < 1e-13);
        assert!((line.at(std::f64::consts::E.powi(4)).ln() - 4.0).abs() < 1e-13);
        assert_eq!(LogLine::through([(1.0, 2.0), (1.0, 3.0)].into_iter()), None);
    }
}
