//! Topic messages: articles, images, ads and videos. A delete is a record with a null value and is no message of its own.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{DecodeError, from_json};
use crate::identity::Kind;
use crate::video::{Video, check_frames};

/// Where a picture comes from: exactly one of `url` and `bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["bytes"]}]))]
pub struct ImageSource {
    /// `https:`, `http:` or `file:` address; fetched only from hosts and folders that the daemon's configuration allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The encoded picture (JPEG, PNG, WebP, GIF or BMP) in base64 with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<InlineBytes>,
}

impl ImageSource {
    /// A picture to be fetched.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), bytes: None }
    }

    /// A picture carried in the record.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { url: None, bytes: Some(InlineBytes(bytes.into())) }
    }
}

/// Bytes that travel as base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineBytes(pub Vec<u8>);

impl Serialize for InlineBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for InlineBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(|e| serde::de::Error::custom(format!("invalid base64: {e}")))
    }
}

impl JsonSchema for InlineBytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InlineBytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "contentEncoding": "base64"})
    }
}

/// Fields that every item may carry beside its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Common {
    /// The item's id; the record's key is used where it is absent, and both must agree where both are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Source version: a higher one replaces a lower one, whatever the order of arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9_223_372_036_854_775_807_i64))]
    pub version: Option<u64>,
    /// Page of the item; returned with results, never fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Language as a BCP 47 tag, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Time of publication, milliseconds since 1970 UTC, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    /// Tags, for filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Anything else worth returning with a result, for example a licence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// A text with an optional picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Article {
    /// Always `article`; may be left out where the topic's configuration names the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Headline; embedded first.
    pub title: String,
    /// Text; embedded after the title, as far as the text tower reads (64 tokens).
    pub body: String,
    /// Leading picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Fields of every item.
    #[serde(flatten)]
    pub common: Common,
}

/// A picture with an optional caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// Always `image`; may be left out where the topic's configuration names the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The picture.
    pub image: ImageSource,
    /// Caption; embedded as the point's text vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Fields of every item.
    #[serde(flatten)]
    pub common: Common,
}

/// An advertisement: a title, and a text or picture or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ad {
    /// Always `ad`; may be left out where the topic's configuration names the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Headline.
    pub title: String,
    /// Text under the headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Creative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Who advertises, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertiser: Option<String>,
    /// Fields of every item.
    #[serde(flatten)]
    pub common: Common,
}

/// One decoded upsert.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A text with an optional picture.
    Article(Article),
    /// A picture with an optional caption.
    Image(Image),
    /// An advertisement.
    Ad(Ad),
    /// A video by its key frames.
    Video(Video),
}

impl Item {
    /// What the item is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Article(_) => Kind::Article,
            Self::Image(_) => Kind::Image,
            Self::Ad(_) => Kind::Ad,
            Self::Video(_) => Kind::Video,
        }
    }

    /// Fields of every item.
    pub const fn common(&self) -> &Common {
        match self {
            Self::Article(article) => &article.common,
            Self::Image(image) => &image.common,
            Self::Ad(ad) => &ad.common,
            Self::Video(video) => &video.common,
        }
    }

    /// The picture, if the item has one; a video has frames instead.
    pub const fn image(&self) -> Option<&ImageSource> {
        match self {
            Self::Article(article) => article.image.as_ref(),
            Self::Image(image) => Some(&image.image),
            Self::Ad(ad) => ad.image.as_ref(),
            Self::Video(_) => None,
        }
    }

    /// Takes the picture out, leaving an empty source behind where the kind requires one.
    pub fn take_image(&mut self) -> Option<ImageSource> {
        match self {
            Self::Article(article) => article.image.take(),
            Self::Image(image) => Some(std::mem::replace(&mut image.image, ImageSource { url: None, bytes: None })),
            Self::Ad(ad) => ad.image.take(),
            Self::Video(_) => None,
        }
    }

    /// The text that is embedded, or `None` where the item has none: title and body joined by a full stop, or the caption.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Article(article) => item_text(&article.title, &article.body),
            Self::Image(image) => item_text(image.caption.as_deref().unwrap_or_default(), ""),
            Self::Ad(ad) => item_text(&ad.title, ad.body.as_deref().unwrap_or_default()),
            Self::Video(video) => {
                item_text(video.title.as_deref().unwrap_or_default(), video.body.as_deref().unwrap_or_default())
            }
        }
    }
}

/// The text that is embedded of a title (or caption) and a body, either of which may be empty; `None` where both are.
pub fn item_text(title: &str, body: &str) -> Option<String> {
    match (title.trim(), body.trim()) {
        ("", "") => None,
        (text, "") | ("", text) => Some(text.to_owned()),
        (title, body) => Some(format!("{title}。{body}")),
    }
}

/// Limits of one record, checked before anything is fetched or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Longest title, body or caption, in bytes of UTF-8.
    pub text_bytes_max: usize,
    /// Longest id, in bytes of UTF-8.
    pub id_bytes_max: usize,
    /// Largest inline picture, in bytes after base64.
    pub image_bytes_max: usize,
    /// Most tags and most attributes, each.
    pub labels_max: usize,
    /// Most key frames of a video.
    pub frames_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { text_bytes_max: 256 * 1024, id_bytes_max: 512, image_bytes_max: 16 * 1024 * 1024, labels_max: 256, frames_max: 64 }
    }
}

/// Reads one upsert. `topic_kind` is the kind that the topic's configuration names, if it does. Unknown fields are accepted.
///
/// # Errors
/// Invalid UTF-8 or JSON, a missing or wrong field (named with its path), an unknown kind, a kind that differs from the topic's,
/// or a field over its limit.
pub fn decode_item(bytes: &[u8], topic_kind: Option<Kind>, limits: &RecordLimits) -> Result<Item, DecodeError> {
    #[derive(Deserialize)]
    struct Head {
        kind: Option<String>,
        version: Option<serde_json::Number>,
    }
    if let [0, _, _, _, _, ..] = bytes {
        let problem = "begins with byte 0, as Avro behind a schema registry's id does; JSON is expected here";
        return Err(DecodeError::new(".", problem, "set the topic's format to \"avro\", or send JSON"));
    }
    let head: Head = from_json(bytes)?;
    if let Some(version) = &head.version
        && version.as_u64().is_none_or(|v| i64::try_from(v).is_err())
    {
        let problem = format!("{version} is not a version: expected a whole number from 0 to {}", i64::MAX);
        return Err(DecodeError::new("version", problem, "send a counter or a time in milliseconds"));
    }
    let named = head.kind.as_deref().map(str::parse::<Kind>).transpose();
    let named = named.map_err(|problem| DecodeError::new("kind", problem, "send a known kind"))?;
    let kind = match (named, topic_kind) {
        (Some(named), Some(topic)) if named != topic => {
            let problem = format!("the record says `{named}`, its topic is configured for `{topic}`");
            return Err(DecodeError::new("kind", problem, "send the record to the topic of its kind"));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => {
            let fix = "send `kind`, or name the topic's kind in the configuration";
            return Err(DecodeError::new("kind", "missing field `kind`", fix));
        }
    };
    // By itself first: below it is flattened, and flattened fields are buffered by serde, which forgets their paths.
    let _: Common = from_json(bytes)?;
    let item = match kind {
        Kind::Article => Item::Article(from_json(bytes)?),
        Kind::Image => Item::Image(from_json(bytes)?),
        Kind::Ad => Item::Ad(from_json(bytes)?),
        Kind::Video => Item::Video(from_json(bytes)?),
    };
    check(&item, limits)?;
    Ok(item)
}

fn check(item: &Item, limits: &RecordLimits) -> Result<(), DecodeError> {
    let texts: &[(&str, Option<&str>)] = match item {
        Item::Article(a) => &[("title", Some(&a.title)), ("body", Some(&a.body))],
        Item::Image(i) => &[("caption", i.caption.as_deref())],
        Item::Ad(a) => &[("title", Some(&a.title)), ("body", a.body.as_deref())],
        Item::Video(v) => &[("title", v.title.as_deref()), ("body", v.body.as_deref())],
    };
    for (path, text) in texts {
        check_bytes(path, text.map_or(0, str::len), "text_bytes_max", limits.text_bytes_max)?;
    }
    let common = item.common();
    if let Some(id) = &common.id {
        check_id("id", id, limits)?;
    }
    for (path, count) in [("tags", common.tags.len()), ("attributes", common.attributes.len())] {
        if count > limits.labels_max {
            let problem = format!("{count} entries, over the limit labels_max = {}", limits.labels_max);
            return Err(DecodeError::new(path, problem, "send fewer, or raise the limit"));
        }
    }
    if let Some(image) = item.image() {
        check_image(image, limits)?;
    }
    if let Item::Video(video) = item {
        return check_frames(&video.frames, limits);
    }
    if item.text().is_none() && item.image().is_none() {
        return Err(DecodeError::new("title", "the item has neither text nor a picture", "send a title, a body or an image"));
    }
    Ok(())
}

pub(crate) fn check_image(image: &ImageSource, limits: &RecordLimits) -> Result<(), DecodeError> {
    match (&image.url, &image.bytes) {
        (Some(_), Some(_)) | (None, None) => {
            Err(DecodeError::new("image", "expected exactly one of `url` and `bytes`", "send one of them"))
        }
        (Some(url), None) => check_bytes("image.url", url.len(), "url_bytes_max", 8 * 1024),
        (None, Some(InlineBytes(bytes))) if bytes.is_empty() => {
            Err(DecodeError::new("image.bytes", "empty picture", "send the encoded picture"))
        }
        (None, Some(InlineBytes(bytes))) => check_bytes("image.bytes", bytes.len(), "image_bytes_max", limits.image_bytes_max),
    }
}

/// Checks an item's id, from the record's key or its body.
///
/// # Errors
/// An empty id, or one over `id_bytes_max`.
pub fn check_id(path: &str, id: &str, limits: &RecordLimits) -> Result<(), DecodeError> {
    if id.is_empty() {
        return Err(DecodeError::new(path, "empty id", "send a non-empty id as the record's key or in `id`"));
    }
    check_bytes(path, id.len(), "id_bytes_max", limits.id_bytes_max)
}

fn check_bytes(path: &str, bytes: usize, limit: &str, bytes_max: usize) -> Result<(), DecodeError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(DecodeError::new(path, format!("{bytes} bytes, over the limit {limit} = {bytes_max}"), "send less, or raise the limit"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Item, DecodeError> {
        decode_item(text.as_bytes(), None, &RecordLimits::default())
    }

    #[test]
    fn unknown_fields_are_accepted() {
        let item = decode(r#"{"kind":"article","title":"标题","body":"正文","version":3,"colour":"red"}"#).unwrap();
        assert_eq!(item.kind(), Kind::Article);
        assert_eq!(item.common().version, Some(3));
        assert_eq!(item.text().as_deref(), Some("标题。正文"));
    }

    #[test]
    fn missing_and_wrong_fields_are_named_with_their_path() {
        for (text, path) in [
            (r#"{"kind":"article","title":"a"}"#, "."),
            (r#"{"kind":"article","title":7,"body":"b"}"#, "title"),
            (r#"{"kind":"image","image":{"bytes":7}}"#, "image.bytes"),
            (r#"{"kind":"image","image":{"bytes":"%%"}}"#, "image.bytes"),
            (r#"{"kind":"image","image":{}}"#, "image"),
            (r#"{"kind":"image","image":{"url":"a","bytes":"AA=="}}"#, "image"),
            (r#"{"kind":"song"}"#, "kind"),
            (r#"{"title":"a","body":"b"}"#, "kind"),
            (r#"{"kind":"article","title":"a","body":"b","version":-1}"#, "version"),
            (r#"{"kind":"article","title":"a","body":"b","version":1.5}"#, "version"),
            (r#"{"kind":"article","title":"a","body":"b","tags":["x",1]}"#, "tags[1]"),
            (r#"{"kind":"article","title":" ","body":""}"#, "title"),
            (r#"{"kind":"article","title":"a","body":"b","id":""}"#, "id"),
            ("[]", "."),
            ("{} {}", "."),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.path == path || error.problem.contains("missing field"), "{text}: {error}");
            assert!(!error.fix.is_empty(), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = decode(r#"{"kind":"article","title":"a"}"#).unwrap_err();
        assert!(error.problem.contains("missing field `body`"), "{error}");
    }

    #[test]
    fn a_text_over_its_limit_is_refused_with_the_limit() {
        let text = format!(r#"{{"kind":"article","title":"a","body":"{}"}}"#, "b".repeat(1_000_000));
        let error = decode(&text).unwrap_err();
        assert_eq!(error.path, "body");
        assert!(error.problem.contains("text_bytes_max = 262144"), "{error}");
    }

    #[test]
    fn invalid_utf8_is_named() {
        let error = decode_item(b"{\"kind\":\"article\",\"title\":\"\xff\"}", None, &RecordLimits::default()).unwrap_err();
        assert!(error.problem.contains("invalid UTF-8 at byte 27"), "{error}");
    }

    #[test]
    fn avro_where_json_is_expected_is_named() {
        let error = decode_item(&[0, 0, 0, 0, 7, 2, b'a'], None, &RecordLimits::default()).unwrap_err();
        assert!(error.problem.contains("Avro") && error.fix.contains("format"), "{error}");
    }

    #[test]
    fn the_topics_kind_stands_in_for_a_missing_one_and_refuses_another() {
        let bytes = br#"{"title":"a","body":"b"}"#;
        assert_eq!(decode_item(bytes, Some(Kind::Article), &RecordLimits::default()).unwrap().kind(), Kind::Article);
        let bytes = br#"{"kind":"ad","title":"a","body":"b"}"#;
        assert_eq!(decode_item(bytes, Some(Kind::Article), &RecordLimits::default()).unwrap_err().path, "kind");
    }
}
