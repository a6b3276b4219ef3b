//! What a candidate or a context is made of, before it is encoded.

use astromech_schemas::item_text;
use astromech_schemas::rescore::{Candidate, CandidateFault, ProblemKind, RescoreMode};
use serde_json::{Map, Value};

use super::fault::{fault, invalid};
use crate::index::VECTOR_IMAGE;
use crate::index::payload::FIELD_VECTORS;
use crate::media::ContentHash;
use crate::prepare::FIELD_IMAGE_SHA256;

/// Longest text of a query, a context or a candidate, characters: what a JSON Schema's `maxLength` counts.
pub const TEXT_CHARS_MAX: usize = 65_536;

/// Where a picture comes from.
#[derive(Debug)]
pub(super) enum Picture {
    /// Encoded, base64.
    Base64(String),
    /// Encoded.
    Bytes(Vec<u8>),
    /// On the web.
    Url(String),
    /// As it was indexed: at `url`, its bytes of this hash then.
    Stored { url: Option<String>, content: Option<ContentHash> },
}

/// A picture, a text, or both.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) picture: Option<Picture>,
    pub(super) text: Option<String>,
}

/// Which sides of a candidate are paired with the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) picture: bool,
    pub(super) text: bool,
}

impl Source {
    /// Of an item's payload, as indexed. The text is the one that was embedded, as far as the payload keeps it, which is further than
    /// the text tower reads.
    pub(super) fn of_payload(payload: &Map<String, Value>) -> Self {
        let word = |field: &str| payload.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let url = word("image_url").map(str::to_owned);
        let content = word(FIELD_IMAGE_SHA256).and_then(ContentHash::from_hex);
        let names = payload.get(FIELD_VECTORS).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let has_picture = url.is_some() || content.is_some() || names.iter().any(|name| name == VECTOR_IMAGE);
        let text = item_text(word("title").unwrap_or_default(), word("body").unwrap_or_default());
        Self { picture: has_picture.then_some(Picture::Stored { url, content }), text }
    }

    /// Of a candidate that names no item.
    pub(super) fn of_candidate(candidate: Candidate) -> Result<Self, CandidateFault> {
        let picture = match (candidate.image, candidate.url) {
            (Some(_), Some(_)) => return Err(invalid("image", "both image and url", "send one picture a candidate")),
            (Some(image), None) => Some(Picture::Base64(image)),
            (None, Some(url)) => Some(web_picture(url)?),
            (None, None) => None,
        };
        if let Some(text) = &candidate.text {
            check_text(text).map_err(|(problem, fix)| invalid("text", &problem, fix))?;
        }
        if picture.is_none() && candidate.text.is_none() {
            return Err(invalid(".", "neither item, image, url nor text", "send an item, or a picture and/or a text"));
        }
        Ok(Self { picture, text: candidate.text })
    }

    /// Which sides pair with a context that has these; at least one.
    pub(super) fn wanted(&self, context_text: bool, context_image: bool, mode: RescoreMode) -> Result<Wanted, CandidateFault> {
        let picture = context_text && self.picture.is_some();
        let text = context_image && self.text.is_some() && (mode == RescoreMode::Ads || !picture);
        if picture || text {
            return Ok(Wanted { picture, text });
        }
        let (has, lacks) = if context_text { ("a text", "picture") } else { ("a picture", "text") };
        let detail = format!(
            "the context is {has} and the candidate has no {lacks}: the single tower takes one picture and one text; \
             fix: send a {lacks}, or compare two of a kind by the vectors of /v1/embed"
        );
        Err(fault(ProblemKind::UnsupportedPair, detail))
    }
}

/// A client may name pictures on the web only: files are for items that were indexed.
fn web_picture(url: String) -> Result<Picture, CandidateFault> {
    let scheme = url.split(':').next().unwrap_or_default();
    if ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)) {
        return Ok(Picture::Url(url));
    }
    let detail =
        "url: only https: and http: addresses are fetched for a request; fix: send the picture in image, or name the item";
    Err(fault(ProblemKind::UrlForbidden, detail))
}

/// Refuses a text over its limit. An empty one is scored, as the official model scores it.
///
/// # Errors
/// Problem and fix.
pub fn check_text(text: &str) -> Result<(), (String, &'static str)> {
    // Fewer bytes are fewer characters.
    if text.len() <= TEXT_CHARS_MAX {
        return Ok(());
    }
    match text.chars().count() {
        0..=TEXT_CHARS_MAX => Ok(()),
        over => {
            let problem = format!("{over} characters are over text_chars_max = {TEXT_CHARS_MAX}");
            Err((problem, "shorten the text; the model reads its first 64 tokens"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_payload(payload: Value) -> Source {
        let Value::Object(payload) = payload else { panic!("an object") };
        Source::of_payload(&payload)
    }

    #[test]
    fn a_payload_gives_the_text_that_was_embedded_and_the_picture_that_was_indexed() {
        let hash = ContentHash::of(b"x");
        let source =
            of_payload(json!({"title": "标题", "body": "正文", "image_url": "file:a.jpg", "image_sha256": hash.to_hex()}));
        assert_eq!(source.text.as_deref(), Some("标题。正文"));
        let Some(Picture::Stored { url, content }) = source.picture else { panic!("a stored picture") };
        assert_eq!((url.as_deref(), content), (Some("file:a.jpg"), Some(hash)));
        let inline = of_payload(json!({"title": " ", "vectors": ["image"]}));
        assert!(inline.text.is_none());
        assert!(matches!(inline.picture, Some(Picture::Stored { url: None, content: None })));
        assert!(of_payload(json!({"title": "标题", "vectors": ["text"]})).picture.is_none());
    }

    #[test]
    fn a_pair_is_one_picture_and_one_text_and_advertisements_take_both() {
        let both = Source { picture: Some(Picture::Url("https://a".to_owned())), text: Some("a".to_owned()) };
        let text = Source { picture: None, text: Some("a".to_owned()) };
        let wanted = |source: &Source, text, image, mode| source.wanted(text, image, mode).map(|w| (w.picture, w.text));
        assert_eq!(wanted(&both, true, true, RescoreMode::Ads), Ok((true, true)));
        assert_eq!(wanted(&both, true, true, RescoreMode::Plain), Ok((true, false)));
        assert_eq!(wanted(&both, false, true, RescoreMode::Plain), Ok((false, true)));
        assert_eq!(wanted(&text, true, true, RescoreMode::Plain), Ok((false, true)));
        let error = wanted(&text, true, false, RescoreMode::Plain).unwrap_err();
        assert_eq!(error.kind, ProblemKind::UnsupportedPair);
        assert!(error.detail.contains("one picture and one text"), "{}", error.detail);
    }

    #[test]
    fn a_candidate_is_told_what_is_wrong_with_it() {
        let of = |candidate| Source::of_candidate(candidate).unwrap_err();
        assert_eq!(of(Candidate::default()).kind, ProblemKind::InvalidCandidate);
        let image = || Some("AA==".to_owned());
        let two = of(Candidate { image: image(), url: Some("https://a".to_owned()), ..Candidate::default() });
        assert!(two.detail.contains("both image and url"), "{}", two.detail);
        for url in ["file:a.jpg", "data:image/png;base64,AA==", "a.jpg"] {
            let error = of(Candidate { url: Some(url.to_owned()), ..Candidate::default() });
            assert_eq!(error.kind, ProblemKind::UrlForbidden, "{url}");
        }
        let long = of(Candidate { text: Some("长".repeat(70_000)), ..Candidate::default() });
        assert!(long.detail.contains("text_chars_max = 65536"), "{}", long.detail);
    }
}
