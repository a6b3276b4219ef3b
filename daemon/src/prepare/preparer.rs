//! Decode and squash a picture, tokenise a text: bound to cores, so it runs on blocking threads, at most one a core.

use std::sync::Arc;

use astromech_schemas::dead_letter::Reason;
use astromech_towers::{ImageError, PreparedImage, PreparedText, Towers};
use tokio::sync::Semaphore;

use super::fault::Fault;
use crate::media::ContentHash;

/// A text up to here is tokenised on the spot: faster than handing it to another thread.
const INLINE_TEXT_BYTES_MAX: usize = 4096;

/// Prepares on blocking threads.
#[derive(Clone)]
pub struct Preparer {
    towers: Towers,
    places: Arc<Semaphore>,
}

impl Preparer {
    /// With as many places as there are cores.
    pub fn new(towers: Towers) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { towers, places: Arc::new(Semaphore::new(cores)) }
    }

    /// Decodes and squashes an encoded picture.
    ///
    /// # Errors
    /// A picture that is none, is damaged, or is too large.
    pub async fn image(&self, bytes: Vec<u8>) -> Result<PreparedImage, Fault> {
        let towers = self.towers.clone();
        prepared_or_fault(self.blocking(move || towers.prepare_image(&bytes)).await)
    }

    /// As [`Preparer::image`], with the hash of the bytes.
    ///
    /// # Errors
    /// As [`Preparer::image`].
    pub async fn picture(&self, bytes: Vec<u8>) -> Result<(PreparedImage, ContentHash), Fault> {
        let towers = self.towers.clone();
        let prepared = self.blocking(move || towers.prepare_image(&bytes).map(|image| (image, ContentHash::of(&bytes)))).await;
        prepared_or_fault(prepared)
    }

    /// Tokenises a text.
    ///
    /// # Errors
    /// A text that the tokeniser fails on.
    pub async fn text(&self, text: String) -> Result<PreparedText, Fault> {
        if text.len() <= INLINE_TEXT_BYTES_MAX {
            return Ok(self.towers.prepare_text(&text));
        }
        let towers = self.towers.clone();
        let prepared = self.blocking(move || towers.prepare_text(&text)).await;
        prepared.ok_or_else(|| Fault::new(Reason::InvalidRecord, "text: the tokeniser failed on this text"))
    }

    /// Runs `work` on a blocking thread once there is a place; `None` where it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // The semaphore is never closed; without a place the work runs all the same.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        done.await.ok()
    }
}

fn prepared_or_fault<T>(prepared: Option<Result<T, ImageError>>) -> Result<T, Fault> {
    match prepared {
        Some(Ok(prepared)) => Ok(prepared),
        Some(Err(e)) => {
            let reason = if e.is_too_large() { Reason::ImageTooLarge } else { Reason::InvalidImage };
            Err(Fault::new(reason, format!("image: {e}")))
        }
        // A decoder that panics does so on the same bytes every time.
        None => Err(Fault::new(Reason::InvalidImage, "image: the decoder failed on this picture; fix: encode it again")),
    }
}
