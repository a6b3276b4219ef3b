//! `POST /v1/embed`: the HTTP door of the embedding in [`crate::search`].

use std::sync::Arc;

use astromech_schemas::http::{EmbedRequest, EmbedResponse};
use axum::Json;
use axum::extract::{Request, State};

use super::AppState;
use super::body::read_body;
use super::problem::Problem;
use crate::search::EmbedInputs;

/// `POST /v1/embed`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<EmbedResponse>, Problem> {
    let inputs: EmbedInputs = read_body::<EmbedRequest>(request, &state.limits).await?.try_into()?;
    Ok(Json(state.serving()?.searcher().embed(inputs).await?))
}
