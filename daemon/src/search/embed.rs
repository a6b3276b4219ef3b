//! Texts and pictures to vectors, for somebody who waits.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use astromech_schemas::http::{EmbedRequest, EmbedResponse};
use astromech_towers::Towers;
use futures::future::try_join_all;
use tokio::sync::Semaphore;

use super::error::SearchError;
use super::query::check_text;
use super::{EMBED_INPUTS_MAX, Searcher};

/// Texts and pictures to embed: at least one, and within every limit that needs no model to check.
#[derive(Debug, Clone)]
pub struct EmbedInputs(EmbedRequest);

impl TryFrom<EmbedRequest> for EmbedInputs {
    type Error = SearchError;

    fn try_from(request: EmbedRequest) -> Result<Self, SearchError> {
        if request.texts.is_empty() && request.images.is_empty() {
            return Err(SearchError::invalid(".", "neither texts nor images", "send at least one text or image"));
        }
        for (field, inputs) in [("texts", request.texts.len()), ("images", request.images.len())] {
            if inputs > EMBED_INPUTS_MAX {
                let problem = format!("{inputs} are over embed_inputs_max = {EMBED_INPUTS_MAX}");
                return Err(SearchError::invalid(field, problem, "split them over several requests"));
            }
        }
        for (index, text) in request.texts.iter().enumerate() {
            check_text(|| format!("texts[{index}]").into(), text)?;
        }
        Ok(Self(request))
    }
}

impl Searcher {
    /// The vectors of texts and pictures, each of unit length.
    ///
    /// # Errors
    /// The bundle compares token by token, a picture can't be read or is over a limit, or the towers failed.
    pub async fn embed(&self, inputs: EmbedInputs) -> Result<EmbedResponse, SearchError> {
        let EmbedInputs(EmbedRequest { texts, images }) = inputs;
        let manifest = self.towers.manifest();
        if !manifest.similarity.is_cosine() {
            return Err(SearchError::NoSingleVector);
        }
        let texts = try_join_all(texts.iter().map(|text| embed_text(&self.towers, text)));
        let images = images.into_iter().enumerate();
        let images =
            try_join_all(images.map(|(index, image)| embed_image(&self.towers, image.0, format!("images[{index}]").into())));
        let (texts, images) = futures::try_join!(texts, images)?;
        Ok(EmbedResponse { fingerprint: manifest.fingerprint.clone(), dim: manifest.embedding_dim, texts, images })
    }
}

/// What `text` is compared by: one unit vector, or in a space of late interaction those of its tokens, one after another.
pub(super) async fn embed_text(towers: &Towers, text: &str) -> Result<Vec<f32>, SearchError> {
    Ok(towers.embed_text(towers.prepare_text(text)).await?.vectors().to_vec())
}

/// Pictures that are decoded at once for requests, one a core: a decoded picture takes up to 8 bytes a pixel, so this and not the number
/// of requests bounds the memory.
static DECODES: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))));

/// What the encoded picture `bytes` is compared by, as [`embed_text`]; `field` names it in errors. Decoding runs on a blocking thread.
pub(super) async fn embed_image(towers: &Towers, bytes: Vec<u8>, field: Cow<'static, str>) -> Result<Vec<f32>, SearchError> {
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
        .map_err(|error| SearchError::Image { field, error })?;
    Ok(towers.embed_image(prepared).await?.vectors().to_vec())
}
