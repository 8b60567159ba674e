//! Runs and their curves as streams of messages.

use std::collections::HashSet;

use sweep_proto::{CURVE_POINTS_MAX, v1};
use sweep_spec::{
    attempt::RunState,
    id::{RunId, SweepId},
    metric::{Metric, Point},
    run::RunRole,
};
use sweep_store::{AttemptRecord, Bucket, Facts, RunRecord, downsample};
use tonic::Status;

use super::{Shared, outlet::Outlet};
use crate::actor::store_status;

/// Runs of one page of the store.
const PAGE_RUNS: u32 = 500;

/// Sends the selected runs one after another; `send` ends it with `false`.
pub(super) async fn each_run(
    shared: &Shared,
    selected: &(Option<SweepId>, Vec<RunId>),
    send: &mut (dyn AsyncRunSink + Send),
) -> Result<(), Status> {
    let (sweep, ids) = selected;
    let Some(sweep) = sweep else {
        for id in ids {
            if !send.take(shared.store.run(id).await.map_err(store_status)?).await? {
                return Ok(());
            }
        }
        return Ok(());
    };
    let wanted: HashSet<&RunId> = ids.iter().collect();
    let mut after = -1;
    loop {
        let page = shared.store.runs_page(sweep, after, PAGE_RUNS).await.map_err(store_status)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.position;
        for record in page {
            if (wanted.is_empty() || wanted.contains(&record.id)) && !send.take(record).await? {
                return Ok(());
            }
        }
    }
}

/// What is done with each selected run; `false` ends the walk.
#[tonic::async_trait]
pub(super) trait AsyncRunSink {
    async fn take(&mut self, record: RunRecord) -> Result<bool, Status>;
}

/// Runs as rows.
pub(super) struct RowSink {
    pub(super) shared: Shared,
    pub(super) outlet: Outlet<v1::RunRow>,
    pub(super) states: Vec<RunState>,
    pub(super) role: Option<RunRole>,
    pub(super) with_json: bool,
    pub(super) with_attempts: bool,
}

#[tonic::async_trait]
impl AsyncRunSink for RowSink {
    async fn take(&mut self, record: RunRecord) -> Result<bool, Status> {
        let wanted = (self.states.is_empty() || self.states.contains(&record.state))
            && (self.role.is_none() || record.role == self.role);
        if !wanted {
            return Ok(true);
        }
        let id = record.id.clone();
        let predicted = self
            .shared
            .actor
            .view(move |scheduler, _| {
                let kind = scheduler.common_kind()?;
                let predicted = scheduler.cost().predict_own(&kind, &scheduler.run(&id)?.config)?;
                Some(predicted.seconds)
            })
            .await?;
        let attempts = if self.with_attempts {
            self.shared.store.attempts(&record.id).await.map_err(store_status)?
        } else {
            Vec::new()
        };
        let mut row = run_row(record, self.with_json);
        row.stays = attempts.into_iter().map(stay).collect();
        row.predicted_seconds = predicted;
        Ok(self.outlet.send(row).await)
    }
}

fn run_row(record: RunRecord, with_json: bool) -> v1::RunRow {
    v1::RunRow {
        run_id: record.id.to_string(),
        role: record.role.map_or(0, |role| v1::RunRole::from(role).into()),
        budget_flops: record.budget_flops,
        tokens_requested: record.tokens_requested,
        facts: Some(facts(record.facts)),
        state: v1::RunState::from(record.state).into(),
        attempts: record.attempts,
        reason: record.reason,
        latest_step: record.latest_step,
        latest_loss: record.latest_loss,
        final_validation_loss: record.final_validation_loss,
        final_validation_bits_per_byte: record.final_validation_bits_per_byte,
        measured_seconds: record.measured_seconds,
        predicted_seconds: None,
        worker_id: record.worker,
        host: record.host,
        device_id: record.device_id,
        device_name: record.device_name,
        backend: record.backend,
        peak_memory_bytes: record.peak_memory_bytes,
        points_thinned: record.points_thinned,
        checkpoint_step: record.checkpoint_step,
        run_json: with_json.then_some(record.run_json),
        canary: record.canary,
        device_refused: record.device_refused,
        paused: record.paused,
        stays: Vec::new(),
    }
}

fn stay(attempt: AttemptRecord) -> v1::Stay {
    v1::Stay {
        attempt: attempt.number,
        worker_id: attempt.worker,
        host: attempt.host,
        slot: attempt.slot,
        granted_unix_ms: attempt.started_unix_ms,
        ended_unix_ms: attempt.ended_unix_ms,
        outcome: attempt.outcome,
        seconds: attempt.measured_seconds,
    }
}

fn facts(facts: Facts) -> v1::RunFacts {
    v1::RunFacts {
        family: facts.family,
        n_total: facts.n_total,
        n_non_embedding: facts.n_non_embedding,
        n_with_head: facts.n_with_head,
        tokens: facts.tokens,
        flops: facts.flops,
        flops_6nd: facts.flops_6nd,
        steps: facts.steps,
        batch: facts.batch,
        sequence: facts.sequence,
        width: facts.width,
        layers: facts.layers,
        heads: facts.heads,
        vocabulary: facts.vocabulary,
        seed: facts.seed,
        data_id: facts.data_id,
        learning_rate: facts.learning_rate,
        unique_tokens: facts.unique_tokens,
        parent_run: facts.parent_run,
        parent_step: facts.parent_step,
        own_tokens: facts.own_tokens,
        own_flops: facts.own_flops,
        own_flops_6nd: facts.own_flops_6nd,
    }
}

/// Runs as curves.
pub(super) struct CurveSink {
    pub(super) shared: Shared,
    pub(super) outlet: Outlet<v1::Curve>,
    pub(super) metrics: Vec<Metric>,
    pub(super) buckets_max: Option<u32>,
}

#[tonic::async_trait]
impl AsyncRunSink for CurveSink {
    async fn take(&mut self, record: RunRecord) -> Result<bool, Status> {
        let store = &self.shared.store;
        let mut metrics = store.metrics_of(&record.id).await.map_err(store_status)?;
        metrics.retain(|metric| self.metrics.is_empty() || self.metrics.contains(metric));
        for metric in metrics {
            let points =
                store.curve(&record.id, metric, -1, u32::MAX).await.map_err(store_status)?;
            for curve in curve_messages(&record.id, metric, &points, self.buckets_max) {
                if !self.outlet.send(curve).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn curve_messages(
    run: &RunId,
    metric: Metric,
    points: &[Point],
    buckets_max: Option<u32>,
) -> Vec<v1::Curve> {
    let head = v1::Curve {
        run_id: run.to_string(),
        metric: metric.name().to_owned(),
        points: points.len() as u64,
        ..v1::Curve::default()
    };
    if let Some(buckets) = buckets_max {
        let buckets = downsample(points, buckets as usize).iter().map(bucket).collect();
        return vec![v1::Curve { buckets, ..head }];
    }
    points
        .chunks(CURVE_POINTS_MAX)
        .map(|part| v1::Curve {
            steps: part.iter().map(|point| point.step).collect(),
            values: part.iter().map(|point| point.value).collect(),
            ..head.clone()
        })
        .collect()
}

fn bucket(bucket: &Bucket) -> v1::Bucket {
    v1::Bucket {
        first_step: bucket.first_step,
        last_step: bucket.last_step,
        points: bucket.points,
        not_finite: bucket.not_finite,
        min: bucket.min,
        max: bucket.max,
        last: bucket.last,
    }
}
