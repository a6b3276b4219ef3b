//! The accept loop: places for connections ([`super::places`]), a limit of a connection's silence and of the time for its headers, so that
//! clients that are idle or slow on purpose can't use the daemon up; and a close that lets a client that is still sending read its answer.
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
use axum::http::{Extensions, HeaderValue, Request, header};
use axum::response::IntoResponse as _;
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::places::{Place, Places};
use super::problem::Problem;
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
/// The same, where an idle connection was ended for it.
const ROOM_WAIT: Duration = Duration::from_millis(10);
/// After the stop, how long a connection may still bring the request that its client sent before it could know.
const LATE_MAX: Duration = Duration::from_millis(250);
/// What is answered in a reserved place.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

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
    let places = Places::new(limits.connections_max.min(open_files_max() / 4 * 3));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let _cut_when_dropped = cut.clone().drop_guard();
    let mut late = None;
    loop {
        let accepted = tokio::select! {
            biased;
            // Those that connected before are in the system's backlog: a socket that is closed would reset them.
            () = stop.cancelled() => accept(&listener, &places).now_or_never(),
            accepted = accept(&listener, &places) => Some(accepted),
        };
        late = late.or_else(|| stop.is_cancelled().then(|| Instant::now() + LATE_MAX));
        let Some(accepted) = accepted.filter(|_| late.is_none_or(|late| Instant::now() < late)) else { break };
        let (stream, peer, place) = accepted?;
        // Answers are small: don't let Nagle's algorithm hold them back.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, limits.idle_timeout, Arc::clone(&place));
        let answering = Answering {
            place: Arc::clone(&place),
            peer: Peer(peer.ip()),
            router: router.clone(),
            read_timeout: limits.http.read_timeout,
            stop: stop.clone(),
        };
        let (acceptor, cut) = (tls.as_ref().map(|tls| tls.acceptor()), cut.clone());
        let answering = async move {
            let Some(acceptor) = acceptor else { return answering.run(connection).await };
            // As long as the headers of a request may take: who connects and says nothing is cut off either way.
            match tokio::time::timeout(answering.read_timeout, acceptor.accept(connection)).await {
                Ok(Ok(connection)) => answering.run(connection).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        };
        connections.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = place.cut().cancelled() => tracing::debug!("an idle connection was ended: others need its place"),
                () = answering => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The next connection, and a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Places>) -> io::Result<(TcpStream, SocketAddr, Arc<Place>)> {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, places.enter().await)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                // The system has no place for one more.
                let wait = if places.make_room() { ROOM_WAIT } else { ACCEPT_WAIT };
                tracing::error!(%error, "no connection could be accepted");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Files that this process may have open at once, sockets included; a usual limit where the system does not tell.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()).map_or(1024, |soft| soft.parse().unwrap_or(usize::MAX))
}

/// How the requests of one connection are answered.
struct Answering {
    place: Arc<Place>,
    peer: Peer,
    router: Router,
    read_timeout: Duration,
    stop: CancellationToken,
}

impl Answering {
    /// Answers until the connection ends; once `stop` is cancelled, the request under way, or the one that has been sent meanwhile.
    async fn run(self, connection: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { place, peer, router, read_timeout, stop } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            place.begin();
            let (place, router) = (Arc::clone(&place), router.clone());
            async move {
                let mut response = if place.is_reserved() && !is_probe(request.uri().path()) {
                    Problem::no_place().into_response()
                } else {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(peer);
                    router.oneshot(request).await?
                };
                if place.is_reserved() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| Answer { body, place }))
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(read_timeout).max_buf_size(HEAD_BYTES_MAX);
        let mut serving = pin!(http.serve_connection(TokioIo::new(connection), service));
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = stop.cancelled() => {
                if let Ok(served) = tokio::time::timeout(LATE_MAX, serving.as_mut()).await {
                    served
                } else {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        };
        if let Err(error) = served {
            tracing::trace!(%error, "a connection ended early");
        }
    }
}

fn is_probe(path: &str) -> bool {
    PROBES.iter().any(|probe| path.strip_prefix(probe).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The body of an answer, which tells when all of it was taken.
struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl hyper::body::Body for Answer {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.answer();
    }
}

/// A connection that ends when it is silent for too long in both directions, and that lingers when it is closed.
struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    lingering: Option<Pin<Box<Sleep>>>,
    place: Arc<Place>,
}

impl Connection {
    fn new(stream: TcpStream, idle_timeout: Duration, place: Arc<Place>) -> Self {
        let idle = Box::pin(tokio::time::sleep(idle_timeout));
        Self { stream, idle, idle_timeout, lingering: None, place }
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
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.place.flushed();
        }
        flushed
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
