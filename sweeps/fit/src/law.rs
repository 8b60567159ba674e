//! The laws by name. What a law computes stands in its own file; this is the closed list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A scaling law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// L = E + A N^-alpha + B D^-beta.
    #[default]
    Separable,
    /// L = E + A (N^-alpha + R D^-beta)^k.
    Coupled,
    /// L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D.
    Kaplan,
    /// L = E + A N^-alpha + B D^-alpha.
    Gadre,
    /// Separable over effective sizes that saturate with repeats.
    Repeat,
    /// L = E + (L0 - E) h/(1 + h), h = a N^-alpha + b D^-beta + c N^gamma U^-delta.
    Bounded,
    /// y = E + A x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1).
    Broken,
    /// The same with two breaks.
    #[serde(rename = "broken-2")]
    Broken2,
    /// The same with three breaks.
    #[serde(rename = "broken-3")]
    Broken3,
    /// L = A x^-alpha.
    Power,
    /// L = E + A x^-alpha.
    PowerFloor,
}

impl Law {
    /// Every law.
    pub const ALL: [Self; 11] = [
        Self::Separable,
        Self::Coupled,
        Self::Kaplan,
        Self::Gadre,
        Self::Repeat,
        Self::Bounded,
        Self::Broken,
        Self::Broken2,
        Self::Broken3,
        Self::Power,
        Self::PowerFloor,
    ];

    /// Its name in options and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Separable => "separable",
            Self::Coupled => "coupled",
            Self::Kaplan => "kaplan",
            Self::Gadre => "gadre",
            Self::Repeat => "repeat",
            Self::Bounded => "bounded",
            Self::Broken => "broken",
            Self::Broken2 => "broken-2",
            Self::Broken3 => "broken-3",
            Self::Power => "power",
            Self::PowerFloor => "power-floor",
        }
    }

    /// Its formula, as people write it.
    #[must_use]
    pub const fn formula(self) -> &'static str {
        match self {
            Self::Separable => "L = E + A N^-alpha + B D^-beta",
            Self::Coupled => "L = E + A (N^-alpha + R D^-beta)^k",
            Self::Kaplan => "L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D",
            Self::Gadre => "L = E + A N^-alpha + B D^-alpha",
            Self::Repeat => "L = E + A N'^-alpha + B D'^-beta, D' = U + U R_D (1 - e^(-r_D/R_D))",
            Self::Bounded => {
                "L = E + (L0 - E) h/(1 + h), h = a N^-alpha + b D^-beta + c N^gamma U^-delta"
            }
            Self::Broken => "L = E + A x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)",
            Self::Broken2 => "L = E + A x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i), i = 1, 2",
            Self::Broken3 => "L = E + A x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i), i = 1, 2, 3",
            Self::Power => "L = A x^-alpha",
            Self::PowerFloor => "L = E + A x^-alpha",
        }
    }

    /// The names of its parameters, in the order of documents.
    #[must_use]
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Separable => &["E", "A", "B", "alpha", "beta"],
            Self::Coupled => &["E", "A", "R", "alpha", "beta", "k"],
            Self::Kaplan => &["N_c", "D_c", "alpha_N", "alpha_D"],
            Self::Gadre => &["E", "A", "B", "alpha"],
            Self::Repeat => &["E", "A", "B", "alpha", "beta", "R_D", "R_N"],
            Self::Bounded => &["E", "L0", "a", "b", "c", "alpha", "beta", "gamma", "delta"],
            Self::Broken => &["E", "A", "c0", "c1", "d1", "f1"],
            Self::Broken2 => &["E", "A", "c0", "c1", "d1", "f1", "c2", "d2", "f2"],
            Self::Broken3 => {
                &["E", "A", "c0", "c1", "d1", "f1", "c2", "d2", "f2", "c3", "d3", "f3"]
            }
            Self::Power => &["A", "alpha"],
            Self::PowerFloor => &["E", "A", "alpha"],
        }
    }

    /// Whether it takes exactly one of N, D and C.
    #[must_use]
    pub const fn one_variable(self) -> bool {
        matches!(
            self,
            Self::Broken | Self::Broken2 | Self::Broken3 | Self::Power | Self::PowerFloor
        )
    }

    /// Whether it tells unique tokens U from repeated ones.
    #[must_use]
    pub const fn needs_unique(self) -> bool {
        matches!(self, Self::Repeat | Self::Bounded)
    }

    /// Whether it has a free floor E.
    #[must_use]
    pub const fn has_floor(self) -> bool {
        !matches!(self, Self::Kaplan | Self::Power)
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Law {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|law| law.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is not a law; hint: one of {names}")
        })
    }
}
