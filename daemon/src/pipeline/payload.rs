//! What is stored with a point and returned with a hit. The writer adds `id`, `kind`, `version` and `fingerprint`.

use astromech_schemas::Item;
use serde_json::{Map, Value, json};

use crate::source::Record;

/// Address of the picture; absent where it came inside the record.
pub(super) const FIELD_IMAGE_URL: &str = "image_url";

/// Characters of a body that are kept: enough for a result list.
pub const BODY_CHARS_MAX: usize = 500;

/// The payload of `item`, read from `record`.
pub fn payload(item: &Item, record: &Record) -> Map<String, Value> {
    let mut payload = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            payload.insert(name.to_owned(), value);
        }
    };
    let text = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(|text| json!(text));
    let body = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(|text| json!(beginning(text)));
    match item {
        Item::Article(article) => {
            put("title", text(Some(&article.title)));
            put("body", body(Some(&article.body)));
        }
        Item::Image(image) => put("title", text(image.caption.as_deref())),
        Item::Ad(ad) => {
            put("title", text(Some(&ad.title)));
            put("body", body(ad.body.as_deref()));
            put("advertiser", text(ad.advertiser.as_deref()));
        }
        Item::Video(video) => {
            put("title", text(video.title.as_deref()));
            put("body", body(video.body.as_deref()));
            put("frames", Some(json!(video.frames.len())));
        }
    }
    put(FIELD_IMAGE_URL, item.image().and_then(|image| image.url.as_deref()).map(|url| json!(url)));
    let common = item.common();
    put("link", text(common.link.as_deref()));
    put("language", text(common.language.as_deref()));
    put("time_ms", common.time_ms.map(|time| json!(time)));
    put("tags", (!common.tags.is_empty()).then(|| json!(common.tags)));
    put("attributes", (!common.attributes.is_empty()).then(|| json!(common.attributes)));
    put("source", Some(json!({"topic": &*record.topic, "partition": record.partition, "offset": record.offset})));
    payload
}

/// What of an item's payload its frames carry too: a search by frames filters by it.
pub(super) fn filtered(payload: &Map<String, Value>) -> Map<String, Value> {
    let fields = ["tags", "language", "time_ms"];
    fields.into_iter().filter_map(|field| Some((field.to_owned(), payload.get(field)?.clone()))).collect()
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(BODY_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use astromech_schemas::{RecordLimits, decode_item};

    use super::*;

    #[test]
    fn a_payload_holds_what_a_hit_shows_and_where_it_came_from() {
        let body = "正".repeat(600);
        let message = json!({"kind": "article", "title": " 标题 ", "body": body, "tags": ["a"], "attributes": {"licence": "MIT"},
            "image": {"url": "https://example.com/a.jpg"}, "link": "https://example.com/a", "time_ms": 5, "unknown": 1});
        let item = decode_item(message.to_string().as_bytes(), None, &RecordLimits::default()).unwrap();
        let record = Record {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let payload = payload(&item, &record);
        assert_eq!(payload["title"], "标题");
        assert_eq!(payload["body"].as_str().unwrap().chars().count(), BODY_CHARS_MAX);
        assert_eq!(payload["image_url"], "https://example.com/a.jpg");
        assert_eq!(payload["attributes"], json!({"licence": "MIT"}));
        assert_eq!(payload["source"], json!({"topic": "t", "partition": 2, "offset": 7}));
        assert!(!payload.contains_key("language") && !payload.contains_key("unknown"));
    }
}
