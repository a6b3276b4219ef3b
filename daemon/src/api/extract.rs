//! Path and query of a request: as axum reads them, but what can't be read is answered by a problem document.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The parameters of a route's path.
pub(super) struct UrlPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for UrlPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(read) = Path::from_request_parts(parts, state).await.map_err(of_path)?;
        Ok(Self(read))
    }
}

/// The parameters of a query.
pub(super) struct UrlQuery<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for UrlQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(read) = Query::from_request_parts(parts, state).await.map_err(|rejection| of_query(&rejection))?;
        Ok(Self(read))
    }
}

fn of_path(rejection: PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else { return Problem::internal(&rejection) };
    match failed.kind() {
        ErrorKind::InvalidUtf8InPathParam { key } => {
            Problem::invalid(key, "its percent-encoded bytes are no UTF-8", "percent-encode the UTF-8 bytes of the text")
        }
        kind => Problem::invalid("path", &kind.to_string(), "see /openapi.json"),
    }
}

fn of_query(rejection: &QueryRejection) -> Problem {
    let said = rejection.body_text();
    let said = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
    // The reader names the parameter first, where it is one's value that it can't read.
    let (name, problem) = said.split_once(": ").unwrap_or(("query", said));
    Problem::invalid(name, problem, "see /openapi.json for what it takes")
}
