//! What surrounds every route: a request id, a trace, metrics, security headers, admission and a deadline.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;
use uuid::Uuid;

use super::AppState;
use super::metrics::{HttpMetrics, OTHER, ROUTES};
use super::problem::Problem;
use super::trace;
use crate::vitals::{Condition, Meter};

/// Header that names a request in answers and logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A body up to here has arrived with its headers, so that a connection is of use though nobody read it, bytes.
const UNREAD_BYTES_MAX: u64 = 4096;
/// Longest request id that is taken over from the client.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Gives the request its id and its place in a trace, measures it, and turns a panic into an answer. A client's id is taken over where it is safe to log.
pub(super) async fn observe(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| is_safe_id(id.as_bytes()))
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is a header value"));
    let route = route_label(request.uri().path());
    let body = BodySize::of(request.headers());
    let span = tracing::info_span!(
        "http",
        request_id = id.to_str().unwrap_or_default(),
        trace_id = tracing::field::Empty,
        method = %request.method(),
        route,
        caller = tracing::field::Empty,
        status = tracing::field::Empty,
        otel.kind = tracing::field::Empty,
    );
    let context = trace::enter(&span, request.headers());
    span.record("trace_id", context.trace_id());
    let mut response = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone())
        .await
        .unwrap_or_else(|_| span.in_scope(|| Problem::internal(&"the handler panicked").into_response()));
    let (status, time) = (response.status().as_u16(), started.elapsed());
    state.vitals.metrics.of::<HttpMetrics>().answered(route, status, time);
    span.record("status", status);
    span.in_scope(|| tracing::debug!(ms = time.as_secs_f64() * 1e3, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    trace::answer(&context, response.headers_mut());
    // A daemon that stops sends its clients to the others while it still serves.
    let stopping = !state.vitals.readiness.holds(Condition::Running);
    if stopping || body.may_be_left_unread(response.status()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a request says of its body.
#[derive(Clone, Copy)]
enum BodySize {
    Bytes(u64),
    /// It comes in chunks, or says nothing that can be read.
    Unknown,
}

impl BodySize {
    fn of(headers: &HeaderMap) -> Self {
        let declared = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
        match declared {
            None if headers.contains_key(header::TRANSFER_ENCODING) => Self::Unknown,
            None => Self::Bytes(0),
            Some(bytes) => bytes.map_or(Self::Unknown, Self::Bytes),
        }
    }

    /// Whether an answer of `status` may have been given before the body was read. Such a connection is closed once the answer is sent:
    /// a client that is not told so would send its next request into the end of it.
    fn may_be_left_unread(self, status: StatusCode) -> bool {
        match self {
            _ if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) => true,
            Self::Bytes(bytes) => bytes > UNREAD_BYTES_MAX && !status.is_success(),
            Self::Unknown => !status.is_success(),
        }
    }
}

/// Whether a client's request id may go into logs and answers as it is.
fn is_safe_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// A label from a short fixed list, whatever clients send: the paths of a scan must not become time series. (axum's
/// `MatchedPath` needs a feature that is off.)
fn route_label(path: &str) -> &'static str {
    let nested = [("/v1/media/", "/v1/media"), ("/v1/generations/", "/v1/generations"), ("/readyz/", "/readyz")];
    if let Some((_, route)) = nested.into_iter().find(|(below, _)| path.starts_with(below)) {
        return route;
    }
    ROUTES.into_iter().find(|route| *route == path).unwrap_or(OTHER)
}

/// Headers that keep a browser from doing more with an answer than was meant. A handler's own policy is left as it is.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"));
    response
}

/// Counts the requests under way.
pub(super) struct Admission {
    pub(super) permits: Arc<Semaphore>,
    pub(super) requests_in_flight_max: usize,
    pub(super) metrics: Meter<HttpMetrics>,
}

impl Admission {
    fn report(&self) {
        let in_flight = self.requests_in_flight_max.saturating_sub(self.permits.available_permits());
        self.metrics.set_in_flight(in_flight);
    }
}

/// One request under way; also where its client goes away before the answer.
struct Admitted {
    admission: Arc<Admission>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.admission.report();
    }
}

/// Refuses at once what would be over the limit of requests under way: a queue here would only hide the overload from the client.
pub(super) async fn admit(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&admission.permits).try_acquire_owned() else {
        return Problem::overloaded(admission.requests_in_flight_max).into_response();
    };
    admission.report();
    let _admitted = Admitted { admission, permit: Some(permit) };
    next.run(request).await
}

/// Ends a request that takes too long, a slowly sent body included.
pub(super) async fn deadline(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let timeout = state.limits.http.timeout;
    match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout(timeout.as_millis()).into_response(),
    }
}
