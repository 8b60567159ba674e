//! From a configuration and a listener to a served coordinator, and its orderly end.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{extract::Request, middleware};
use sweep_proto::{
    MESSAGE_BYTES_MAX,
    access::Access,
    v1::{control_server::ControlServer, work_server::WorkServer},
};
use sweep_store::{Store, refuse_network_file_system};
use tokio::{net::TcpListener, time::timeout};
use tonic::{
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};

use crate::{
    actor::Actor,
    artifact::{self, Artifacts, leftovers::keep_swept},
    auth::{Accesses, Gate, access_path},
    clients::Revoked,
    clock::Clock,
    config::{Config, NO_ARTIFACTS},
    connection::accept,
    door::Door,
    error::CoordinatorError,
    grpc::{ControlService, Shared, WorkService},
    ingest::{Ingest, Latest},
    limits::Limits,
    metrics::{self, Metrics},
    quota::Quotas,
    reach::Reach,
    role::Role,
};

/// Pings on idle connections; a half-open one is found within 25 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Wait for the answer to a ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of one call.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Bytes of one call, and of all calls of a connection, that were sent and not taken yet. A transfer
/// that stalls fills the window of its own call; heartbeats share its connection and still pass.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Time for open streams after the shutdown; workers hold theirs for ever.
const GRACE: Duration = Duration::from_secs(2);

/// Binds a listener.
///
/// # Errors
/// [`CoordinatorError`]: no address, one that is not of this machine, or the port is in use.
pub async fn bind(address: &str) -> Result<TcpListener, CoordinatorError> {
    let text = if address.parse::<u16>().is_ok() {
        format!("127.0.0.1:{address}")
    } else {
        address.replacen("localhost:", "127.0.0.1:", 1)
    };
    let address: SocketAddr =
        text.parse().map_err(|_| CoordinatorError::Address(address.to_owned()))?;
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => CoordinatorError::PortInUse(address),
        _ => CoordinatorError::Listen { address, source },
    })
}

/// Opens the store and serves until `shutdown` ends.
///
/// # Errors
/// [`CoordinatorError`] when it cannot start, or the network or the store fails at the end.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), CoordinatorError> {
    Coordinator::prepare(config, listener).await?.serve(shutdown).await
}

/// A coordinator that has its store and its access file and does not serve yet. Connections made
/// from now on wait in the listener.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    store: Store,
    listener: TcpListener,
    reach: Reach,
    accesses: Accesses,
    artifacts: Option<Artifacts>,
}

impl Coordinator {
    /// Opens the store and writes the access files.
    ///
    /// # Errors
    /// [`CoordinatorError`] names what is in the way.
    pub async fn prepare(config: Config, listener: TcpListener) -> Result<Self, CoordinatorError> {
        let local = listener.local_addr().map_err(|error| {
            CoordinatorError::Serve(format!("the listener has no address: {error}"))
        })?;
        if !config.allow_network_filesystem {
            refuse_network_file_system(&config.store)?;
        }
        // The store first: a second coordinator must not replace the access file of the first.
        let store = Store::open(&config.store).await?;
        let reach = Reach::of(local, &config)?;
        let accesses = Accesses::make(&config.state, &reach)?;
        let artifacts = config.artifacts.as_deref().map(Artifacts::open).transpose()?;
        let place = match config.artifacts.as_deref() {
            Some(place) => artifact::full_name(place),
            None => NO_ARTIFACTS.to_owned(),
        };
        if let Some(kept) = store.keep_in(&place, config.forget_artifacts).await? {
            return Err(CoordinatorError::KeptElsewhere { kept, place });
        }
        Ok(Self { config, store, listener, reach, accesses, artifacts })
    }

    /// Address and token of an operator.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.accesses.operator()
    }

    /// The file they are in.
    #[must_use]
    pub fn access_file(&self) -> PathBuf {
        access_path(&self.config.state, Role::Operator)
    }

    /// The folder of that file.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.config.state
    }

    /// Serves until `shutdown` ends; then what came in is committed and the store is closed.
    ///
    /// # Errors
    /// [`CoordinatorError`] when the store cannot be read or the network fails.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), CoordinatorError> {
        let limits = self.config.limits.clone();
        let server = limited(self.reach.server(limits.introduction)?, &limits);
        let clock = Clock::start();
        let latest = Latest::default();
        let metrics = Metrics::default();
        let keeps = self.artifacts.is_some();
        let (actor, handle) =
            Actor::load(self.store.clone(), clock, metrics.clone(), keeps).await?;
        let actor = tokio::spawn(actor.run());
        let (ingest, writer) = Ingest::start(self.store.clone(), latest.clone(), metrics.clone());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let revoked = Revoked::open(&self.config.state)?;
        let gate = Gate::new(&self.accesses, revoked.clone());
        let sweeping = self.artifacts.clone().map(|artifacts| {
            tokio::spawn(keep_swept(artifacts, self.store.clone(), stopped.clone()))
        });
        let shared = Shared {
            store: self.store.clone(),
            actor: handle,
            ingest,
            latest,
            clock,
            address: self.config.store.clone(),
            artifacts: self.artifacts,
            revoked,
            quotas: Quotas::new(&limits),
            limits: limits.clone(),
            metrics: metrics.clone(),
            stopped: stopped.clone(),
        };
        let incoming = accept(self.listener, limits, metrics);
        let server = router(server, shared, gate)
            .await?
            .serve_with_incoming_shutdown(incoming, ended(stopped.clone()));
        tracing::info!(
            address = self.accesses.operator().address,
            store = self.config.store,
            "serving"
        );
        let mut server = std::pin::pin!(server);
        let mut taken = None;
        let result = tokio::select! {
            result = &mut server => result,
            () = shutdown => {
                stop.send_replace(true);
                // Streams end by themselves; a client that holds one open is cut off.
                timeout(GRACE, &mut server).await.unwrap_or(Ok(()))
            }
            error = self.store.superseded() => {
                // What comes in from now on belongs to the other one.
                taken = Some(error);
                stop.send_replace(true);
                timeout(GRACE, &mut server).await.unwrap_or(Ok(()))
            }
        };
        stop.send_replace(true);
        let _ = timeout(GRACE, writer).await;
        let _ = timeout(GRACE, actor).await;
        if let Some(sweeping) = sweeping {
            // What it has not deleted is found at the next start.
            sweeping.abort();
            let _ = sweeping.await;
        }
        self.store.close().await?;
        tracing::info!("the store is closed");
        if let Some(error) = taken {
            return Err(error.into());
        }
        result.map_err(|error| CoordinatorError::Serve(error.to_string()))
    }
}

async fn ended(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The services on a server.
///
/// # Errors
/// [`CoordinatorError::Serve`] when the description of the wire is no description.
pub(crate) async fn router(
    mut server: Server,
    shared: Shared,
    gate: Gate,
) -> Result<tonic::transport::server::Router, CoordinatorError> {
    let control = ControlServer::new(ControlService::new(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let work = WorkServer::new(WorkService::new(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ControlServer<ControlService>>().await;
    reporter.set_serving::<WorkServer<WorkService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(sweep_proto::DESCRIPTORS)
        .build_v1()
        .map_err(|error| CoordinatorError::Serve(format!("the wire: {error}")))?;
    let any = gate.for_any_version();
    let mut services = Routes::builder();
    services
        .add_service(InterceptedService::new(control, gate.only(&[Role::Operator, Role::Reader])))
        .add_service(InterceptedService::new(work, gate.only(&[Role::Operator, Role::Worker])))
        .add_service(InterceptedService::new(health, any.clone()))
        .add_service(InterceptedService::new(reflection, any));
    let door = Door::new(gate.clone(), shared.clock, shared.metrics.clone(), &shared.limits);
    let through = middleware::from_fn(move |call: Request, next: middleware::Next| {
        door.clone().pass(call, next)
    });
    let services = services.routes().into_axum_router();
    let metrics = metrics::route(shared, gate.only(&[Role::Operator, Role::Reader]));
    Ok(server.add_routes(services.merge(metrics).layer(through).into()))
}

/// A server with the limits of a connection.
pub(crate) fn limited(server: Server, limits: &Limits) -> Server {
    server
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // For the metrics; a call needs HTTP/2.
        .accept_http1(true)
        .tcp_nodelay(true)
}
