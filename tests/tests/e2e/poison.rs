//! A bad record is one dead letter with its reason, byte-identical, and the good records around it are indexed.

use std::collections::BTreeMap;

use astromech_e2e::checks::{assert_stored, header};
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::kafka::PARTITIONS;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, Record, Sent, bundle, wait_until, world};
use astromech_schemas::dead_letter::{HEADER_DETAIL, HEADER_REASON, HEADER_VERSION};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::hostile_pictures::png_declaring;
use crate::scenario::{STREAM_DEADLINE, Scenario};

/// Good records for each bad one.
const GOOD_PER_BAD: usize = 5;

/// One bad record, what it is, and the reason that its dead letter must carry.
pub struct Bad {
    pub what: &'static str,
    pub reason: &'static str,
    pub record: Record,
}

pub fn bad(what: &'static str, reason: &'static str, value: impl Into<Vec<u8>>) -> Bad {
    let key = Some(format!("bad {what}").into_bytes());
    // Headers of the producer's own must come through, bytes that are no text included.
    let headers = vec![("trace".to_owned(), what.as_bytes().to_vec()), ("raw".to_owned(), vec![0, 255, 254])];
    Bad { what, reason, record: Record { key, value: Some(value.into()), headers, partition: None } }
}

pub fn image(source: &Value) -> Vec<u8> {
    json!({"kind": "image", "version": 1, "image": source}).to_string().into_bytes()
}

pub fn inline(bytes: &[u8]) -> Vec<u8> {
    image(&json!({"bytes": base64::engine::general_purpose::STANDARD.encode(bytes)}))
}

/// The twelve of the issue.
fn twelve(scenario: &Scenario) -> Vec<Bad> {
    let picture = scenario.corpus.entries[0].bytes();
    let page = scratch("files").join("page.jpg");
    std::fs::write(&page, "<!doctype html><title>404</title><p>此页不存在").expect("the page is written");
    let article = |fields: Value| {
        let mut message = json!({"kind": "article", "version": 1, "title": "标题", "body": "正文"});
        message.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        message.to_string()
    };
    let mut not_utf8 = article(json!({"title": "X"})).into_bytes();
    let at = not_utf8.iter().position(|byte| *byte == b'X').expect("the title");
    not_utf8[at] = 0xff;
    vec![
        bad("truncated JPEG", "invalid_image", inline(&picture[..picture.len() / 2])),
        bad("PNG claiming 60,000 x 60,000", "image_too_large", inline(&png_declaring(60_000, 60_000))),
        bad("empty picture", "invalid_record", inline(b"")),
        bad("HTML named .jpg", "invalid_image", image(&json!({"url": format!("file://{}", page.display())}))),
        bad("wrong type", "invalid_record", article(json!({"title": 7}))),
        bad("missing field", "invalid_record", r#"{"kind": "article", "version": 1, "title": "没有正文"}"#),
        bad("invalid UTF-8", "invalid_record", not_utf8),
        bad("unknown kind", "invalid_record", article(json!({"kind": "song"}))),
        bad("negative version", "invalid_version", article(json!({"version": -1}))),
        bad("text of 1 MB", "invalid_record", article(json!({"body": "长".repeat(350_000)}))),
        bad(
            "URL to 127.0.0.1",
            "url_forbidden",
            image(&json!({"url": format!("http://127.0.0.1:{}/1.jpg", scenario.host.port())})),
        ),
        bad("404", "url_not_found", image(&json!({"url": scenario.host.url("/no-such-picture.jpg")}))),
    ]
}

/// More that is no change: what the key, the version and the value must be.
fn more() -> Vec<Bad> {
    let article = r#"{"kind": "article", "version": 1, "id": "a", "title": "标题", "body": "正文"}"#;
    let mut no_key =
        bad("neither key nor id", "invalid_key", r#"{"kind": "article", "version": 1, "title": "标题", "body": "正文"}"#);
    no_key.record.key = None;
    let mut no_version = bad("delete without version", "invalid_version", "");
    no_version.record.value = None;
    no_version.record.headers.push(("astromech-kind".to_owned(), b"image".to_vec()));
    let mut bad_version = bad("delete with a wrong version", "invalid_version", "");
    bad_version.record.value = None;
    bad_version.record.headers.push(("astromech-kind".to_owned(), b"image".to_vec()));
    bad_version.record.headers.push((HEADER_VERSION.to_owned(), b"seven".to_vec()));
    let mut no_kind = bad("delete without kind", "invalid_record", "");
    no_kind.record.value = None;
    no_kind.record.headers.push((HEADER_VERSION.to_owned(), b"7".to_vec()));
    vec![
        no_key,
        no_version,
        bad_version,
        no_kind,
        bad("key and id disagree", "invalid_key", article),
        bad("an empty value is no delete", "invalid_record", ""),
        bad("not JSON", "invalid_record", "hello"),
        bad("upsert without version", "invalid_version", r#"{"kind": "article", "title": "标题", "body": "正文"}"#),
        bad("file outside the roots", "url_forbidden", image(&json!({"url": "file:///etc/hostname"}))),
        bad("file that is not there", "url_not_found", image(&json!({"url": "file:no-such-picture.jpg"}))),
        bad("scheme that is not read", "url_forbidden", image(&json!({"url": "ftp://localhost/1.jpg"}))),
    ]
}

/// Sends `bad` among good items, `odd` ones among them, and holds the dead letters against them. Returns the daemon, which still runs.
pub fn assert_dead_letters(scenario: &mut Scenario, bad: &[Bad], odd: Vec<Item>) -> Daemon {
    let root = scratch("files").parent().expect("inside the process's folder").to_owned();
    scenario.config.file_roots.push(root);
    let mut good = odd;
    good.extend(scenario.items(GOOD_PER_BAD * bad.len(), 1));
    // A bad record every few, in each partition in turn; good ones before, between and after.
    let mut records: Vec<_> = good.iter().map(Item::record).collect();
    for (i, bad) in bad.iter().enumerate() {
        records.insert((GOOD_PER_BAD + 1) * i + 3, bad.record.clone());
    }
    for (i, record) in records.iter_mut().enumerate() {
        record.partition = Some((i / 2) as i32 % PARTITIONS);
    }
    let sent = scenario.world.client.produce(&scenario.topics.changes, records);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert_buried(scenario, &daemon, bad, &Expected::of(&good), &sent);
    daemon
}

/// Of what was `sent`, exactly `bad` is in the dead letters, byte-identical and with the right reasons, and `expected` is stored. Returns
/// what each letter says.
pub fn assert_buried(
    scenario: &Scenario,
    daemon: &Daemon,
    bad: &[Bad],
    expected: &Expected,
    sent: &[Sent],
) -> BTreeMap<&'static str, String> {
    let answers = scenario.answers();
    answers.assert_nothing_lost(sent);
    assert_eq!(answers.repeats(), 0);
    let at: BTreeMap<_, _> = sent.iter().map(|s| ((s.partition, s.offset), s)).collect();
    let mut letters = BTreeMap::new();
    for (position, letter) in
        answers.dead_letters.iter().flat_map(|(position, letters)| letters.iter().map(move |l| (position, l)))
    {
        let original = &at[position].record;
        assert_eq!(letter.record.key, original.key, "the key is the record's own");
        assert_eq!(letter.record.value, original.value, "the value is the record's own");
        let mine = &letter.record.headers[..original.headers.len()];
        assert_eq!(mine, original.headers, "the record's own headers come first");
        assert!(!header(letter, HEADER_DETAIL).is_empty());
        letters.insert(*position, (header(letter, HEADER_REASON), header(letter, HEADER_DETAIL)));
    }
    let (mut wrong, mut details) = (Vec::new(), BTreeMap::new());
    for bad in bad {
        let (position, _) = at
            .iter()
            .find(|(_, sent)| {
                sent.record.key == bad.record.key
                    && sent.record.value == bad.record.value
                    && sent.record.headers == bad.record.headers
            })
            .expect("it was sent");
        match letters.remove(position) {
            Some((reason, detail)) if reason == bad.reason => drop(details.insert(bad.what, detail)),
            other => wrong.push(format!("{}: expected {}, found {other:?}", bad.what, bad.reason)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(letters.is_empty(), "dead letters of good records: {letters:?}");
    assert_stored(&scenario.snapshot(), expected, &bundle::manifest());
    let counted = daemon.metric("astromech_dead_letters_total", &[]);
    assert!((counted - bad.len() as f64).abs() < 0.5, "the metric counts {counted} dead letters");
    details
}

#[test]
fn twelve_bad_records_are_twelve_byte_identical_dead_letters_and_the_good_ones_around_them_are_indexed() {
    let world = world();
    let mut scenario = Scenario::new(&world, "twelve");
    let bad = twelve(&scenario);
    assert_eq!(bad.len(), 12);
    assert_dead_letters(&mut scenario, &bad, Vec::new());
}

#[test]
fn wrong_keys_versions_and_addresses_are_dead_letters_and_an_empty_value_is_no_delete() {
    let world = world();
    let mut scenario = Scenario::new(&world, "more");
    assert_dead_letters(&mut scenario, &more(), Vec::new());
}

#[test]
fn promise_5_when_most_of_a_window_is_poison_the_daemon_stops_and_says_so() {
    let world = world();
    let mut scenario = Scenario::new(&world, "window");
    scenario.config.extra = "[pipeline]\npoison_window = 20\npoison_share_max = 0.5\n".to_owned();
    let wrong_topic = |i: usize| bad("window", "invalid_record", format!("not a change {i}")).record;
    world.client.produce(&scenario.topics.changes, (0..400).map(wrong_topic).collect());
    let mut daemon = Daemon::spawn(&scenario.config);
    // It stops: the process ends with a failure, or it lives on, not ready, and reads no further.
    let said = wait_until("the daemon stops", STREAM_DEADLINE, || {
        if !daemon.is_running() {
            return Ok(daemon.log());
        }
        let letters = world.client.count(&scenario.topics.dead_letters);
        Err(format!("{letters} dead letters"))
    });
    assert!(said.contains("poison"), "the log says why:\n{said}");
    // What was under way when it stopped is neither buried nor committed.
    let letters = world.client.count(&scenario.topics.dead_letters);
    assert!(letters < 400, "{letters} dead letters: it stopped in time");
    let committed = scenario.assert_committed_is_answered();
    assert!(committed.cast_unsigned() <= letters, "{committed} committed, {letters} dead letters");
}
