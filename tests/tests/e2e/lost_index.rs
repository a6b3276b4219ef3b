//! An index that is lost while its group's offsets stay: nothing is made in its place without a word.

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::checks::assert_stored;
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, block_on, wait_until, world};
use astromech_schemas::Kind;

use crate::promise_7::wait_live;
use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 40;

fn command(scenario: &Scenario<'_>, words: &[&str]) -> (Option<i32>, String) {
    let file = scratch("lost").join("astromech.toml");
    std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
    let (status, said) = run_to_end(&[words, &["--config", &file.to_string_lossy()]].concat());
    (status.code(), said)
}

/// Readiness says every one of `parts`.
fn wait_refused(daemon: &mut Daemon, parts: &[&str]) {
    wait_until("the daemon says that its index was lost", STREAM_DEADLINE, || {
        daemon.expect_alive();
        let (status, body) = daemon.get_when_up("/readyz")?;
        if status == 503 && parts.iter().all(|part| body.contains(part)) { Ok(()) } else { Err(format!("{status}: {body}")) }
    });
}

/// A daemon that says that its index was lost: in readiness, by `plan` and by a metric.
fn assert_refused(scenario: &Scenario<'_>) -> Daemon {
    let (code, said) = command(scenario, &["plan"]);
    assert!(code == Some(2) && said.contains("the index was lost"), "{said}");
    let mut daemon = Daemon::spawn(&scenario.config);
    wait_refused(&mut daemon, &["the index was lost", &scenario.config.group, "offsets reset", "on_lost"]);
    assert!(daemon.metric("astromech_index_lost", &[]) > 0.0);
    daemon
}

/// How many of the items a search by their own titles finds.
fn found(daemon: &Daemon, items: &[Item]) -> usize {
    let ask = |item: &&Item| {
        let (status, body) = daemon.post("/v1/search", &serde_json::json!({"text": item.title, "limit": 100}));
        assert_eq!(status, 200, "{body}");
        let hits = body["hits"].as_object().into_iter().flatten().flat_map(|(_, hits)| hits.as_array().into_iter().flatten());
        hits.into_iter().any(|hit| hit["id"] == item.id.as_str())
    };
    items.iter().filter(ask).count()
}

#[test]
fn promise_1_an_embedded_index_that_was_removed_is_not_made_anew_and_a_reset_fills_it() {
    let world = world();
    let mut scenario = Scenario::new(&world, "lost-embedded");
    let folder = scratch("lost-index");
    scenario.config.embedded = Some(folder.clone());
    let items = scenario.items(ITEMS, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert!(daemon.terminate().success());
    std::fs::remove_dir_all(&folder).expect("the folder is there");

    let mut daemon = assert_refused(&scenario);
    assert!(!folder.join("index.sqlite").exists(), "nothing is made");
    // The offsets are set anew while it waits: it goes on by itself.
    let (code, said) = command(&scenario, &["offsets", "reset", "--to", "earliest"]);
    assert_eq!(code, Some(0), "{said}");
    daemon.wait_ready();
    scenario.wait_done(&mut daemon);
    assert_eq!(found(&daemon, &items), items.len());
    assert!(daemon.metric("astromech_index_lost", &[]) < 1.0);
    assert!(daemon.terminate().success());
}

#[test]
fn promise_1_one_collection_that_was_deleted_is_not_made_anew_and_refill_fills_it_where_it_is_configured() {
    let world = world();
    let mut scenario = Scenario::new(&world, "lost-collection");
    let items = scenario.items(ITEMS, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert!(daemon.terminate().success());
    let collection = format!("{}-{}", Kind::Article.collection(), bundle::manifest().fingerprint.short());
    block_on(world.points.client().delete_collection(collection.clone())).expect("the server deletes it");
    let daemon = assert_refused(&scenario);
    assert!(daemon.get("/readyz").1.contains(&collection), "by its name");
    assert!(daemon.terminate().success());

    "on_lost = \"refill\"".clone_into(&mut scenario.config.index_keys);
    let (code, said) = command(&scenario, &["plan"]);
    assert!(code == Some(10) && said.contains("is set to the oldest records"), "{said}");
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_results(2 * ITEMS as u64, || daemon.expect_alive());
    scenario.wait_done(&mut daemon);
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert!(daemon.terminate().success());
}

#[test]
fn promise_1_an_index_that_was_lost_is_refused_though_its_records_are_gone_from_the_topic() {
    let world = world();
    let scenario = Scenario::new(&world, "lost-and-gone");
    scenario.produce(&scenario.items(ITEMS, 1));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert!(daemon.terminate().success());
    world.points.wipe();
    world.client.truncate(&scenario.topics.changes);
    assert!(assert_refused(&scenario).terminate().success());
}

#[test]
fn promise_1_a_book_of_generations_that_is_lost_with_the_index_does_not_begin_with_an_empty_one() {
    let world = world();
    let (new_path, new) = bundle::other(43);
    let mut scenario = Scenario::new(&world, "lost-book");
    let (published, folder) = (Published::new(), scratch("lost-book-index"));
    scenario.config.embedded = Some(folder.clone());
    scenario.config.extra = published.rollout("");
    scenario.produce(&scenario.items(ITEMS, 1));
    let mut daemon = Daemon::start(&scenario.config);
    published.publish(&new_path);
    wait_live(&mut daemon, &new);
    assert!(daemon.terminate().success());
    std::fs::remove_dir_all(&folder).expect("the folder is there");

    let mut daemon = Daemon::spawn(&scenario.config);
    wait_refused(&mut daemon, &["the index was lost", new.fingerprint.short(), "on_lost"]);
    assert!(daemon.terminate().success());
}
