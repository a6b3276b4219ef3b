//! Problem documents as HTTP answers (`application/problem+json`), and the problems that only HTTP knows.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub(super) use crate::problem::Problem;
use crate::problem::RETRY_AFTER_S;
use crate::vitals::Condition;

impl Problem {
    pub(super) fn body_too_large(body_bytes_max: usize) -> Self {
        let detail = format!(
            "the body is over http.body_bytes_max = {body_bytes_max} bytes; fix: send less, for example a smaller picture"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request body is too large", detail)
    }

    pub(super) fn overloaded(requests_in_flight_max: usize) -> Self {
        let detail = format!(
            "http.requests_in_flight_max = {requests_in_flight_max} requests are under way; fix: try again after {RETRY_AFTER_S} s"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests are under way", detail)
    }

    /// Every connection is in the midst of a request.
    pub(super) fn no_place() -> Self {
        let detail = "every place for a connection is taken by one with a request under way; fix: try again after 1 s, over fewer connections";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests are under way", detail)
    }

    /// Nothing is served yet.
    pub(super) fn starting(missing: &[(Condition, String)]) -> Self {
        let missing: Vec<_> = missing.iter().map(|(condition, reason)| format!("{condition}: {reason}")).collect();
        let detail = format!("still missing: {}; fix: try again after {RETRY_AFTER_S} s, and see /readyz", missing.join("; "));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "The daemon is starting", detail)
    }

    pub(super) fn timeout(timeout_ms: u128) -> Self {
        let detail =
            format!("no answer within http.timeout_ms = {timeout_ms} ms; fix: send less, or try again when there is less load");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "The request took too long", detail)
    }

    /// A body that does not come.
    pub(super) fn body_timeout(read_timeout_ms: u128) -> Self {
        let detail =
            format!("the body did not arrive within http.read_timeout_ms = {read_timeout_ms} ms; fix: send less, or faster");
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The request body came too slowly", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after_s) = (self.status(), self.retry_after_s());
        let mut response = (status, axum::Json(self.into_document())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"astromech\""));
        }
        response
    }
}

/// Longest text of a refusal that is not ours, bytes.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Makes a problem document of an error that is none: what axum and the layers around a handler refuse by themselves, they say in plain
/// text or not at all.
pub(super) async fn as_document(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || content_type.starts_with(b"application/") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let reason = status.canonical_reason().unwrap_or("The request was refused");
    let detail = format!("{}; fix: see /openapi.json", if said.trim().is_empty() { reason } else { said.trim() });
    let mut document = Problem::new(status, "refused", reason, detail).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            document.headers_mut().insert(name, value.clone());
        }
    }
    document
}

/// Answer where no route matches.
pub(super) async fn no_such_route(uri: Uri) -> Problem {
    Problem::not_found(format!("no route {}; fix: see /openapi.json for the routes", uri.path()))
}

/// Answer where a route has another method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; fix: use the method in the Allow header", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route has another method", detail)
}
