//! What a search asks for, checked.

use std::borrow::Cow;
use std::collections::BTreeSet;

use astromech_schemas::Kind;
use astromech_schemas::http::SearchRequest;
use astromech_schemas::item::InlineBytes;
use astromech_schemas::rescore::RescoreContext;

use super::error::SearchError;
use super::{FILTER_WORDS_MAX, SEARCH_LIMIT_DEFAULT, SEARCH_LIMIT_MAX, SEARCH_RESCORE_MAX};
use crate::index::SearchFilter;
use crate::rescore;

/// A search that is within every limit: exactly one text or picture, and what may be found by it.
#[derive(Debug, Clone)]
pub struct SearchQuery {
    pub(super) input: QueryInput,
    /// Kinds to search; at least one.
    pub(super) kinds: BTreeSet<Kind>,
    /// Most hits of each kind.
    pub(super) limit: u32,
    /// Hits of each kind that the single tower ranks anew, where it is asked to.
    pub(super) rescore: Option<u32>,
    pub(super) filter: SearchFilter,
}

/// What is searched by.
#[derive(Debug, Clone)]
pub(super) enum QueryInput {
    Text(String),
    /// Encoded.
    Image(InlineBytes),
}

impl TryFrom<SearchRequest> for SearchQuery {
    type Error = SearchError;

    fn try_from(request: SearchRequest) -> Result<Self, SearchError> {
        if let Some(text) = &request.text {
            check_text(|| "text".into(), text)?;
        }
        let limit = request.limit.unwrap_or(SEARCH_LIMIT_DEFAULT);
        check_range("limit", limit, SEARCH_LIMIT_MAX)?;
        let filter = SearchFilter {
            tags: request.tags,
            languages: request.languages,
            time_ms_from: request.time_ms_from,
            time_ms_to: request.time_ms_to,
            videos: Vec::new(),
        };
        check_filter(&filter)?;
        let input = match (request.text, request.image) {
            (Some(text), None) => QueryInput::Text(text),
            (None, Some(image)) => QueryInput::Image(image),
            (text, _) => {
                let problem = if text.is_some() { "both text and image" } else { "neither text nor image" };
                return Err(SearchError::invalid(".", problem, "send exactly one of text and image"));
            }
        };
        if let Some(most) = request.rescore {
            check_range("rescore", most, SEARCH_RESCORE_MAX)?;
        }
        let kinds = if request.kinds.is_empty() { Kind::ALL.into() } else { request.kinds.into_iter().collect() };
        Ok(Self { input, kinds, limit, rescore: request.rescore, filter })
    }
}

impl From<QueryInput> for RescoreContext {
    fn from(input: QueryInput) -> Self {
        match input {
            QueryInput::Text(text) => Self { text: Some(text), ..Self::default() },
            QueryInput::Image(image) => Self { image: Some(image), ..Self::default() },
        }
    }
}

/// Refuses a text that is empty or over its limit; `field` names it.
pub(super) fn check_text(field: impl FnOnce() -> Cow<'static, str>, text: &str) -> Result<(), SearchError> {
    if text.trim().is_empty() {
        return Err(SearchError::invalid(field(), "the text is empty", "send at least one character that is no space"));
    }
    rescore::check_text(text).map_err(|(problem, fix)| SearchError::invalid(field(), problem, fix))
}

fn check_range(field: &'static str, value: u32, max: u32) -> Result<(), SearchError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(SearchError::invalid(field, format!("{value} is outside 1 to {max}"), "send a number in that range"))
}

/// Each word is a condition that the index looks at for each point.
fn check_filter(filter: &SearchFilter) -> Result<(), SearchError> {
    for (field, words) in [("tags", &filter.tags), ("languages", &filter.languages)] {
        if words.len() > FILTER_WORDS_MAX {
            let problem = format!("{} words are over filter_words_max = {FILTER_WORDS_MAX}", words.len());
            return Err(SearchError::invalid(field, problem, "send fewer"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: SearchRequest) -> String {
        SearchQuery::try_from(request).unwrap_err().to_string()
    }

    fn text(text: &str) -> SearchRequest {
        SearchRequest { text: Some(text.to_owned()), ..SearchRequest::default() }
    }

    #[test]
    fn a_search_is_one_text_or_one_picture_within_every_limit() {
        assert_eq!(refused(SearchRequest::default()), ".: neither text nor image; fix: send exactly one of text and image");
        let both = SearchRequest { image: Some(InlineBytes(Vec::new())), ..text("车") };
        assert_eq!(refused(both), ".: both text and image; fix: send exactly one of text and image");
        assert_eq!(refused(text(" \n")), "text: the text is empty; fix: send at least one character that is no space");
        assert!(refused(text(&"长".repeat(70_000))).contains("text: 70000 characters are over text_chars_max = 65536"));
        for limit in [0, SEARCH_LIMIT_MAX + 1] {
            let request = SearchRequest { limit: Some(limit), ..text("车") };
            assert_eq!(refused(request), format!("limit: {limit} is outside 1 to 100; fix: send a number in that range"));
        }
        let request = SearchRequest { rescore: Some(0), ..text("车") };
        assert_eq!(refused(request), "rescore: 0 is outside 1 to 100; fix: send a number in that range");
        let request = SearchRequest { tags: vec!["t".to_owned(); 33], ..text("车") };
        assert_eq!(refused(request), "tags: 33 words are over filter_words_max = 32; fix: send fewer");
    }

    #[test]
    fn what_a_search_leaves_out_is_every_kind_and_the_usual_number_of_hits() {
        let query = SearchQuery::try_from(text("车")).unwrap();
        assert_eq!((query.kinds, query.limit, query.rescore), (Kind::ALL.into(), SEARCH_LIMIT_DEFAULT, None));
    }
}
