//! `POST /v1/search`: the HTTP door of [`crate::search`].

use std::sync::Arc;

use astromech_schemas::http::{SearchRequest, SearchResponse};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::AppState;
use super::body::read_body;
use super::problem::Problem;
use crate::search::{SearchError, SearchQuery};

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        let detail = error.to_string();
        match error {
            SearchError::Invalid { field, problem, fix } => Self::invalid(&field, &problem, fix),
            SearchError::Image { error, .. } if error.is_too_large() => {
                let detail = format!("{detail}; fix: send a smaller picture");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "image-too-large", "The picture is too large", detail)
            }
            SearchError::Image { .. } => {
                let detail = format!("{detail}; fix: send a complete JPEG, PNG, WebP, GIF or BMP file in base64");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-image", "The picture can't be read", detail)
            }
            SearchError::NoSingleVector => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "no-embedding", "Items have no single vector", detail)
            }
            SearchError::Towers(error) => Self::internal(&error),
            SearchError::Index(error) => error.into(),
            SearchError::Rescore(error) => error.into(),
        }
    }
}

/// `POST /v1/search`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<SearchResponse>, Problem> {
    let query: SearchQuery = read_body::<SearchRequest>(request, &state.limits).await?.try_into()?;
    Ok(Json(state.serving()?.searcher().search(query).await?))
}
