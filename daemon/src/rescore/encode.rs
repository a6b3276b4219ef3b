//! From pictures and texts to vectors and states: through the cache, else through the towers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use astromech_schemas::rescore::{CacheUse, CandidateFault, ProblemKind};
use astromech_schemas::{ImageSource, decode_base64};
use astromech_towers::{EmbeddedStates, ImageStates, TextStates, Towers};
use tokio::sync::Semaphore;

use super::cache::{StateCache, StateKey};
use super::entry::States;
use super::fault::{failed, fault, of_media, of_preparing, of_towers};
use super::source::Picture;
use crate::media::{ContentHash, Media};
use crate::prepare::Preparer;

/// Bytes up to here are hashed on the spot: faster than handing them to another thread.
const INLINE_HASH_BYTES_MAX: usize = 64 * 1024;

/// Encodes for one request.
pub(super) struct Encoder {
    /// Live, until the request's deadline.
    pub(super) towers: Towers,
    pub(super) cache: Arc<StateCache>,
    pub(super) media: Arc<Media>,
    pub(super) preparer: Preparer,
    /// `media.in_flight_max`, over all requests.
    pub(super) fetches: Arc<Semaphore>,
    pub(super) hits: AtomicU32,
    pub(super) misses: AtomicU32,
}

impl Encoder {
    pub(super) async fn text(&self, text: String) -> Result<EmbeddedStates<TextStates>, CandidateFault> {
        let prepared = self.preparer.text(text).await.map_err(of_preparing)?;
        let key = self.cache.text_key(prepared.ids());
        let encode = async { self.towers.embed_text_states(prepared).await.map_err(|error| of_towers(&error)) };
        self.through_cache(&key, encode).await
    }

    pub(super) async fn picture(&self, picture: Picture) -> Result<EmbeddedStates<ImageStates>, CandidateFault> {
        match picture {
            Picture::Base64(text) => {
                let bytes = decode_base64(&text);
                drop(text);
                self.bytes(bytes.map_err(|error| fault(ProblemKind::InvalidImage, format!("image: {error}")))?).await
            }
            Picture::Bytes(bytes) => self.bytes(bytes).await,
            Picture::Url(url) => self.bytes(self.fetch(url).await?).await,
            Picture::Stored { url, content } => self.stored(url, content).await,
        }
    }

    /// An item's picture: with the hash that its point carries nothing is fetched where the cache has it.
    async fn stored(
        &self,
        url: Option<String>,
        content: Option<ContentHash>,
    ) -> Result<EmbeddedStates<ImageStates>, CandidateFault> {
        if let Some(content) = content
            && let Some(found) = self.cache.get(&self.cache.image_key(&content)).await
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(found);
        }
        let Some(url) = url else {
            let detail = "the item's picture came inside its record and is not kept; fix: send the picture in image, or keep \
                          pictures of records in the cache with rescore.cache.warm = true";
            return Err(fault(ProblemKind::PictureNotKept, detail));
        };
        // The cache names what came by its own hash: a picture that was replaced at its address is never taken for the indexed one.
        self.bytes(self.fetch(url).await?).await
    }

    async fn fetch(&self, url: String) -> Result<Vec<u8>, CandidateFault> {
        let place = Arc::clone(&self.fetches).acquire_owned().await;
        let _place = place.map_err(|error| failed(&error))?;
        self.media.fetch(ImageSource::from_url(url)).await.map_err(|error| of_media(&error))
    }

    async fn bytes(&self, bytes: Vec<u8>) -> Result<EmbeddedStates<ImageStates>, CandidateFault> {
        let (bytes, content) = self.hashed(bytes).await?;
        let key = self.cache.image_key(&content);
        let encode = async {
            let prepared = self.preparer.image(bytes).await.map_err(of_preparing)?;
            self.towers.embed_image_states(prepared).await.map_err(|error| of_towers(&error))
        };
        self.through_cache(&key, encode).await
    }

    async fn hashed(&self, bytes: Vec<u8>) -> Result<(Vec<u8>, ContentHash), CandidateFault> {
        let short = bytes.len() <= INLINE_HASH_BYTES_MAX;
        let hash = move || {
            let content = ContentHash::of(&bytes);
            (bytes, content)
        };
        if short {
            return Ok(hash());
        }
        self.preparer.blocking(hash).await.ok_or_else(|| failed(&"hashing a picture was interrupted"))
    }

    async fn through_cache<S: States>(
        &self,
        key: &StateKey,
        encode: impl Future<Output = Result<EmbeddedStates<S>, CandidateFault>>,
    ) -> Result<EmbeddedStates<S>, CandidateFault> {
        let (encoded, hit) = self.cache.get_or_encode(key, encode).await?;
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(encoded)
    }

    pub(super) fn cache_use(&self) -> CacheUse {
        CacheUse { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }
}
