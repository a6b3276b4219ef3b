//! From a record to a line of the spool: the change of an item, a click count, or why it is refused. The rules are the daemon's.

use astromech_schemas::record::{Decoded, SourceRecord, TieBreaker, TopicRules, decode_record};
use astromech_schemas::{ImageSource, Item, RecordLimits, decode_click};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::config::ItemTopic;
use super::error::CollectError;
use super::pictures::{PictureRef, PictureStore};
use super::spool::{Body, Texts};

/// Reason of a refused record of the click log.
pub(super) const INVALID_CLICK: &str = "invalid_click";
/// Longest text that is kept, in characters: no tower reads more than 512 tokens.
const TEXT_CHARS_MAX: usize = 2000;

/// A message as the rules read it.
struct Received<'m, 'c>(&'m BorrowedMessage<'c>);

impl SourceRecord for Received<'_, '_> {
    fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        headers.iter().filter(|header| header.key == name).filter_map(|header| header.value).last()
    }

    fn offset(&self) -> i64 {
        self.0.offset()
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }
}

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
    let rules = TopicRules { kind: topic.kind, version: topic.version.into() };
    let tie = |offset| Some(TieBreaker::new(message.topic(), message.partition(), offset));
    match decode_record(&Received(message), message.payload(), rules, limits) {
        Ok(Decoded { kind, id, version, offset, item: None }) => Ok(Body::Delete { kind, id, version, tie: tie(offset) }),
        Ok(Decoded { id, version, offset, item: Some(item), .. }) => keep(item, id, (version, tie(offset)), pictures),
        Err(refused) => Ok(Body::Reject { reason: refused.reason.as_str().to_owned(), detail: refused.detail }),
    }
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

/// What a video shows is its first frame: one picture for its one text, as for every other item.
fn picture(item: &mut Item) -> Option<ImageSource> {
    match item {
        Item::Video(video) => video.frames.drain(..).next().map(|frame| frame.image),
        other => other.take_image(),
    }
}

fn keep(
    mut item: Item,
    id: String,
    (version, tie): (u64, Option<TieBreaker>),
    pictures: &PictureStore,
) -> Result<Body, CollectError> {
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
    Ok(Body::Upsert { kind, id, version, tie, texts, picture })
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
