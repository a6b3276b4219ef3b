//! Errors as problem documents (RFC 9457, `application/problem+json`).

use std::borrow::Cow;

use astromech_schemas::DecodeError;
use astromech_schemas::http::Problem as Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::index::IndexError;
use crate::telemetry::Condition;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 1;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    retry_after_s: Option<u32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S);
        Self { status, name, title, detail: detail.into(), retry_after_s }
    }

    /// The same, with the seconds after which the client may try again.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// The request says something wrong; `path` is the field.
    pub(crate) fn invalid(path: &str, problem: &str, fix: &str) -> Self {
        let detail = format!("{path}: {problem}; fix: {fix}");
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", "The request is not valid", detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    pub(crate) fn body_too_large(body_bytes_max: usize) -> Self {
        let detail = format!(
            "the body is over http.body_bytes_max = {body_bytes_max} bytes; fix: send less, for example a smaller picture"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request body is too large", detail)
    }

    pub(crate) fn overloaded(requests_in_flight_max: usize) -> Self {
        let detail = format!(
            "http.requests_in_flight_max = {requests_in_flight_max} requests are under way; fix: try again after {RETRY_AFTER_S} s"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests are under way", detail)
    }

    /// Nothing is served yet.
    pub(crate) fn starting(missing: &[(Condition, String)]) -> Self {
        let missing: Vec<_> = missing.iter().map(|(condition, reason)| format!("{condition}: {reason}")).collect();
        let detail = format!("still missing: {}; fix: try again after {RETRY_AFTER_S} s, and see /readyz", missing.join("; "));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "The daemon is starting", detail)
    }

    pub(crate) fn timeout(timeout_ms: u128) -> Self {
        let detail =
            format!("no answer within http.timeout_ms = {timeout_ms} ms; fix: send less, or try again when there is less load");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "The request took too long", detail)
    }

    /// A body that does not come.
    pub(crate) fn body_timeout(read_timeout_ms: u128) -> Self {
        let detail =
            format!("the body did not arrive within http.read_timeout_ms = {read_timeout_ms} ms; fix: send less, or faster");
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The request body came too slowly", detail)
    }

    /// The document that every door answers with.
    pub(crate) fn into_document(self) -> Body {
        Body {
            kind: format!("urn:astromech:problem:{}", self.name),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.into_owned(),
        }
    }

    /// The cause goes to the log, not to the client.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        let detail = "the cause is in the daemon's log under this answer's x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The daemon failed to answer", detail)
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let fix = if error.fix.is_empty() { "see /openapi.json" } else { &error.fix };
        Self::invalid(&error.path, &error.problem, fix)
    }
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Transient(reason) => {
                tracing::warn!(%reason, "the index did not answer a request");
                let detail = format!("the index does not answer; fix: try again after {RETRY_AFTER_S} s, and see /readyz");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "index-unavailable", "The index does not answer", detail)
            }
            error => Self::internal(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after_s) = (self.status, self.retry_after_s);
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

/// Answer where no route matches.
pub(super) async fn no_such_route(uri: Uri) -> Problem {
    Problem::not_found(format!("no route {}; fix: see /openapi.json for the routes", uri.path()))
}

/// Answer where a route has another method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; fix: use the method in the Allow header", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route has another method", detail)
}
