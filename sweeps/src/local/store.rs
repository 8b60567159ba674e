//! A sweep read from a store's file, with or without a coordinator beside it. Reading changes
//! nothing.

use std::path::Path;

use std::collections::BTreeMap;

use sweep_proto::{convert, v1};
use sweep_spec::{
    id::RunId,
    metric::{Metric, Point},
    recipe::Recipe,
    run::RunRole,
};
use sweep_store::{AttemptRecord, Bucket, RunRecord, Store, StoreError, downsample};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    results::{
        Asked, Curve, PartSink, RunResult, SweepResults,
        timeline::{self, Stay},
    },
};

/// Runs of a page.
const PAGE: u32 = 500;

/// Reads a sweep by name, id, beginning of an id, or `last`.
///
/// # Errors
/// Exit code 2 for a file that is no store, 4 for a sweep that is not in it, 1 where it does not read.
pub(crate) async fn results(
    path: &Path,
    selector: &str,
    curves: Asked<'_>,
) -> Result<SweepResults, Failure> {
    let store =
        Store::open_to_read(&format!("sqlite:{}", path.display())).await.or_exit(Exit::Usage)?;
    let results = read(&store, selector, curves).await;
    store.close().await.or_exit(Exit::Failed)?;
    results
}

/// Hands over every point of every curve of a sweep, run by run.
///
/// # Errors
/// Exit code 2 for a file that is no store, 1 where it does not read, and of the sink.
pub(crate) async fn stream(
    path: &Path,
    results: &SweepResults,
    sink: &mut PartSink<'_>,
) -> Result<(), Failure> {
    let store =
        Store::open_to_read(&format!("sqlite:{}", path.display())).await.or_exit(Exit::Usage)?;
    for result in &results.runs {
        let run = convert::run_id("run_id", &result.id).or_exit(Exit::Failed)?;
        for metric in store.metrics_of(&run).await.or_exit(Exit::Failed)? {
            let points = store.curve(&run, metric, -1, u32::MAX).await.or_exit(Exit::Failed)?;
            let points: Vec<(u64, f64)> =
                points.into_iter().map(|point| (point.step, point.value)).collect();
            sink(&result.id, metric, &points)?;
        }
    }
    store.close().await.or_exit(Exit::Failed)
}

async fn read(store: &Store, selector: &str, asked: Asked<'_>) -> Result<SweepResults, Failure> {
    let sweep = if selector == "last" {
        let sweeps = store.sweeps().await.or_exit(Exit::Failed)?;
        sweeps.into_iter().next().ok_or_else(|| {
            Failure::message(Exit::NoMatch, "the store has no sweep yet; hint: sweep run RECIPE")
        })?
    } else {
        store.find_sweep(selector).await.map_err(|error| {
            let exit = match error {
                StoreError::NotFound { .. } => Exit::NoMatch,
                _ => Exit::Usage,
            };
            Failure::new(exit, error)
        })?
    };
    let text = store.recipe(&sweep.id).await.or_exit(Exit::Failed)?;
    let recipe = Recipe::parse(&format!("{}.toml", sweep.name), &text).or_exit(Exit::Failed)?;
    let counts = store.counts(&sweep.id).await.or_exit(Exit::Failed)?;
    let total: u64 = counts.iter().map(|count| count.runs).sum();
    let buckets = asked.buckets(usize::try_from(total).unwrap_or(usize::MAX));
    let (mut runs, mut curves) = (Vec::new(), BTreeMap::new());
    let mut after = -1;
    loop {
        let page = store.runs_page(&sweep.id, after, PAGE).await.or_exit(Exit::Failed)?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for record in page {
            let read = read_curves(store, &record.id, asked.metrics, buckets).await?;
            curves.insert(record.id.to_string(), read);
            let mut run = run_result(record)?;
            if asked.with_attempts {
                let id = convert::run_id("run_id", &run.id).or_exit(Exit::Failed)?;
                let attempts = store.attempts(&id).await.or_exit(Exit::Failed)?;
                run.stays = attempts.into_iter().map(stay).collect::<Result<_, _>>()?;
            }
            runs.push(run);
        }
    }
    Ok(SweepResults {
        id: sweep.id.to_string(),
        name: sweep.name,
        recipe,
        planned_seconds: sweep.planned_seconds,
        submitted_unix_ms: sweep.submitted_unix_ms,
        ended_unix_ms: counts.iter().filter_map(|count| count.ended_unix_ms).max(),
        read_unix_ms: None,
        runs,
        curves,
        samples: BTreeMap::new(),
    })
}

async fn read_curves(
    store: &Store,
    run: &RunId,
    metrics: &[Metric],
    buckets: Option<usize>,
) -> Result<BTreeMap<Metric, Curve>, Failure> {
    let mut curves = BTreeMap::new();
    if metrics.is_empty() {
        return Ok(curves);
    }
    for metric in store.metrics_of(run).await.or_exit(Exit::Failed)? {
        if metrics.contains(&metric) {
            let points = store.curve(run, metric, -1, u32::MAX).await.or_exit(Exit::Failed)?;
            curves.insert(metric, gathered(&points, buckets));
        }
    }
    Ok(curves)
}

fn gathered(points: &[Point], buckets: Option<usize>) -> Curve {
    let Some(buckets) = buckets else {
        let points: Vec<(u64, f64)> = points.iter().map(|p| (p.step, p.value)).collect();
        return Curve::from(points);
    };
    let mut curve = Curve::default();
    for Bucket { first_step, last_step, points, not_finite, min, max, last } in
        downsample(points, buckets)
    {
        curve.push(&v1::Bucket { first_step, last_step, points, not_finite, min, max, last });
    }
    curve
}

fn run_result(record: RunRecord) -> Result<RunResult, Failure> {
    // A trunk is no observation.
    let observed = |loss: Option<f64>| loss.filter(|_| record.role != Some(RunRole::Trunk));
    Ok(RunResult {
        run: convert::run("run_json", &record.id, &record.run_json).or_exit(Exit::Failed)?,
        id: record.id.to_string(),
        role: record.role.unwrap_or(RunRole::Fit),
        budget: record.budget_flops,
        state: record.state,
        reason: record.reason,
        loss: observed(record.final_validation_loss),
        bits_per_byte: observed(record.final_validation_bits_per_byte),
        seconds: record.measured_seconds,
        attempts: record.attempts,
        device: record.device_name,
        backend: record.backend,
        canary: record.canary,
        device_refused: record.device_refused,
        paused: record.paused,
        peak_memory_bytes: record.peak_memory_bytes,
        points_thinned: record.points_thinned,
        stays: Vec::new(),
    })
}

fn stay(attempt: AttemptRecord) -> Result<Stay, Failure> {
    Ok(Stay {
        attempt: attempt.number,
        ending: timeline::ending(attempt.outcome.as_deref())?,
        worker: attempt.worker,
        host: attempt.host,
        slot: attempt.slot,
        granted_unix_ms: attempt.started_unix_ms,
        ended_unix_ms: attempt.ended_unix_ms,
        seconds: attempt.measured_seconds,
    })
}
