//! Looking at all of the store at one moment, for simulations.

use sweep_spec::{
    attempt::AttemptKey,
    id::RunId,
    metric::{Metric, Point},
};

use super::Memory;
use crate::{
    database::metric_no,
    simulation::{AttemptLook, RunLook},
};

impl Memory {
    /// Every run, in the order in which they came.
    #[must_use]
    pub fn look(&self) -> Vec<RunLook> {
        let content = self.content();
        let one = |run: &super::RunEntry| RunLook {
            id: run.id.clone(),
            state: run.state,
            attempts: run.attempts.iter().map(super::AttemptEntry::look).collect(),
            checkpoints: run.checkpoints.iter().map(|at| (at.step, at.attempt)).collect(),
        };
        content.runs.iter().map(one).collect()
    }

    /// The stored value of a point, in its attempt.
    #[must_use]
    pub fn value(&self, key: &AttemptKey, metric: Metric, step: u64) -> Option<f64> {
        let content = self.content();
        let attempt = content.run(&key.run)?.attempt(key)?;
        attempt.points.get(&(metric_no(metric), step)).copied()
    }

    /// All points of a run, of whatever attempt: number, metric and point.
    #[must_use]
    pub fn all_points(&self, run: &RunId) -> Vec<(u32, Point)> {
        let content = self.content();
        let Some(run) = content.run(run) else { return Vec::new() };
        let metric = |no: i64| Metric::ALL.iter().copied().find(|&metric| metric_no(metric) == no);
        let mut points = Vec::new();
        for (number, attempt) in (1..).zip(&run.attempts) {
            for (&(no, step), &value) in &attempt.points {
                points.extend(metric(no).map(|metric| (number, Point { metric, step, value })));
            }
        }
        points
    }

    /// The canonical curve of a metric, in step order.
    #[must_use]
    pub fn canonical(&self, run: &RunId, metric: Metric) -> Vec<Point> {
        let content = self.content();
        let curve = content.run(run).map(|run| run.curve(metric_no(metric))).unwrap_or_default();
        curve.into_iter().map(|(step, value)| Point { metric, step, value }).collect()
    }
}

impl super::AttemptEntry {
    fn look(&self) -> AttemptLook {
        AttemptLook {
            outcome: self.end.as_ref().map(|end| end.outcome),
            resume_step: self.start.map(|start| start.step),
            last_seq: self.last_seq,
            points: self.points.len(),
            started_unix_ms: self.started_unix_ms,
            ended_unix_ms: self.end.as_ref().map(|end| end.unix_ms),
        }
    }
}
