//! `/v1/generations`: what there is, which one is live, and changing that.

use std::sync::Arc;

use astromech_schemas::Fingerprint;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::AppState;
use super::extract::UrlPath;
use super::problem::Problem;
use crate::generation::{Generations, RollError, Rollout};

impl From<RollError> for Problem {
    fn from(error: RollError) -> Self {
        let detail = error.to_string();
        match error {
            RollError::Unknown(_) => Self::not_found(detail),
            RollError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, "generation-conflict", "The generation can't be changed so", detail)
            }
            RollError::Unanswered(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Something does not answer now", detail)
            }
        }
    }
}

/// Answer of a change.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Changed {
    /// The generation that was made live, or was dropped.
    fingerprint: Fingerprint,
}

fn generations(state: &AppState) -> Result<&Generations, Problem> {
    let generations = state.generations.as_ref().ok_or_else(|| {
        let detail =
            "rollout.registry is empty: there is one generation, that of bundle.path; fix: name a registry and start again";
        Problem::new(StatusCode::NOT_IMPLEMENTED, "rollouts-off", "This daemon rolls nothing out", detail)
    })?;
    // Before one generation serves, nobody takes orders.
    state.serving()?;
    Ok(generations)
}

/// `GET /v1/generations`.
pub(super) async fn list(State(state): State<Arc<AppState>>) -> Result<Json<Rollout>, Problem> {
    Ok(Json(generations(&state)?.status()))
}

/// `POST /v1/generations/{fingerprint}/promote`; the first digits are enough.
pub(super) async fn promote(
    State(state): State<Arc<AppState>>,
    UrlPath(prefix): UrlPath<String>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { fingerprint: generations(&state)?.promote(&prefix).await? }))
}

/// `POST /v1/generations/rollback`.
pub(super) async fn rollback(State(state): State<Arc<AppState>>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { fingerprint: generations(&state)?.rollback().await? }))
}

/// `POST /v1/generations/{fingerprint}/drop`; the first digits are enough.
pub(super) async fn drop_generation(
    State(state): State<Arc<AppState>>,
    UrlPath(prefix): UrlPath<String>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { fingerprint: generations(&state)?.drop_generation(&prefix).await? }))
}
