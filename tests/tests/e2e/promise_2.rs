//! Nothing stale: an older version never replaces a newer one, whatever the order.

use std::collections::BTreeMap;

use astromech_e2e::checks::{assert_same, assert_stored};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item, image};
use astromech_e2e::kafka::PARTITIONS;
use astromech_e2e::points::Snapshot;
use astromech_e2e::random::Random;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, Record, Sent, bundle, wait_until, world};
use astromech_schemas::results::Outcome;
use astromech_schemas::{ImageSource, point_id};

use crate::scenario::{STREAM_DEADLINE, Scenario};

const VERSIONS: u64 = 8;

#[test]
fn promise_2_the_highest_version_wins_whatever_the_order_and_the_partition() {
    let world = world();
    let scenario = Scenario::new(&world, "versions");
    let mut random = Random(20_261_124);
    let mut expected = Expected::default();
    let mut records = Vec::new();
    let items = scenario.items(60, 1);
    for (i, item) in items.iter().enumerate() {
        for version in 1..=VERSIONS {
            // A third of the items ends with a delete, another third has one in the middle.
            let deletes = (i % 3 == 0 && version == VERSIONS) || (i % 3 == 1 && version == VERSIONS / 2);
            let record = if deletes {
                expected.delete(item, version);
                item.delete(version)
            } else {
                let item = item.at_version(version, &format!("{} 第{version}版", item.title));
                expected.upsert(&item);
                item.record()
            };
            // Versions of one item in different partitions race each other.
            records.push(Record { partition: Some(random.below(PARTITIONS as usize) as i32), ..record });
        }
    }
    random.shuffle(&mut records);
    let sent = world.client.produce(&scenario.topics.changes, records.clone());
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    let before = scenario.snapshot();
    assert_stored(&before, &expected, &bundle::manifest());

    // The same once more, in another order: later records of the same versions, of the same content.
    random.shuffle(&mut records);
    world.client.produce(&scenario.topics.changes, records);
    scenario.wait_done(&mut daemon);
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());
}

/// Of each item a first change and a second one, every third a delete, all with one time; and what they must lead to.
fn tied(items: &[Item], time_ms: i64) -> (Vec<Record>, Expected) {
    let mut expected = Expected::default();
    let second = |(i, item): (usize, &Item)| {
        let item = item.at_version(time_ms.unsigned_abs(), &format!("{} 第二版", item.title));
        if i % 3 == 0 {
            expected.delete(&item, item.version);
            return item.delete(0);
        }
        expected.upsert(&item);
        item.record()
    };
    let seconds: Vec<Record> = items.iter().enumerate().map(second).collect();
    (items.iter().map(Item::record).chain(seconds).collect(), expected)
}

/// What became of the changes, by partition and offset: of each item the last is applied, whatever is read again and however often.
fn assert_last_are_applied(scenario: &Scenario<'_>, sent: &[Sent]) {
    let last: BTreeMap<_, _> = sent.iter().map(|sent| (sent.record.key.clone(), (sent.partition, sent.offset))).collect();
    let answers = scenario.answers();
    answers.assert_nothing_lost(sent);
    answers.assert_no_dead_letters();
    for sent in sent {
        let place = (sent.partition, sent.offset);
        let results = &answers.results[&place];
        let last = last[&sent.record.key] == place;
        let outcomes: Vec<Outcome> = results.iter().map(|result| result.outcome).collect();
        assert!(!last || outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{place:?}: {outcomes:?}");
        for result in results.iter().filter(|result| result.outcome == Outcome::Superseded) {
            assert!(result.vectors.is_empty(), "the point's vectors are another change's: {result:?}");
        }
        // Once the last is there, every other is told so.
        assert!(last || outcomes.len() < 2 || outcomes.last() == Some(&Outcome::Superseded), "{place:?}: {outcomes:?}");
    }
}

/// Changes of one time, read as they come and all once more by another group.
fn ties_end_in_the_later_record(mut scenario: Scenario<'_>, time_ms: Option<i64>) {
    scenario.config.version = "timestamp";
    let world = scenario.world;
    let items = scenario.items(40, 1);
    let (records, expected) = tied(&items, time_ms.unwrap_or_default());
    let sent = world.client.produce_at(&scenario.topics.changes, records, time_ms);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let before = scenario.snapshot();
    let fresh = |snapshot: &Snapshot| {
        for (i, item) in items.iter().enumerate() {
            let point = &snapshot[&item.kind][&point_id(item.kind, &item.id)];
            let says = (point.is_tombstone(), point.text("title").ends_with("第二版"));
            assert_eq!(says, (i % 3 == 0, i % 3 != 0), "{}: {:?}", item.id, point.payload);
        }
    };
    fresh(&before);
    if time_ms.is_some() {
        assert_stored(&before, &expected, &bundle::manifest());
    }
    assert!(daemon.terminate().success());
    scenario.config.group.push_str("-again");
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert_same(&before, &scenario.snapshot());
    assert_last_are_applied(&scenario, &sent);
    let superseded = daemon.metric("astromech_records_superseded_total", &[]);
    assert_eq!(superseded as usize, items.len(), "each first change is counted");
}

#[test]
fn promise_2_of_changes_that_a_producer_gave_one_time_the_later_record_wins() {
    let world = world();
    ties_end_in_the_later_record(Scenario::new(&world, "tied"), Some(1_790_000_000_000));
}

#[test]
fn promise_2_of_changes_that_the_broker_gave_one_time_the_later_record_wins() {
    let world = world();
    let mut scenario = Scenario::new(&world, "stamped");
    scenario.topics = world.client.stamped_topics("stamped");
    scenario.config.topics = scenario.topics.clone();
    ties_end_in_the_later_record(scenario, None);
}

#[test]
fn promise_2_a_dead_letter_that_is_sent_again_does_not_replace_a_later_record_of_its_time() {
    let world = world();
    let mut scenario = Scenario::new(&world, "tied-letter");
    scenario.config.version = "timestamp";
    let time_ms = 1_790_000_000_000_u64;
    let entry = &scenario.corpus.entries[0];
    let late = image(entry, time_ms, ImageSource::from_url(scenario.host.url("/late.jpg")));
    let newer = image(entry, time_ms, ImageSource::from_bytes(entry.bytes())).at_version(time_ms, "第二版");
    let mut daemon = Daemon::start(&scenario.config);
    world.client.produce_at(&scenario.topics.changes, vec![late.record(), newer.record()], Some(time_ms as i64));
    scenario.wait_done(&mut daemon);
    let before = scenario.snapshot();
    assert_stored(&before, &Expected::of([&newer]), &bundle::manifest());
    scenario.host.serve("/late.jpg", entry.bytes());
    let file = scratch("tied-letter").join("astromech.toml");
    std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
    let (status, said) = run_to_end(&["dlq", "replay", "--config", &file.to_string_lossy(), "--all"]);
    assert!(status.success() && said.contains("1 sent, 0 not"), "{said}");
    scenario.wait_done(&mut daemon);
    assert_same(&before, &scenario.snapshot());
    let results: Vec<_> = scenario.answers().results.into_values().flatten().collect();
    let superseded = results.iter().filter(|result| result.outcome == Outcome::Superseded).count();
    assert_eq!((results.len(), superseded), (2, 1), "{results:?}");
}

#[test]
fn a_deleted_item_is_forgotten_after_the_tombstones_retention_and_the_others_stay() {
    let world = world();
    let mut scenario = Scenario::new(&world, "retention");
    let items = scenario.items(20, 1);
    let (gone, kept) = items.split_at(5);
    scenario.produce(&items);
    world.client.produce(&scenario.topics.changes, gone.iter().map(|item| item.delete(2)).collect());
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let tombstones =
        |scenario: &Scenario| scenario.snapshot().values().flat_map(BTreeMap::values).filter(|p| p.is_tombstone()).count();
    assert_eq!(tombstones(&scenario), gone.len());
    assert!(daemon.terminate().success());

    // About a second.
    "tombstone_retention_hours = 0.0003\n".clone_into(&mut scenario.config.index_keys);
    let daemon = Daemon::start(&scenario.config);
    wait_until("the tombstones are removed", STREAM_DEADLINE, || {
        let purged = daemon.metric("astromech_tombstones_purged_total", &[]);
        if purged >= gone.len() as f64 { Ok(()) } else { Err(format!("{purged}")) }
    });
    assert_eq!(tombstones(&scenario), 0);
    assert_stored(&scenario.snapshot(), &Expected::of(kept), &bundle::manifest());
}
