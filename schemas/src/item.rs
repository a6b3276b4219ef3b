//! Topic messages: articles, images, ads and videos. A delete is a record with a null value and is no message of its own.

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::encoding::{unframed, without_bom};
use crate::error::{DecodeError, from_json_known};
pub use crate::field::{Common, ImageSource, InlineBytes, RecordLimits, check_id};
use crate::field::{check_bytes, check_image};
use crate::identity::Kind;
use crate::known::Names;
use crate::lenient::whole_number;
use crate::video::{Video, check_frames};

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

/// Fields of [`Common`].
const COMMON: &[&str] = &["id", "version", "link", "language", "time_ms", "tags", "attributes"];

/// Every field of a kind's message.
const fn fields(kind: Kind) -> Names {
    match kind {
        Kind::Article => &[&["kind", "title", "body", "image"], COMMON],
        Kind::Image => &[&["kind", "image", "caption"], COMMON],
        Kind::Ad => &[&["kind", "title", "body", "image", "advertiser"], COMMON],
        Kind::Video => &[&["kind", "frames", "title", "body"], COMMON],
    }
}

/// Reads one upsert. `topic_kind` is the kind that the topic's configuration names, if it does. Unknown fields are passed over, whatever
/// they hold. The JSON may stand behind the head of a schema registry's JSON serialiser ([`unframed`]).
///
/// # Errors
/// Invalid UTF-8 or JSON, a missing or wrong field (named with its path), an unknown kind, a kind that differs from the topic's,
/// or a field over its limit.
pub fn decode_item(bytes: &[u8], topic_kind: Option<Kind>, limits: &RecordLimits) -> Result<Item, DecodeError> {
    let bytes = unframed(bytes)?;
    check_object(bytes)?;
    let head: Head = from_json_known(bytes, HEAD)?;
    let item = decode_of(&head, bytes, topic_kind).map_err(|error| match &head {
        Head { schema: Some(_), payload: Some(_), .. } if error.problem.contains("missing field") => {
            let problem =
                "an envelope of `schema` and `payload`, as Kafka Connect's JsonConverter writes, where the message is expected";
            DecodeError::new(".", problem, "set the converter's schemas.enable to false, so that the payload alone is sent")
        }
        _ => error,
    })?;
    check(&item, limits)?;
    Ok(item)
}

/// What is read of every message first.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    version: Option<serde_json::Number>,
    schema: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
}

const HEAD: Names = &[&["kind", "version", "schema", "payload"]];

/// Says what else the document is: serde's own word for it would repeat all of it.
fn check_object(bytes: &[u8]) -> Result<(), DecodeError> {
    let (what, fix) = match without_bom(bytes).trim_ascii_start().first() {
        Some(b'[') => ("a list", "send each of its objects as a record of its own (in a file: `jq -c '.[]'`)"),
        Some(b'"') => ("a text", "where it holds JSON, that was encoded twice: send the object itself"),
        None => {
            let fix = "send one JSON object a record; a delete has no value at all (null), not an empty one";
            return Err(DecodeError::new(".", "an empty value", fix));
        }
        Some(b'n') => ("null in letters", "a delete is a record without a value, not one that says null"),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => ("a single value", "send one JSON object a record"),
        _ => return Ok(()),
    };
    // Broken JSON may begin so too.
    if serde_json::from_slice::<IgnoredAny>(without_bom(bytes)).is_err() {
        return Ok(());
    }
    Err(DecodeError::new(".", format!("{what} where a JSON object is expected"), fix))
}

fn decode_of(head: &Head, bytes: &[u8], topic_kind: Option<Kind>) -> Result<Item, DecodeError> {
    if let Some(version) = &head.version
        && whole_number(version).is_none_or(|v| !(0..=i128::from(i64::MAX)).contains(&v))
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
    let _: Common = from_json_known(bytes, &[COMMON])?;
    let names = fields(kind);
    Ok(match kind {
        Kind::Article => Item::Article(from_json_known(bytes, names)?),
        Kind::Image => Item::Image(from_json_known(bytes, names)?),
        Kind::Ad => Item::Ad(from_json_known(bytes, names)?),
        Kind::Video => Item::Video(from_json_known(bytes, names)?),
    })
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
            ("[{}]", "."),
            ("\"{}\"", "."),
            ("null", "."),
            ("17", "."),
            ("", "."),
            (" \n", "."),
            ("{} {}", "."),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.path == path || error.problem.contains("missing field"), "{text}: {error}");
            assert!(!error.fix.is_empty(), "{text}: {error}");
        }
    }

    #[test]
    fn null_lists_are_absent_ones_and_whole_numbers_are_read_however_they_are_written() {
        let item =
            decode(r#"{"kind":"article","title":"a","body":"b","tags":null,"attributes":null,"version":17.0,"time_ms":1.76e12}"#)
                .unwrap();
        let common = item.common();
        assert!(common.tags.is_empty() && common.attributes.is_empty());
        assert_eq!((common.version, common.time_ms), (Some(17), Some(1_760_000_000_000)));
        let frame = r#"{"time_ms":2e3,"image":{"bytes":"data:image/png;base64,AA=="}}"#;
        let video = decode(&format!(r#"{{"kind":"video","frames":[{frame}]}}"#)).unwrap();
        let Item::Video(video) = video else { panic!("{video:?}") };
        assert_eq!((video.frames[0].time_ms, &video.frames[0].image), (2000, &ImageSource::from_bytes([0])));
        let error = decode(r#"{"kind":"article","title":"a","body":"b","time_ms":1.5}"#).unwrap_err();
        assert!(error.path == "time_ms" && error.problem.contains("1.5, expected a whole number"), "{error}");
    }

    /// The names that a kind's published schema has.
    fn published<T: JsonSchema>() -> Vec<String> {
        let schema = schemars::schema_for!(T);
        let mut names: Vec<String> = schema.get("properties").unwrap().as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_field_of_the_published_schemas_is_read_and_no_other() {
        for (kind, published) in [
            (Kind::Article, published::<Article>()),
            (Kind::Image, published::<Image>()),
            (Kind::Ad, published::<Ad>()),
            (Kind::Video, published::<Video>()),
        ] {
            let mut names = fields(kind).concat();
            names.sort_unstable();
            assert_eq!(names, published, "{kind}");
        }
    }

    #[test]
    fn a_field_that_nobody_reads_refuses_no_record_whatever_it_holds() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        let digits = "9".repeat(100);
        let frame = r#"{"time_ms":1,"image":{"url":"https://a/1","more":{"w":1e400}}}"#;
        for unread in [
            r#""x":1e400"#,
            r#""x":-1E+99999"#,
            &format!(r#""x":{digits}"#),
            &format!(r#""x":{deep}"#),
            &format!(r#""x":{objects}"#),
            r#""x":"\ud800","y":["\udfff\ud800"]"#,
            r#""\ud800":1,"a\u0000":2"#,
            r#""x":"\u0000""#,
            r#""x":1,"x":{"x":2,"x":3},"x":null"#,
            r#""schema":{},"payload":{}"#,
            r#""frame":[],"Title":7,"titles":{}"#,
        ] {
            for body in [
                r#""kind":"article","title":"a","body":"b""#.to_owned(),
                r#""kind":"image","image":{"url":"https://a/1","size":1e400}"#.to_owned(),
                r#""kind":"ad","title":"a""#.to_owned(),
                format!(r#""kind":"video","frames":[{frame}]"#),
            ] {
                for text in [format!("{{{unread},{body},\"version\":3}}"), format!("\u{feff}{{{body},\"version\":3,{unread}}}")] {
                    let item = decode(&text).unwrap_or_else(|e| panic!("{}: {e}", &text[..text.len().min(200)]));
                    assert_eq!(item.common().version, Some(3));
                }
            }
        }
        // What is read is refused by its name.
        for (field, path) in [
            (r#""title":"\ud800""#, "title"),
            (r#""version":1e400"#, "version"),
            (&format!(r#""version":{digits}"#), "version"),
            (&format!(r#""tags":{deep}"#), "tags[0]"),
        ] {
            let error = decode(&format!(r#"{{"kind":"article","body":"b",{field}}}"#)).unwrap_err();
            assert!(error.path.starts_with(path), "{path}: {error}");
        }
    }

    #[test]
    fn what_is_no_message_is_named_by_what_it_is() {
        for (text, says) in [
            (r#"[{"kind":"article"}]"#, "a list where a JSON object is expected; fix: send each of its objects"),
            (
                r#""{\"kind\":\"article\"}""#,
                "a text where a JSON object is expected; fix: where it holds JSON, that was encoded twice",
            ),
            ("null", "null in letters"),
            ("", "an empty value; fix: send one JSON object a record; a delete"),
            ("{", "EOF while parsing an object at line 1 column 1; fix: send the whole JSON object"),
            (
                r#"{"schema":{"type":"struct"},"payload":{"kind":"article","title":"a","body":"b"}}"#,
                "Kafka Connect's JsonConverter",
            ),
        ] {
            let error = decode(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let framed = [&[0, 0, 0, 0, 7][..], br#"{"kind":"article","title":"a","body":"b"}"#].concat();
        let item = decode_item(&framed, None, &RecordLimits::default()).unwrap();
        assert_eq!(item.text().as_deref(), Some("a。b"));
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

    fn decode_video(text: &str) -> Result<Item, DecodeError> {
        decode_item(text.as_bytes(), None, &RecordLimits { frames_max: 3, ..RecordLimits::default() })
    }

    #[test]
    fn a_video_is_its_key_frames_with_their_times_and_needs_no_text() {
        let item = decode_video(
            r#"{"kind":"video","id":"v","time_ms":9,"frames":[{"time_ms":1500,"image":{"url":"https://a/1"}},{"time_ms":0,"image":{"bytes":"AA=="}}]}"#,
        )
        .unwrap();
        assert_eq!((item.kind(), item.text(), item.common().time_ms), (Kind::Video, None, Some(9)));
        let Item::Video(video) = item else { panic!("a video") };
        assert_eq!(video.frames.iter().map(|frame| frame.time_ms).collect::<Vec<_>>(), [1500, 0]);
    }

    #[test]
    fn a_broken_frame_is_named_with_its_place_the_limit_and_the_fix() {
        let frame = r#"{"time_ms":1,"image":{"url":"https://a/1"}}"#;
        for (frames, path, says) in [
            (String::new(), "frames", "there are none"),
            ([frame; 4].join(","), "frames", "4 key frames, over the limit frames_max = 3"),
            (format!("{frame},{{\"time_ms\":1,\"image\":{{}}}}"), "frames[1].image", "exactly one of"),
            (format!("{frame},{{\"time_ms\":1,\"image\":{{\"bytes\":\"\"}}}}"), "frames[1].image.bytes", "empty picture"),
            (format!("{frame},{{\"time_ms\":-1,\"image\":{{\"url\":\"a\"}}}}"), "frames[1].time_ms", "invalid value"),
            (format!("{{\"time_ms\":{},\"image\":{{\"url\":\"a\"}}}}", u64::MAX), "frames[0].time_ms", "over the limit"),
            (r#"{"image":{"url":"a"}}"#.to_owned(), "frames[0]", "missing field `time_ms`"),
        ] {
            let error = decode_video(&format!(r#"{{"kind":"video","id":"v","frames":[{frames}]}}"#)).unwrap_err();
            assert_eq!(error.path, path, "{frames}: {error}");
            assert!(error.problem.contains(says) && !error.fix.is_empty(), "{frames}: {error}");
        }
    }
}
