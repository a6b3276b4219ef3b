//! Producers with transactions: behind their records lie control markers, and records of aborted transactions, which no consumer ever receives.
//! The lag, the end of a stream and the heads of a roll count what can still be read.

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::Item;
use astromech_e2e::kafka::{PARTITIONS, Record};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, wait_until, world};
use serde_json::Value;

use crate::promise_7::{generations, wait_live};
use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 24;

/// The items' records, dealt out to the partitions.
fn dealt(items: &[Item]) -> Vec<Record> {
    let to = |(i, item): (usize, &Item)| Record { partition: Some(i as i32 % PARTITIONS), ..item.record() };
    items.iter().enumerate().map(to).collect()
}

/// A committed transaction over all partitions, then an aborted one in the first, then one in the second of which nothing but the aborted is.
fn produce(scenario: &Scenario<'_>, items: &[Item]) {
    let (client, topic) = (&scenario.world.client, scenario.topics.changes.as_str());
    let of = |partition: i32| Record { partition: Some(partition), ..items[0].at_version(99, "never").record() };
    client.transaction(topic, &dealt(items)).commit();
    client.transaction(topic, &[of(0), of(0), of(0)]).abort();
    client.transaction(topic, &[of(1)]).abort();
}

/// What `astromech offsets show` says of every group: its name, and its lag.
fn lags(scenario: &Scenario<'_>) -> Vec<(String, u64)> {
    let file = scratch("transactions").join("astromech.toml");
    std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
    let (status, said) = run_to_end(&["offsets", "show", "--json", "--config", &file.to_string_lossy()]);
    assert!(status.success(), "{said}");
    let shown: Value = serde_json::Deserializer::from_str(&said).into_iter().next().and_then(Result::ok).expect("JSON");
    let group =
        |group: &Value| (group["group"].as_str().unwrap_or_default().to_owned(), group["lag"].as_u64().unwrap_or(u64::MAX));
    shown.as_array().expect("a list").iter().map(group).collect()
}

fn wait_no_lag(scenario: &Scenario<'_>, daemon: &mut Daemon) {
    wait_until("the lag is 0, by the metric and by the command line", STREAM_DEADLINE, || {
        daemon.expect_alive();
        let (_, metrics) = daemon.get("/metrics");
        let told: Vec<_> = metrics.lines().filter(|line| line.starts_with("astromech_partition_lag{")).collect();
        let lags = lags(scenario);
        let none = told.len() == PARTITIONS as usize && told.iter().all(|line| line.ends_with(" 0"));
        if none && lags.iter().all(|(_, lag)| *lag == 0) { Ok(()) } else { Err(format!("{told:?} {lags:?}")) }
    });
}

#[test]
fn promise_1_the_lag_of_transactions_ends_at_nothing_also_of_aborted_ones_and_after_a_restart() {
    let world = world();
    let scenario = Scenario::new(&world, "transactions");
    let items = scenario.items(ITEMS, 1);
    produce(&scenario, &items[..ITEMS - 4]);
    let mut daemon = Daemon::start(&scenario.config);
    wait_no_lag(&scenario, &mut daemon);
    // Whoever looks at the group from outside sees the same: the marker is behind the committed offset.
    scenario.wait_done(&mut daemon);
    assert_eq!(scenario.results(), ITEMS as u64 - 4);
    daemon.kill();

    // Only an aborted transaction came since: a start has nothing to read, and passes it.
    world.client.transaction(&scenario.topics.changes, &dealt(&items)).abort();
    assert!(lags(&scenario).iter().all(|(_, lag)| *lag == 0), "nothing of it can be read, while no daemon runs too");
    let mut daemon = Daemon::start(&scenario.config);
    wait_no_lag(&scenario, &mut daemon);
    assert_eq!(scenario.results(), ITEMS as u64 - 4, "nothing was read twice, and nothing aborted");

    // Records of an open transaction can't be read: they are no lag until they can.
    let open = world.client.transaction(&scenario.topics.changes, &dealt(&items[ITEMS - 4..]));
    world.client.produce(&scenario.topics.changes, dealt(&[items[0].at_version(2, "behind it")]));
    wait_no_lag(&scenario, &mut daemon);
    assert_eq!(scenario.results(), ITEMS as u64 - 4);
    open.commit();
    scenario.wait_results(ITEMS as u64 + 1, || daemon.expect_alive());
    wait_no_lag(&scenario, &mut daemon);
    assert!(daemon.terminate().success());
    assert!(lags(&scenario).iter().all(|(_, lag)| *lag == 0), "nor after a stop");
}

#[test]
fn promise_7_a_roll_over_transactions_reaches_the_heads_and_goes_live() {
    let world = world();
    let (new_path, new) = bundle::other(31);
    let mut scenario = Scenario::new(&world, "rollout-transactions");
    let published = Published::new();
    scenario.config.embedded = Some(scratch("embedded"));
    scenario.config.extra = published.rollout("");
    produce(&scenario, &scenario.items(ITEMS, 1));
    let mut daemon = Daemon::start(&scenario.config);
    published.publish(&new_path);
    wait_live(&mut daemon, &new);
    wait_until("no generation is behind", STREAM_DEADLINE, || {
        let lags = lags(&scenario);
        if lags.len() == 2 && lags.iter().all(|(_, lag)| *lag == 0) {
            Ok(())
        } else {
            Err(format!("{lags:?} {}", generations(&daemon)))
        }
    });
    assert!(daemon.terminate().success());
}
