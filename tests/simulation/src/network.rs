//! The simulated network under tonic: a listener for the coordinator, a dial for everyone else.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use sweep_proto::{
    access::Access,
    client::{ConnectError, Connection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Uri, server::Connected};
use turmoil::net::{TcpListener, TcpStream};

/// Name of the coordinator's host.
pub(crate) const COORDINATOR: &str = "coordinator";

/// Its port.
const PORT: u16 = 7171;

/// How everyone enters.
pub(crate) fn access() -> Access {
    Access::plain(format!("http://{COORDINATOR}:{PORT}"), "5eed".repeat(16))
}

/// A connection as the server takes it.
pub(crate) struct Inbound(TcpStream);

impl Connected for Inbound {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Inbound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The connections that come to this host.
pub(crate) async fn listen() -> io::Result<ReceiverStream<io::Result<Inbound>>> {
    let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let accepted = listener.accept().await.map(|(stream, _)| Inbound(stream));
            if sender.send(accepted).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// An idle connection is not found out in this time, which no seed lasts.
const NEVER: Duration = Duration::from_hours(24);

/// Connects to the coordinator from this host. Without `keep_alive` nobody finds out that nothing
/// comes through, as with a proxy in between that answers for the other end.
pub(crate) async fn dial(access: Access, keep_alive: bool) -> Result<Connection, ConnectError> {
    let connector = tower::service_fn(|uri: Uri| {
        let connect: Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>> =
            Box::pin(async move {
                let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
                let stream = TcpStream::connect((host, port.unwrap_or(PORT))).await?;
                Ok(TokioIo::new(stream))
            });
        connect
    });
    Connection::open_over(&access, |mut endpoint| async move {
        if !keep_alive {
            endpoint = endpoint.http2_keep_alive_interval(NEVER);
        }
        endpoint.connect_with_connector(connector).await
    })
    .await
}
