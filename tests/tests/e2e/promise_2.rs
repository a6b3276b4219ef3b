//! Nothing stale: an older version never replaces a newer one, whatever the order.

use std::collections::BTreeMap;

use astromech_e2e::checks::{assert_same, assert_stored};
use astromech_e2e::items::Expected;
use astromech_e2e::kafka::PARTITIONS;
use astromech_e2e::random::Random;
use astromech_e2e::{Daemon, Record, bundle, wait_until, world};

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

    // The same once more, in another order.
    random.shuffle(&mut records);
    world.client.produce(&scenario.topics.changes, records);
    scenario.wait_done(&mut daemon);
    assert_same(&before, &scenario.snapshot());
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
