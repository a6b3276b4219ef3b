//! A new generation out of the live one's points, where the topics do not hold every item.

use std::collections::BTreeSet;

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::checks::assert_stored;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::points::Snapshot;
use astromech_e2e::{Daemon, wait_until, world};
use astromech_schemas::Kind;

use crate::promise_7::{ROLL_DEADLINE, generations, live, live_of_aliases, wait_group_done, wait_live, wait_refused};
use crate::scenario::Scenario;

/// Items that are there before the topic is truncated.
const ITEMS: usize = 60;
/// Slow enough for a kill in the middle.
const ROLLOUT: &str = "backfill = \"collection\"\nrecords_per_second_max = 20";

fn is_inline(item: &Item) -> bool {
    item.message["image"]["bytes"].is_string()
}

#[test]
fn promise_7_what_the_topic_no_longer_holds_comes_from_the_live_points_over_kills_and_beside_changes() {
    let world = world();
    let (old, (new_path, new)) = (bundle::manifest(), bundle::other(21));
    let mut scenario = Scenario::new(&world, "backfill");
    let published = Published::new();
    scenario.config.session_timeout_ms = 4500;
    scenario.config.extra = published.rollout(ROLLOUT);
    let mut items = scenario.items(2 * ITEMS, 2);
    items.retain(|item| !is_inline(item));
    let fresh = items.split_off(ITEMS);
    let mut expected = Expected::of(&items);
    let send = |expected: &mut Expected, records: Vec<(Item, bool)>| {
        for (item, deleted) in records {
            let record = if deleted {
                expected.delete(&item, item.version);
                item.delete(item.version)
            } else {
                expected.upsert(&item);
                item.record()
            };
            scenario.world.client.produce(&scenario.topics.changes, vec![record]);
        }
    };
    let at = |item: &Item, version: u64| item.at_version(version, &format!("{} 第{version}版", item.title));
    scenario.produce(&items);
    send(&mut expected, items[..6].iter().map(|item| (at(item, 3), true)).collect());
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    scenario.world.client.truncate(&scenario.topics.changes);

    // Not read yet where the new generation begins: new versions, deletes, new items, and what came too late.
    daemon.suspend();
    send(&mut expected, items[10..16].iter().map(|item| (at(item, 5), false)).collect());
    send(&mut expected, items[20..24].iter().map(|item| (at(item, 5), true)).collect());
    send(&mut expected, fresh.iter().take(6).map(|item| (item.clone(), false)).collect());
    send(&mut expected, items[..3].iter().map(|item| (at(item, 1), false)).collect());
    daemon.resume();
    published.publish(&new_path);
    // Killed by hand, wherever it is, then at the point itself.
    wait_until("the new generation is begun", ROLL_DEADLINE, || {
        let known = generations(&daemon).to_string();
        if known.contains("\"filling\"") { Ok(()) } else { Err(known) }
    });
    daemon.kill();
    scenario.config.kill_at = Some("mid_fill");
    for _ in 0..2 {
        Daemon::spawn(&scenario.config).wait_exit(ROLL_DEADLINE);
        assert_eq!(live_of_aliases(&scenario), old.fingerprint.as_str());
    }
    scenario.config.kill_at = None;
    let mut daemon = Daemon::start(&scenario.config);
    send(&mut expected, items[30..33].iter().map(|item| (at(item, 7), false)).collect());
    wait_live(&mut daemon, &new);
    // A tombstone out of the points still stands against what comes late.
    send(&mut expected, items[3..6].iter().map(|item| (at(item, 1), false)).collect());
    wait_group_done(&scenario, &new, &mut daemon);
    assert_stored(&scenario.snapshot(), &expected, &new);
    assert!(daemon.terminate().success());
}

fn names(snapshot: &Snapshot, kind: Kind, id: &str) -> BTreeSet<String> {
    let point =
        snapshot[&kind].values().find(|point| point.text("id") == id).unwrap_or_else(|| panic!("no point of {kind} {id}"));
    point.vectors.keys().cloned().collect()
}

#[test]
fn promise_7_pictures_that_no_point_can_give_back_refuse_the_roll_until_a_setting_lets_them_go() {
    let world = world();
    let (old, (new_path, new)) = (bundle::manifest(), bundle::other(22));
    let mut scenario = Scenario::new(&world, "backfill-inline");
    let published = Published::new();
    let rollout = published.rollout("backfill = \"collection\"");
    scenario.config.extra.clone_from(&rollout);
    let items = scenario.items(24, 1);
    let inline = items.iter().filter(|item| is_inline(item)).count();
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    scenario.world.client.truncate(&scenario.topics.changes);
    published.publish(&new_path);
    wait_refused(&mut daemon, &new, &format!("{inline} had their picture inline in a record"));
    wait_refused(&mut daemon, &new, &format!("set rollout.backfill_lost_max = {inline}"));
    assert_eq!(live(&daemon), old.fingerprint.as_str());
    assert!(daemon.terminate().success());

    scenario.config.extra = format!("{rollout}backfill_lost_max = {inline}\n");
    let mut daemon = Daemon::start(&scenario.config);
    wait_live(&mut daemon, &new);
    let snapshot = scenario.snapshot();
    for item in &items {
        let mut expected: BTreeSet<String> = item.vectors.iter().map(|name| (*name).to_owned()).collect();
        if is_inline(item) {
            expected.remove("image");
        }
        assert_eq!(names(&snapshot, item.kind, &item.id), expected, "{} {}", item.kind, item.id);
    }
    assert!(daemon.terminate().success());
}
