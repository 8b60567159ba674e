//! Every figure, one file each. A new one gets a variant here; `sweep plot` and the report find it
//! through [`FigureKind::ALL`].

mod contours;
mod isoflop;
mod loss_compute;
mod loss_curves;
mod optimum;
mod predicted;
mod residuals;
mod runs;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use crate::{figure::Figure, input::PlotInput};

/// The figures of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// Loss of every run while it was trained.
    LossCurves(CurveAxis),
    /// Loss against compute with its frontier.
    LossCompute,
    /// The law's losses against the measured ones, and the forecast of check runs.
    Predicted,
    /// Loss against N at equal compute.
    Isoflop,
    /// N and D that use a budget best.
    Optimum,
    /// Lines of equal loss over N and D.
    Contours,
    /// What the law leaves over, against N, D and C.
    Residuals,
}

/// What a loss curve is drawn over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CurveAxis {
    /// Optimiser steps.
    Steps,
    /// Training tokens seen.
    #[default]
    Tokens,
    /// Training FLOPs spent.
    Flops,
}

impl CurveAxis {
    /// Every axis.
    pub const ALL: [Self; 3] = [Self::Steps, Self::Tokens, Self::Flops];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Tokens => "tokens",
            Self::Flops => "flops",
        }
    }
}

impl FigureKind {
    /// Every figure in the order of a report; loss curves over each of their axes.
    pub const ALL: [Self; 9] = [
        Self::Predicted,
        Self::LossCompute,
        Self::LossCurves(CurveAxis::Tokens),
        Self::LossCurves(CurveAxis::Steps),
        Self::LossCurves(CurveAxis::Flops),
        Self::Isoflop,
        Self::Optimum,
        Self::Contours,
        Self::Residuals,
    ];

    /// Its name on the command line, in file names and in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LossCurves(CurveAxis::Steps) => "loss-curves-steps",
            Self::LossCurves(CurveAxis::Tokens) => "loss-curves-tokens",
            Self::LossCurves(CurveAxis::Flops) => "loss-curves-flops",
            Self::LossCompute => "loss-compute",
            Self::Predicted => "predicted",
            Self::Isoflop => "isoflop",
            Self::Optimum => "optimum",
            Self::Contours => "contours",
            Self::Residuals => "residuals",
        }
    }

    /// Draws up the figure. Where something it needs is absent, it says so in `missing`.
    #[must_use]
    pub fn build(self, input: &PlotInput) -> Figure {
        match self {
            Self::LossCurves(axis) => loss_curves::build(input, axis, self.name()),
            Self::LossCompute => loss_compute::build(input, self.name()),
            Self::Predicted => predicted::build(input, self.name()),
            Self::Isoflop => isoflop::build(input, self.name()),
            Self::Optimum => optimum::build(input, self.name()),
            Self::Contours => contours::build(input, self.name()),
            Self::Residuals => residuals::build(input, self.name()),
        }
    }
}

impl fmt::Display for FigureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure is called `{name}`; hint: one of {}", FigureKind::ALL.map(FigureKind::name).join(", "))]
pub struct UnknownFigure {
    name: String,
}

impl FromStr for FigureKind {
    type Err = UnknownFigure;

    fn from_str(name: &str) -> Result<Self, UnknownFigure> {
        // Without an axis, the usual one.
        if name == "loss-curves" {
            return Ok(Self::LossCurves(CurveAxis::default()));
        }
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownFigure { name: name.to_owned() })
    }
}
