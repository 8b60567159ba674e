//! Every figure, one file each. A new one gets a variant here; `sweep plot` and the report find it
//! through [`FigureKind::ALL`].

mod calibration;
mod contours;
mod emergence;
mod extrapolation;
mod isoflop;
mod loss_compute;
mod loss_curves;
mod noise_levels;
mod optimum;
mod predicted;
mod rates;
mod repeats;
mod resampled;
mod residuals;
mod runs;
mod samples;
#[cfg(test)]
mod tests;
mod throughput;
mod timeline;
mod units;

use std::{fmt, str::FromStr};

use sweep_spec::task::MAX_TASKS;

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
    /// The law without the runs of highest compute, and how it predicts them.
    Extrapolation,
    /// Loss against N at equal compute.
    Isoflop,
    /// N and D that use a budget best.
    Optimum,
    /// Lines of equal loss over N and D.
    Contours,
    /// What the law leaves over, against N, D and C.
    Residuals,
    /// The exponents of the law under every resampled fit.
    Resampled,
    /// Loss against passes over the data, and what repeated data is worth.
    Repeats,
    /// Loss against the learning rate.
    LearningRate,
    /// How fast runs were trained, by size and device.
    Throughput,
    /// When each slot of each worker trained, and how that ended.
    Timeline,
    /// Samples of diffusion models by size and training.
    Samples,
    /// The way of one sample from noise to image.
    DenoisingPath,
    /// Loss of diffusion models by timestep.
    NoiseLevels,
    /// A sharp and a smooth metric of a task, by its place from 1, over compute, size and loss.
    Emergence(u8),
    /// Confidence against being right, for held-out text (0) or a task by its place from 1.
    Calibration(u8),
}

const EMERGENCE: [&str; MAX_TASKS] = [
    "emergence-1",
    "emergence-2",
    "emergence-3",
    "emergence-4",
    "emergence-5",
    "emergence-6",
    "emergence-7",
    "emergence-8",
    "emergence-9",
    "emergence-10",
    "emergence-11",
    "emergence-12",
];

const CALIBRATION: [&str; MAX_TASKS + 1] = [
    "calibration",
    "calibration-1",
    "calibration-2",
    "calibration-3",
    "calibration-4",
    "calibration-5",
    "calibration-6",
    "calibration-7",
    "calibration-8",
    "calibration-9",
    "calibration-10",
    "calibration-11",
    "calibration-12",
];

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
    /// Seconds of training.
    Seconds,
}

impl CurveAxis {
    /// Every axis.
    pub const ALL: [Self; 4] = [Self::Steps, Self::Tokens, Self::Flops, Self::Seconds];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Tokens => "tokens",
            Self::Flops => "flops",
            Self::Seconds => "seconds",
        }
    }
}

impl FigureKind {
    /// The figures of every sweep in the order of a report; loss curves over each of their axes.
    pub const ALL: [Self; 11] = [
        Self::Predicted,
        Self::LossCompute,
        Self::LossCurves(CurveAxis::Tokens),
        Self::LossCurves(CurveAxis::Steps),
        Self::LossCurves(CurveAxis::Flops),
        Self::LossCurves(CurveAxis::Seconds),
        Self::Extrapolation,
        Self::Isoflop,
        Self::Optimum,
        Self::Contours,
        Self::Residuals,
    ];

    /// Figures that only some sweeps have data for; of others they say what is missing.
    pub const FURTHER: [Self; 5] =
        [Self::Resampled, Self::Repeats, Self::LearningRate, Self::Throughput, Self::Timeline];

    /// Figures that only diffusion models have.
    pub const DIFFUSION: [Self; 3] = [Self::Samples, Self::DenoisingPath, Self::NoiseLevels];

    /// The figures of this sweep, in the order of a report.
    #[must_use]
    pub fn of(input: &PlotInput) -> Vec<Self> {
        let images = input.diffusion.iter().flat_map(|_| Self::DIFFUSION);
        let tasks = (1..).zip(&input.tasks).map(|(task, _)| Self::Emergence(task));
        let calibrated = |task: &u8| input.calibrations.iter().any(|entry| entry.task == *task);
        let calibrations = (0_u8..).take(MAX_TASKS + 1).filter(calibrated).map(Self::Calibration);
        let general = Self::ALL.into_iter().chain(Self::FURTHER);
        general.chain(images).chain(tasks).chain(calibrations).collect()
    }

    /// The figures of this sweep, drawn up once for a page and for files: a band of the optimum is a
    /// few hundred splits under every resampled fit.
    #[must_use]
    pub fn build_all(input: &PlotInput) -> Vec<(Self, Figure)> {
        Self::of(input).into_iter().map(|kind| (kind, kind.build(input))).collect()
    }

    /// Its name on the command line, in file names and in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LossCurves(CurveAxis::Steps) => "loss-curves-steps",
            Self::LossCurves(CurveAxis::Tokens) => "loss-curves-tokens",
            Self::LossCurves(CurveAxis::Flops) => "loss-curves-flops",
            Self::LossCurves(CurveAxis::Seconds) => "loss-curves-seconds",
            Self::LossCompute => "loss-compute",
            Self::Predicted => "predicted",
            Self::Extrapolation => "extrapolation",
            Self::Isoflop => "isoflop",
            Self::Optimum => "optimum",
            Self::Contours => "contours",
            Self::Residuals => "residuals",
            Self::Resampled => "resampled",
            Self::Repeats => "repeats",
            Self::LearningRate => "learning-rate",
            Self::Throughput => "throughput",
            Self::Timeline => "timeline",
            Self::Samples => "samples",
            Self::DenoisingPath => "denoising-path",
            Self::NoiseLevels => "noise-levels",
            Self::Emergence(task) => EMERGENCE[task as usize - 1],
            Self::Calibration(task) => CALIBRATION[task as usize],
        }
    }

    /// Draws up the figure. Where something it needs is absent, it says so in `missing`.
    #[must_use]
    pub fn build(self, input: &PlotInput) -> Figure {
        let figure = match self {
            Self::LossCurves(axis) => loss_curves::build(input, axis, self.name()),
            Self::LossCompute => loss_compute::build(input, self.name()),
            Self::Predicted => predicted::build(input, self.name()),
            Self::Extrapolation => extrapolation::build(input, self.name()),
            Self::Isoflop => isoflop::build(input, self.name()),
            Self::Optimum => optimum::build(input, self.name()),
            Self::Contours => contours::build(input, self.name()),
            Self::Residuals => residuals::build(input, self.name()),
            Self::Resampled => resampled::build(input, self.name()),
            Self::Repeats => repeats::build(input, self.name()),
            Self::LearningRate => rates::build(input, self.name()),
            Self::Throughput => throughput::build(input, self.name()),
            Self::Timeline => timeline::build(input, self.name()),
            Self::Samples => samples::grid(input, self.name()),
            Self::DenoisingPath => samples::path(input, self.name()),
            Self::NoiseLevels => noise_levels::build(input, self.name()),
            Self::Emergence(task) => emergence::build(input, task, self.name()),
            Self::Calibration(task) => calibration::build(input, task, self.name()),
        };
        if input.diffusion.is_some() { units::of_images(figure) } else { figure }
    }
}

impl fmt::Display for FigureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no figure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure is called `{name}`; hint: one of {}, emergence-TASK, calibration, calibration-TASK", FigureKind::ALL.into_iter().chain(FigureKind::FURTHER).chain(FigureKind::DIFFUSION).map(FigureKind::name).collect::<Vec<_>>().join(", "))]
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
        // Without a task, the first.
        if name == "emergence" {
            return Ok(Self::Emergence(1));
        }
        let tasks = (1_u8..).take(MAX_TASKS).map(Self::Emergence);
        let calibrations = (0_u8..).take(MAX_TASKS + 1).map(Self::Calibration);
        Self::ALL
            .into_iter()
            .chain(Self::FURTHER)
            .chain(Self::DIFFUSION)
            .chain(tasks)
            .chain(calibrations)
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownFigure { name: name.to_owned() })
    }
}
