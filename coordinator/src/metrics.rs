//! What a monitoring system reads: counters and gauges in the text format of Prometheus, at
//! `/metrics` of the port that everything else has, behind the same token.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use sweep_spec::attempt::{Ending, FailureCause, RunState};
use sweep_store::{Ingested, Outcome};
use tonic::Status;

use crate::{auth::Gate, connection::certificate_of, grpc::Shared};

/// One label with its value.
type Label = [(&'static str, &'static str); 1];

/// Everything that is counted; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    registry: Registry,
    batches: Family<Label, Counter>,
    points: Counter,
    commits: Histogram,
    grants: Counter,
    ends: Family<Label, Counter>,
    runs: Family<Label, Gauge>,
    workers: Family<Label, Gauge>,
    slots: Family<Label, Gauge>,
    connections: Gauge,
    refused: Family<Label, Counter>,
    slowed: Counter,
    failures: Family<Label, Counter>,
    queue: Family<Label, Gauge>,
    attempts: Family<Label, Gauge>,
    leases: Gauge,
    waiting: Gauge,
    waits: Histogram,
    kept: Gauge,
    kept_bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut counted = Counted {
            registry: Registry::with_prefix("sweep"),
            batches: Family::default(),
            points: Counter::default(),
            // From half a millisecond to 16 seconds.
            commits: Histogram::new(exponential_buckets(5e-4, 2.0, 16)),
            grants: Counter::default(),
            ends: Family::default(),
            runs: Family::default(),
            workers: Family::default(),
            slots: Family::default(),
            connections: Gauge::default(),
            refused: Family::default(),
            slowed: Counter::default(),
            failures: Family::default(),
            queue: Family::default(),
            attempts: Family::default(),
            leases: Gauge::default(),
            waiting: Gauge::default(),
            waits: Histogram::new(exponential_buckets(5e-4, 2.0, 16)),
            kept: Gauge::default(),
            kept_bytes: Gauge::default(),
        };
        counted.register();
        Self(Arc::new(counted))
    }
}

impl Counted {
    fn register(&mut self) {
        let all = &mut self.registry;
        all.register("batches", "Batches of points, by what became of them", self.batches.clone());
        all.register("points", "Points made durable", self.points.clone());
        let help = "Time of a commit of points";
        all.register_with_unit("commit", help, Unit::Seconds, self.commits.clone());
        all.register("grants", "Attempts granted", self.grants.clone());
        all.register("attempts_ended", "Attempts that ended, by how", self.ends.clone());
        all.register("runs", "Runs in the store, by state", self.runs.clone());
        all.register("workers", "Workers known, by state", self.workers.clone());
        all.register("slots", "Slots of workers online, by what they do", self.slots.clone());
        all.register("connections", "Connections that are open", self.connections.clone());
        all.register("refused", "Connections and calls beyond a limit", self.refused.clone());
        let help = "Batches of points after which a worker had to wait";
        all.register("batches_slowed", help, self.slowed.clone());
        let help = "Attempts that failed or were lost, by cause";
        all.register("attempts_failed", help, self.failures.clone());
        all.register("queue", "Runs that wait, by what for", self.queue.clone());
        all.register("attempts_live", "Attempts that live, by what they do", self.attempts.clone());
        all.register("leases", "Workers whose leases run", self.leases.clone());
        let help = "Batches of points that wait for a commit";
        all.register("ingest_waiting", help, self.waiting.clone());
        let help = "Time from a batch's arrival until it was durable";
        all.register_with_unit("ingest_lag", help, Unit::Seconds, self.waits.clone());
        all.register("checkpoints_kept", "Checkpoints that are kept here", self.kept.clone());
        let help = "Size of the checkpoints that are kept here";
        all.register_with_unit("checkpoints_kept_size", help, Unit::Bytes, self.kept_bytes.clone());
    }
}

impl Metrics {
    /// One commit of points, with its answers to batches of so many points.
    pub(crate) fn committed<'a>(
        &self,
        seconds: f64,
        answers: impl Iterator<Item = (usize, &'a Ingested)>,
    ) {
        self.0.commits.observe(seconds);
        for (points, answer) in answers {
            let became = match answer {
                Ingested::Durable(_) => "durable",
                Ingested::Resend(_) => "resend",
                Ingested::Fenced(_) => "fenced",
                Ingested::Refused(_) => "refused",
            };
            self.0.batches.get_or_create(&[("became", became)]).inc();
            if became == "durable" {
                self.0.points.inc_by(points as u64);
            }
        }
    }

    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.0.connections.inc();
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&self) {
        self.0.connections.dec();
    }

    /// A connection or a call was refused, or cut off, at a limit.
    pub(crate) fn refused(&self, limit: &'static str) {
        self.0.refused.get_or_create(&[("limit", limit)]).inc();
    }

    /// A worker waits before its next batch of points is taken.
    pub(crate) fn slowed(&self) {
        self.0.slowed.inc();
    }

    /// Batches were made durable this long after they came.
    pub(crate) fn waited(&self, seconds: impl Iterator<Item = f64>) {
        seconds.for_each(|seconds| self.0.waits.observe(seconds));
    }

    /// A worker told how an attempt ended.
    pub(crate) fn reported(&self, ending: &Ending) {
        let Ending::Failed { cause, .. } = ending else { return };
        let cause = match cause {
            FailureCause::Program => "program",
            FailureCause::Infrastructure => "infrastructure",
            FailureCause::Configuration => "configuration",
            FailureCause::Daemon => "daemon",
            FailureCause::Memory => "memory",
            FailureCause::Fetch => "fetch",
        };
        self.0.failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Attempts were granted.
    pub(crate) fn granted(&self, count: usize) {
        self.0.grants.inc_by(count as u64);
    }

    /// An attempt ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.0.ends.get_or_create(&[("outcome", outcome.name())]).inc();
        if outcome == Outcome::Lost {
            self.0.failures.get_or_create(&[("cause", "lost")]).inc();
        }
    }

    /// Everything as text.
    async fn text(&self, shared: &Shared) -> Result<String, Status> {
        let totals = shared.store.totals().await.map_err(crate::actor::store_status)?;
        for state in RunState::ALL {
            let runs = totals.iter().find(|(of, _)| of == state).map_or(0, |(_, runs)| *runs);
            set(&self.0.runs, ("state", state.name()), runs);
        }
        let fleet = shared.actor.view(Fleet::of).await?;
        for (family, label, counts) in
            [(&self.0.queue, "waits", &fleet.queue), (&self.0.attempts, "does", &fleet.attempts)]
        {
            for (&value, &count) in counts {
                set(family, (label, value), count);
            }
        }
        self.0.leases.set(whole(fleet.leases));
        self.0.waiting.set(whole(shared.ingest.waiting() as u64));
        let (kept, bytes) = shared.store.kept_totals().await.map_err(crate::actor::store_status)?;
        self.0.kept.set(whole(kept));
        self.0.kept_bytes.set(whole(bytes));
        set(&self.0.workers, ("state", "online"), fleet.online);
        set(&self.0.workers, ("state", "draining"), fleet.draining);
        set(&self.0.workers, ("state", "offline"), fleet.offline);
        set(&self.0.slots, ("does", "train"), fleet.training);
        set(&self.0.slots, ("does", "wait"), fleet.waiting);
        let mut text = String::new();
        encode(&mut text, &self.0.registry)
            .map_err(|error| Status::internal(format!("the metrics: {error}")))?;
        Ok(text)
    }
}

fn set(family: &Family<Label, Gauge>, label: (&'static str, &'static str), value: u64) {
    family.get_or_create(&[label]).set(whole(value));
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Runs, workers and slots by what they are doing.
#[derive(Default)]
struct Fleet {
    queue: BTreeMap<&'static str, u64>,
    attempts: BTreeMap<&'static str, u64>,
    leases: u64,
    online: u64,
    draining: u64,
    offline: u64,
    training: u64,
    waiting: u64,
}

impl Fleet {
    fn of(scheduler: &crate::scheduler::Scheduler, now: Duration) -> Self {
        let (queue, attempts) = (scheduler.waiting_for(now), scheduler.live_attempts());
        let mut fleet = Self { queue, attempts, ..Self::default() };
        for worker in scheduler.workers().values() {
            fleet.leases += u64::from(worker.expires.is_some());
            let state = match (worker.session, worker.draining) {
                (false, _) => &mut fleet.offline,
                (true, true) => &mut fleet.draining,
                (true, false) => &mut fleet.online,
            };
            *state += 1;
            if worker.session {
                let training = worker.slots.iter().filter(|slot| slot.holder.is_some()).count();
                fleet.training += training as u64;
                fleet.waiting += (worker.slots.len() - training) as u64;
            }
        }
        fleet
    }
}

/// The path of the metrics.
pub(crate) fn route(shared: Shared, gate: Gate) -> Router {
    let answer = move |call: Request| {
        let (shared, gate) = (shared.clone(), gate.clone());
        async move {
            let token = call.headers().get(header::AUTHORIZATION);
            let token = token.and_then(|text| text.to_str().ok());
            if !gate.admits(token, certificate_of(call.extensions()).as_deref()) {
                let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
                let hint = "the token is missing or wrong; hint: it stands in the access file\n";
                return (StatusCode::UNAUTHORIZED, asks, hint).into_response();
            }
            match shared.metrics.text(&shared).await {
                Ok(text) => {
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    ([(header::CONTENT_TYPE, kind)], text).into_response()
                }
                Err(status) => {
                    let why = format!("{}\n", status.message());
                    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
                }
            }
        }
    };
    Router::new().route("/metrics", get(answer))
}
