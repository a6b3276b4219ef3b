//! From a record to a line of the spool: the change of an item, a click count, or why it is refused. The rules are the daemon's.

use std::str::FromStr;

use astromech_schemas::dead_letter::{HEADER_KIND, HEADER_VERSION, Reason};
use astromech_schemas::item::check_id;
use astromech_schemas::{DecodeError, ImageSource, Item, Kind, RecordLimits, decode_click, decode_item};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::config::{ItemTopic, VersionSource};
use super::error::CollectError;
use super::pictures::{PictureRef, PictureStore};
use super::spool::{Body, Texts};

/// Reason of a refused record of the click log.
pub(super) const INVALID_CLICK: &str = "invalid_click";
/// Longest text that is kept, in characters: no tower reads more than 512 tokens.
const TEXT_CHARS_MAX: usize = 2000;

/// Why a record is refused: a word and a sentence.
type Refusal = (&'static str, String);

/// Reads a record of a topic of items; pictures that it carries go into `pictures`.
///
/// # Errors
/// A picture can't be written.
pub(super) fn item(
    message: &BorrowedMessage<'_>,
    topic: &ItemTopic,
    limits: &RecordLimits,
    pictures: &PictureStore,
) -> Result<Body, CollectError> {
    let change = match message.payload() {
        None => delete(message, topic, limits),
        Some(value) => match upsert(message, value, topic, limits) {
            Ok((item, id, version)) => return keep(item, id, version, pictures),
            Err(refusal) => Err(refusal),
        },
    };
    Ok(change.unwrap_or_else(|(reason, detail)| Body::Reject { reason: reason.to_owned(), detail }))
}

/// Reads a record of the click log.
pub(super) fn click(message: &BorrowedMessage<'_>, limits: &RecordLimits) -> Body {
    let refuse = |detail: String| Body::Reject { reason: INVALID_CLICK.to_owned(), detail };
    let Some(value) = message.payload() else {
        return refuse("the record has no value; fix: send a count".to_owned());
    };
    match decode_click(value, limits) {
        Ok(count) => Body::Click {
            kind: count.kind,
            id: count.id,
            query: cut(count.query.trim()),
            impressions: count.impressions,
            clicks: count.clicks,
        },
        Err(error) => refuse(error.to_string()),
    }
}

fn upsert(
    message: &BorrowedMessage<'_>,
    value: &[u8],
    topic: &ItemTopic,
    limits: &RecordLimits,
) -> Result<(Item, String, u64), Refusal> {
    let item = decode_item(value, topic.kind, limits).map_err(|error| (reason_of(&error), error.to_string()))?;
    let id = item_id(message, item.common().id.as_deref(), limits)?;
    let version = match topic.version {
        VersionSource::Field => item.common().version,
        other => of_record(message, other),
    };
    let version = version.ok_or_else(|| missing_version("version"))?;
    Ok((item, id, version))
}

fn delete(message: &BorrowedMessage<'_>, topic: &ItemTopic, limits: &RecordLimits) -> Result<Body, Refusal> {
    let id = item_id(message, None, limits)?;
    let invalid = |problem: String| (Reason::InvalidRecord.as_str(), problem);
    let kind = match (header::<Kind>(message, HEADER_KIND), topic.kind) {
        (Some(Err(problem)), _) => return Err(invalid(format!("header {HEADER_KIND}: {problem}; fix: send a known kind"))),
        (Some(Ok(named)), Some(of_topic)) if named != of_topic => {
            return Err(invalid(format!("header {HEADER_KIND}: `{named}`, its topic is configured for `{of_topic}`")));
        }
        (Some(Ok(kind)), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(invalid(format!("kind: a delete of unknown kind; fix: send the header {HEADER_KIND}"))),
    };
    let version = match topic.version {
        VersionSource::Field => match header::<u64>(message, HEADER_VERSION) {
            Some(Ok(version)) if i64::try_from(version).is_ok() => Some(version),
            Some(_) => return Err((Reason::InvalidVersion.as_str(), format!("header {HEADER_VERSION}: not a version"))),
            None => None,
        },
        other => of_record(message, other),
    };
    let version = version.ok_or_else(|| missing_version(HEADER_VERSION))?;
    Ok(Body::Delete { kind, id, version })
}

/// What a video shows is its first frame: one picture for its one text, as for every other item.
fn picture(item: &mut Item) -> Option<ImageSource> {
    match item {
        Item::Video(video) => video.frames.drain(..).next().map(|frame| frame.image),
        other => other.take_image(),
    }
}

fn keep(mut item: Item, id: String, version: u64, pictures: &PictureStore) -> Result<Body, CollectError> {
    let kind = item.kind();
    let picture = match picture(&mut item) {
        Some(ImageSource { bytes: Some(bytes), .. }) => Some(PictureRef::Stored { name: pictures.put(&bytes.0)? }),
        Some(ImageSource { url: Some(url), .. }) => Some(PictureRef::At { url }),
        _ => None,
    };
    let link = item.common().link.clone().unwrap_or_default();
    let (title, content) = match item {
        Item::Article(article) => (article.title, article.body),
        Item::Image(image) => (image.caption.unwrap_or_default(), String::new()),
        Item::Ad(ad) => (ad.title, ad.body.unwrap_or_default()),
        Item::Video(video) => (video.title.unwrap_or_default(), video.body.unwrap_or_default()),
    };
    let texts = Texts { title: cut(title.trim()), content: cut(content.trim()), link };
    Ok(Body::Upsert { kind, id, version, texts, picture })
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// The record's key, the message's `id`, or both where they agree. An empty key is no key.
fn item_id(message: &BorrowedMessage<'_>, body_id: Option<&str>, limits: &RecordLimits) -> Result<String, Refusal> {
    let invalid = |problem: String| (Reason::InvalidKey.as_str(), problem);
    let key = message.key().filter(|key| !key.is_empty()).map(std::str::from_utf8).transpose();
    let key = key.map_err(|error| invalid(format!("key: not UTF-8 at byte {}", error.valid_up_to())))?;
    let id = match (key, body_id) {
        (Some(key), Some(id)) if key != id => {
            return Err(invalid(format!(
                "id: the record's key `{key}` is not the message's id `{id}`; fix: send the same in both"
            )));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => return Err(invalid("key: the record has neither a key nor an id; fix: send one of them".to_owned())),
    };
    check_id("key", id, limits).map_err(|error| invalid(error.to_string()))?;
    Ok(id.to_owned())
}

fn of_record(message: &BorrowedMessage<'_>, source: VersionSource) -> Option<u64> {
    match source {
        VersionSource::Field => None,
        VersionSource::Timestamp => message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok()),
        VersionSource::Offset => u64::try_from(message.offset()).ok(),
    }
}

fn header<T: FromStr>(message: &BorrowedMessage<'_>, name: &str) -> Option<Result<T, String>>
where
    T::Err: ToString,
{
    let headers = message.headers()?;
    let value = headers.iter().find(|header| header.key == name)?.value.unwrap_or_default();
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8".to_owned());
    Some(text.and_then(|text| text.trim().parse::<T>().map_err(|error| error.to_string())))
}

fn missing_version(field: &str) -> Refusal {
    let detail = format!("{field}: missing; fix: send it, or set the topic's version to timestamp or offset");
    (Reason::InvalidVersion.as_str(), detail)
}

fn reason_of(error: &DecodeError) -> &'static str {
    match error.path.as_str() {
        "version" => Reason::InvalidVersion.as_str(),
        "id" => Reason::InvalidKey.as_str(),
        _ => Reason::InvalidRecord.as_str(),
    }
}
