//! Whether the daemon lives, is ready, what it serves, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use astromech_schemas::manifest::Precision;
use astromech_schemas::{Fingerprint, Kind};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::exposition::Exposition;
use super::extract::UrlPath;
use super::problem::Problem;
use crate::telemetry::ProcessMetrics;
use crate::vitals::Condition;

/// What must hold for `/v1/search` to work, whatever else does not.
const SEARCH: [Condition; 3] = [Condition::Running, Condition::Bundle, Condition::Index];

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
    answer(&state, |_| true)
}

/// `GET /readyz/{check}`: as `/readyz`, of one condition, or of `search`: those that a search needs.
pub(super) async fn ready_check(
    State(state): State<Arc<AppState>>,
    UrlPath(check): UrlPath<String>,
) -> Result<Response, Problem> {
    let conditions = state.vitals.readiness.conditions();
    if check == "search" {
        return Ok(answer(&state, |condition| SEARCH.contains(&condition)));
    }
    if let Some((wanted, _)) = conditions.iter().find(|(condition, _)| condition.as_str() == check) {
        return Ok(answer(&state, |condition| condition == *wanted));
    }
    let known: Vec<_> = conditions.iter().map(|(condition, _)| condition.as_str()).chain(["search"]).collect();
    Err(Problem::not_found(format!("no check of this daemon has that name; fix: ask for one of {}", known.join(", "))))
}

fn answer(state: &AppState, wanted: impl Fn(Condition) -> bool) -> Response {
    let missing = state.vitals.readiness.missing().into_iter().filter(|(condition, _)| wanted(*condition));
    let missing: BTreeMap<_, _> = missing.map(|(condition, reason)| (condition.as_str(), reason)).collect();
    let ready = missing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(Ready { ready, missing })).into_response()
}

/// `GET /metrics`, in the form that `Accept` asks for.
pub(super) async fn metrics(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let form = Exposition::wanted(&headers);
    state.vitals.metrics.of::<ProcessMetrics>().look(&state.vitals.readiness);
    let head = [(header::CONTENT_TYPE, form.content_type()), (header::VARY, "accept")];
    (head, form.write(state.vitals.metrics.encode())).into_response()
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
        body_bytes_max: state.limits.http.body_bytes_max,
        rolls_out: state.generations.is_some(),
        rescore_candidates_max: serving.rescorer.as_ref().map_or(0, |rescorer| rescorer.config().candidates_max),
    }))
}
