//! Connections: how many there may be, and how long one may go without a call that shows a token.
//!
//! Encryption and HTTP lie above. What they wait for, a client that sends a byte now and then holds
//! back for ever; so a connection has a deadline of its own until its first good call.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Extensions,
    transport::server::{Connected, TlsConnectInfo},
};

use crate::{clients::hash_of, limits::Limits, metrics::Metrics};

/// Wait after the system gave no connection: too many open files, most likely, and some may close.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection, as each of its calls tells.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// It has made a call with a good token.
    introduced: Arc<AtomicBool>,
}

impl Peer {
    /// That of a call; `None` on a network without addresses, as in a simulation.
    pub(crate) fn of(call: &Extensions) -> Option<&Self> {
        call.get::<Self>().or_else(|| Some(call.get::<TlsConnectInfo<Self>>()?.get_ref()))
    }

    /// Lifts the deadline of its connection.
    pub(crate) fn introduce(&self) {
        self.introduced.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_introduced(&self) -> bool {
        self.introduced.load(Ordering::Relaxed)
    }
}

/// The certificate that a caller showed, where it had to.
pub(crate) fn certificate_of(call: &Extensions) -> Option<String> {
    let shown = call.get::<TlsConnectInfo<Peer>>()?.peer_certs()?;
    Some(hash_of(shown.first()?))
}

/// Open connections by address.
type PerAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Accepts connections within the limits: at the limit in all accepting waits, at that of one address
/// the new connection is closed.
pub(crate) fn accept(
    listener: TcpListener,
    limits: Limits,
    metrics: Metrics,
) -> ReceiverStream<io::Result<Guarded>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let all = Arc::new(Semaphore::new(limits.connections));
        let per_address = PerAddress::default();
        loop {
            let Ok(permit) = all.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Some(count) = Count::take(&per_address, address.ip(), &limits) else {
                        metrics.refused("address");
                        tracing::warn!(%address, "too many connections from one address");
                        continue;
                    };
                    // Small messages must not wait for each other.
                    let _ = stream.set_nodelay(true);
                    let place = Place { _permit: permit, _count: count, metrics: metrics.clone() };
                    let guarded = Guarded::new(stream, address, &limits, place);
                    if sender.send(Ok(guarded)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// One connection in the count of its address.
struct Count {
    map: PerAddress,
    address: IpAddr,
}

impl Count {
    fn take(map: &PerAddress, address: IpAddr, limits: &Limits) -> Option<Self> {
        let mut counts = map.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if address.is_loopback() {
            limits.connections_from_machine
        } else {
            limits.connections_per_address
        };
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        drop(counts);
        Some(Self { map: map.clone(), address })
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let mut counts = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What a connection takes of the limits, and gives back when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _count: Count,
    metrics: Metrics,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.disconnected();
    }
}

/// A connection with its place, and its deadline until it is introduced.
pub(crate) struct Guarded {
    stream: TcpStream,
    peer: Peer,
    /// Gone once it has been introduced.
    deadline: Option<Pin<Box<Sleep>>>,
    place: Place,
}

impl Guarded {
    fn new(stream: TcpStream, address: SocketAddr, limits: &Limits, place: Place) -> Self {
        place.metrics.connected();
        let peer = Peer { address, introduced: Arc::default() };
        Self { stream, peer, deadline: Some(Box::pin(sleep(limits.introduction))), place }
    }

    /// Fails once the deadline has passed.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        if self.peer.is_introduced() {
            self.deadline = None;
            return Ok(());
        }
        if deadline.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.deadline = None;
        self.place.metrics.refused("silence");
        tracing::warn!(address = %self.peer.address, "no call with a good token came in time");
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Connected for Guarded {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_deadline(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
