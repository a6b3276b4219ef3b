//! The HTTP interface: embed, search, re-score, pictures, health, metrics, the OpenAPI document and the search page. What embeds,
//! searches and re-scores are [`crate::search`] and [`crate::rescore`]; here requests become calls of theirs.
//!
//! Every answer that is an error is a problem document (RFC 9457) that names the field, the limit and the fix. Everything a client
//! can make grow has a limit: see [`Limits`].

mod auth;
mod body;
mod embed;
mod encoding;
mod exposition;
mod extract;
mod generations;
mod health;
mod limit;
mod listener;
mod media;
mod metrics;
mod middleware;
mod openapi;
mod page;
mod places;
mod problem;
mod rescore;
mod search;
mod tls;
mod trace;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use auth::Access;
pub use health::Info;
pub use metrics::HttpMetrics;
pub use openapi::openapi_document;
pub use tls::{Tls, TlsError};

use crate::config::{Config, HttpConfig, Role};
use crate::generation::{Generations, Live, Serving};
use crate::vitals::Vitals;
use problem::Problem;

/// Limits of the HTTP interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// As configured. Over `requests_in_flight_max`, requests to `/v1` are answered 503 with `Retry-After`; health, metrics and the page
    /// are always answered.
    pub http: HttpConfig,
    /// Most open connections, and at most three quarters of the files that the process may have open. One more takes the place of the
    /// connection that has been without a request for longest; where all have one, it waits, but for a few places that are kept for
    /// health and metrics.
    pub connections_max: usize,
    /// Longest silence of a connection, headers included.
    pub idle_timeout: Duration,
    /// Most candidates of a re-scoring request, for the OpenAPI document: [`crate::rescore`] keeps it.
    pub rescore_candidates_max: usize,
    /// Longest deadline of one, likewise.
    pub rescore_deadline_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            connections_max: 1024,
            idle_timeout: Duration::from_secs(75),
            rescore_candidates_max: 200,
            rescore_deadline_max: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        Self {
            http: config.http.clone(),
            rescore_candidates_max: config.rescore.candidates_max,
            rescore_deadline_max: config.rescore.deadline_max,
            ..Self::default()
        }
    }
}

/// From where pictures of items may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaRoots {
    /// Folders under which a `file:` picture must lie after every link is resolved.
    pub file_roots: Vec<PathBuf>,
    /// Largest picture that is sent, bytes.
    pub bytes_max: u64,
}

impl MediaRoots {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        Self { file_roots: config.media.file_roots.clone(), bytes_max: config.media.bytes_max as u64 }
    }
}

/// What the handlers work with.
pub struct AppState {
    /// The generation that answers; empty until the bundle is loaded and the index was opened.
    pub live: OnceLock<Arc<Live>>,
    /// Answers about generations and changes them; `None` where no registry is watched.
    pub generations: Option<Generations>,
    /// Metrics, and the conditions of `/readyz`.
    pub vitals: Vitals,
    /// From where pictures may be shown.
    pub media: MediaRoots,
    /// Limits.
    pub limits: Limits,
    /// Who may call, and how often.
    pub access: Access,
    /// The certificate to serve with; `None` serves plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Queries that the page proposes; none where empty.
    pub examples: Vec<String>,
}

impl AppState {
    /// Towers, index and re-scoring of one generation: a request takes them once, so that nothing in its answer is mixed (promise 3).
    ///
    /// # Errors
    /// The daemon is still starting: what it waits for is in the answer.
    pub(crate) fn serving(&self) -> Result<Arc<Serving>, Problem> {
        self.live.get().map(|live| live.serving()).ok_or_else(|| Problem::starting(&self.vitals.readiness.missing()))
    }
}

/// Why the server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The listening socket failed.
    #[error("HTTP server: {0}")]
    Serve(#[from] std::io::Error),
}

/// Serves until `shutdown` is cancelled: then no connection is accepted any more, requests under way are answered, and what is not
/// answered within the request time-out is cut off.
///
/// # Errors
/// The listening socket failed.
pub async fn serve(listener: TcpListener, state: Arc<AppState>, shutdown: CancellationToken) -> Result<(), ApiError> {
    let drain_max = state.limits.http.timeout + Duration::from_secs(1);
    let (limits, tls) = (state.limits.clone(), state.tls.clone());
    let _watching = tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.watch())));
    let server = listener::serve(listener, router(state), &limits, tls, shutdown.clone());
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = shutdown.cancelled() => {}
    }
    if let Ok(result) = tokio::time::timeout(drain_max, server).await {
        return Ok(result?);
    }
    tracing::warn!(drain_ms_max = drain_max.as_millis() as u64, "HTTP requests were cut off at the end of the drain");
    Ok(())
}

/// The routes with every limit around them.
pub fn router(state: Arc<AppState>) -> Router {
    let admission = Arc::new(middleware::Admission {
        permits: Arc::new(Semaphore::new(state.limits.http.requests_in_flight_max)),
        requests_in_flight_max: state.limits.http.requests_in_flight_max,
        metrics: state.vitals.metrics.of(),
    });
    let v1 = Router::new()
        .route("/v1/embed", post(embed::handle))
        .route("/v1/search", post(search::handle))
        .route("/v1/rescore", post(rescore::handle))
        .route("/v1/media/{kind}/{*id}", get(media::handle))
        .route("/v1/info", get(health::info))
        .route("/v1/generations", get(generations::list));
    let admin = Router::new()
        .route("/v1/generations/rollback", post(generations::rollback))
        .route("/v1/generations/{fingerprint}/promote", post(generations::promote))
        .route("/v1/generations/{fingerprint}/drop", post(generations::drop_generation));
    let v1 = auth::require_role(Role::Read, v1)
        .merge(auth::require_role(Role::Write, admin))
        .layer(encoding::unpack())
        .layer(from_fn_with_state(state.limits.http.body_bytes_max, encoding::check))
        .layer(from_fn_with_state(Arc::clone(&state), middleware::deadline))
        .layer(from_fn_with_state(admission, middleware::admit))
        .layer(from_fn_with_state(Arc::clone(&state), auth::identify));
    let mut metrics = Router::new().route("/metrics", get(health::metrics));
    if !state.access.metrics_are_open() {
        metrics = metrics.layer(from_fn_with_state(Arc::clone(&state), auth::identify));
    }
    Router::new()
        .merge(v1)
        .merge(metrics)
        .route("/", get(page::handle))
        .route("/favicon.svg", get(page::icon))
        .route("/openapi.json", get(openapi::handle))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/readyz/{check}", get(health::ready_check))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(problem::as_document))
        .layer(encoding::pack())
        .layer(from_fn(middleware::secure))
        .layer(from_fn_with_state(Arc::clone(&state), middleware::observe))
        .with_state(state)
}
