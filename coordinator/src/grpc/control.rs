//! The service of the command line.

use std::collections::HashSet;

use sweep_proto::{SWEEP_RUNS_MAX, convert, fault::Fault, v1, version};
use sweep_spec::{
    attempt::{AttemptKey, RunState},
    id::{RunId, SweepId},
    metric::Metric,
    training::TRAINING_REVISION,
};
use sweep_store::{StateCount, Submitted, SweepRecord};
use tonic::{Request, Response, Status, Streaming};

use super::{
    STREAM_MESSAGES_MAX, Shared, Streamed,
    audit::{self, audited, operator},
    history,
    outlet::Outlet,
    progress,
    rows::{CurveSink, RowSink, each_run},
    submission::receive_sweep,
};
use crate::{
    actor::{PolicyChange, store_status},
    clock::unix_ms,
    scheduler::WorkerView,
};

/// Buckets of a downsampled curve at most: the reader's screen is the bottleneck.
const BUCKETS_MAX: u32 = 1000;

/// The service `Control`.
#[derive(Clone, Debug)]
pub(crate) struct ControlService {
    shared: Shared,
}

impl ControlService {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    async fn summary(&self, sweep: SweepRecord) -> Result<v1::SweepSummary, Status> {
        let states = self.shared.store.counts(&sweep.id).await.map_err(store_status)?;
        let id = sweep.id.clone();
        let remaining_seconds =
            self.shared.actor.view(move |scheduler, _| scheduler.remaining_of_sweep(&id)).await?;
        let is_done = |state| matches!(state, RunState::Finished | RunState::Diverged);
        Ok(v1::SweepSummary {
            sweep_id: sweep.id.to_string(),
            name: sweep.name,
            submitted_unix_ms: sweep.submitted_unix_ms,
            cancelled: sweep.cancelled,
            counts: Some(counts(states.iter().map(|count| (count.state, count.runs)))),
            planned: Some(totals(states.iter())),
            done: Some(totals(states.iter().filter(|count| is_done(count.state)))),
            measured_seconds: states.iter().map(|count| count.measured_seconds).sum(),
            remaining_seconds,
            planned_seconds: sweep.planned_seconds,
            ended_unix_ms: states.iter().filter_map(|count| count.ended_unix_ms).max(),
        })
    }

    /// The ids of runs by their names.
    async fn find_runs(&self, runs: &[String]) -> Result<Vec<RunId>, Status> {
        if runs.len() > SWEEP_RUNS_MAX {
            let message = format!("runs: {} are above {SWEEP_RUNS_MAX}", runs.len());
            return Err(Fault::Limit.status(message));
        }
        let mut ids = Vec::with_capacity(runs.len());
        for run in runs {
            ids.push(self.shared.store.find_run(run).await.map_err(store_status)?);
        }
        Ok(ids)
    }

    /// The ids of runs selected by name, all of them members of a sweep.
    async fn members(&self, sweep: SweepId, runs: &[String]) -> Result<Vec<RunId>, Status> {
        let ids = self.find_runs(runs).await?;
        let of_sweep: HashSet<RunId> = self
            .shared
            .actor
            .view(move |scheduler, _| {
                scheduler.members(&sweep).into_iter().map(|(run, _)| run.id.clone()).collect()
            })
            .await?;
        match ids.iter().find(|id| !of_sweep.contains(id)) {
            Some(other) => {
                Err(Fault::NotFound.status(format!("run {other} is not part of the sweep")))
            }
            None => Ok(ids),
        }
    }

    /// The ids of runs selected by name, and the sweep, where one was given.
    async fn select(
        &self,
        sweep: &str,
        runs: &[String],
    ) -> Result<(Option<SweepId>, Vec<RunId>), Status> {
        if sweep.is_empty() && runs.is_empty() {
            return Err(convert::FieldError::new("sweep", "name a sweep or some runs").into());
        }
        let sweep = match sweep {
            "" => None,
            name => Some(self.shared.store.find_sweep(name).await.map_err(store_status)?.id),
        };
        Ok((sweep, self.find_runs(runs).await?))
    }
}

#[tonic::async_trait]
impl v1::control_server::Control for ControlService {
    async fn get_info(
        &self,
        _: Request<v1::GetInfoRequest>,
    ) -> Result<Response<v1::GetInfoReply>, Status> {
        let totals = self.shared.store.totals().await.map_err(store_status)?;
        let (workers_online, slots) =
            self.shared.actor.view(|scheduler, _| progress::online(scheduler)).await?;
        let uptime = self.shared.clock.now();
        Ok(Response::new(v1::GetInfoReply {
            version: version(),
            training_revision: TRAINING_REVISION,
            store: self.shared.address.clone(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            workers_online: workers_online.into(),
            slots: slots.into(),
            runs: Some(counts(totals.into_iter())),
            schema: u32::try_from(sweep_store::schema()).ok(),
            unix_ms: Some(unix_ms()),
        }))
    }

    async fn submit_sweep(
        &self,
        request: Request<Streaming<v1::SubmitSweepRequest>>,
    ) -> Result<Response<v1::SubmitSweepReply>, Status> {
        let shared = &self.shared;
        let caller = operator(shared, "submit", request.extensions())?;
        let (sweep, supersede, policy) = receive_sweep(shared, request.into_inner()).await?;
        let sweep_id = sweep.id.to_string();
        let pending = caller.asks(shared, &(sweep.name.clone(), sweep_id.clone(), policy.clone()));
        let result = shared.actor.submit(sweep, supersede, policy).await;
        let outcome = result.as_ref().map(|(submitted, _)| format!("{submitted:?}"));
        pending.done(outcome).await;
        let (submitted, runs_superseded) = result?;
        let Submitted { runs_new, runs_finished, runs_known, runs_failed, .. } = submitted;
        Ok(Response::new(v1::SubmitSweepReply {
            sweep_id,
            runs_new,
            runs_finished,
            runs_known,
            runs_failed,
            runs_superseded,
        }))
    }

    async fn list_sweeps(
        &self,
        _: Request<v1::ListSweepsRequest>,
    ) -> Result<Response<v1::ListSweepsReply>, Status> {
        let mut sweeps = Vec::new();
        for sweep in self.shared.store.sweeps().await.map_err(store_status)? {
            sweeps.push(self.summary(sweep).await?);
        }
        Ok(Response::new(v1::ListSweepsReply { sweeps }))
    }

    async fn get_sweep(
        &self,
        request: Request<v1::GetSweepRequest>,
    ) -> Result<Response<v1::GetSweepReply>, Status> {
        let store = &self.shared.store;
        let sweep = store.find_sweep(&request.into_inner().sweep).await.map_err(store_status)?;
        let recipe = store.recipe(&sweep.id).await.map_err(store_status)?;
        let summary = Some(self.summary(sweep).await?);
        Ok(Response::new(v1::GetSweepReply { summary, recipe }))
    }

    type ListRunsStream = Streamed<v1::RunRow>;

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<Self::ListRunsStream>, Status> {
        let message = request.into_inner();
        let selected = self.select(&message.sweep, &message.runs).await?;
        if message.states.len() > RunState::ALL.len() {
            let message = format!("states: {} are more than there are", message.states.len());
            return Err(Fault::Limit.status(message));
        }
        let mut states = Vec::new();
        for (index, &state) in message.states.iter().enumerate() {
            states.push(convert::run_state(&format!("states[{index}]"), state)?);
        }
        let role = match message.role {
            0 => None,
            role => Some(convert::role("role", role)?),
        };
        let (outlet, stream) = Outlet::open(&self.shared, STREAM_MESSAGES_MAX);
        let shared = self.shared.clone();
        let v1::ListRunsRequest { with_json, with_attempts, .. } = message;
        tokio::spawn(async move {
            let own = shared.clone();
            let mut sink = RowSink { shared: own, outlet, states, role, with_json, with_attempts };
            if let Err(status) = each_run(&shared, &selected, &mut sink).await {
                sink.outlet.fail(status);
            }
        });
        Ok(Response::new(stream))
    }

    type GetCurvesStream = Streamed<v1::Curve>;

    async fn get_curves(
        &self,
        request: Request<v1::GetCurvesRequest>,
    ) -> Result<Response<Self::GetCurvesStream>, Status> {
        let message = request.into_inner();
        let selected = self.select(&message.sweep, &message.runs).await?;
        if message.metrics.len() > Metric::ALL.len() {
            let message = format!("metrics: {} are more than there are", message.metrics.len());
            return Err(Fault::Limit.status(message));
        }
        let mut metrics = Vec::new();
        for (index, name) in message.metrics.iter().enumerate() {
            metrics.push(name.parse::<Metric>().map_err(|error| {
                convert::FieldError::new(format!("metrics[{index}]"), error.to_string())
            })?);
        }
        if message.buckets_max.is_some_and(|buckets| buckets == 0 || buckets > BUCKETS_MAX) {
            let problem = format!("must be 1 to {BUCKETS_MAX}");
            return Err(convert::FieldError::new("buckets_max", problem).into());
        }
        let (outlet, stream) = Outlet::open(&self.shared, STREAM_MESSAGES_MAX);
        let shared = self.shared.clone();
        let buckets_max = message.buckets_max;
        tokio::spawn(async move {
            let mut sink = CurveSink { shared: shared.clone(), outlet, metrics, buckets_max };
            if let Err(status) = each_run(&shared, &selected, &mut sink).await {
                sink.outlet.fail(status);
            }
        });
        Ok(Response::new(stream))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let known = self.shared.store.workers().await.map_err(store_status)?;
        let reply = self
            .shared
            .actor
            .view(move |scheduler, now| {
                let mut workers: Vec<v1::Worker> = known
                    .into_iter()
                    .map(|record| {
                        let view = scheduler.workers().get(&record.id);
                        progress::worker(scheduler, now, record, view)
                    })
                    .collect();
                // Those online first, each part in its order.
                workers.sort_by_key(|worker| worker.state);
                progress::fitting(workers)
            })
            .await?;
        Ok(Response::new(reply))
    }

    type WatchSweepStream = Streamed<v1::SweepProgress>;

    async fn watch_sweep(
        &self,
        request: Request<v1::WatchSweepRequest>,
    ) -> Result<Response<Self::WatchSweepStream>, Status> {
        let store = &self.shared.store;
        let sweep = store.find_sweep(&request.into_inner().sweep).await.map_err(store_status)?;
        let (outlet, stream) = Outlet::open(&self.shared, STREAM_MESSAGES_MAX);
        tokio::spawn(progress::watch(self.shared.clone(), sweep.id, outlet));
        Ok(Response::new(stream))
    }

    async fn cancel_sweep(
        &self,
        request: Request<v1::CancelSweepRequest>,
    ) -> Result<Response<v1::CancelSweepReply>, Status> {
        audited(&self.shared, "cancel", request, |message| async move {
            let store = &self.shared.store;
            let sweep = store.find_sweep(&message.sweep).await.map_err(store_status)?;
            let (runs_cancelled, runs_stopping) = if message.runs.is_empty() {
                self.shared.actor.cancel(sweep.id).await?
            } else {
                let runs = self.members(sweep.id, &message.runs).await?;
                self.shared.actor.drop_runs(runs).await?
            };
            Ok(v1::CancelSweepReply { runs_cancelled, runs_stopping })
        })
        .await
    }

    async fn update_sweep(
        &self,
        request: Request<v1::UpdateSweepRequest>,
    ) -> Result<Response<v1::UpdateSweepReply>, Status> {
        audited(&self.shared, "update", request, |message| async move {
            let store = &self.shared.store;
            let sweep = store.find_sweep(&message.sweep).await.map_err(store_status)?;
            let v1::UpdateSweepRequest { paused, checks_held, priority, .. } = message;
            let change = PolicyChange { paused, checks_held, priority };
            let id = sweep.id.clone();
            let (policy, runs_stopping) = self.shared.actor.update(sweep.id, change).await?;
            let runs_paused =
                self.shared.actor.view(move |scheduler, _| scheduler.paused_of(&id)).await?;
            let policy = Some((&policy).into());
            Ok(v1::UpdateSweepReply { policy, runs_stopping, runs_paused })
        })
        .await
    }

    async fn pause_runs(
        &self,
        request: Request<v1::PauseRunsRequest>,
    ) -> Result<Response<v1::PauseRunsReply>, Status> {
        audited(&self.shared, "pause", request, |message| async move {
            if message.runs.is_empty() {
                return Err(convert::FieldError::new("runs", "name at least one").into());
            }
            let store = &self.shared.store;
            let sweep = store.find_sweep(&message.sweep).await.map_err(store_status)?;
            let runs = self.members(sweep.id, &message.runs).await?;
            let (runs_changed, runs_stopping) =
                self.shared.actor.pause_runs(runs, message.paused).await?;
            Ok(v1::PauseRunsReply { runs_changed, runs_stopping })
        })
        .await
    }

    async fn retry_runs(
        &self,
        request: Request<v1::RetryRunsRequest>,
    ) -> Result<Response<v1::RetryRunsReply>, Status> {
        audited(&self.shared, "retry", request, |message| async move {
            let (sweep, mut runs) = self.select(&message.sweep, &message.runs).await?;
            if let Some(sweep) = sweep {
                let chosen: HashSet<RunId> = runs.into_iter().collect();
                runs = self
                    .shared
                    .actor
                    .view(move |scheduler, _| {
                        let members = scheduler.members(&sweep);
                        let ids = members.into_iter().map(|(run, _)| run.id.clone());
                        ids.filter(|id| chosen.is_empty() || chosen.contains(id)).collect()
                    })
                    .await?;
            }
            let runs_queued = self.shared.actor.retry(runs).await?;
            Ok(v1::RetryRunsReply { runs_queued })
        })
        .await
    }

    async fn explain_run(
        &self,
        request: Request<v1::ExplainRunRequest>,
    ) -> Result<Response<v1::ExplainRunReply>, Status> {
        let run =
            self.shared.store.find_run(&request.into_inner().run).await.map_err(store_status)?;
        let id = run.clone();
        let explained = self
            .shared
            .actor
            .view(move |scheduler, now| {
                let state = scheduler.run(&id)?.state;
                Some((state, scheduler.explain(now, &id)?))
            })
            .await?;
        let Some((state, mut lines)) = explained else {
            return Err(Fault::NotFound.status(format!("no run is called `{run}`")));
        };
        for attempt in self.shared.store.attempts(&run).await.map_err(store_status)? {
            lines.push(progress::attempt_line(&attempt));
        }
        Ok(Response::new(v1::ExplainRunReply { state: v1::RunState::from(state).into(), lines }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointReply>, Status> {
        let store = &self.shared.store;
        let run = store.find_run(&request.into_inner().run).await.map_err(store_status)?;
        // Where no place for them is set, none can be given out.
        let kept = match &self.shared.artifacts {
            Some(_) => store.newest_kept(&run).await.map_err(store_status)?,
            None => None,
        };
        let Some(kept) = kept else {
            let message = format!(
                "the coordinator keeps no checkpoint of run {run}; hint: `sweep explain {}` says \
                 how far it is, and a coordinator started with `--artifacts none` keeps none",
                run.short()
            );
            return Err(Fault::NotFound.status(message));
        };
        Ok(Response::new(v1::GetCheckpointReply {
            run_id: run.to_string(),
            step: kept.step,
            hash: kept.hash,
        }))
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryReply>, Status> {
        Ok(Response::new(history::get(&self.shared, request.into_inner()).await?))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerReply>, Status> {
        audited(&self.shared, "drain", request, |message| async move {
            let found = self
                .shared
                .actor
                .view(move |scheduler, _| progress::leaving(scheduler, &message.worker_id))
                .await??;
            self.shared.actor.drain(found.worker_id.clone()).await?;
            Ok(found)
        })
        .await
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditReply>, Status> {
        audit::list(&self.shared, request).await
    }

    async fn get_cost_model(
        &self,
        _: Request<v1::GetCostModelRequest>,
    ) -> Result<Response<v1::GetCostModelReply>, Status> {
        let cost = self.shared.actor.view(|scheduler, _| scheduler.cost().clone()).await?;
        let cost_model_json = serde_json::to_string(&cost)
            .map_err(|error| Status::internal(format!("the cost model: {error}")))?;
        Ok(Response::new(v1::GetCostModelReply { cost_model_json }))
    }
}

pub(super) fn counts(states: impl Iterator<Item = (RunState, u64)>) -> v1::RunCounts {
    let mut counts = v1::RunCounts::default();
    for (state, runs) in states {
        let field = match state {
            RunState::Queued => &mut counts.queued,
            RunState::Running => &mut counts.running,
            RunState::Finished => &mut counts.finished,
            RunState::Diverged => &mut counts.diverged,
            RunState::Failed => &mut counts.failed,
            RunState::Cancelled => &mut counts.cancelled,
        };
        *field += u32::try_from(runs).unwrap_or(u32::MAX);
    }
    counts
}

fn totals<'a>(states: impl Iterator<Item = &'a StateCount>) -> v1::SweepTotals {
    let mut totals = v1::SweepTotals::default();
    for count in states {
        totals.runs += u32::try_from(count.runs).unwrap_or(u32::MAX);
        totals.tokens += count.tokens;
        totals.flops += count.flops;
        totals.flops_6nd += count.flops_6nd;
    }
    totals
}

/// The attempt on a slot.
pub(super) fn slot_view(
    view: &WorkerView,
    key_of: impl Fn(usize) -> AttemptKey,
) -> Vec<v1::WorkerSlot> {
    view.slots
        .iter()
        .map(|entry| v1::WorkerSlot {
            slot: Some((&entry.slot).into()),
            free: entry.ready,
            key: entry.holder.map(|index| (&key_of(index)).into()),
        })
        .collect()
}
