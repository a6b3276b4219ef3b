//! The body of a request: its size, its time and its type.

use astromech_schemas::error::from_json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::Limits;
use super::problem::Problem;

/// A body as `T`, with its size, its time and its content type checked. What it declares of its size is checked by [`super::encoding`].
pub(super) async fn read_body<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Problem> {
    let bytes_max = limits.http.body_bytes_max;
    if !is_json(request.headers()) {
        let detail = "content-type: expected application/json; fix: send the header content-type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not JSON", detail));
    }
    let mut request = request;
    axum::extract::DefaultBodyLimit::max(bytes_max).apply(&mut request);
    let read = tokio::time::timeout(limits.http.read_timeout, Bytes::from_request(request, &())).await;
    let read = read.map_err(|_| Problem::body_timeout(limits.http.read_timeout.as_millis()))?;
    let bytes = read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(bytes_max),
        _ => {
            Problem::invalid(".", &rejection.body_text(), "send the whole body, and one that is packed as content-encoding says")
        }
    })?;
    Ok(from_json(&bytes)?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
