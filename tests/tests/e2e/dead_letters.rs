//! `astromech dlq` against a real broker: listed, shown, and sent again byte for byte.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use astromech_e2e::checks::{assert_stored, header};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item, image};
use astromech_e2e::paths::message;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, Record, Sent, bundle, wait_until, world};
use astromech_schemas::ImageSource;
use astromech_schemas::dead_letter::{
    HEADER_KIND, HEADER_OFFSET, HEADER_ORIGIN_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TIMESTAMP,
};
use serde_json::Value;

use crate::scenario::{STREAM_DEADLINE, Scenario};

/// Pictures that are missing at first.
const MISSING: usize = 12;

/// The command line over one configuration.
struct Dlq {
    config: String,
}

impl Dlq {
    fn new(scenario: &Scenario, change: impl Fn(String) -> String) -> Self {
        let file = scratch("dlq").join("astromech.toml");
        std::fs::write(&file, change(scenario.config.to_toml(1))).expect("the configuration is written");
        Self { config: file.to_string_lossy().into_owned() }
    }

    /// Runs `astromech dlq WHAT --config … ARGS`; returns exit code and everything printed.
    fn run(&self, what: &str, args: &[&str]) -> (i32, String) {
        let (status, said) = run_to_end(&[&["dlq", what, "--config", &self.config], args].concat());
        (status.code().expect("it ended by itself"), said)
    }
}

fn wait_letters(scenario: &Scenario, daemon: &mut Daemon, at_least: u64) {
    wait_until(&format!("{at_least} dead letters"), STREAM_DEADLINE, || {
        daemon.expect_alive();
        let letters = scenario.world.client.count(&scenario.topics.dead_letters);
        if letters >= at_least { Ok(()) } else { Err(format!("{letters} dead letters")) }
    });
}

/// A record of every odd part: headers twice, empty, and of the daemon's own names; a null value; no key.
fn odd_records() -> Vec<Record> {
    let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    vec![
        Record {
            key: Some(vec![0xff, 0, 1]),
            value: Some(b"not a change\xff".to_vec()),
            headers: vec![
                header("trace", b"a"),
                header("trace", &[0, 255]),
                header(HEADER_REASON, b"the producer's own"),
                header("empty", b""),
                header(HEADER_OFFSET, b"12"),
            ],
            partition: Some(2),
        },
        Record { key: Some(b"gone".to_vec()), value: None, headers: vec![header(HEADER_KIND, b"image")], partition: Some(1) },
        Record { key: None, value: Some(Vec::new()), headers: Vec::new(), partition: Some(0) },
    ]
}

/// Every record of `sent` lies in its own partition again, equal in key, value and headers, and says behind them where it lay at first.
fn assert_sent_again(scenario: &Scenario, sent: &[Sent], after: &[Sent]) {
    for original in sent {
        let first = (HEADER_ORIGIN_OFFSET.to_owned(), original.offset.to_string().into_bytes());
        let again = [original.record.headers.clone(), vec![first]].concat();
        let copies = |headers: &[(String, Vec<u8>)]| {
            let same = |found: &&Sent| {
                let (a, b) = (&found.record, &original.record);
                found.partition == original.partition && (&a.key, &a.value) == (&b.key, &b.value) && a.headers == headers
            };
            after.iter().filter(same).count()
        };
        let found = (copies(&original.record.headers), copies(&again));
        assert_eq!(found, (1, 1), "as it was sent, and again: {:?} of {}", original.record.key, scenario.topics.changes);
    }
}

#[test]
fn dead_letters_are_listed_shown_and_sent_again_byte_for_byte_where_they_came_from() {
    let world = world();
    let scenario = Scenario::new(&world, "dlq");
    let entries = || scenario.corpus.entries.iter().take(MISSING).enumerate();
    let missing = |(i, entry)| image(entry, 1, ImageSource::from_url(scenario.host.url(&format!("/late-{i}.jpg"))));
    let items: Vec<Item> = entries().map(missing).collect();
    let sent = scenario.produce(&items);
    let odd = world.client.produce(&scenario.topics.changes, odd_records());
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let letters = (MISSING + odd.len()) as u64;
    wait_letters(&scenario, &mut daemon, letters);
    let dlq = Dlq::new(&scenario, |config| config);
    lists_and_shows(&scenario, &dlq, &odd);

    // The pictures are there now, and one of the items has been changed since.
    for (i, entry) in entries() {
        scenario.host.serve(&format!("/late-{i}.jpg"), entry.bytes());
    }
    let newer = items[0].at_version(7, "新的");
    scenario.produce(std::slice::from_ref(&newer));
    scenario.wait_done(&mut daemon);
    let before = world.client.count(&scenario.topics.changes);
    let (code, said) = dlq.run("replay", &["--reason", "url_not_found", "--dry-run"]);
    assert_eq!((code, said.contains(&format!("{MISSING} would be sent, 0 not"))), (0, true), "{said}");
    assert_eq!(world.client.count(&scenario.topics.changes), before, "a dry run sends nothing");
    let (code, said) = dlq.run("replay", &["--reason", "url_not_found"]);
    assert_eq!((code, said.contains(&format!("{MISSING} sent, 0 not"))), (0, true), "{said}");
    scenario.wait_done(&mut daemon);
    assert_sent_again(&scenario, &sent, &world.client.read_all(&scenario.topics.changes));
    let mut expected = Expected::of(&items);
    expected.upsert(&newer);
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());

    // What is still poison comes back as a new letter, and the replay ends all the same.
    let began = Instant::now();
    let (code, said) = dlq
        .run("replay", &["--reason", "invalid_key", "--reason", "invalid_record", "--reason", "invalid_version", "--rate", "2"]);
    assert_eq!((code, said.contains("3 sent, 0 not")), (0, true), "{said}");
    assert!(began.elapsed() >= Duration::from_secs(1), "three at two a second took {:?}", began.elapsed());
    wait_letters(&scenario, &mut daemon, letters + 3);
    assert_sent_again(&scenario, &odd, &world.client.read_all(&scenario.topics.changes));
    times_came_along(&scenario);
    message(&format!("{} dead letters sent again, {said}", MISSING + odd.len()));
}

fn lists_and_shows(scenario: &Scenario, dlq: &Dlq, odd: &[Sent]) {
    let (code, said) = dlq.run("list", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("{} dead letters: ", MISSING + odd.len())), "{said}");
    assert!(said.contains(&format!("{MISSING} url_not_found")) && said.contains("1 invalid_version"), "{said}");
    let objects = |args: &[&str]| -> Vec<Value> {
        let (_, said) = dlq.run("list", &[&["--json"], args].concat());
        said.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let of_partition = objects(&["--topic", &scenario.topics.changes, "--partition", "2"]);
    assert!(of_partition.iter().all(|letter| letter["partition"] == 2) && !of_partition.is_empty());
    assert_eq!(objects(&["--key", "gone"]).len(), 1);
    assert_eq!(objects(&["--topic", "other"]).len() + objects(&["--until", "1h"]).len(), 0);
    assert_eq!(objects(&["--since", "1h", "--limit", "4"]).len(), 4);

    let letters = scenario.world.client.read_all(&scenario.topics.dead_letters);
    let of_first = |letter: &&Sent| letter.record.value == odd[0].record.value;
    let letter = letters.iter().find(of_first).expect("the first odd record is a dead letter");
    let name = format!("{}:{}", letter.partition, letter.offset);
    let file: PathBuf = scratch("dlq").join("value");
    let (code, said) = dlq.run("show", &[&name, "--value-to", &file.to_string_lossy()]);
    let ours = |name: &str| letter.record.headers.iter().rev().find(|(of, _)| of == name).map(|(_, value)| value.clone());
    let origin = format!("{}/2@{}", scenario.topics.changes, odd[0].offset);
    assert_eq!(ours(HEADER_PARTITION), Some(b"2".to_vec()));
    assert!(code == 0 && said.contains(&origin) && said.contains("the producer's own") && said.contains("invalid_"), "{said}");
    assert_eq!(std::fs::read(&file).ok(), odd[0].record.value, "the value is written byte for byte");
    assert_eq!(dlq.run("show", &["0:999999"]).0, 1);
}

/// Each record that was sent again has the time of the first.
fn times_came_along(scenario: &Scenario) {
    let mut times = scenario.world.client.times(&scenario.topics.changes);
    times.sort_unstable();
    let letters = scenario.world.client.read_all(&scenario.topics.dead_letters);
    for letter in letters {
        let time: i64 = header(&letter, HEADER_TIMESTAMP).parse().expect("a number");
        assert!(times.iter().filter(|of| **of == time).count() >= 2, "{time} in {times:?}");
    }
}

#[test]
fn a_replay_without_a_filter_to_another_topic_or_over_newer_versions_is_refused() {
    let world = world();
    let scenario = Scenario::new(&world, "dlq-refused");
    let mut daemon = Daemon::start(&scenario.config);
    world.client.produce(&scenario.topics.changes, odd_records());
    wait_letters(&scenario, &mut daemon, 3);
    let before = world.client.count(&scenario.topics.changes);
    let (code, said) = Dlq::new(&scenario, |config| config).run("replay", &[]);
    assert!(code == 2 && said.contains("--all"), "{code}: {said}");
    let changes = scenario.topics.changes.clone();
    // Quoted as a whole, so that no other topic's name changes.
    let elsewhere = Dlq::new(&scenario, |config| config.replace(&format!("{changes:?}"), "\"another\""));
    let (code, said) = elsewhere.run("replay", &["--all"]);
    assert!(code == 1 && said.contains("0 sent, 3 not") && said.contains("not among kafka.topics"), "{code}: {said}");
    let by_offset = Dlq::new(&scenario, |config| config.replace("version = \"field\"", "version = \"offset\""));
    let (code, said) = by_offset.run("replay", &["--all"]);
    assert!(code == 1 && said.contains("0 sent, 3 not") && said.contains("--even-as-newest"), "{code}: {said}");
    let (code, said) = by_offset.run("replay", &["--all", "--even-as-newest", "--dry-run"]);
    assert!(code == 0 && said.contains("3 would be sent"), "{code}: {said}");
    let by_time = Dlq::new(&scenario, |config| config.replace("version = \"field\"", "version = \"timestamp\""));
    let (code, said) = by_time.run("replay", &["--all", "--dry-run"]);
    assert!(code == 0 && said.contains("3 would be sent"), "the letters say their records' times: {code}: {said}");
    assert_eq!(world.client.count(&scenario.topics.changes), before);
}
