//! The training loop of one run: batches, steps, reports, evaluations, checkpoints.
//!
//! It knows no network and no lease. Losses stay on the device and are read in batches; a value
//! that is not finite ends the run as diverged, with its curve up to there.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sweep_data::Dataset;
use sweep_spec::{
    checkpoint::{FORMAT, Manifest},
    metric::{Metric, Point},
    run::{Run, RunConfig},
};

use crate::{
    checkpoint,
    device::{self, DeviceId},
    error::TrainError,
    family::{Family, read},
    optim::AdamW,
    timer::Timer,
};

/// Steps between two reads of the loss from the device: the host may run this far ahead.
const READ_STEPS: u64 = 32;

/// Reports of training metrics over a run, at most.
const REPORTS: u64 = 200;

/// Seconds between two progress events.
const PROGRESS_SECONDS: f64 = 0.5;

/// What to train, on what, and where its checkpoints are.
#[derive(Debug)]
pub struct TrainRequest<'a> {
    /// The run with its evaluation.
    pub run: &'a Run,
    /// Its data, opened.
    pub dataset: &'a Dataset,
    /// The device.
    pub device: &'a DeviceId,
    /// Folder of this run's checkpoints; the newest whole one is resumed from.
    pub checkpoints: &'a Path,
    /// Of a branch, the folder of its trunk's checkpoints, where there is one here: without a
    /// checkpoint of its own the run begins after the newest one at or before its fork.
    pub trunk: Option<&'a Path>,
    /// Seconds between two checkpoints.
    pub checkpoint_seconds: f64,
    /// Threads of a CPU that share a step, looked at before each; they change no bit of the run.
    pub threads: &'a AtomicUsize,
}

/// What happens during a training, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainEvent {
    /// Training begins after this many steps: 0, or those of the checkpoint it resumed from, which
    /// may be its trunk's.
    Started {
        /// Steps already done.
        step: u64,
        /// Checkpoints that failed their check and were passed over, and steps of a trunk that
        /// are trained again for want of one, a line each.
        passed_over: Vec<String>,
    },
    /// Measured values, in step order.
    Points(Vec<Point>),
    /// Steps done, about twice a second.
    Progress {
        /// Optimiser steps done.
        step: u64,
        /// Speed of this attempt so far.
        tokens_per_second: f64,
    },
    /// A checkpoint is whole on disk.
    Checkpoint {
        /// Optimiser steps it holds.
        step: u64,
        /// Its folder.
        path: PathBuf,
        /// Hash of its manifest.
        hash: String,
    },
    /// A checkpoint could not be written; the one before it still stands.
    CheckpointLost {
        /// Optimiser steps it would have held.
        step: u64,
        /// Why, in words.
        reason: String,
    },
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// The last step.
        step: u64,
    },
    /// It was asked to stop; a checkpoint of this step is on disk.
    Stopped {
        /// Steps done.
        step: u64,
    },
    /// The loss is no longer finite; the curve up to here is data.
    Diverged {
        /// The step at which it was seen.
        step: u64,
    },
}

/// Trains a run to its end, resuming from the newest whole checkpoint. `stop` is looked at after
/// every step.
///
/// # Errors
/// [`TrainError`]: a run this trainer cannot train, a device that failed, a checkpoint that could
/// not be written.
pub fn train(
    request: &TrainRequest<'_>,
    emit: &mut dyn FnMut(TrainEvent),
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let mut training = Training::new(request)?;
    let passed_over = training.resume()?;
    checkpoint::write_config(request.checkpoints, &request.run.config)?;
    emit(TrainEvent::Started { step: training.step, passed_over });
    let outcome = training.run(emit, stop)?;
    Ok(outcome)
}

/// A run in progress.
struct Training<'a> {
    request: &'a TrainRequest<'a>,
    config: &'a RunConfig,
    device: Device,
    family: Family<'a>,
    optimizer: AdamW,
    /// Optimiser steps done.
    step: u64,
    /// Losses and gradient norms not yet read, oldest first.
    unread: Vec<(Tensor<1>, Tensor<1>)>,
    /// Sum, number and last gradient norm since the last report.
    loss_sum: f64,
    loss_count: u64,
    /// Seconds of earlier attempts.
    earlier_seconds: f64,
    timer: Timer,
}

impl<'a> Training<'a> {
    fn new(request: &'a TrainRequest<'a>) -> Result<Self, TrainError> {
        let config = &request.run.config;
        let device = device::open(request.device)?;
        let mut family = Family::new(request, &device)?;
        let optimizer = AdamW::new(&config.optimizer, &family.parameters_mut());
        let optimizer = match family.average_decay() {
            Some(decay) => optimizer.averaging(decay, &family.parameters_mut()),
            None => optimizer,
        };
        Ok(Self {
            request,
            config,
            device,
            family,
            optimizer,
            step: 0,
            unread: Vec::new(),
            loss_sum: 0.0,
            loss_count: 0,
            earlier_seconds: 0.0,
            timer: Timer::start(),
        })
    }

    fn resume(&mut self) -> Result<Vec<String>, TrainError> {
        let id = self.config.id();
        let (mut found, mut passed_over) =
            checkpoint::newest(self.request.checkpoints, id.as_str(), u64::MAX);
        if let (None, Some(edge)) = (&found, &self.config.parent) {
            if let Some(folder) = self.request.trunk {
                let (at_fork, damaged) = checkpoint::newest(folder, edge.run.as_str(), edge.step);
                found = at_fork;
                passed_over.extend(damaged);
            }
            let from = found.as_ref().map_or(0, |found| found.manifest.step);
            if from < edge.step {
                // The rates up to the fork are the trunk's, so this is the same curve, paid twice.
                passed_over.push(format!(
                    "no checkpoint of trunk {} at step {} is here; steps {from} to {} are \
                     trained again",
                    edge.run, edge.step, edge.step
                ));
            }
        }
        if let Some(found) = found {
            found.load(self.family.parameters_mut(), &mut self.optimizer, &self.device)?;
            self.step = found.manifest.step;
            self.loss_sum = found.manifest.loss_sum;
            self.loss_count = found.manifest.loss_count;
            self.earlier_seconds = found.manifest.seconds;
        }
        Ok(passed_over)
    }

    fn run(
        &mut self,
        emit: &mut dyn FnMut(TrainEvent),
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let steps = self.config.steps;
        let reports = (steps / REPORTS).max(1);
        let forks = &self.request.run.forks;
        let cooldown = self.config.schedule.cooldown_start(steps);
        let mut evaluations = evaluation_steps(steps, self.request.run.evaluation.times);
        evaluations.extend(self.family.scoring_steps());
        let (first_step, mut reported, mut saved) = (self.step, f64::NEG_INFINITY, 0.0);
        while self.step < steps {
            self.train_step()?;
            let last = self.step == steps;
            let fork = forks.contains(&self.step);
            // Where a cool-down begins the sum of losses begins anew, in a trunk, in its branch
            // and in a run alone, so that the reports after it are the same.
            let report =
                last || fork || cooldown == Some(self.step) || self.step.is_multiple_of(reports);
            let evaluate = evaluations.contains(&self.step);
            let seconds = self.timer.seconds();
            let stopping = !last && stop.load(Ordering::Relaxed);
            let save =
                last || fork || stopping || seconds - saved >= self.request.checkpoint_seconds;
            let unread = self.unread.len() as u64;
            if (report || evaluate || save || unread >= READ_STEPS)
                && !self.read_losses(report, emit)?
            {
                return Ok(Outcome::Diverged { step: self.step });
            }
            if evaluate {
                emit(TrainEvent::Points(self.evaluate()?));
            }
            if save {
                match self.save() {
                    Ok(checkpoint) => emit(checkpoint),
                    // The next one may fit again. Where a branch forks and at the end it is needed.
                    Err(error @ TrainError::Write { .. }) if !last && !fork && !stopping => {
                        let (step, reason) = (self.step, error.to_string());
                        emit(TrainEvent::CheckpointLost { step, reason });
                    }
                    Err(error) => return Err(error),
                }
                saved = seconds;
            }
            if seconds - reported >= PROGRESS_SECONDS || last || stopping {
                reported = seconds;
                let tokens_per_second = self.speed(first_step, seconds);
                emit(TrainEvent::Progress { step: self.step, tokens_per_second });
            }
            if stopping {
                return Ok(Outcome::Stopped { step: self.step });
            }
        }
        Ok(Outcome::Finished { step: self.step })
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts are below 2^53")]
    fn speed(&self, first_step: u64, seconds: f64) -> f64 {
        ((self.step - first_step) * self.config.tokens_per_step()) as f64 / seconds
    }

    fn train_step(&mut self) -> Result<(), TrainError> {
        let factor = self.config.schedule.factor(self.step, self.config.steps);
        let found = self.family.gradients(self.step)?;
        let parameters = self.family.parameters_mut();
        let norm = self.optimizer.step(parameters, found.parameters, self.step, factor);
        self.unread.push((found.loss, norm));
        self.step += 1;
        Ok(())
    }

    /// Reads what is unread, adds it up, and reports where asked; false when a loss is not finite.
    fn read_losses(
        &mut self,
        report: bool,
        emit: &mut dyn FnMut(TrainEvent),
    ) -> Result<bool, TrainError> {
        let (losses, norms): (Vec<_>, Vec<_>) = self.unread.drain(..).unzip();
        let losses = read(losses)?;
        let norms = read(norms)?;
        let finite = losses.iter().all(|loss| loss.is_finite());
        self.loss_sum += losses.iter().sum::<f64>();
        self.loss_count += losses.len() as u64;
        if (report || !finite) && self.loss_count > 0 {
            let norm = norms.last().copied();
            emit(TrainEvent::Points(self.training_points(norm)));
            (self.loss_sum, self.loss_count) = (0.0, 0);
        }
        Ok(finite)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn training_points(&self, norm: Option<f64>) -> Vec<Point> {
        let last_step = self.step - 1;
        let factor = self.config.schedule.factor(last_step, self.config.steps);
        let tokens = (self.step * self.config.tokens_per_step()) as f64;
        let seconds = self.timer.seconds();
        let mut values = vec![
            (Metric::TrainLoss, self.loss_sum / self.loss_count as f64),
            (Metric::LearningRate, self.config.optimizer.learning_rate * factor),
            (Metric::Tokens, tokens),
            (Metric::Flops, tokens * self.config.shape.flops_per_token()),
            (Metric::Seconds, self.earlier_seconds + seconds),
            (Metric::TokensPerSecond, tokens / (self.earlier_seconds + seconds)),
        ];
        values.extend(norm.map(|norm| (Metric::GradientNorm, norm)));
        let step = self.step;
        values.into_iter().map(|(metric, value)| Point { metric, step, value }).collect()
    }

    fn evaluate(&self) -> Result<Vec<Point>, TrainError> {
        let step = self.step;
        let average = self.optimizer.average.as_ref().map(|average| average.values.as_slice());
        let found = self.family.evaluate(average, step, step == self.config.steps)?;
        Ok(found.into_iter().map(|(metric, value)| Point { metric, step, value }).collect())
    }

    fn save(&mut self) -> Result<TrainEvent, TrainError> {
        let manifest = Manifest {
            format: FORMAT,
            run: self.config.id().as_str().to_owned(),
            step: self.step,
            loss_sum: self.loss_sum,
            loss_count: self.loss_count,
            seconds: self.earlier_seconds + self.timer.seconds(),
            files: std::collections::BTreeMap::new(),
            seal: None,
        };
        let parameters = self.family.parameters_mut();
        let folder = self.request.checkpoints;
        let forks = &self.request.run.forks;
        let (path, hash) =
            checkpoint::write(folder, manifest, &parameters, &self.optimizer, forks)?;
        Ok(TrainEvent::Checkpoint { step: self.step, path, hash })
    }
}

/// The steps after which a run is evaluated: `times` of them, spread evenly in the logarithm of
/// the step, the last step always.
pub(crate) fn evaluation_steps(steps: u64, times: u32) -> Vec<u64> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a root of a step count lies between 1 and the count"
    )]
    let at = |index: u32| {
        let share = f64::from(index) / f64::from(times.max(1));
        libm::pow(steps as f64, share).round() as u64
    };
    let mut found: Vec<u64> = (1..times).map(at).chain([steps]).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod diffusion_tests;
#[cfg(test)]
mod tests;
