//! From a record of a topic to a change: kind, id, source version, item or delete. Daemon and trainer read records by this one set of rules.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dead_letter::{HEADER_KIND, HEADER_ORIGIN_OFFSET, HEADER_VERSION, Reason};
use crate::error::DecodeError;
use crate::identity::Kind;
use crate::item::{Item, RecordLimits, check_id, decode_item};

/// What the rules read of a record, whatever client it came by.
pub trait SourceRecord {
    /// Key; `None` where it is null.
    fn key(&self) -> Option<&[u8]>;
    /// The last header of that name whose value is not null: Kafka lets names repeat, and the last one is the newest.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// Offset, or the line's number.
    fn offset(&self) -> i64;
    /// Time of the record, milliseconds since 1970, if it has one.
    fn timestamp_ms(&self) -> Option<i64>;
}

/// Where the source versions of a topic come from, as configurations name it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSource {
    /// The message's field `version`; a delete carries the header `astromech-version`. Required.
    #[default]
    Field,
    /// The record's time, milliseconds.
    Timestamp,
    /// The record's offset: right where every change of an item is in one partition of one topic.
    Offset,
}

/// Where a record's version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRule {
    /// The message's field, or a delete's header; required.
    Field,
    /// The record's time.
    Timestamp,
    /// The record's offset.
    Offset,
    /// The message's field or a delete's header, and the offset (a line's number) where there is none.
    FieldOrOffset,
}

/// Decides between two changes of an item that have one version: the greater is the newer. Within a partition that is the later record;
/// between partitions and topics it is the same one in every order of arrival, and says nothing about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TieBreaker {
    /// Offset of the record; below 2^53, where every engine's numbers are exact.
    pub offset: u64,
    /// A number of 48 bits that stands for topic and partition.
    pub source: u64,
}

impl TieBreaker {
    /// Highest offset that is told from the next one.
    const OFFSET_MAX: u64 = (1 << 53) - 1;

    /// Of the record at `offset` in a partition.
    pub fn new(topic: &str, partition: i32, offset: u64) -> Self {
        let name = [topic.as_bytes(), &[0], &partition.to_be_bytes()].concat();
        let (high, ..) = Uuid::new_v5(&Uuid::NAMESPACE_OID, &name).as_u64_pair();
        Self { offset: offset.min(Self::OFFSET_MAX), source: high >> 16 }
    }
}

/// How the records of one topic are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicRules {
    /// Kind of every item, or `None` where each message names its own.
    pub kind: Option<Kind>,
    /// Where versions come from.
    pub version: VersionRule,
}

impl From<VersionSource> for VersionRule {
    fn from(source: VersionSource) -> Self {
        match source {
            VersionSource::Field => Self::Field,
            VersionSource::Timestamp => Self::Timestamp,
            VersionSource::Offset => Self::Offset,
        }
    }
}

/// Why a record can never be a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// For machines.
    pub reason: Reason,
    /// For people: field, problem, fix.
    pub detail: String,
}

impl Refused {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn of_error(reason: Reason, error: &DecodeError) -> Self {
        Self::new(reason, error.to_string())
    }
}

/// A record that is a valid change.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Source version.
    pub version: u64,
    /// Offset that decides between changes of one version: the record's own, or the first one of a dead letter that was sent again.
    pub offset: u64,
    /// The item, or `None` for a delete.
    pub item: Option<Item>,
}

/// Reads `record` by the rules of its topic. `value` is the JSON that the record's value is or stands for; `None` is a delete.
///
/// # Errors
/// A [`Refused`] that names the field, the problem and the fix.
pub fn decode_record<R: SourceRecord>(
    record: &R,
    value: Option<&[u8]>,
    rules: TopicRules,
    limits: &RecordLimits,
) -> Result<Decoded, Refused> {
    let Some(value) = value else {
        return decode_delete(record, rules, limits);
    };
    let item = decode_item(value, rules.kind, limits).map_err(|e| Refused::of_error(reason_of(&e), &e))?;
    let id = item_id(record, item.common().id.as_deref(), limits)?;
    let version = match rules.version {
        VersionRule::Field | VersionRule::FieldOrOffset => item.common().version,
        VersionRule::Timestamp => record_time(record),
        VersionRule::Offset => u64::try_from(record.offset()).ok(),
    };
    let version = or_offset(version, record, rules).ok_or_else(|| missing_version("version", rules))?;
    Ok(Decoded { kind: item.kind(), id, version, offset: first_offset(record), item: Some(item) })
}

fn decode_delete<R: SourceRecord>(record: &R, rules: TopicRules, limits: &RecordLimits) -> Result<Decoded, Refused> {
    let id = item_id(record, None, limits)?;
    let kind = match (text_header::<Kind, R>(record, HEADER_KIND), rules.kind) {
        (Some(Err(problem)), _) => {
            return Err(Refused::new(Reason::InvalidRecord, format!("header {HEADER_KIND}: {problem}; fix: send a known kind")));
        }
        (Some(Ok(header)), Some(topic)) if header != topic => {
            let problem = format!("the delete says `{header}`, its topic is configured for `{topic}`");
            return Err(Refused::new(
                Reason::InvalidRecord,
                format!("header {HEADER_KIND}: {problem}; fix: send it to the topic of its kind"),
            ));
        }
        (Some(Ok(kind)), _) | (None, Some(kind)) => kind,
        (None, None) => {
            let fix = format!("send the header {HEADER_KIND} with a delete, or name the topic's kind in the configuration");
            return Err(Refused::new(Reason::InvalidRecord, format!("kind: a delete of unknown kind; fix: {fix}")));
        }
    };
    let version = match rules.version {
        VersionRule::Field | VersionRule::FieldOrOffset => match text_header::<u64, R>(record, HEADER_VERSION) {
            Some(Ok(version)) if i64::try_from(version).is_ok() => Some(version),
            Some(_) => {
                let fix = format!("send a whole number from 0 to {} in decimal", i64::MAX);
                return Err(Refused::new(Reason::InvalidVersion, format!("header {HEADER_VERSION}: not a version; fix: {fix}")));
            }
            None => None,
        },
        VersionRule::Timestamp => record_time(record),
        VersionRule::Offset => u64::try_from(record.offset()).ok(),
    };
    let version = or_offset(version, record, rules).ok_or_else(|| missing_version(&format!("header {HEADER_VERSION}"), rules))?;
    Ok(Decoded { kind, id, version, offset: first_offset(record), item: None })
}

/// A header that claims a later place than the record's own is not believed.
fn first_offset<R: SourceRecord>(record: &R) -> u64 {
    let own = u64::try_from(record.offset()).unwrap_or_default();
    match text_header::<u64, R>(record, HEADER_ORIGIN_OFFSET) {
        Some(Ok(first)) => first.min(own),
        _ => own,
    }
}

fn or_offset<R: SourceRecord>(version: Option<u64>, record: &R, rules: TopicRules) -> Option<u64> {
    let offset = || u64::try_from(record.offset()).ok().filter(|_| rules.version == VersionRule::FieldOrOffset);
    version.or_else(offset)
}

/// The id: the record's key, the message's `id`, or both where they agree. An empty key is no key.
fn item_id<R: SourceRecord>(record: &R, body_id: Option<&str>, limits: &RecordLimits) -> Result<String, Refused> {
    let key = record.key().filter(|key| !key.is_empty());
    let key = key.map(std::str::from_utf8).transpose().map_err(|e| {
        let problem = format!("the record's key is not UTF-8 at byte {}", e.valid_up_to());
        Refused::new(Reason::InvalidKey, format!("key: {problem}; fix: send the item's id as the key, in UTF-8"))
    })?;
    let id = match (key, body_id) {
        (Some(key), Some(id)) if key != id => {
            let problem = format!("the record's key `{key}` is not the message's id `{id}`");
            return Err(Refused::new(Reason::InvalidKey, format!("id: {problem}; fix: send the same in both, or only one")));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            let fix = "send the item's id as the record's key, or in `id`";
            return Err(Refused::new(Reason::InvalidKey, format!("key: the record has neither a key nor an id; fix: {fix}")));
        }
    };
    check_id("key", id, limits).map_err(|e| Refused::of_error(Reason::InvalidKey, &e))?;
    Ok(id.to_owned())
}

fn record_time<R: SourceRecord>(record: &R) -> Option<u64> {
    record.timestamp_ms().and_then(|time| u64::try_from(time).ok())
}

fn text_header<T: FromStr, R: SourceRecord>(record: &R, name: &str) -> Option<Result<T, String>>
where
    T::Err: ToString,
{
    let value = record.header(name)?;
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8".to_owned());
    Some(text.and_then(|text| text.trim().parse::<T>().map_err(|e| e.to_string())))
}

fn missing_version(field: &str, rules: TopicRules) -> Refused {
    let detail = match rules.version {
        VersionRule::Timestamp => {
            "the record has no time; fix: have the producer or broker stamp records, or use version = \"field\"".to_owned()
        }
        _ => format!(
            "{field}: missing; fix: send it, or set the topic's version to \"timestamp\" or \"offset\" in the configuration"
        ),
    };
    Refused::new(Reason::InvalidVersion, detail)
}

fn reason_of(error: &DecodeError) -> Reason {
    match error.path.as_str() {
        "version" => Reason::InvalidVersion,
        "id" => Reason::InvalidKey,
        _ => Reason::InvalidRecord,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain {
        offset: i64,
        origin: Option<&'static str>,
    }

    impl SourceRecord for Plain {
        fn key(&self) -> Option<&[u8]> {
            Some(b"a")
        }

        fn header(&self, name: &str) -> Option<&[u8]> {
            self.origin.filter(|_| name == HEADER_ORIGIN_OFFSET).map(str::as_bytes)
        }

        fn offset(&self) -> i64 {
            self.offset
        }

        fn timestamp_ms(&self) -> Option<i64> {
            Some(7)
        }
    }

    #[test]
    fn a_dead_letter_that_is_sent_again_keeps_its_place_among_changes_of_one_version() {
        let rules = TopicRules { kind: Some(Kind::Image), version: VersionRule::Timestamp };
        let of = |origin| {
            let decoded = decode_record(&Plain { offset: 50, origin }, None, rules, &RecordLimits::default());
            decoded.map(|decoded| (decoded.version, decoded.offset))
        };
        assert_eq!(of(None), Ok((7, 50)));
        assert_eq!(of(Some("3")), Ok((7, 3)));
        // Nobody makes himself newer than where he stands.
        assert_eq!(of(Some("51")), Ok((7, 50)));
        assert_eq!(of(Some("-1")), Ok((7, 50)));
    }

    #[test]
    fn ties_are_decided_by_the_offset_and_between_partitions_always_the_same_way() {
        let at = |partition, offset| TieBreaker::new("t", partition, offset);
        assert!(at(0, 9) > at(0, 8) && at(1, 9) > at(0, 8));
        assert!(at(0, 5) != at(1, 5) && TieBreaker::new("u", 0, 5) != at(0, 5));
        // Golden: what is stored is compared with it.
        assert_eq!(at(0, u64::MAX), TieBreaker { offset: (1 << 53) - 1, source: 0x709e_b41f_6f9e });
    }
}
