//! The cheap handle that everybody holds.

use std::sync::Arc;

use astromech_schemas::manifest::Precision;
use astromech_schemas::{Fingerprint, Manifest};

use crate::{
    BatchObserver, Bundle, ImageError, PreparedImage, PreparedText, QueueDepths, Tokenizer, TowerCounters, TowersConfig, TowersError,
};

/// A vector of the bundle's space.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
}

/// A vector with the states that the cross tower takes.
#[derive(Debug, Clone)]
pub struct EmbeddedStates<S> {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
    /// Hidden states of the tower's last layer.
    pub states: Arc<S>,
}

/// Hidden states of one picture, `[tokens, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageStates {
    /// Tokens: patches and the class token.
    pub tokens: usize,
    /// Width of the image tower.
    pub width: usize,
    /// `tokens * width` numbers.
    pub data: Box<[f32]>,
}

/// Hidden states of one text at its true length, `[tokens, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TextStates {
    /// Tokens, `[CLS]` and `[SEP]` included.
    pub tokens: usize,
    /// Width of the text tower.
    pub width: usize,
    /// `tokens * width` numbers.
    pub data: Box<[f32]>,
}

/// Probabilities that a picture and a text belong together, of both cross encoders (r2d2.md §4.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchScore {
    /// Of the text-image encoder (text queries).
    pub itm_text: f32,
    /// Of the image-text encoder (image queries).
    pub itm_image: f32,
}

impl MatchScore {
    /// The match score: mean of both probabilities.
    pub fn score(self) -> f32 {
        f32::midpoint(self.itm_text, self.itm_image)
    }
}

/// Handle to the running towers. Clones share the same queues; the workers end when the last clone is dropped.
#[derive(Clone)]
pub struct Towers;

#[expect(clippy::unused_async, clippy::unused_self, reason = "signatures first")]
impl Towers {
    /// Loads the bundle's graphs, replays its golden vectors and starts the workers. Blocking: seconds for a large model.
    ///
    /// # Errors
    /// The runtime or a graph can't be loaded, the provider asked for is absent, or a golden vector is beyond its tolerance.
    pub fn start(bundle: &Bundle, config: &TowersConfig) -> Result<Self, TowersError> {
        todo!("{bundle:?} {config:?}")
    }
    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }
    /// Name of the bundle's vector space.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.manifest().fingerprint
    }
    /// Precision of the graphs in use.
    pub fn precision(&self) -> Precision {
        todo!()
    }
    /// Provider in use: `cpu` or `cuda:0`.
    pub fn provider_in_use(&self) -> &str {
        todo!()
    }
    /// The bundle's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        todo!()
    }
    /// Decodes and squashes a picture. CPU-bound (milliseconds): call it on a blocking thread.
    ///
    /// # Errors
    /// The bytes are no picture that is read, or beyond a limit.
    pub fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        todo!("{}", bytes.len())
    }
    /// Tokenises a text; one that is longer than the model takes is cut.
    pub fn prepare_text(&self, text: &str) -> PreparedText {
        todo!("{text}")
    }
    /// Embeds a picture; waits for room in the queue.
    ///
    /// # Errors
    /// The picture has another size than the model's, its batch failed, or the tower has stopped.
    pub async fn embed_image(&self, image: PreparedImage) -> Result<Embedded, TowersError> {
        todo!("{image:?}")
    }
    /// Embeds a text; waits for room in the queue.
    ///
    /// # Errors
    /// Its batch failed, or the tower has stopped.
    pub async fn embed_text(&self, text: PreparedText) -> Result<Embedded, TowersError> {
        todo!("{text:?}")
    }
    /// As [`Towers::embed_image`], with the states for [`Towers::match_pairs`].
    ///
    /// # Errors
    /// As [`Towers::embed_image`].
    pub async fn embed_image_states(&self, image: PreparedImage) -> Result<EmbeddedStates<ImageStates>, TowersError> {
        todo!("{image:?}")
    }
    /// As [`Towers::embed_text`], with the states for [`Towers::match_pairs`].
    ///
    /// # Errors
    /// As [`Towers::embed_text`].
    pub async fn embed_text_states(&self, text: PreparedText) -> Result<EmbeddedStates<TextStates>, TowersError> {
        todo!("{text:?}")
    }
    /// Match scores of `pairs` of (index into `images`, index into `texts`), in their order.
    ///
    /// # Errors
    /// An index is out of range, states are not of this model, the cross tower is not loaded, a batch failed or the tower stopped.
    pub async fn match_pairs(
        &self,
        images: Vec<Arc<ImageStates>>,
        texts: Vec<Arc<TextStates>>,
        pairs: Vec<(u32, u32)>,
    ) -> Result<Vec<MatchScore>, TowersError> {
        todo!("{images:?} {texts:?} {pairs:?}")
    }
    /// Entries waiting for each tower.
    pub fn queue_depths(&self) -> QueueDepths {
        todo!()
    }
    /// Counters since start.
    pub fn counters(&self) -> &TowerCounters {
        todo!()
    }
    /// Tells `observer` of every batch from now on; the first call wins.
    pub fn observe(&self, observer: Arc<dyn BatchObserver>) {
        drop(observer);
    }
}
