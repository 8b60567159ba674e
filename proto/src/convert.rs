//! Messages into domain types and back. An error names the path of the field.

use std::collections::BTreeMap;

use sweep_spec::{
    attempt::{AttemptKey, Device, Ending, FailureCause, RunState, Slot},
    id::{RunId, SweepId},
    metric::{Metric, Point},
    policy::Policy,
    run::{Run, RunRole},
};
use tonic::Status;

use crate::{BATCH_POINTS_MAX, fault::Fault, v1};

/// A field that cannot be what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    field: String,
    problem: String,
}

impl FieldError {
    /// A problem at a path such as `run.run_id`.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The path of the field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    fn under(self, parent: &str) -> Self {
        Self { field: format!("{parent}.{}", self.field), problem: self.problem }
    }
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        Fault::Field.status(error.to_string())
    }
}

type Result<T> = std::result::Result<T, FieldError>;

/// A message that must be there.
///
/// # Errors
/// When it is absent.
pub fn required<'a, T>(field: &str, value: Option<&'a T>) -> Result<&'a T> {
    value.ok_or_else(|| FieldError::new(field, "is missing"))
}

/// The id of a run.
///
/// # Errors
/// When the text is no id.
pub fn run_id(field: &str, text: &str) -> Result<RunId> {
    text.parse().map_err(|error| FieldError::new(field, format!("{error}")))
}

/// The id of a sweep.
///
/// # Errors
/// When the text is no id.
pub fn sweep_id(field: &str, text: &str) -> Result<SweepId> {
    text.parse().map_err(|error| FieldError::new(field, format!("{error}")))
}

/// The key of an attempt.
///
/// # Errors
/// When it is absent, its run is no id, or its number is 0.
pub fn attempt_key(field: &str, key: Option<&v1::AttemptKey>) -> Result<AttemptKey> {
    let key = required(field, key)?;
    let run = run_id("run_id", &key.run_id).map_err(|error| error.under(field))?;
    if key.attempt == 0 {
        return Err(FieldError::new(format!("{field}.attempt"), "attempts count from 1"));
    }
    Ok(AttemptKey { run, number: key.attempt })
}

impl From<&AttemptKey> for v1::AttemptKey {
    fn from(key: &AttemptKey) -> Self {
        Self { run_id: key.run.to_string(), attempt: key.number }
    }
}

/// A run, once its configuration hashes to the id it came under.
///
/// # Errors
/// When the JSON is no run of this version, or is another run.
pub fn run(field: &str, id: &RunId, json: &str) -> Result<Run> {
    let run: Run = serde_json::from_str(json)
        .map_err(|error| FieldError::new(field, format!("is no run of this version: {error}")))?;
    let found = run.config.id();
    if found == *id {
        Ok(run)
    } else {
        Err(FieldError::new(field, format!("is run {found}, not run {id}")))
    }
}

/// The text under which a run travels and is stored.
#[must_use]
pub fn run_json(run: &Run) -> String {
    sweep_spec::hash::canonical_json(run)
}

/// The points of a batch.
///
/// # Errors
/// An unknown metric, steps and values of different number, or more points than a batch may have.
pub fn points(field: &str, series: &[v1::Series]) -> Result<Vec<Point>> {
    if series.len() > BATCH_POINTS_MAX {
        let problem = format!("{} series are more than points of a batch", series.len());
        return Err(FieldError::new(field, problem));
    }
    let total: usize = series.iter().map(|series| series.steps.len()).sum();
    if total > BATCH_POINTS_MAX {
        let problem = format!("{total} points are more than {BATCH_POINTS_MAX} of a batch");
        return Err(FieldError::new(field, problem));
    }
    let mut points = Vec::with_capacity(total);
    for (index, series) in series.iter().enumerate() {
        let at = |name: &str| format!("{field}[{index}].{name}");
        let metric: Metric = series
            .metric
            .parse()
            .map_err(|error| FieldError::new(at("metric"), format!("{error}")))?;
        let (steps, values) = (series.steps.len(), series.values.len());
        if steps != values {
            return Err(FieldError::new(at("values"), format!("{values} for {steps} steps")));
        }
        if let Some(step) = series.steps.iter().find(|&&step| i64::try_from(step).is_err()) {
            return Err(FieldError::new(at("steps"), format!("{step} is beyond 2^63")));
        }
        let pairs = series.steps.iter().zip(&series.values);
        points.extend(pairs.map(|(&step, &value)| Point { metric, step, value }));
    }
    Ok(points)
}

/// Points by metric, each in the order given.
#[must_use]
pub fn series(points: &[Point]) -> Vec<v1::Series> {
    let mut by_metric: BTreeMap<Metric, v1::Series> = BTreeMap::new();
    for point in points {
        let series = by_metric.entry(point.metric).or_insert_with(|| v1::Series {
            metric: point.metric.name().to_owned(),
            ..v1::Series::default()
        });
        series.steps.push(point.step);
        series.values.push(point.value);
    }
    by_metric.into_values().collect()
}

/// The terms of a sweep; absent ones are the defaults.
///
/// # Errors
/// A limit that is no number or is below 0.
pub fn policy(field: &str, policy: Option<&v1::SweepPolicy>) -> Result<Policy> {
    let Some(policy) = policy else { return Ok(Policy::default()) };
    let limits =
        [("flops_max", policy.flops_max), ("device_seconds_max", policy.device_seconds_max)];
    for (name, limit) in limits {
        if let Some(limit) = limit.filter(|limit| !limit.is_finite() || *limit < 0.0) {
            return Err(FieldError::new(format!("{field}.{name}"), format!("{limit} is no limit")));
        }
    }
    Ok(Policy {
        priority: policy.priority,
        paused: policy.paused,
        checks_held: policy.checks_held,
        flops_max: policy.flops_max,
        device_seconds_max: policy.device_seconds_max,
        failed_runs_max: policy.failed_runs_max,
    })
}

impl From<&Policy> for v1::SweepPolicy {
    fn from(policy: &Policy) -> Self {
        Self {
            priority: policy.priority,
            paused: policy.paused,
            checks_held: policy.checks_held,
            flops_max: policy.flops_max,
            device_seconds_max: policy.device_seconds_max,
            failed_runs_max: policy.failed_runs_max,
        }
    }
}

/// What a run is for.
///
/// # Errors
/// When it is unspecified or of a later version.
pub fn role(field: &str, value: i32) -> Result<RunRole> {
    match v1::RunRole::try_from(value) {
        Ok(v1::RunRole::Fit) => Ok(RunRole::Fit),
        Ok(v1::RunRole::Check) => Ok(RunRole::Check),
        Ok(v1::RunRole::Trunk) => Ok(RunRole::Trunk),
        Ok(v1::RunRole::Sensitivity) => Ok(RunRole::Sensitivity),
        _ => Err(FieldError::new(field, format!("{value} is no role of a run"))),
    }
}

impl From<RunRole> for v1::RunRole {
    fn from(role: RunRole) -> Self {
        match role {
            RunRole::Fit => Self::Fit,
            RunRole::Check => Self::Check,
            RunRole::Trunk => Self::Trunk,
            RunRole::Sensitivity => Self::Sensitivity,
        }
    }
}

/// Where a run stands.
///
/// # Errors
/// When it is unspecified or of a later version.
pub fn run_state(field: &str, value: i32) -> Result<RunState> {
    match v1::RunState::try_from(value) {
        Ok(v1::RunState::Queued) => Ok(RunState::Queued),
        Ok(v1::RunState::Running) => Ok(RunState::Running),
        Ok(v1::RunState::Finished) => Ok(RunState::Finished),
        Ok(v1::RunState::Diverged) => Ok(RunState::Diverged),
        Ok(v1::RunState::Failed) => Ok(RunState::Failed),
        Ok(v1::RunState::Cancelled) => Ok(RunState::Cancelled),
        _ => Err(FieldError::new(field, format!("{value} is no state of a run"))),
    }
}

impl From<RunState> for v1::RunState {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Queued => Self::Queued,
            RunState::Running => Self::Running,
            RunState::Finished => Self::Finished,
            RunState::Diverged => Self::Diverged,
            RunState::Failed => Self::Failed,
            RunState::Cancelled => Self::Cancelled,
        }
    }
}

/// How an attempt ended.
///
/// # Errors
/// When it is absent, or its cause is unspecified.
pub fn ending(field: &str, ending: Option<&v1::Ending>) -> Result<Ending> {
    use v1::ending::Ending as Wire;
    let wire = required(field, ending.and_then(|ending| ending.ending.as_ref()))?;
    Ok(match wire {
        Wire::Finished(end) => Ending::Finished { step: end.step },
        Wire::Diverged(end) => Ending::Diverged { step: end.step },
        Wire::Stopped(end) => Ending::Stopped { step: end.step },
        Wire::Failed(end) => Ending::Failed {
            cause: match v1::FailureCause::try_from(end.cause) {
                Ok(v1::FailureCause::Program) => FailureCause::Program,
                Ok(v1::FailureCause::Infrastructure) => FailureCause::Infrastructure,
                Ok(v1::FailureCause::Configuration) => FailureCause::Configuration,
                Ok(v1::FailureCause::Daemon) => FailureCause::Daemon,
                Ok(v1::FailureCause::Memory) => FailureCause::Memory,
                Ok(v1::FailureCause::Fetch) => FailureCause::Fetch,
                _ => {
                    let field = format!("{field}.failed.cause");
                    return Err(FieldError::new(field, format!("{} is no cause", end.cause)));
                }
            },
            reason: end.reason.clone(),
        },
    })
}

impl From<FailureCause> for v1::FailureCause {
    fn from(cause: FailureCause) -> Self {
        match cause {
            FailureCause::Program => Self::Program,
            FailureCause::Infrastructure => Self::Infrastructure,
            FailureCause::Configuration => Self::Configuration,
            FailureCause::Daemon => Self::Daemon,
            FailureCause::Memory => Self::Memory,
            FailureCause::Fetch => Self::Fetch,
        }
    }
}

impl From<&Ending> for v1::Ending {
    fn from(ending: &Ending) -> Self {
        use v1::ending::{Diverged, Ending as Wire, Failed, Finished, Stopped};
        let wire = match ending {
            Ending::Finished { step } => Wire::Finished(Finished { step: *step }),
            Ending::Diverged { step } => Wire::Diverged(Diverged { step: *step }),
            Ending::Stopped { step } => Wire::Stopped(Stopped { step: *step }),
            Ending::Failed { cause, reason } => Wire::Failed(Failed {
                cause: v1::FailureCause::from(*cause).into(),
                reason: reason.clone(),
            }),
        };
        Self { ending: Some(wire) }
    }
}

/// A device of a worker.
#[must_use]
pub fn device(wire: &v1::Device) -> Device {
    Device {
        id: wire.id.clone(),
        name: wire.name.clone(),
        backend: wire.backend.clone(),
        memory_bytes: wire.memory_bytes,
        software: wire.software,
        refused: wire.refused.clone(),
        canary: wire.canary.clone(),
    }
}

impl From<&Device> for v1::Device {
    fn from(device: &Device) -> Self {
        Self {
            id: device.id.clone(),
            name: device.name.clone(),
            backend: device.backend.clone(),
            memory_bytes: device.memory_bytes,
            software: device.software,
            refused: device.refused.clone(),
            canary: device.canary.clone(),
        }
    }
}

/// A slot of a worker.
#[must_use]
pub fn slot(wire: &v1::Slot) -> Slot {
    Slot { index: wire.index, device_id: wire.device_id.clone() }
}

impl From<&Slot> for v1::Slot {
    fn from(slot: &Slot) -> Self {
        Self { index: slot.index, device_id: slot.device_id.clone() }
    }
}

#[cfg(test)]
mod tests;
