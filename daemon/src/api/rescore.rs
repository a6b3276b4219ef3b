//! `POST /v1/rescore`: the HTTP door of [`crate::rescore`].

use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::rescore::{ProblemKind, RescoreRequest, RescoreResponse};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::AppState;
use super::embed::read_body;
use super::problem::Problem;
use crate::rescore::RescoreError;

/// Share of `http.timeout_ms` after which a request ends with what is scored; the rest is for the answer.
const TIMEOUT_SHARE: f64 = 0.9;

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

/// `POST /v1/rescore`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<RescoreResponse>, Problem> {
    let arrived = Instant::now();
    let serving = state.serving()?;
    let rescorer = serving.rescorer()?;
    let request: RescoreRequest = read_body(request, &state.limits).await?;
    // What is scored is answered before the time-out of requests would cut it off.
    let latest = arrived + state.limits.timeout.mul_f64(TIMEOUT_SHARE);
    Ok(Json(rescorer.rescore_before(request, latest).await?))
}
