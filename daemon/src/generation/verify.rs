//! What a generation must show at the live head before it goes live.

use astromech_schemas::{Kind, item_text};
use astromech_towers::Towers;
use futures::future::try_join_all;
use tracing::info;

use super::serving::Serving;
use crate::config::RolloutConfig;
use crate::index::{Index, IndexError, Query, Scope, SearchFilter, Stored, VECTOR_TEXT};

/// Hits among which an item must be when it is looked for by its own text.
const RECALL_HITS: u32 = 10;
/// Points of a kind by which two generations may differ however few there are: changes under way.
const COUNT_SLACK: u64 = 4;

/// Why a generation does not go live now.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotYet {
    /// The index or the towers did not answer.
    #[error("{0}")]
    Unanswered(String),
    /// It holds something else than the live generation; changes under way may be the reason.
    #[error("{0}")]
    Differs(String),
}

impl From<IndexError> for NotYet {
    fn from(error: IndexError) -> Self {
        Self::Unanswered(error.to_string())
    }
}

/// Compares the counts of `candidate` with those of `live`, and looks for a sample of live items in it. Of each kind `left_out` items
/// may be missing, beside the configured share.
///
/// # Errors
/// [`NotYet`], with what was compared, expected and found.
pub(super) async fn verify(live: &Serving, candidate: &Serving, limits: &RolloutConfig, left_out: u64) -> Result<(), NotYet> {
    counts(&*live.index, &*candidate.index, limits.count_difference_max, left_out).await?;
    for kind in Kind::ALL {
        recall(kind, live, candidate, limits).await?;
    }
    Ok(())
}

async fn counts(live: &dyn Index, candidate: &dyn Index, difference_max: f64, left_out: u64) -> Result<(), NotYet> {
    let (live, candidate) = futures::try_join!(live.counts(), candidate.counts())?;
    for (kind, expected) in live {
        let found = candidate.get(&kind).copied().unwrap_or_default();
        let allowed = COUNT_SLACK.max((expected as f64 * difference_max) as u64) + left_out;
        if expected.abs_diff(found) > allowed {
            return Err(NotYet::Differs(format!(
                "{found} {kind} points where the live generation has {expected}; rollout.count_difference_max allows a difference of \
                 {allowed}. Do the topics still hold every item? fix: where they don't, set rollout.backfill = \"collection\""
            )));
        }
    }
    Ok(())
}

/// The first items in the order of their ids, which are hashes, are a sample.
async fn recall(kind: Kind, live: &Serving, candidate: &Serving, limits: &RolloutConfig) -> Result<(), NotYet> {
    if limits.recall_items == 0 {
        return Ok(());
    }
    let sample = live.index.scroll(kind, Scope::Live, None, limits.recall_items).await?.points;
    let texts: Vec<(&Stored, String)> = sample.iter().filter_map(|item| Some((item, text_of(item)?))).collect();
    if texts.is_empty() {
        return Ok(());
    }
    let looked = try_join_all(texts.iter().map(|(item, text)| is_found(kind, item, text, candidate))).await?;
    let (found, looked_for) = (looked.iter().filter(|found| **found).count(), looked.len());
    info!(%kind, found, looked_for, "items found by their own text");
    if (found as f64) < limits.recall_min * looked_for as f64 {
        return Err(NotYet::Differs(format!(
            "{found} of {looked_for} {kind} items are among the first {RECALL_HITS} hits of their own text; rollout.recall_min = {} asks \
             for more",
            limits.recall_min
        )));
    }
    Ok(())
}

/// The text that the item was embedded with.
fn text_of(item: &Stored) -> Option<String> {
    let field = |name: &str| item.payload.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    item_text(field("title"), field("body"))
}

async fn is_found(kind: Kind, item: &Stored, text: &str, candidate: &Serving) -> Result<bool, NotYet> {
    let vector = embed(&candidate.towers, text).await?;
    let query = Query { kind, vector_name: VECTOR_TEXT, vector, limit: RECALL_HITS, filter: SearchFilter::default() };
    let hits = candidate.index.search(&query).await?;
    Ok(hits.iter().any(|hit| hit.point_id == item.point_id))
}

async fn embed(towers: &Towers, text: &str) -> Result<Vec<f32>, NotYet> {
    let embedded = towers.embed_text(towers.prepare_text(text)).await;
    Ok(embedded.map_err(|error| NotYet::Unanswered(error.to_string()))?.vectors().to_vec())
}
