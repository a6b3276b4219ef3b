//! What happens to the topics under a daemon: they are deleted and made again, and get new partitions.

use std::time::Duration;

use astromech_e2e::checks::assert_stored;
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::kafka::{PARTITIONS, Record};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, bundle, wait_until, world};

use crate::scenario::{STREAM_DEADLINE, Scenario};

/// Read before the topic is made again, and in all.
const OLD: usize = 20;
const ALL: usize = 60;
/// For what the daemon looks at every second, on a busy machine; an end that moved back must stay so for ten.
const NOTICED: Duration = Duration::from_secs(40);

/// The group's member looks at the topics every five minutes only, as librdkafka does where nobody says otherwise.
const SEES_NOTHING: &str = "\"topic.metadata.refresh.interval.ms\" = \"300000\"\n";

/// The items' records, dealt out to the partitions.
fn dealt(items: &[Item]) -> Vec<Record> {
    let to = |(i, item): (usize, &Item)| Record { partition: Some(i as i32 % PARTITIONS), ..item.record() };
    items.iter().enumerate().map(to).collect()
}

fn command(scenario: &Scenario<'_>, words: &[&str]) -> (Option<i32>, String) {
    let file = scratch("topics").join("astromech.toml");
    std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
    let (status, said) = run_to_end(&[words, &["--config", &file.to_string_lossy()]].concat());
    (status.code(), said)
}

/// Says that the topic was made again, by its name, and what to do.
fn wait_noticed(scenario: &Scenario<'_>, daemon: &mut Daemon) {
    let topic = &scenario.topics.changes;
    let parts = [format!("topic {topic} was deleted and made again"), format!("offsets reset --topic {topic} --to earliest")];
    wait_until("the daemon says that the topic was made again", NOTICED, || {
        daemon.expect_alive();
        let (status, body) = daemon.get("/readyz");
        if status == 503 && parts.iter().all(|part| body.contains(part)) { Ok(()) } else { Err(format!("{status}: {body}")) }
    });
    assert!(daemon.metric("astromech_topic_recreated", &[&format!("topic=\"{topic}\"")]) > 0.0);
}

/// The topic is made again under a running daemon and then holds `new` records. The daemon's own client does not see that it was gone: it goes
/// on where it was.
fn made_again(name: &str, new: usize) {
    let world = world();
    let mut scenario = Scenario::new(&world, name);
    SEES_NOTHING.clone_into(&mut scenario.config.kafka_properties);
    let topic = &scenario.topics.changes;
    let items = scenario.items(OLD + new, 1);
    let (old, new) = items.split_at(OLD);
    world.client.produce(topic, dealt(old));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    world.client.make_again(topic);
    world.client.produce(topic, dealt(new));
    wait_noticed(&scenario, &mut daemon);
    wait_until("everything that lies there is lag", NOTICED, || {
        let lag = daemon.metric("astromech_partition_lag", &[]);
        if lag as usize == new.len() { Ok(()) } else { Err(format!("lag {lag}")) }
    });
    assert!(daemon.terminate().success());

    let (code, said) = command(&scenario, &["offsets", "reset", "--topic", topic, "--to", "earliest"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!command(&scenario, &["plan"]).1.contains("made again"));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert!(daemon.metric("astromech_topic_recreated", &[]) < 1.0);
    assert!(daemon.terminate().success());
}

#[test]
fn promise_1_a_topic_made_again_with_more_records_than_were_read_is_noticed_and_nothing_of_it_is_skipped() {
    made_again("made-again-more", ALL - OLD);
}

#[test]
fn promise_1_a_topic_made_again_with_fewer_records_than_were_read_is_noticed_and_nothing_of_it_is_skipped() {
    made_again("made-again-fewer", 4);
}

#[test]
fn promise_1_a_topic_made_again_while_no_daemon_runs_is_read_from_the_start() {
    let world = world();
    let scenario = Scenario::new(&world, "made-again-stopped");
    let topic = &scenario.topics.changes;
    let items = scenario.items(ALL, 1);
    world.client.produce(topic, dealt(&items[..OLD]));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert!(daemon.terminate().success());
    // With a topic the broker deletes what groups have committed in it.
    world.client.make_again(topic);
    world.client.produce(topic, dealt(&items[OLD..]));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_results(ALL as u64, || daemon.expect_alive());
    scenario.wait_done(&mut daemon);
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert!(daemon.terminate().success());
}

#[test]
fn a_topic_whose_versions_are_offsets_is_told_before_the_start_what_must_never_happen_to_it() {
    let world = world();
    let scenario = Scenario::new(&world, "offset-versions");
    let file = scratch("topics").join("astromech.toml");
    let text = scenario.config.to_toml(1).replace("version = \"field\"", "version = \"offset\"");
    std::fs::write(&file, text).expect("the configuration is written");
    let (_, said) = run_to_end(&["plan", "--config", &file.to_string_lossy()]);
    assert!(said.contains("only while the topic is never made again"), "{said}");
}

#[test]
fn a_topic_that_is_gone_is_named_until_it_is_there() {
    let world = world();
    let mut scenario = Scenario::new(&world, "gone");
    let missing = format!("{}-missing", scenario.topics.changes);
    scenario.config.topic_keys = format!("[[kafka.topics]]\nname = \"{missing}\"\n");
    let mut daemon = Daemon::spawn(&scenario.config);
    wait_until("the topic is named", STREAM_DEADLINE, || {
        daemon.expect_alive();
        let (status, body) = daemon.get_when_up("/readyz")?;
        let named = body.contains(&format!("topic {missing} does not exist; create it"));
        if status == 503 && named { Ok(()) } else { Err(format!("{status}: {body}")) }
    });
    assert!(daemon.terminate().success());
}

#[test]
fn promise_1_new_partitions_are_read_soon_and_are_lag_until_then() {
    let world = world();
    let mut scenario = Scenario::new(&world, "partitions");
    let topic = scenario.topics.changes.clone();
    let items = scenario.items(ALL, 1);
    world.client.produce(&topic, dealt(&items[..OLD]));
    // The group does not see them for five minutes; what looks from outside does, every second.
    SEES_NOTHING.clone_into(&mut scenario.config.kafka_properties);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    // Looked at once, so that what comes is new.
    wait_until("the topics were looked at", STREAM_DEADLINE, || {
        if daemon.metric("astromech_offsets_committed_total", &[]) > 0.0 {
            Ok(())
        } else {
            Err("nothing is committed".to_owned())
        }
    });
    world.client.add_partitions(&topic, PARTITIONS as usize + 2);
    let to_new = |(i, item): (usize, &Item)| Record { partition: Some(PARTITIONS + i as i32 % 2), ..item.record() };
    let new: Vec<Record> = items[OLD..].iter().enumerate().map(to_new).collect();
    let count = new.len();
    wait_until("the new partitions lead", STREAM_DEADLINE, || world.client.partitions(&topic, PARTITIONS as usize + 2));
    world.client.produce(&topic, new);
    wait_until("what nobody reads yet is lag", NOTICED, || {
        daemon.expect_alive();
        let lag = daemon.metric("astromech_partition_lag", &[]);
        if lag as usize == count { Ok(()) } else { Err(format!("lag {lag}")) }
    });
    assert!(daemon.terminate().success());

    // As it is configured where nobody says otherwise, by the refresh of a test.
    scenario.config.kafka_properties = String::new();
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_results(items.len() as u64, || daemon.expect_alive());
    world.client.add_partitions(&topic, PARTITIONS as usize + 3);
    wait_until("the partition is assigned", NOTICED, || {
        let assigned = daemon.metric("astromech_partitions_assigned", &[]);
        if assigned as i32 == PARTITIONS + 3 { Ok(()) } else { Err(format!("{assigned} are")) }
    });
    assert!(daemon.terminate().success());
}
