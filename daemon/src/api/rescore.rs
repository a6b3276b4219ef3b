//! `POST /v1/rescore`: the HTTP door of [`crate::rescore`].

use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::rescore::{RescoreRequest, RescoreResponse};
use axum::Json;
use axum::extract::{Request, State};

use super::AppState;
use super::body::read_body;
use super::problem::Problem;

/// Share of `http.timeout_ms` after which a request ends with what is scored; the rest is for the answer.
const TIMEOUT_SHARE: f64 = 0.9;

/// `POST /v1/rescore`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<RescoreResponse>, Problem> {
    let arrived = Instant::now();
    let serving = state.serving()?;
    let rescorer = serving.rescorer()?;
    let request: RescoreRequest = read_body(request, &state.limits).await?;
    // What is scored is answered before the time-out of requests would cut it off.
    let latest = arrived + state.limits.http.timeout.mul_f64(TIMEOUT_SHARE);
    Ok(Json(rescorer.rescore_before(request, latest).await?))
}
