//! Search: one query, each kind's best hits, and where asked the single tower's order of them. The command line searches through the
//! same function.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::http::{Hit, SearchRequest, SearchResponse};
use astromech_schemas::item::InlineBytes;
use astromech_schemas::rescore::RescoreContext;
use astromech_schemas::{FrameRef, Kind};
use astromech_towers::Towers;
use axum::Json;
use axum::extract::{Request, State};
use futures::future::try_join_all;
use serde_json::{Map, Value};

use super::AppState;
use super::embed::{EmbedError, check_text, embed_image, embed_text, read_body};
use super::media::media_path;
use super::problem::Problem;
use super::rerank::{Verdicts, rerank, verdicts};
use crate::index::payload::frame_of;
use crate::index::{Index, IndexError, Query, SearchFilter, Stored, VECTOR_IMAGE, VECTOR_TEXT};
use crate::rescore::{self, RescoreError, Rescorer};

/// Hits of each kind where a request names no limit.
pub const SEARCH_LIMIT_DEFAULT: u32 = 10;
/// Most hits of each kind.
pub const SEARCH_LIMIT_MAX: u32 = 100;
/// Most hits of each kind that are re-scored.
pub const SEARCH_RESCORE_MAX: u32 = 100;

/// Most tags, and most languages, of a filter.
const FILTER_WORDS_MAX: usize = 32;

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The request is wrong.
    #[error("{field}: {problem}; fix: {fix}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// What is wrong, with the limit.
        problem: String,
        /// What to send.
        fix: &'static str,
    },
    /// The query could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The index did not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The query could not be encoded for re-scoring, or too many requests re-score.
    #[error(transparent)]
    Rescore(#[from] RescoreError),
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Invalid { field, problem, fix } => Self::invalid(field, &problem, fix),
            SearchError::Embed(error) => error.into(),
            SearchError::Index(error) => error.into(),
            SearchError::Rescore(error) => error.into(),
        }
    }
}

/// Embeds the query and searches each kind asked for, all at once. Pictures and advertisements are compared by their picture,
/// videos by their nearest frame, articles by their text. With `request.rescore` the best of those that pair with the query are ranked anew by the single tower.
///
/// # Errors
/// The request is not exactly one query with a limit in range, the query can't be embedded, the index does not answer, or re-scoring
/// is asked for and off or overloaded. A hit that can't be scored is no error.
pub async fn search(
    towers: &Towers,
    index: &dyn Index,
    rescorer: Option<&Rescorer>,
    request: SearchRequest,
) -> Result<SearchResponse, SearchError> {
    let limit = request.limit.unwrap_or(SEARCH_LIMIT_DEFAULT);
    check_range("limit", limit, SEARCH_LIMIT_MAX)?;
    let most = request.rescore.unwrap_or_default();
    let filter = SearchFilter {
        tags: request.tags,
        languages: request.languages,
        time_ms_from: request.time_ms_from,
        time_ms_to: request.time_ms_to,
        videos: Vec::new(),
    };
    check_filter(&filter)?;
    let started = Instant::now();
    let query = match (request.text, request.image) {
        (Some(text), None) => QueryInput::Text(text),
        (None, Some(image)) => QueryInput::Image(image),
        (text, _) => {
            let problem = if text.is_some() { "both text and image" } else { "neither text nor image" }.to_owned();
            return Err(SearchError::Invalid { field: ".", problem, fix: "send exactly one of text and image" });
        }
    };
    let rescorer = if request.rescore.is_some() { Some(able(rescorer, most)?) } else { None };
    let (vector, second) = first_stage(towers, rescorer, query).await?;
    let embedded = Instant::now();
    let kinds: BTreeSet<Kind> = if request.kinds.is_empty() { Kind::ALL.into() } else { request.kinds.into_iter().collect() };
    let queries: Vec<Query> = kinds
        .into_iter()
        .map(|kind| {
            let vector_name = if kind == Kind::Article { VECTOR_TEXT } else { VECTOR_IMAGE };
            let recalled = if second.as_ref().is_some_and(|second| second.takes(kind)) { limit.max(most) } else { limit };
            Query { kind, vector_name, vector: vector.clone(), limit: recalled, filter: filter.clone() }
        })
        .collect();
    let found = try_join_all(queries.iter().map(|query| index.search(query))).await?;
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
        fingerprint: index.fingerprint().clone(),
        hits,
        embed_ms: (embedded - started).as_secs_f64() * 1e3,
        search_ms,
        rescore_ms: second.map(|_| rescoring.elapsed().as_secs_f64() * 1e3),
    })
}

enum QueryInput {
    Text(String),
    Image(InlineBytes),
}

fn check_range(field: &'static str, value: u32, max: u32) -> Result<(), SearchError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(SearchError::Invalid { field, problem: format!("{value} is outside 1 to {max}"), fix: "send a number in that range" })
}

/// Each word is a condition that the index looks at for each point.
fn check_filter(filter: &SearchFilter) -> Result<(), SearchError> {
    for (field, words) in [("tags", &filter.tags), ("languages", &filter.languages)] {
        if words.len() > FILTER_WORDS_MAX {
            let problem = format!("{} words are over filter_words_max = {FILTER_WORDS_MAX}", words.len());
            return Err(SearchError::Invalid { field, problem, fix: "send fewer" });
        }
    }
    Ok(())
}

/// The re-scoring service, if it is there and `most` hits may be asked of it.
fn able(rescorer: Option<&Rescorer>, most: u32) -> Result<&Rescorer, SearchError> {
    check_range("rescore", most, SEARCH_RESCORE_MAX)?;
    rescorer.ok_or_else(|| SearchError::Invalid {
        field: "rescore",
        problem: "this daemon does not re-score".to_owned(),
        fix: "leave it out, or set rescore.enabled = true",
    })
}

/// The query's vector, and with a rescorer the query for the second stage. Somebody waits for it: it goes before indexing.
async fn first_stage(
    towers: &Towers,
    rescorer: Option<&Rescorer>,
    query: QueryInput,
) -> Result<(Vec<f32>, Option<rescore::Query>), SearchError> {
    let Some(rescorer) = rescorer else {
        let towers = towers.live();
        let vector = match query {
            QueryInput::Text(text) => embed_text(&towers, &text).await?,
            QueryInput::Image(image) => embed_image(&towers, image.0, "image".to_owned()).await?,
        };
        return Ok((vector, None));
    };
    let context = match query {
        QueryInput::Text(text) => RescoreContext { text: Some(text), ..RescoreContext::default() },
        QueryInput::Image(image) => RescoreContext { image: Some(image), ..RescoreContext::default() },
    };
    let query = rescorer.query(context).await?;
    Ok((query.vector().to_vec(), Some(query)))
}

/// A stored point as a hit. A payload of an unexpected form loses fields, never the hit.
fn hit(kind: Kind, stored: Stored) -> Hit {
    let Stored { score, mut payload, point_id } = stored;
    let frame = frame_of(&payload);
    let mut text = |field: &str| take_text(&mut payload, field);
    let id = text("id").unwrap_or_else(|| point_id.to_string());
    let image_url = text("image_url").and_then(|url| shown_url(kind, &id, frame, url));
    let (title, body, link) = (text("title"), text("body"), text("link"));
    let tags = match payload.remove("tags") {
        Some(Value::Array(tags)) => tags.into_iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let attributes = match payload.remove("attributes") {
        Some(Value::Object(map)) => map.into_iter().filter_map(|(k, v)| Some((k, v.as_str()?.to_owned()))).collect(),
        _ => BTreeMap::new(),
    };
    let version = payload.get("version").and_then(Value::as_u64).unwrap_or_default();
    // Only addresses that are safe to click on.
    let link = link.filter(|link| link.starts_with("https://") || link.starts_with("http://"));
    Hit { kind, id, version, score, title, body, image_url, link, tags, attributes, rescore: None, frame }
}

fn take_text(payload: &mut Map<String, Value>, field: &str) -> Option<String> {
    match payload.remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Where a browser finds the picture: as it is on the web, or through this daemon where it is a file.
fn shown_url(kind: Kind, id: &str, frame: Option<FrameRef>, url: String) -> Option<String> {
    match url.split_once(':')?.0 {
        "http" | "https" => Some(url),
        "file" => Some(media_path(kind, id, frame)),
        _ => None,
    }
}

/// `POST /v1/search`.
pub(super) async fn handle(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<SearchResponse>, Problem> {
    let request: SearchRequest = read_body(request, &state.limits).await?;
    if let Some(text) = &request.text {
        check_text("text", text, &state.limits)?;
    }
    let serving = state.serving()?;
    Ok(Json(search(&serving.towers, &*serving.index, serving.rescorer.as_deref(), request).await?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn stored(payload: &Value) -> Stored {
        Stored { point_id: uuid::Uuid::nil(), score: 0.5, payload: payload.as_object().unwrap().clone() }
    }

    #[test]
    fn a_picture_in_a_file_is_shown_through_the_daemon_and_one_on_the_web_as_it_is() {
        let of = |url: &str| hit(Kind::Image, stored(&serde_json::json!({"id": "a/b 红", "image_url": url}))).image_url;
        assert_eq!(of("file:///data/a.png").as_deref(), Some("/v1/media/image/a%2Fb%20%E7%BA%A2"));
        assert_eq!(of("https://host.test/a.png").as_deref(), Some("https://host.test/a.png"));
        assert_eq!(of("javascript:alert(1)"), None);
    }

    #[test]
    fn a_video_is_shown_by_the_frame_that_was_found() {
        let payload = serde_json::json!({"id": "v", "image_url": "file:a.png", "frame": 3, "frame_time_ms": 4500});
        let hit = hit(Kind::Video, stored(&payload));
        assert_eq!(hit.frame, Some(FrameRef { number: 3, time_ms: 4500 }));
        assert_eq!(hit.image_url.as_deref(), Some("/v1/media/video/v?frame=3"));
    }

    #[test]
    fn a_link_that_is_no_web_address_is_left_out() {
        let of = |link: &str| hit(Kind::Article, stored(&serde_json::json!({"id": "a", "link": link}))).link;
        assert_eq!(of("https://host.test/"), Some("https://host.test/".to_owned()));
        assert_eq!(of("javascript:alert(1)"), None);
    }

    #[test]
    fn a_payload_of_another_form_loses_fields_and_not_the_hit() {
        let hit = hit(Kind::Image, stored(&serde_json::json!({"title": 7, "tags": "x", "attributes": {"a": 1, "b": "c"}})));
        assert_eq!(hit.id, uuid::Uuid::nil().to_string());
        assert_eq!((hit.title, hit.tags.len(), hit.attributes.len()), (None, 0, 1));
    }
}
