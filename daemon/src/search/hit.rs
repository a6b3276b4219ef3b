//! A stored point as a hit.

use std::collections::BTreeMap;

use astromech_schemas::http::{Hit, media_path};
use astromech_schemas::{FrameRef, Kind};
use serde_json::{Map, Value};

use crate::index::Stored;
use crate::index::payload::{FIELD_ID, FIELD_VERSION, frame_of};

/// A stored point as a hit. A payload of an unexpected form loses fields, never the hit.
pub(super) fn hit(kind: Kind, stored: Stored) -> Hit {
    let Stored { score, mut payload, point_id } = stored;
    let frame = frame_of(&payload);
    let mut text = |field: &str| take_text(&mut payload, field);
    let id = text(FIELD_ID).unwrap_or_else(|| point_id.to_string());
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
    let version = payload.get(FIELD_VERSION).and_then(Value::as_u64).unwrap_or_default();
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
