//! What is stored beside the vectors of a point.

use std::time::{SystemTime, UNIX_EPOCH};

use astromech_schemas::record::TieBreaker;
use astromech_schemas::{FrameRef, Kind};
use serde_json::{Map, Value};

use super::{Change, ChangeBody, Order, VECTORS};

/// From here on `f64` skips whole numbers, and a version is compared in halves.
pub(super) const VERSION_SPLIT: u64 = 1 << 53;

/// Bits of the lower half of a split version.
const LOW_BITS: u32 = 32;

/// Id of the item.
pub const FIELD_ID: &str = "id";
/// Kind of the item.
pub const FIELD_KIND: &str = "kind";
/// Source version, a whole number.
pub const FIELD_VERSION: &str = "version";
/// Upper half of a version from 2^53 on; absent below.
pub const FIELD_VERSION_HIGH: &str = "version_high";
/// Lower half of a version from 2^53 on; absent below.
pub const FIELD_VERSION_LOW: &str = "version_low";
/// Offset of the record, which decides between changes of one version; absent on points that older versions of the daemon wrote.
pub const FIELD_VERSION_OFFSET: &str = "version_offset";
/// Stands for the record's topic and partition, where the offsets are equal too; absent as `version_offset`.
pub const FIELD_VERSION_SOURCE: &str = "version_source";
/// Vector space of the vectors.
pub const FIELD_FINGERPRINT: &str = "fingerprint";
/// `true` on a tombstone, absent on a live point.
pub const FIELD_DELETED: &str = "deleted";
/// On a tombstone: when it was written, milliseconds since 1970 by the writer's clock. Absent on those of older versions of the daemon.
pub const FIELD_DELETED_AT: &str = "deleted_at_ms";
/// Names of the vectors that this version of the item has.
pub const FIELD_VECTORS: &str = "vectors";
/// `true` on a video's own point, absent on its frames and on a tombstone.
pub const FIELD_HEAD: &str = "head";
/// On a video's own point: sha-256 over everything that its record stores, hexadecimal.
pub const FIELD_CONTENT: &str = "content_sha256";
/// On a frame: point id of its video.
pub const FIELD_VIDEO: &str = "video";
/// On a frame: its number, from 0.
pub const FIELD_FRAME: &str = "frame";
/// On a frame: where it stands, milliseconds from the video's beginning.
pub const FIELD_FRAME_TIME: &str = "frame_time_ms";

/// Fields that only the writer sets; an item's own fields of these names are dropped.
const RESERVED: [&str; 11] = [
    FIELD_ID,
    FIELD_KIND,
    FIELD_VERSION,
    FIELD_VERSION_HIGH,
    FIELD_VERSION_LOW,
    FIELD_VERSION_OFFSET,
    FIELD_VERSION_SOURCE,
    FIELD_FINGERPRINT,
    FIELD_DELETED,
    FIELD_DELETED_AT,
    FIELD_VECTORS,
];

/// How an engine indexes a payload field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldType {
    /// Whole numbers.
    Integer,
    /// Exact words.
    Keyword,
    /// Yes or no.
    Bool,
}

/// Indexed payload fields of every collection: those of the guard (clusters in strict mode refuse writes that filter without an index) and
/// those that readers filter by.
const INDEXED_FIELDS: [(&str, FieldType); 12] = [
    (FIELD_VERSION, FieldType::Integer),
    (FIELD_VERSION_HIGH, FieldType::Integer),
    (FIELD_VERSION_LOW, FieldType::Integer),
    (FIELD_VERSION_OFFSET, FieldType::Integer),
    (FIELD_VERSION_SOURCE, FieldType::Integer),
    (FIELD_VECTORS, FieldType::Keyword),
    (FIELD_DELETED, FieldType::Bool),
    (FIELD_DELETED_AT, FieldType::Integer),
    (FIELD_FINGERPRINT, FieldType::Keyword),
    ("tags", FieldType::Keyword),
    ("time_ms", FieldType::Integer),
    ("language", FieldType::Keyword),
];

/// Fields that the collection of videos indexes beside those.
const INDEXED_VIDEO_FIELDS: [(&str, FieldType); 2] = [(FIELD_VIDEO, FieldType::Keyword), (FIELD_HEAD, FieldType::Bool)];

/// Indexed payload fields of the collection of `kind`.
pub(super) fn indexed_fields(kind: Kind) -> impl Iterator<Item = (&'static str, FieldType)> {
    let videos = if kind == Kind::Video { &INDEXED_VIDEO_FIELDS[..] } else { &[] };
    INDEXED_FIELDS.iter().chain(videos).copied()
}

/// The stored payload of a change: the item's own fields and the writer's.
pub(super) fn build(change: &Change) -> Map<String, Value> {
    let mut payload = match &change.body {
        ChangeBody::Upsert { payload, .. } | ChangeBody::Video { payload, .. } => payload.clone(),
        ChangeBody::Delete => Map::new(),
    };
    for field in RESERVED {
        payload.remove(field);
    }
    payload.insert(FIELD_ID.to_owned(), change.id.clone().into());
    payload.insert(FIELD_KIND.to_owned(), change.kind.as_str().into());
    payload.insert(FIELD_VERSION.to_owned(), change.version.into());
    if let Some((high, low)) = split(change.version) {
        payload.insert(FIELD_VERSION_HIGH.to_owned(), high.into());
        payload.insert(FIELD_VERSION_LOW.to_owned(), low.into());
    }
    if let Some(TieBreaker { offset, source }) = change.tie_breaker {
        payload.insert(FIELD_VERSION_OFFSET.to_owned(), offset.into());
        payload.insert(FIELD_VERSION_SOURCE.to_owned(), source.into());
    }
    payload.insert(FIELD_FINGERPRINT.to_owned(), change.fingerprint.as_str().into());
    if matches!(change.body, ChangeBody::Delete) {
        payload.insert(FIELD_DELETED.to_owned(), true.into());
        payload.insert(FIELD_DELETED_AT.to_owned(), now_ms().into());
    }
    let vectors: Vec<&str> = VECTORS.into_iter().filter(|name| change.vector(name).is_some()).collect();
    payload.insert(FIELD_VECTORS.to_owned(), vectors.into());
    payload
}

/// Where a stored point's change stands among those of its item; `None` where Astromech did not write the point.
pub fn order(payload: &Map<String, Value>) -> Option<Order> {
    let number = |field: &str| payload.get(field).and_then(Value::as_u64);
    let tie_breaker = number(FIELD_VERSION_OFFSET).zip(number(FIELD_VERSION_SOURCE));
    let tie_breaker = tie_breaker.map(|(offset, source)| TieBreaker { offset, source });
    Some(Order { version: number(FIELD_VERSION)?, tie_breaker })
}

/// The halves of a version that `f64` can't compare whole; `None` below [`VERSION_SPLIT`].
pub(super) fn split(version: u64) -> Option<(i64, i64)> {
    let low_mask = (1_u64 << LOW_BITS) - 1;
    (version >= VERSION_SPLIT).then_some(((version >> LOW_BITS) as i64, (version & low_mask) as i64))
}

/// Milliseconds since 1970 by the writer's clock; 0 before.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Whether a stored payload is a tombstone's.
pub fn is_tombstone(payload: &Map<String, Value>) -> bool {
    payload.get(FIELD_DELETED).and_then(Value::as_bool).unwrap_or(false)
}

/// The frame that a video was found by, where it was found by one.
pub fn frame_of(payload: &Map<String, Value>) -> Option<FrameRef> {
    let number = |field: &str| payload.get(field).and_then(Value::as_u64);
    Some(FrameRef { number: u32::try_from(number(FIELD_FRAME)?).ok()?, time_ms: number(FIELD_FRAME_TIME)? })
}

/// About how many bytes a payload takes in a request.
pub(super) fn bytes(payload: &Map<String, Value>) -> usize {
    /// Tags and lengths of one value in protobuf or CBOR.
    const OVERHEAD_BYTES: usize = 12;
    fn value_bytes(value: &Value) -> usize {
        OVERHEAD_BYTES
            + match value {
                Value::Null | Value::Bool(_) | Value::Number(_) => 8,
                Value::String(text) => text.len(),
                Value::Array(values) => values.iter().map(value_bytes).sum(),
                Value::Object(map) => bytes(map),
            }
    }
    payload.iter().map(|(key, value)| OVERHEAD_BYTES + key.len() + value_bytes(value)).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use astromech_schemas::{Fingerprint, Kind, point_id};
    use serde_json::json;

    use super::*;

    fn change(version: u64, body: ChangeBody) -> Change {
        let fingerprint = Fingerprint::try_from("a".repeat(64)).unwrap();
        Change {
            kind: Kind::Article,
            id: "7".to_owned(),
            point_id: point_id(Kind::Article, "7"),
            version,
            tie_breaker: None,
            fingerprint,
            body,
        }
    }

    #[test]
    fn an_item_can_not_set_the_fields_of_the_guard() {
        let own =
            json!({"title": "标题", "version": 99, "deleted": true, "fingerprint": "x", "vectors": ["image"], "version_high": 1});
        let body = ChangeBody::Upsert { text: Some(vec![1.0]), image: None, payload: own.as_object().unwrap().clone() };
        let payload = build(&change(3, body));
        let want = json!({"title": "标题", "id": "7", "kind": "article", "version": 3, "fingerprint": "a".repeat(64), "vectors": ["text"]});
        assert_eq!(Value::Object(payload), want);
    }

    #[test]
    fn a_tombstone_keeps_who_it_is_and_nothing_of_the_item() {
        let payload = build(&change(1 << 60, ChangeBody::Delete));
        assert!(is_tombstone(&payload));
        assert!(payload[FIELD_DELETED_AT].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{payload:?}");
        assert_eq!(payload[FIELD_VERSION], json!(1_u64 << 60));
        assert_eq!(payload[FIELD_VERSION_HIGH], json!(1 << 28));
        assert_eq!(payload[FIELD_VECTORS], json!([]));
    }
}
