//! The accept loop: a limit of open connections, of a connection's silence and of the time for its headers, so that clients that are
//! idle or slow on purpose can't use the daemon up; and a close that lets a client that is still sending read its answer.
//!
//! `axum::serve` has none of these, and closes while a client still sends, which resets the connection before the answer is read: hyper's
//! connections are run here. hyper's header time-out counts from the last answer, so it ends idle connections too.

use std::future::Future as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Extensions, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::{Limits, Tls};

/// Most bytes of a request's line and headers; also what is read of a body at once.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest time that a closed connection's rest is read and thrown away. A client that still sends would otherwise be told that the
/// connection broke, and never see its answer.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes thrown away at once.
const LINGER_BYTES: usize = 16 * 1024;
/// Wait after the system had no place for another connection.
const ACCEPT_WAIT: Duration = Duration::from_secs(1);

/// The address at the other end of a request's connection; among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(IpAddr);

impl Peer {
    /// The peer of a request; an address that is nobody's where it came over no connection of ours.
    pub(super) fn of(extensions: &Extensions) -> IpAddr {
        extensions.get::<Self>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
    }
}

/// Serves `router` until `stop` is cancelled and every connection has ended. Dropped before, it cuts off those that are left.
///
/// # Errors
/// The listening socket failed.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let _cut_when_dropped = cut.clone().drop_guard();
    loop {
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted?,
        };
        // Answers are small: don't let Nagle's algorithm hold them back.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, limits.idle_timeout, permit);
        let (peer, router, read_timeout) = (Peer(peer.ip()), router.clone(), limits.read_timeout);
        let (acceptor, stop, cut) = (tls.as_ref().map(|tls| tls.acceptor()), stop.clone(), cut.clone());
        let answering = async move {
            let Some(acceptor) = acceptor else { return answer(connection, peer, router, read_timeout, stop).await };
            // As long as the headers of a request may take: who connects and says nothing is cut off either way.
            match tokio::time::timeout(read_timeout, acceptor.accept(connection)).await {
                Ok(Ok(connection)) => answer(connection, peer, router, read_timeout, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        };
        connections.spawn(async move { cut.run_until_cancelled(answering).await });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, permit)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                tracing::error!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_WAIT).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers the requests of one connection, the one under way to its end when `stop` is cancelled.
async fn answer(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    read_timeout: Duration,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(read_timeout).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = pin!(http.serve_connection(TokioIo::new(connection), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(%error, "a connection ended early");
    }
}

/// A connection that ends when it is silent for too long in both directions, and that lingers when it is closed.
struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    lingering: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, idle_timeout: Duration, permit: OwnedSemaphorePermit) -> Self {
        let idle = Box::pin(tokio::time::sleep(idle_timeout));
        Self { stream, idle, idle_timeout, lingering: None, _permit: permit }
    }

    fn touch(&mut self) {
        let deadline = Instant::now() + self.idle_timeout;
        self.idle.as_mut().reset(deadline);
    }

    /// `poll` with the deadline: progress moves it, silence runs into it.
    fn timed<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.touch();
            return poll;
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.timed(cx, poll)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends our direction, then throws away what the client still sends until it ends its own.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let until = this.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_MAX)));
        let mut rest = [0; LINGER_BYTES];
        loop {
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut rest);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.timed(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
