//! Search and embedding: a query against every collection of a generation, the service behind every door beside [`crate::rescore`].
//!
//! ```text
//! request -> limits -> query embedded ─────────────> every kind searched at once -> hits
//!                   `-> where it is re-scored: encoded once for both stages ──────> the best hits in the single tower's order
//! ```
//! The towers' live handle is used: somebody waits, so it goes before indexing.
//!
//! Absent here: HTTP, and any write to the index.

mod embed;
mod error;
mod hit;
mod query;
mod rerank;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::Kind;
use astromech_schemas::http::{Hit, SearchResponse};
use astromech_towers::Towers;
use futures::future::try_join_all;

pub use embed::EmbedInputs;
pub use error::SearchError;
pub use query::SearchQuery;

use crate::index::{Index, Query, Stored, compared_by};
use crate::rescore::{self, Rescorer};
use embed::{embed_image, embed_text};
use hit::hit;
use query::QueryInput;
use rerank::{Verdicts, rerank, verdicts};

/// Hits of each kind where a request names no limit.
pub const SEARCH_LIMIT_DEFAULT: u32 = 10;
/// Most hits of each kind.
pub const SEARCH_LIMIT_MAX: u32 = 100;
/// Most hits of each kind that are re-scored.
pub const SEARCH_RESCORE_MAX: u32 = 100;
/// Most tags, and most languages, of a filter.
pub const FILTER_WORDS_MAX: usize = 32;
/// Most texts, and most images, of one embed request.
pub const EMBED_INPUTS_MAX: usize = 64;

/// The search service of one vector space. Cheap to make: it holds handles.
pub struct Searcher {
    towers: Towers,
    index: Arc<dyn Index>,
    rescorer: Option<Arc<Rescorer>>,
}

impl Searcher {
    /// Over running parts of one vector space; without `rescorer` a search that asks for re-scoring is refused.
    pub fn new(towers: &Towers, index: Arc<dyn Index>, rescorer: Option<Arc<Rescorer>>) -> Self {
        Self { towers: towers.live(), index, rescorer }
    }

    /// Embeds the query and searches each kind asked for, all at once. Pictures and advertisements are compared by their picture,
    /// videos by their nearest frame, articles by their text. Where the query asks for it, the best of those that pair with it are
    /// ranked anew by the single tower.
    ///
    /// # Errors
    /// The query can't be embedded, the index does not answer, or re-scoring is asked for and off or overloaded. A hit that can't be
    /// scored is no error.
    pub async fn search(&self, query: SearchQuery) -> Result<SearchResponse, SearchError> {
        let SearchQuery { input, kinds, limit, rescore, filter } = query;
        let started = Instant::now();
        let most = rescore.unwrap_or_default();
        let rescorer = rescore.map(|_| self.able()).transpose()?;
        let (vector, second) = self.first_stage(rescorer, input).await?;
        let embedded = Instant::now();
        let queries: Vec<Query> = kinds
            .into_iter()
            .map(|kind| {
                let recalled = if second.as_ref().is_some_and(|second| second.takes(kind)) { limit.max(most) } else { limit };
                let (vector_name, vector, filter) = (compared_by(kind), vector.clone(), filter.clone());
                Query { kind, vector_name, vector, limit: recalled, filter }
            })
            .collect();
        let found = try_join_all(queries.iter().map(|query| self.index.search(query))).await?;
        let search_ms = embedded.elapsed().as_secs_f64() * 1e3;
        let found: Vec<(Kind, Vec<Stored>)> = queries.iter().map(|query| query.kind).zip(found).collect();
        let rescoring = Instant::now();
        let mut said = match &second {
            Some(second) => verdicts(second, &found, most as usize).await,
            None => Verdicts::new(),
        };
        let hits: BTreeMap<Kind, Vec<Hit>> = found
            .into_iter()
            .map(|(kind, stored)| {
                let hits = stored.into_iter().map(|stored| hit(kind, stored)).collect();
                (kind, rerank(hits, said.remove(&kind).unwrap_or_default(), limit as usize))
            })
            .collect();
        Ok(SearchResponse {
            fingerprint: self.index.fingerprint().clone(),
            hits,
            embed_ms: (embedded - started).as_secs_f64() * 1e3,
            search_ms,
            rescore_ms: second.as_ref().map(|_| rescoring.elapsed().as_secs_f64() * 1e3),
            blend: second.map(|second| second.blend().clone()),
        })
    }

    /// The re-scoring service, if it is there.
    fn able(&self) -> Result<&Rescorer, SearchError> {
        self.rescorer.as_deref().ok_or_else(|| {
            let fix = "leave it out, or set rescore.enabled = true";
            SearchError::invalid("rescore", "this daemon does not re-score", fix)
        })
    }

    /// The query's vector, and with a rescorer the query for the second stage.
    async fn first_stage(
        &self,
        rescorer: Option<&Rescorer>,
        input: QueryInput,
    ) -> Result<(Vec<f32>, Option<rescore::RescoreQuery>), SearchError> {
        let Some(rescorer) = rescorer else {
            let vector = match input {
                QueryInput::Text(text) => embed_text(&self.towers, &text).await?,
                QueryInput::Image(image) => embed_image(&self.towers, image.0, "image".into()).await?,
            };
            return Ok((vector, None));
        };
        let query = rescorer.query(input.into()).await?;
        Ok((query.vector().to_vec(), Some(query)))
    }
}
