//! The same roll with the engine in the daemon's process: there, back, and over a kill.

use astromech_e2e::browser::Browser;
use astromech_e2e::bundle::{self, Published};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::Item;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, wait_until, world};
use astromech_schemas::Manifest;
use serde_json::{Value, json};

use crate::promise_7::{ROLL_DEADLINE, generations, wait_group_done, wait_live};
use crate::scenario::Scenario;

/// What the daemon says of one generation.
fn of(daemon: &Daemon, manifest: &Manifest) -> Value {
    let known = generations(daemon);
    let mut all = known["generations"].as_array().into_iter().flatten();
    all.find(|one| one["fingerprint"] == manifest.fingerprint.as_str()).cloned().unwrap_or(Value::Null)
}

fn wait_points(daemon: &mut Daemon, manifest: &Manifest, points: usize) {
    wait_until(&format!("{points} points in {}", manifest.fingerprint.short()), ROLL_DEADLINE, || {
        daemon.expect_alive();
        let one = of(daemon, manifest);
        let found: u64 = one["points"].as_object().into_iter().flatten().filter_map(|(_, points)| points.as_u64()).sum();
        if found == points as u64 { Ok(()) } else { Err(one.to_string()) }
    });
}

/// The marks in the index are read twice a second.
fn wait_state(daemon: &Daemon, manifest: &Manifest, state: &str) {
    wait_until(&format!("{} is {state}", manifest.fingerprint.short()), ROLL_DEADLINE, || {
        let one = of(daemon, manifest);
        if one["state"] == state { Ok(()) } else { Err(generations(daemon).to_string()) }
    });
}

/// Whether each item is found by its own text, and in which space.
fn assert_found(daemon: &Daemon, items: &[Item], manifest: &Manifest, found: bool) {
    for item in items {
        let (status, body) = daemon.post("/v1/search", &json!({"text": item.title, "limit": 100}));
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["fingerprint"], manifest.fingerprint.as_str());
        let hits = body["hits"].as_object().into_iter().flatten().flat_map(|(_, hits)| hits.as_array().into_iter().flatten());
        let is_there = hits.into_iter().any(|hit| hit["id"] == item.id.as_str());
        assert_eq!(is_there, found, "{} {}: {body}", item.kind, item.id);
    }
}

fn command(daemon: &Daemon, words: &[&str]) {
    let (status, said) = run_to_end(&[words, &["--url", &daemon.url("")]].concat());
    assert!(status.success(), "{words:?}: {said}");
}

#[test]
fn promise_7_the_embedded_engine_rolls_there_and_back_and_keeps_what_was_written_meanwhile() {
    let world = world();
    let (old, (new_path, new)) = (bundle::manifest(), bundle::other(23));
    let mut scenario = Scenario::new(&world, "rollout-embedded");
    let published = Published::new();
    scenario.config.session_timeout_ms = 4500;
    scenario.config.embedded = Some(scratch("embedded"));
    scenario.config.extra = published.rollout("records_per_second_max = 2");
    let items = scenario.items(40, 1);
    let (early, late) = items.split_at(32);
    scenario.produce(early);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    published.publish(&new_path);
    // Killed while it is filled, before the eyes of who looks at the page: it goes on.
    wait_state(&daemon, &new, "filling");
    let browser = Browser::start("en-US");
    browser.open(&daemon.url("/"));
    let shows = format!(
        "/being filled .*{}.* [0-9]+ %.* left/.test(document.getElementById('rollout').textContent)",
        new.fingerprint.short()
    );
    browser.wait_for("the page shows the roll", ROLL_DEADLINE, &shows);
    assert_eq!(browser.console_errors(), Vec::<String>::new());
    daemon.kill();
    let mut daemon = Daemon::start(&scenario.config);
    assert_found(&daemon, &early[..2], &old, true);
    wait_live(&mut daemon, &new);
    wait_points(&mut daemon, &new, early.len());
    assert_found(&daemon, early, &new, true);
    wait_state(&daemon, &old, "retired");

    // Written and deleted while the new one is live; the old one has it too.
    scenario.produce(late);
    let gone = &early[..2];
    scenario.world.client.produce(&scenario.topics.changes, gone.iter().map(|item| item.delete(9)).collect());
    wait_group_done(&scenario, &new, &mut daemon);
    wait_group_done(&scenario, &old, &mut daemon);
    command(&daemon, &["generations", "rollback"]);
    wait_live(&mut daemon, &old);
    wait_points(&mut daemon, &old, items.len() - gone.len());
    assert_found(&daemon, &items[2..], &old, true);
    assert_found(&daemon, gone, &old, false);
    wait_state(&daemon, &new, "held");

    // A start knows all of it.
    daemon.kill();
    let mut daemon = Daemon::start(&scenario.config);
    wait_live(&mut daemon, &old);
    wait_points(&mut daemon, &new, items.len() - gone.len());
    command(&daemon, &["generations", "promote", new.fingerprint.short()]);
    assert_found(&daemon, &items[2..], &new, true);
    command(&daemon, &["generations", "drop", old.fingerprint.short()]);
    wait_until("the old one is gone", ROLL_DEADLINE, || {
        let one = of(&daemon, &old);
        if one.is_null() { Ok(()) } else { Err(one.to_string()) }
    });
    assert!(daemon.terminate().success());
}
