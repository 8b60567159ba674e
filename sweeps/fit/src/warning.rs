//! Doubts about a fit, with codes that programs can match. A warning never changes a number.

use std::fmt;

use serde::Serialize;

/// What is doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningCode {
    /// A log residual beyond 6 robust sigma and 1 %.
    Outliers,
    /// D hardly varies at given N.
    CollinearDesign,
    /// The profile interval of a parameter spans a factor of 10 or has no end.
    FlatDirection,
    /// E sits on its bound.
    FloorAtZero,
    /// A free E on less than two decades.
    ShortRange,
    /// Fewer than 3 observations per parameter.
    FewObservations,
    /// Fewer than 20 resampling units.
    FewGroups,
    /// The profile found a lower value, or the minimum lies on its edge.
    NotCertified,
    /// A budget beyond 10 times the largest C.
    Extrapolation,
    /// Held-out error above 3 times that of the fit.
    HeldOutWorse,
    /// Too many observations far above the best loss at their compute.
    FarFromFrontier,
    /// Same N and D, different loss.
    Duplicates,
    /// A run column is there and not used as the group.
    Ungrouped,
    /// D beyond U under a law that counts repeats as fresh.
    RepeatedData,
    /// C is far from 6 N D.
    UnitMismatch,
    /// The least loss of a budget is at its smallest or largest N.
    IsoflopEdgeMinimum,
    /// Fewer than 5 sizes in a budget.
    IsoflopFewSizes,
    /// The centres of the budgets drift against the optimum.
    IsoflopDriftingCentres,
    /// Cubic and parabola disagree on N*.
    IsoflopCubicDisagrees,
    /// Distinct C were merged into one budget.
    IsoflopMergedBudgets,
}

impl WarningCode {
    /// The code as documents write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outliers => "outliers",
            Self::CollinearDesign => "collinear-design",
            Self::FlatDirection => "flat-direction",
            Self::FloorAtZero => "floor-at-zero",
            Self::ShortRange => "short-range",
            Self::FewObservations => "few-observations",
            Self::FewGroups => "few-groups",
            Self::NotCertified => "not-certified",
            Self::Extrapolation => "extrapolation",
            Self::HeldOutWorse => "held-out-worse",
            Self::FarFromFrontier => "far-from-frontier",
            Self::Duplicates => "duplicates",
            Self::Ungrouped => "ungrouped",
            Self::RepeatedData => "repeated-data",
            Self::UnitMismatch => "unit-mismatch",
            Self::IsoflopEdgeMinimum => "isoflop-edge-minimum",
            Self::IsoflopFewSizes => "isoflop-few-sizes",
            Self::IsoflopDriftingCentres => "isoflop-drifting-centres",
            Self::IsoflopCubicDisagrees => "isoflop-cubic-disagrees",
            Self::IsoflopMergedBudgets => "isoflop-merged-budgets",
        }
    }
}

impl fmt::Display for WarningCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A doubt in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// What kind of doubt.
    pub code: WarningCode,
    /// What exactly, with the numbers.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
