//! Whether the daemon lives, is ready, what it serves, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use astromech_schemas::manifest::Precision;
use astromech_schemas::{Fingerprint, Kind};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::problem::Problem;
use crate::telemetry::ProcessMetrics;
use crate::vitals::METRICS_CONTENT_TYPE;

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    /// Reason by condition.
    missing: BTreeMap<&'static str, String>,
}

/// `GET /readyz`: 200 when every condition holds, else 503 with what is missing. Plain JSON: probes and people read it.
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Response {
    let missing: BTreeMap<_, _> = state.vitals.readiness.missing().into_iter().map(|(c, reason)| (c.as_str(), reason)).collect();
    let ready = missing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(Ready { ready, missing })).into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    state.vitals.metrics.of::<ProcessMetrics>().look(&state.vitals.readiness);
    ([(header::CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE))], state.vitals.metrics.encode()).into_response()
}

/// What this daemon serves: answer of `GET /v1/info`.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// Version of the daemon.
    pub version: &'static str,
    /// Name of the bundle.
    pub bundle: String,
    /// Vector space.
    pub fingerprint: Fingerprint,
    /// Length of a vector.
    pub dim: u32,
    /// Precision of the graphs in use.
    pub precision: Precision,
    /// Execution provider in use.
    pub provider: String,
    /// Live points by kind.
    pub points: BTreeMap<Kind, u64>,
    /// Queries that the page proposes.
    pub examples: Vec<String>,
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// Most candidates of a re-scoring request; 0 where re-scoring is off.
    pub rescore_candidates_max: usize,
    /// Whether refreshed models are rolled out: then `/v1/generations` answers.
    pub rolls_out: bool,
}

/// `GET /v1/info`.
pub(super) async fn info(State(state): State<Arc<AppState>>) -> Result<Json<Info>, Problem> {
    let serving = state.serving()?;
    let points = serving.index.counts().await?;
    let manifest = serving.towers.manifest();
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        bundle: manifest.name.clone(),
        fingerprint: manifest.fingerprint.clone(),
        dim: manifest.embedding_dim,
        precision: serving.towers.precision(),
        provider: serving.towers.provider_in_use().to_owned(),
        points,
        examples: state.examples.clone(),
        body_bytes_max: state.limits.body_bytes_max,
        rolls_out: state.generations.is_some(),
        rescore_candidates_max: serving.rescorer.as_ref().map_or(0, |rescorer| rescorer.config().candidates_max),
    }))
}
