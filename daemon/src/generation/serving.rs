//! The generation that answers.

use std::sync::Arc;

use astromech_towers::Towers;
use tokio::sync::watch;

use crate::index::{Index, IndexWriter};
use crate::rescore::{RescoreError, Rescorer};
use crate::search::Searcher;

/// Everything that answers a question, of one vector space. Whoever answers takes it once and keeps it to the end of the answer.
pub struct Serving {
    /// The running towers.
    pub towers: Towers,
    /// The index of their vector space, to read from.
    pub index: Arc<dyn Index>,
    /// The same, to write to: for this generation's pipeline alone.
    pub(super) writer: Arc<dyn IndexWriter>,
    /// Re-scoring by their single tower; `None` where it is off.
    pub rescorer: Option<Arc<Rescorer>>,
}

impl Serving {
    /// Towers and the index that was opened for them.
    pub fn new(towers: Towers, writer: Arc<dyn IndexWriter>, rescorer: Option<Arc<Rescorer>>) -> Self {
        Self { towers, index: Arc::clone(&writer) as Arc<dyn Index>, writer, rescorer }
    }

    /// Search and embedding.
    pub fn searcher(&self) -> Searcher {
        Searcher::new(&self.towers, Arc::clone(&self.index), self.rescorer.clone())
    }

    /// Re-scoring.
    ///
    /// # Errors
    /// [`RescoreError::Off`].
    pub fn rescorer(&self) -> Result<&Arc<Rescorer>, RescoreError> {
        self.rescorer.as_ref().ok_or(RescoreError::Off)
    }
}

/// Which generation answers now. What is being answered when it changes is finished by the one that began it.
pub struct Live(watch::Sender<Arc<Serving>>);

impl Live {
    /// `serving` answers.
    pub fn new(serving: Serving) -> Self {
        Self(watch::Sender::new(Arc::new(serving)))
    }

    /// What answers now.
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.0.borrow())
    }

    /// From now on `serving` answers.
    pub fn switch(&self, serving: Arc<Serving>) {
        self.0.send_replace(serving);
    }
}
