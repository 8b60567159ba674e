//! The way into a coordinator: a channel with explicit limits, and the headers of every call.

use std::time::Duration;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    MESSAGE_BYTES_MAX, VERSION_HEADER,
    access::{Access, AddressError, check_address},
    v1::{control_client::ControlClient, work_client::WorkClient},
    version,
};

/// A coordinator that does not answer for this long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pings on an idle connection, so that a half-open one is found within 25 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Wait for the answer to a ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of one answer.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Client of the command line.
pub type Control = ControlClient<InterceptedService<Channel, Credentials>>;

/// Client of a worker.
pub type Work = WorkClient<InterceptedService<Channel, Credentials>>;

/// Puts token and version into the headers of each call.
#[derive(Clone, Debug)]
pub struct Credentials {
    authorization: MetadataValue<Ascii>,
    version: MetadataValue<Ascii>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        headers.insert("authorization", self.authorization.clone());
        headers.insert(VERSION_HEADER, self.version.clone());
        Ok(request)
    }
}

/// Why no call can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error(
        "no coordinator answers at {address}: {reason}; hint: start it with `sweep coordinator`, \
         or give the address and access file of a running one"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The address is none, or must not be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nothing in the access file says whom to trust.
    #[error(
        "{0} is encrypted, and the access file names no authority to trust; hint: take the whole \
         access file that this coordinator wrote"
    )]
    NoAuthority(String),
    /// The certificates in the access file are damaged.
    #[error("the certificates in the access file are damaged: {0}; hint: copy the file again")]
    Certificates(String),
    /// The token has characters that a header cannot have.
    #[error("the token in the access file is damaged; hint: start the coordinator again")]
    Token,
}

/// An open connection to a coordinator; clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    credentials: Credentials,
}

impl Connection {
    /// Opens a connection. `version` of the caller is that of this program.
    ///
    /// # Errors
    /// [`ConnectError`] with the address and what the network said.
    pub async fn open(access: &Access) -> Result<Self, ConnectError> {
        Self::open_as(access, &version()).await
    }

    /// Opens a connection that states another version.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn open_as(access: &Access, version: &str) -> Result<Self, ConnectError> {
        check_address(&access.address)?;
        Self::dial(access, version, |endpoint| async move { endpoint.connect().await }).await
    }

    /// Opens a connection over a network that the caller makes, as a simulation does.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn open_over<F>(
        access: &Access,
        connect: impl FnOnce(Endpoint) -> F,
    ) -> Result<Self, ConnectError>
    where
        F: Future<Output = Result<Channel, tonic::transport::Error>>,
    {
        Self::dial(access, &version(), connect).await
    }

    async fn dial<F>(
        access: &Access,
        version: &str,
        connect: impl FnOnce(Endpoint) -> F,
    ) -> Result<Self, ConnectError>
    where
        F: Future<Output = Result<Channel, tonic::transport::Error>>,
    {
        let credentials = Credentials {
            authorization: format!("Bearer {}", access.token)
                .parse()
                .map_err(|_| ConnectError::Token)?,
            version: version.parse().map_err(|_| ConnectError::Token)?,
        };
        let endpoint = Endpoint::from_shared(access.address.clone())
            .map_err(|_| AddressError::Format(access.address.clone()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(HEADER_BYTES_MAX);
        let endpoint = secured(endpoint, access)?;
        let channel = connect(endpoint).await.map_err(|error| ConnectError::Unreachable {
            address: access.address.clone(),
            reason: root_cause(&error),
        })?;
        Ok(Self { channel, credentials })
    }

    /// The client of the command line.
    #[must_use]
    pub fn control(&self) -> Control {
        ControlClient::with_interceptor(self.channel.clone(), self.credentials.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The client of a worker.
    #[must_use]
    pub fn work(&self) -> Work {
        WorkClient::with_interceptor(self.channel.clone(), self.credentials.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// The endpoint with the encryption that its address asks for: it trusts the authority of the access
/// file and no other.
fn secured(endpoint: Endpoint, access: &Access) -> Result<Endpoint, ConnectError> {
    if !access.address.starts_with("https://") {
        return Ok(endpoint);
    }
    let authority = access
        .authority
        .as_ref()
        .ok_or_else(|| ConnectError::NoAuthority(access.address.clone()))?;
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .timeout(CONNECT_TIMEOUT);
    if let Some(identity) = &access.identity {
        tls = tls.identity(Identity::from_pem(&identity.certificate, &identity.key));
    }
    endpoint.tls_config(tls).map_err(|error| ConnectError::Certificates(root_cause(&error)))
}

/// The innermost error: "connection refused" rather than "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
