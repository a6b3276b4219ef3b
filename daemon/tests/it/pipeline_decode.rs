//! From a record to a change: key, id, kind and version, each named where it is wrong.

use astromech::pipeline::{TopicRules, VersionRule, decode};
use astromech::source::{Header, Record};
use astromech_schemas::dead_letter::{HEADER_KIND, HEADER_VERSION, Reason};
use astromech_schemas::{Kind, RecordLimits};

const ARTICLE: &str = r#"{"kind":"article","title":"标题","body":"正文","version":3}"#;
const FIELD: TopicRules = TopicRules { kind: None, version: VersionRule::Field };

fn record(key: Option<&[u8]>, value: Option<&str>, headers: &[(&str, &[u8])]) -> Record {
    Record {
        topic: "t".into(),
        partition: 0,
        offset: 41,
        timestamp_ms: Some(1_700_000_000_000),
        key: key.map(<[u8]>::to_vec),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: headers.iter().map(|(name, value)| Header { name: (*name).to_owned(), value: Some(value.to_vec()) }).collect(),
    }
}

fn reason(record: &Record, rules: TopicRules) -> Reason {
    let fault = decode(record, rules, &RecordLimits::default()).expect_err("the record is bad");
    assert!(fault.detail.contains("fix: "), "{}", fault.detail);
    fault.reason
}

#[test]
fn the_id_is_the_key_or_the_messages_id_and_both_must_agree() {
    let limits = RecordLimits::default();
    let with_id = ARTICLE.replace("\"version\"", "\"id\":\"甲\",\"version\"");
    for (key, value, id) in [
        (Some("甲".as_bytes()), ARTICLE, "甲"),
        (None, with_id.as_str(), "甲"),
        (Some("".as_bytes()), with_id.as_str(), "甲"),
        (Some("甲".as_bytes()), with_id.as_str(), "甲"),
    ] {
        assert_eq!(decode(&record(key, Some(value), &[]), FIELD, &limits).unwrap().id, id);
    }
    assert_eq!(reason(&record(None, Some(ARTICLE), &[]), FIELD), Reason::InvalidKey);
    assert_eq!(reason(&record(Some("乙".as_bytes()), Some(&with_id), &[]), FIELD), Reason::InvalidKey);
    assert_eq!(reason(&record(Some(&[0xff]), Some(ARTICLE), &[]), FIELD), Reason::InvalidKey);
    assert_eq!(reason(&record(Some(&[b'x'; 513]), Some(ARTICLE), &[]), FIELD), Reason::InvalidKey);
}

#[test]
fn the_version_comes_from_where_the_topic_says() {
    let limits = RecordLimits::default();
    let without = r#"{"kind":"article","title":"标题","body":"正文"}"#;
    for (rule, value, version) in [
        (VersionRule::Field, ARTICLE, 3),
        (VersionRule::Timestamp, ARTICLE, 1_700_000_000_000),
        (VersionRule::Offset, ARTICLE, 41),
        (VersionRule::FieldOrOffset, ARTICLE, 3),
        (VersionRule::FieldOrOffset, without, 41),
    ] {
        let rules = TopicRules { kind: None, version: rule };
        let decoded = decode(&record(Some(b"1"), Some(value), &[]), rules, &limits).unwrap();
        assert_eq!(decoded.version, version, "{rule:?}");
    }
    assert_eq!(reason(&record(Some(b"1"), Some(without), &[]), FIELD), Reason::InvalidVersion);
    let negative = ARTICLE.replace('3', "-3");
    assert_eq!(reason(&record(Some(b"1"), Some(&negative), &[]), FIELD), Reason::InvalidVersion);
    let unstamped = Record { timestamp_ms: None, ..record(Some(b"1"), Some(ARTICLE), &[]) };
    assert_eq!(reason(&unstamped, TopicRules { kind: None, version: VersionRule::Timestamp }), Reason::InvalidVersion);
}

#[test]
fn a_null_value_is_a_delete_with_kind_and_version_from_headers_or_the_topic() {
    let limits = RecordLimits::default();
    let headers: &[(&str, &[u8])] = &[(HEADER_KIND, b"image"), (HEADER_VERSION, b"7")];
    let decoded = decode(&record(Some(b"1"), None, headers), FIELD, &limits).unwrap();
    assert_eq!((decoded.kind, decoded.version, decoded.item), (Kind::Image, 7, None));
    let offset = TopicRules { kind: Some(Kind::Ad), version: VersionRule::Offset };
    let decoded = decode(&record(Some(b"1"), None, &[]), offset, &limits).unwrap();
    assert_eq!((decoded.kind, decoded.version), (Kind::Ad, 41));
}

#[test]
fn a_delete_without_key_kind_or_version_is_named() {
    let kind: (&str, &[u8]) = (HEADER_KIND, b"image");
    let version: (&str, &[u8]) = (HEADER_VERSION, b"7");
    assert_eq!(reason(&record(None, None, &[kind, version]), FIELD), Reason::InvalidKey);
    assert_eq!(reason(&record(Some(b"1"), None, &[version]), FIELD), Reason::InvalidRecord);
    assert_eq!(reason(&record(Some(b"1"), None, &[kind]), FIELD), Reason::InvalidVersion);
    for bad in [&b"seven"[..], b"-1", b"1.5", b"", b"99999999999999999999", &[0xff]] {
        assert_eq!(reason(&record(Some(b"1"), None, &[kind, (HEADER_VERSION, bad)]), FIELD), Reason::InvalidVersion, "{bad:?}");
    }
    assert_eq!(reason(&record(Some(b"1"), None, &[(HEADER_KIND, b"song"), version]), FIELD), Reason::InvalidRecord);
    let ads = TopicRules { kind: Some(Kind::Ad), version: VersionRule::Field };
    assert_eq!(reason(&record(Some(b"1"), None, &[kind, version]), ads), Reason::InvalidRecord);
}

#[test]
fn an_empty_value_is_a_bad_record_and_no_delete() {
    assert_eq!(reason(&record(Some(b"1"), Some(""), &[]), FIELD), Reason::InvalidRecord);
}
