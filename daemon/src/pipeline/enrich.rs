//! What a result carries beside its names: vectors and neighbours.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use astromech_schemas::Kind;
use astromech_schemas::results::{Neighbour, ResultMessage};
use futures::future::try_join_all;
use tracing::{Instrument as _, warn};

use crate::config::ResultsConfig;
use crate::index::payload::{FIELD_ID, FIELD_VERSION};
use crate::index::{Change, ChangeBody, Index, IndexError, Query, SearchFilter, Stored, VECTOR_IMAGE, VECTOR_TEXT, compared_by};
use crate::vitals::trace::stage_span;
use crate::vitals::{Awaited, Unanswered, Vitals, WarnLimiter};

/// Searches that failed while the index is down.
static NO_NEIGHBOURS: WarnLimiter = WarnLimiter::new();

/// Adds to results what the configuration asks for.
pub(super) struct Enricher {
    pub(super) index: Arc<dyn Index>,
    pub(super) config: ResultsConfig,
    pub(super) vitals: Vitals,
}

/// Vectors of a change, kept until its result is made.
#[derive(Debug, Default)]
pub(super) struct Kept {
    text: Option<Vec<f32>>,
    image: Option<Vec<f32>>,
    frames: Vec<Vec<f32>>,
}

impl Enricher {
    /// Vectors that the result will need; the change itself goes to the writer.
    pub(super) fn keep(&self, change: &Change) -> Kept {
        let wanted = self.config.embeddings || self.config.neighbours > 0;
        match &change.body {
            ChangeBody::Upsert { text, image, .. } if wanted => {
                Kept { text: text.clone(), image: image.clone(), frames: Vec::new() }
            }
            ChangeBody::Video { text, frames, .. } if wanted => {
                Kept { text: text.clone(), image: None, frames: frames.iter().map(|frame| frame.image.clone()).collect() }
            }
            _ => Kept::default(),
        }
    }

    /// Adds to the result of an applied change. Waits for an index that does not answer; the caller ends the wait with the partition.
    pub(super) async fn enrich(&self, result: &mut ResultMessage, kept: Kept) {
        if self.config.neighbours > 0 {
            let by_picture = result.kind == Kind::Image;
            let (first, second) = if by_picture { (&kept.image, &kept.text) } else { (&kept.text, &kept.image) };
            if let Some(vector) = first.as_ref().or(second.as_ref()).or(kept.frames.first()) {
                result.neighbours = self.neighbours(result, vector).instrument(stage_span!("neighbours")).await;
            }
        }
        if self.config.embeddings {
            let named = [(VECTOR_TEXT, kept.text), (VECTOR_IMAGE, kept.image)];
            for (frame, vector) in result.frames.iter_mut().zip(kept.frames) {
                frame.embedding = vector;
            }
            result.embeddings = named.into_iter().filter_map(|(name, vector)| Some((name.to_owned(), vector?))).collect();
        }
    }

    async fn neighbours(&self, result: &ResultMessage, vector: &[f32]) -> BTreeMap<Kind, Vec<Neighbour>> {
        let warn = |error: &IndexError, wait: Duration| {
            if let Some(repeated) = NO_NEIGHBOURS.due("") {
                warn!(problem = error.text(), ?wait, repeated, "neighbours can't be had now; trying again");
            }
        };
        let index = Awaited::new(IndexError::is_transient, &warn);
        match self.vitals.until_it_answers(index, pending::<Infallible>(), || self.search(result, vector)).await {
            Ok(found) => found,
            Err(Unanswered::Failed(error)) => {
                warn!(%error, kind = %result.kind, id = result.id, "a result goes without neighbours");
                BTreeMap::new()
            }
        }
    }

    async fn search(&self, result: &ResultMessage, vector: &[f32]) -> Result<BTreeMap<Kind, Vec<Neighbour>>, IndexError> {
        let queries = Kind::ALL.map(|kind| Query {
            kind,
            vector_name: compared_by(kind),
            vector: vector.to_vec(),
            // One more: the item itself is the nearest of its kind.
            limit: self.config.neighbours + u32::from(kind == result.kind),
            filter: SearchFilter::default(),
        });
        let found = try_join_all(queries.iter().map(|query| self.index.search(query))).await?;
        let most = self.config.neighbours as usize;
        let of_kind = |(kind, stored): (Kind, Vec<Stored>)| {
            let others =
                stored.into_iter().filter(|stored| kind != result.kind || stored.point_id.to_string() != result.point_id);
            (kind, others.take(most).filter_map(|stored| neighbour(&stored)).collect())
        };
        Ok(Kind::ALL.into_iter().zip(found).map(of_kind).collect())
    }
}

fn neighbour(stored: &Stored) -> Option<Neighbour> {
    let id = stored.payload.get(FIELD_ID)?.as_str()?.to_owned();
    let version = stored.payload.get(FIELD_VERSION).and_then(serde_json::Value::as_u64)?;
    Some(Neighbour { id, version, score: stored.score })
}
