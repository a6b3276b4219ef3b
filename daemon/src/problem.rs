//! Errors as problem documents (RFC 9457): what HTTP answers with, and the topic of re-scoring requests replies with.
//!
//! A service names what is wrong in an error of its own; here that error gets its stable name, title and status. Absent here: HTTP itself.

use std::borrow::Cow;

use astromech_schemas::DecodeError;
use astromech_schemas::http::Problem as Document;
use astromech_schemas::rescore::ProblemKind;
use http::StatusCode;

use crate::index::IndexError;
use crate::rescore::RescoreError;

/// Seconds after which a refused client may try again.
pub(crate) const RETRY_AFTER_S: u32 = 1;

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
    /// A problem of this stable `name`; with status 503 the client may try again.
    pub(crate) fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S);
        Self { status, name, title, detail: detail.into(), retry_after_s }
    }

    /// The status that HTTP answers with.
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Seconds after which the client may try again, where that may help.
    pub(crate) const fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
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

    /// What the request names is not there.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    /// The document that every door answers with.
    pub(crate) fn into_document(self) -> Document {
        Document {
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

impl From<RescoreError> for Problem {
    fn from(error: RescoreError) -> Self {
        let detail = error.to_string();
        match error {
            RescoreError::Off => Self::new(StatusCode::NOT_IMPLEMENTED, "rescoring-off", "This daemon does not re-score", detail),
            RescoreError::Invalid { field, problem, fix } => Self::invalid(field, &problem, fix),
            RescoreError::TooMany { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many-candidates", "The request has too many candidates", detail)
            }
            RescoreError::NoItem(_) => Self::not_found(detail),
            RescoreError::Context(fault) => match fault.kind {
                ProblemKind::Failed => Self::internal(&detail),
                ProblemKind::ImageTooLarge | ProblemKind::UrlTooLarge => {
                    Self::new(StatusCode::PAYLOAD_TOO_LARGE, "image-too-large", "The picture is too large", detail)
                }
                ProblemKind::UrlUnavailable => {
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "picture-unavailable", "The picture can't be had now", detail)
                }
                _ => {
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-context", "The context can't be scored against", detail)
                }
            },
            RescoreError::Overloaded { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests are under way", detail)
            }
            RescoreError::Deadline { .. } | RescoreError::Stale { .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline", "The deadline passed", detail)
            }
            RescoreError::Index(error) => error.into(),
        }
    }
}
