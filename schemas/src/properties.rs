//! What holds of any bytes that come from outside: no panic, and what is accepted is within its limits. Each property is tried on
//! valid documents that were damaged at random, because random bytes alone never get past the first brace.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::item::Item;
use crate::manifest::{BundleFile, Manifest};
use crate::{Kind, RecordLimits, decode_click, decode_item};

/// Tries of each property: all of them together take about a second.
const CASES: u32 = 512;

const LIMITS: RecordLimits =
    RecordLimits { text_bytes_max: 64, id_bytes_max: 16, image_bytes_max: 32, labels_max: 3, frames_max: 2 };

/// Any JSON, up to four levels deep, with the numbers and strings that break readers.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["article", "image", "ad", "video", "", "\u{0}", "\u{feff}", "AA==", "%%", "𠮷"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A message with any of the known fields holding anything.
fn message() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 13] = [
        "kind",
        "frames",
        "version",
        "id",
        "title",
        "body",
        "caption",
        "image",
        "tags",
        "attributes",
        "language",
        "advertiser",
        "other",
    ];
    let frame = json!({"time_ms": 1, "image": {"url": "https://a/b"}});
    let good = vec![
        json!({"kind": "article", "version": 1, "title": "标题", "body": "正文", "image": {"url": "https://a/b"}}),
        json!({"kind": "video", "version": 1, "title": "标题", "frames": [frame, frame]}),
    ];
    let changes = vec((prop::sample::select(FIELDS.to_vec()), json_value()), 0..4);
    (prop::sample::select(good), changes).prop_map(|(mut message, changes)| {
        for (field, value) in changes {
            message[field] = value;
        }
        message
    })
}

/// `bytes` with some of them overwritten, taken out, or cut off.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len().max(1);
    (vec((0..length, any::<u8>()), 0..6), 0..length * 4).prop_map(move |(changes, end)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(end);
        bytes
    })
}

fn manifest() -> Manifest {
    let text = include_bytes!("../../configs/demo/bundle/manifest.json");
    Manifest::from_json(text).expect("the demo's manifest is read")
}

fn assert_within_limits(item: &Item) -> Result<(), TestCaseError> {
    if let Item::Video(video) = item {
        prop_assert!((1..=LIMITS.frames_max).contains(&video.frames.len()));
        prop_assert!(video.frames.iter().all(|frame| frame.image.url.is_some() != frame.image.bytes.is_some()));
    } else {
        prop_assert!(item.text().is_some() || item.image().is_some());
    }
    let common = item.common();
    prop_assert!(common.id.as_ref().is_none_or(|id| (1..=LIMITS.id_bytes_max).contains(&id.len())));
    prop_assert!(common.version.is_none_or(|version| i64::try_from(version).is_ok()));
    prop_assert!(common.tags.len() <= LIMITS.labels_max && common.attributes.len() <= LIMITS.labels_max);
    if let Some(image) = item.image() {
        prop_assert!(image.url.is_some() != image.bytes.is_some());
        prop_assert!(image.bytes.as_ref().is_none_or(|bytes| (1..=LIMITS.image_bytes_max).contains(&bytes.0.len())));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_with_a_path_and_a_problem_or_accepted_within_the_limits(bytes in vec(any::<u8>(), 0..200)) {
        if let Err(error) = decode_item(&bytes, Some(Kind::Article), &LIMITS) {
            prop_assert!(!error.path.is_empty() && !error.problem.is_empty());
        }
        let _ = decode_click(&bytes, &LIMITS);
        prop_assert!(Manifest::from_json(&bytes).is_err());
    }

    #[test]
    fn a_message_with_anything_in_its_fields_is_refused_or_within_the_limits(message in message()) {
        match decode_item(message.to_string().as_bytes(), None, &LIMITS) {
            Ok(item) => assert_within_limits(&item)?,
            Err(error) => prop_assert!(!error.path.is_empty() && !error.fix.is_empty(), "{error}"),
        }
    }

    #[test]
    fn a_damaged_message_is_refused_or_within_the_limits(
        bytes in message().prop_flat_map(|message| damaged(message.to_string().into_bytes())),
    ) {
        if let Ok(item) = decode_item(&bytes, None, &LIMITS) {
            assert_within_limits(&item)?;
        }
    }

    #[test]
    fn fields_that_nobody_reads_change_nothing(
        message in message(),
        unread in vec(("x[a-z\0图]{0,3}", json_value()), 0..4),
        bom in any::<bool>(),
    ) {
        let plain = decode_item(message.to_string().as_bytes(), None, &LIMITS);
        let mut text = message.to_string();
        for (name, value) in unread {
            text.insert_str(1, &format!("{}:{value},", json!(name)));
        }
        let text = if bom { format!("\u{feff}{text}") } else { text };
        match (plain, decode_item(text.as_bytes(), None, &LIMITS)) {
            (Ok(plain), Ok(with)) => prop_assert_eq!(plain, with),
            (plain, with) => prop_assert_eq!(plain.map_err(|e| e.path), with.map_err(|e| e.path)),
        }
    }

    #[test]
    fn base64_gives_the_bytes_back_however_it_is_written(
        bytes in vec(any::<u8>(), 0..200),
        width in 1_usize..80,
        (safe, padded, url) in any::<(bool, bool, bool)>(),
    ) {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let engine = match (safe, padded) {
            (true, true) => URL_SAFE,
            (true, false) => URL_SAFE_NO_PAD,
            (false, true) => STANDARD,
            (false, false) => STANDARD_NO_PAD,
        };
        let text: Vec<char> = engine.encode(&bytes).chars().collect();
        let lines: Vec<String> = text.chunks(width).map(|line| line.iter().collect()).collect();
        let head = if url { "data:image/png;base64," } else { "" };
        prop_assert_eq!(crate::decode_base64(&format!("{head}{}", lines.join("\r\n"))).ok(), Some(bytes));
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_names_plain_files_and_its_own_fingerprint(
        bytes in damaged(include_bytes!("../../configs/demo/bundle/manifest.json").to_vec()),
    ) {
        if let Ok(manifest) = Manifest::from_json(&bytes) {
            prop_assert!(manifest.files.iter().all(BundleFile::has_plain_name));
            prop_assert_eq!(Manifest::compute_fingerprint(&manifest.files), manifest.fingerprint);
            prop_assert!((1..=65_536).contains(&manifest.embedding_dim));
        }
    }

    #[test]
    fn a_manifest_with_anything_in_one_field_is_refused_or_checked(
        field in prop::sample::select(vec!["schema", "fingerprint", "files", "image", "text", "precisions", "embedding_dim", "training"]),
        value in json_value(),
    ) {
        let mut document = serde_json::to_value(manifest()).expect("a manifest is JSON");
        document[field] = value;
        if let Ok(manifest) = Manifest::from_json(document.to_string().as_bytes()) {
            prop_assert_eq!(Manifest::compute_fingerprint(&manifest.files), manifest.fingerprint);
        }
    }

    #[test]
    fn a_name_is_plain_only_if_it_stays_in_its_folder(name in "[a./\\\\\0]{0,6}") {
        let file = BundleFile { name: name.clone(), bytes: 0, sha256: String::new() };
        let stays = std::path::Path::new(&name).components().count() == 1 && std::path::Path::new(&name).file_name().is_some();
        prop_assert!(!file.has_plain_name() || stays, "{name:?}");
    }
}
