//! `POST /v1/embed`, and what embed and search share: reading a body, preparing and embedding its inputs.

use std::sync::{Arc, LazyLock};

use astromech_schemas::error::from_json;
use astromech_schemas::http::{EmbedRequest, EmbedResponse};
use astromech_towers::{ImageError, Towers, TowersError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures::future::try_join_all;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::{AppState, Limits};

/// Why an input could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The picture is not one that is read, or over a limit.
    #[error("{field}: {error}")]
    Image {
        /// Field of the request.
        field: String,
        /// What is wrong with it.
        error: ImageError,
    },
    /// The towers failed.
    #[error(transparent)]
    Towers(#[from] TowersError),
}

impl From<EmbedError> for Problem {
    fn from(error: EmbedError) -> Self {
        match &error {
            EmbedError::Image { error: image, .. } if image.is_too_large() => {
                let detail = format!("{error}; fix: send a smaller picture");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "image-too-large", "The picture is too large", detail)
            }
            EmbedError::Image { .. } => {
                let detail = format!("{error}; fix: send a complete JPEG, PNG, WebP, GIF or BMP file in base64");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-image", "The picture can't be read", detail)
            }
            EmbedError::Towers(error) => Self::internal(error),
        }
    }
}

/// What `text` is compared by.
pub(super) async fn embed_text(towers: &Towers, text: &str) -> Result<Vec<f32>, EmbedError> {
    Ok(towers.embed_text(towers.prepare_text(text)).await?.vectors().to_vec())
}

/// Pictures that are decoded at once for requests, one a core: a decoded picture takes up to 8 bytes a pixel, so this and not the number
/// of requests bounds the memory.
static DECODES: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))));

/// What the encoded picture `bytes` is compared by; `field` names it in errors. Decoding runs on a blocking thread.
pub(super) async fn embed_image(towers: &Towers, bytes: Vec<u8>, field: String) -> Result<Vec<f32>, EmbedError> {
    let preparing = towers.clone();
    let permit = Arc::clone(&DECODES).acquire_owned().await.expect("the semaphore is never closed");
    let decode = move || {
        // Held here: a decoder goes on when its request has timed out.
        let _permit = permit;
        preparing.prepare_image(&bytes)
    };
    let prepared = tokio::task::spawn_blocking(decode)
        .await
        .expect("a decoder's panic is this request's panic")
        .map_err(|error| EmbedError::Image { field, error })?;
    Ok(towers.embed_image(prepared).await?.vectors().to_vec())
}

/// A body as `T`, with its size, its time and its content type checked. What it declares of its size is checked by [`super::encoding`].
pub(super) async fn read_body<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Problem> {
    let bytes_max = limits.body_bytes_max;
    if !is_json(request.headers()) {
        let detail = "content-type: expected application/json; fix: send the header content-type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not JSON", detail));
    }
    let mut request = request;
    axum::extract::DefaultBodyLimit::max(bytes_max).apply(&mut request);
    let read = tokio::time::timeout(limits.read_timeout, Bytes::from_request(request, &())).await;
    let read = read.map_err(|_| Problem::body_timeout(limits.read_timeout.as_millis()))?;
    let bytes = read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(bytes_max),
        _ => {
            Problem::invalid(".", &rejection.body_text(), "send the whole body, and one that is packed as content-encoding says")
        }
    })?;
    Ok(from_json(&bytes)?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Refuses a text over its limit.
pub(super) fn check_text(path: &str, text: &str, limits: &Limits) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::invalid(path, "the text is empty", "send at least one character that is no space"));
    }
    if text.len() > limits.text_bytes_max {
        let problem = format!("{} bytes are over text_bytes_max = {}", text.len(), limits.text_bytes_max);
        return Err(Problem::invalid(path, &problem, "shorten the text; the model reads its first 64 tokens"));
    }
    Ok(())
}

/// `POST /v1/embed`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<EmbedResponse>, Problem> {
    let request: EmbedRequest = read_body(request, &state.limits).await?;
    let inputs = request.texts.len() + request.images.len();
    if inputs == 0 {
        return Err(Problem::invalid(".", "neither texts nor images", "send at least one text or image"));
    }
    if inputs > state.limits.embed_inputs_max {
        let problem = format!("{inputs} texts and images are over embed_inputs_max = {}", state.limits.embed_inputs_max);
        return Err(Problem::invalid(".", &problem, "split them over several requests"));
    }
    for (index, text) in request.texts.iter().enumerate() {
        check_text(&format!("texts[{index}]"), text, &state.limits)?;
    }
    let towers = &state.serving()?.towers.live();
    if !towers.manifest().similarity.is_cosine() {
        let detail = "this daemon's bundle compares items token by token, so no item has one vector; fix: search here, or serve a bundle \
                      that was exported without --similarity";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "no-embedding", "Items have no single vector", detail));
    }
    let texts = try_join_all(request.texts.iter().map(|text| embed_text(towers, text)));
    let images = request.images.into_iter().enumerate();
    let images = try_join_all(images.map(|(index, image)| embed_image(towers, image.0, format!("images[{index}]"))));
    let (texts, images) = futures::try_join!(texts, images)?;
    let manifest = towers.manifest();
    Ok(Json(EmbedResponse { fingerprint: manifest.fingerprint.clone(), dim: manifest.embedding_dim, texts, images }))
}
