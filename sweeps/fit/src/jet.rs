//! Exact first and second derivatives by forward propagation (second-order jets).
//!
//! A law is written once over [`Scalar`]; with `f64` it gives the loss, with [`Jet`] also its
//! gradient and Hessian. So no derivative is worked out by hand, and none is a difference.

use std::{
    array::from_fn,
    ops::{Add, Mul, Neg, Sub},
};

/// What a law's formula is written in.
pub(crate) trait Scalar:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    fn value(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln_1p(self) -> Self;
    fn recip(self) -> Self;

    /// ln(e^a + e^b), without overflow.
    fn log_add_exp(self, other: Self) -> Self {
        let (top, low) = if self.value() >= other.value() { (self, other) } else { (other, self) };
        top + (low - top).exp().ln_1p()
    }
}

impl Scalar for f64 {
    fn value(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn ln(self) -> Self {
        self.ln()
    }
    fn exp_m1(self) -> Self {
        self.exp_m1()
    }
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }
    fn recip(self) -> Self {
        self.recip()
    }
}

/// A value with its gradient and Hessian in P parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jet<const P: usize> {
    pub(crate) value: f64,
    pub(crate) gradient: [f64; P],
    pub(crate) hessian: [[f64; P]; P],
}

impl<const P: usize> Jet<P> {
    /// The parameters themselves as jets.
    pub(crate) fn variables(values: &[f64; P]) -> [Self; P] {
        from_fn(|i| {
            let mut gradient = [0.0; P];
            gradient[i] = 1.0;
            Self { value: values[i], gradient, hessian: [[0.0; P]; P] }
        })
    }

    /// A function of this jet, given its value and first two derivatives.
    pub(crate) fn chain(self, value: f64, first: f64, second: f64) -> Self {
        let gradient = self.gradient.map(|g| first * g);
        let hessian = from_fn(|i| {
            let left = second * self.gradient[i];
            from_fn(|j| first * self.hessian[i][j] + left * self.gradient[j])
        });
        Self { value, gradient, hessian }
    }
}

impl<const P: usize> Add for Jet<P> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            gradient: from_fn(|i| self.gradient[i] + other.gradient[i]),
            hessian: from_fn(|i| from_fn(|j| self.hessian[i][j] + other.hessian[i][j])),
        }
    }
}

impl<const P: usize> Sub for Jet<P> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<const P: usize> Neg for Jet<P> {
    type Output = Self;
    fn neg(self) -> Self {
        self * -1.0
    }
}

impl<const P: usize> Mul for Jet<P> {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the product rule is a sum")]
    fn mul(self, other: Self) -> Self {
        let (a, b) = (&self, &other);
        Self {
            value: a.value * b.value,
            gradient: from_fn(|i| a.value * b.gradient[i] + b.value * a.gradient[i]),
            hessian: from_fn(|i| {
                from_fn(|j| {
                    a.value * b.hessian[i][j]
                        + b.value * a.hessian[i][j]
                        + a.gradient[i] * b.gradient[j]
                        + b.gradient[i] * a.gradient[j]
                })
            }),
        }
    }
}

impl<const P: usize> Add<f64> for Jet<P> {
    type Output = Self;
    fn add(mut self, constant: f64) -> Self {
        self.value += constant;
        self
    }
}

impl<const P: usize> Mul<f64> for Jet<P> {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self.chain(self.value * factor, factor, 0.0)
    }
}

impl<const P: usize> Scalar for Jet<P> {
    fn value(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.chain(e, e, e)
    }
    fn ln(self) -> Self {
        let inverse = self.value.recip();
        self.chain(self.value.ln(), inverse, -inverse * inverse)
    }
    fn exp_m1(self) -> Self {
        let e = self.value.exp();
        self.chain(self.value.exp_m1(), e, e)
    }
    fn ln_1p(self) -> Self {
        let inverse = (1.0 + self.value).recip();
        self.chain(self.value.ln_1p(), inverse, -inverse * inverse)
    }
    fn recip(self) -> Self {
        let inverse = self.value.recip();
        self.chain(inverse, -inverse * inverse, 2.0 * inverse * inverse * inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formula<S: Scalar>(t: &[S; 3]) -> S {
        (t[0] * t[1]).exp().ln_1p() * t[2].recip() + (t[1] * 0.3).exp_m1().log_add_exp(t[0])
            - t[2].ln()
    }

    /// Central differences of step 1e-4 are good to about 1e-8 for the gradient and 1e-6 for the
    /// Hessian of this formula.
    #[test]
    fn derivatives_agree_with_differences() {
        let at = [0.4, -0.7, 1.3];
        let jet = formula(&Jet::variables(&at));
        let step = 1e-4;
        let moved = |i: usize, by: f64, j: usize, also: f64| {
            let mut t = at;
            t[i] += by;
            t[j] += also;
            formula(&t)
        };
        assert!((jet.value - formula(&at)).abs() < 1e-15);
        for i in 0..3 {
            let slope = (moved(i, step, i, 0.0) - moved(i, -step, i, 0.0)) / (2.0 * step);
            assert!((jet.gradient[i] - slope).abs() < 1e-7, "gradient {i}");
            for j in 0..3 {
                let bend =
                    (moved(i, step, j, step) - moved(i, step, j, -step) - moved(i, -step, j, step)
                        + moved(i, -step, j, -step))
                        / (4.0 * step * step);
                assert!((jet.hessian[i][j] - bend).abs() < 1e-5, "Hessian {i} {j}");
            }
        }
    }
}
