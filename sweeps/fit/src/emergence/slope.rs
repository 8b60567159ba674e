//! Values with their first derivatives: what least squares needs, at a fraction of a jet's cost.

use std::{
    array::from_fn,
    ops::{Add, Mul, Neg, Sub},
};

use crate::jet::Scalar;

/// A value with its gradient in P parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slope<const P: usize> {
    pub(super) value: f64,
    pub(super) gradient: [f64; P],
}

impl<const P: usize> Slope<P> {
    /// The parameters themselves.
    pub(super) fn variables(values: &[f64; P]) -> [Self; P] {
        from_fn(|i| {
            let mut gradient = [0.0; P];
            gradient[i] = 1.0;
            Self { value: values[i], gradient }
        })
    }

    /// A function of this value, given its own value and derivative.
    fn chain(self, value: f64, first: f64) -> Self {
        Self { value, gradient: self.gradient.map(|g| first * g) }
    }
}

impl<const P: usize> Add for Slope<P> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let gradient = from_fn(|i| self.gradient[i] + other.gradient[i]);
        Self { value: self.value + other.value, gradient }
    }
}

impl<const P: usize> Sub for Slope<P> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<const P: usize> Neg for Slope<P> {
    type Output = Self;
    fn neg(self) -> Self {
        self.chain(-self.value, -1.0)
    }
}

impl<const P: usize> Mul for Slope<P> {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the product rule is a sum")]
    fn mul(self, other: Self) -> Self {
        let gradient = from_fn(|i| self.value * other.gradient[i] + other.value * self.gradient[i]);
        Self { value: self.value * other.value, gradient }
    }
}

impl<const P: usize> Add<f64> for Slope<P> {
    type Output = Self;
    fn add(mut self, constant: f64) -> Self {
        self.value += constant;
        self
    }
}

impl<const P: usize> Mul<f64> for Slope<P> {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self.chain(self.value * factor, factor)
    }
}

impl<const P: usize> Scalar for Slope<P> {
    fn value(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.chain(e, e)
    }
    fn ln(self) -> Self {
        self.chain(self.value.ln(), self.value.recip())
    }
    fn exp_m1(self) -> Self {
        self.chain(self.value.exp_m1(), self.value.exp())
    }
    fn ln_1p(self) -> Self {
        self.chain(self.value.ln_1p(), (1.0 + self.value).recip())
    }
    fn recip(self) -> Self {
        let inverse = self.value.recip();
        self.chain(inverse, -inverse * inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::Jet;

    /// The same formula through a jet gives the same value and gradient.
    #[test]
    fn slopes_are_the_first_half_of_jets() {
        fn formula<S: Scalar>([a, b]: [S; 2]) -> S {
            let both = (a * b + 0.5).ln() + (a - b).exp() * 0.3;
            (both.exp_m1() + b.ln_1p().recip()) * -a
        }
        let at = [0.7, 1.3];
        let slope = formula(Slope::variables(&at));
        let jet = formula(Jet::variables(&at));
        assert!((slope.value - jet.value).abs() < 1e-15);
        for (one, other) in slope.gradient.iter().zip(jet.gradient) {
            assert!((one - other).abs() < 1e-12, "{one} {other}");
        }
    }
}
