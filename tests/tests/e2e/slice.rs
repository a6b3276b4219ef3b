//! The whole way: 2,000 articles and images through a real broker into a real Qdrant, and found again.

use std::collections::BTreeSet;
use std::time::Instant;

use astromech_e2e::checks::{Answers, assert_same, assert_stored, cosine};
use astromech_e2e::daemon::Daemon;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::paths::message;
use astromech_e2e::points::{Points, Snapshot};
use astromech_e2e::world::unique;
use astromech_e2e::{bundle, world};
use astromech_schemas::{Kind, point_id};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 2000;
/// Hits among which an item must be when searched by its own vector; several items may say the same.
const AMONG: u64 = 32;
/// Every so many items is also searched through the daemon.
const SAMPLE: usize = 40;
/// The figure of BENCHMARKS.md ("Memory"): the daemon with the demo bundle, indexing at full speed.
const RSS_MAX_BYTES: u64 = 512 * 1024 * 1024;

#[test]
fn two_thousand_articles_and_images_are_searchable_with_a_result_each_and_no_lag_and_replay_changes_nothing() {
    let world = world();
    let scenario = Scenario::new(&world, "slice");
    let items = scenario.items(ITEMS, 1);
    let sent = scenario.produce(&items);
    assert_eq!(sent.iter().map(|s| s.partition).collect::<BTreeSet<_>>().len(), 4, "the items are spread over all partitions");

    let began = Instant::now();
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    message(&format!("{ITEMS} items in {:.1} s, start included", began.elapsed().as_secs_f64()));

    // Lag 0 has been seen. Each record has its result; none is lost, none is dead.
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_eq!(answers.repeats(), 0, "an undisturbed daemon applies each record once");
    assert_results_tell_the_truth(&answers, &items);
    let before = scenario.snapshot();
    assert_stored(&before, &Expected::of(&items), &bundle::manifest());
    assert_found_by_their_own_vectors(&world.points, &before);
    assert_found_through_the_daemon(&daemon, &items, &scenario);
    assert_memory(&daemon);

    // A new group reads the whole topic again.
    assert!(daemon.terminate().success());
    let mut replay = scenario.config.clone();
    replay.group = unique("replay");
    let mut daemon = Daemon::start(&replay);
    world.client.wait_lag_0(&scenario.topics.changes, &replay.group, STREAM_DEADLINE, || daemon.expect_alive());
    assert_same(&before, &scenario.snapshot());
    let answers = scenario.answers();
    assert!(answers.results.values().all(|results| results.len() == 2), "a replayed record is answered again");
    answers.assert_no_dead_letters();
}

fn assert_results_tell_the_truth(answers: &Answers, items: &[Item]) {
    let manifest = bundle::manifest();
    let mut results =
        answers.results.values().flatten().map(|result| ((result.kind, result.id.clone()), result)).collect::<Vec<_>>();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(results.len(), items.len());
    for item in items {
        let at = results.binary_search_by(|(key, _)| key.cmp(&(item.kind, item.id.clone())));
        let result = results[at.unwrap_or_else(|_| panic!("no result of {} {}", item.kind, item.id))].1;
        assert_eq!(result.version, item.version);
        assert_eq!(result.fingerprint, manifest.fingerprint);
        assert_eq!(result.point_id, point_id(item.kind, &item.id).to_string());
        assert_eq!(result.vectors.iter().map(String::as_str).collect::<BTreeSet<_>>(), item.vectors, "{result:?}");
    }
}

/// Every point is among the first when searched by each of its own vectors.
fn assert_found_by_their_own_vectors(points: &Points, snapshot: &Snapshot) {
    for (kind, stored) in snapshot {
        for name in ["text", "image"] {
            let with_vector = stored.iter().filter_map(|(id, point)| Some((*id, point.vectors.get(name)?.clone())));
            let (ids, queries): (Vec<_>, Vec<_>) = with_vector.unzip();
            if queries.is_empty() {
                continue;
            }
            let found = points.search(*kind, name, &queries, AMONG);
            assert_eq!(found.len(), ids.len());
            for (id, hits) in ids.iter().zip(found) {
                let own = hits.iter().find(|(hit, _)| hit == id);
                let (_, score) =
                    own.unwrap_or_else(|| panic!("{kind} {id} is not found by its own {name} vector among {hits:?}"));
                assert!(*score > 0.999, "{kind} {id} is found by its own {name} vector with the score {score}");
            }
        }
    }
}

/// Pictures find themselves, and so do the texts of articles.
fn assert_found_through_the_daemon(daemon: &Daemon, items: &[Item], scenario: &Scenario) {
    for item in items.iter().step_by(SAMPLE).chain(items.iter().skip(1).step_by(SAMPLE)) {
        let entry_id = item.id.split_once('-').expect("ids have a prefix").1;
        let entry = scenario.corpus.entries.iter().find(|entry| entry.id == entry_id);
        let mut query = json!({"kinds": [item.kind], "limit": 50});
        if item.kind == Kind::Image {
            let entry = entry.expect("there are as many entries as items, or the id has a suffix");
            query["image"] = base64::engine::general_purpose::STANDARD.encode(entry.bytes()).into();
        } else {
            let text = |field: &str| item.message[field].as_str().unwrap_or_default();
            query["text"] = format!("{}。{}", text("title"), text("body")).into();
        }
        let (status, answer) = daemon.post("/v1/search", &query);
        assert_eq!(status, 200, "{answer}");
        let hits =
            answer["hits"][item.kind.as_str()].as_array().unwrap_or_else(|| panic!("no hits of {} in {answer}", item.kind));
        let place = hits.iter().position(|hit| hit["id"] == item.id.as_str());
        let place =
            place.unwrap_or_else(|| panic!("{} {} is not among its own {} hits: {answer}", item.kind, item.id, hits.len()));
        let score = hits[place]["score"].as_f64().unwrap_or_default();
        assert!(score > 0.98, "{} {} finds itself with the score {score}", item.kind, item.id);
    }
}

/// Promise 6, of memory.
fn assert_memory(daemon: &Daemon) {
    let peak = daemon.rss_peak_bytes();
    message(&format!("largest resident size: {} MiB", peak >> 20));
    assert!(peak < RSS_MAX_BYTES, "largest resident size {peak} bytes, the stated figure is {RSS_MAX_BYTES}");
}

#[test]
fn a_deleted_item_is_not_found_any_more_and_stays_deleted() {
    let world = world();
    let scenario = Scenario::new(&world, "deletes");
    let items = scenario.items(120, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let before = scenario.snapshot();
    let mut expected = Expected::of(&items);
    let deleted: Vec<_> = items.iter().step_by(3).collect();
    let records = deleted.iter().map(|item| item.delete(2)).collect();
    world.client.produce(&scenario.topics.changes, records);
    scenario.wait_done(&mut daemon);
    for item in &deleted {
        expected.delete(item, 2);
        let id = point_id(item.kind, &item.id);
        for (name, vector) in &before[&item.kind][&id].vectors {
            let hits = world.points.search(item.kind, name, std::slice::from_ref(vector), 100).remove(0);
            assert!(
                hits.iter().all(|(hit, _)| *hit != id),
                "the deleted {} {} is found by its {name} vector",
                item.kind,
                item.id
            );
        }
    }
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());

    // Version 1 comes once more, version 3 for some.
    scenario.produce(&items);
    let revived: Vec<_> = deleted.iter().step_by(2).map(|item| item.at_version(3, "又来了")).collect();
    scenario.produce(&revived);
    scenario.wait_done(&mut daemon);
    for item in &revived {
        expected.upsert(item);
    }
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());
    scenario.answers().assert_no_dead_letters();
}

#[test]
fn an_older_version_after_a_newer_one_changes_nothing() {
    let world = world();
    let scenario = Scenario::new(&world, "older");
    let items = scenario.items(100, 7);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let before = scenario.snapshot();
    let older: Vec<_> = items.iter().map(|item| item.at_version(6, "旧的")).collect();
    let sent = scenario.produce(&older);
    let deletes = items.iter().map(|item| item.delete(5)).collect();
    let deletes = world.client.produce(&scenario.topics.changes, deletes);
    scenario.wait_done(&mut daemon);
    assert_same(&before, &scenario.snapshot());
    let answers = scenario.answers();
    answers.assert_nothing_lost(&[sent, deletes].concat());
    answers.assert_no_dead_letters();
}

#[test]
fn what_the_daemon_embeds_over_http_is_what_it_indexes() {
    let world = world();
    let scenario = Scenario::new(&world, "embed");
    let items = scenario.items(8, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let snapshot = scenario.snapshot();
    for item in items.iter().filter(|item| item.kind == Kind::Image) {
        let entry = scenario.corpus.entries.iter().find(|entry| item.id.ends_with(&entry.id)).expect("the item's entry");
        let picture = base64::engine::general_purpose::STANDARD.encode(entry.bytes());
        let (status, answer) = daemon.post("/v1/embed", &json!({"texts": [item.title], "images": [picture]}));
        assert_eq!(status, 200, "{answer}");
        let point = &snapshot[&Kind::Image][&point_id(Kind::Image, &item.id)];
        for (field, name) in [("texts", "text"), ("images", "image")] {
            let vector: Vec<f32> =
                answer[field][0].as_array().expect("a vector").iter().filter_map(Value::as_f64).map(|x| x as f32).collect();
            let cosine = cosine(&vector, &point.vectors[name]);
            // int8 activations are quantised by batch: neighbours in a batch shift a vector a little.
            assert!(cosine > 0.99, "{name} vector of {}: cosine {cosine}", item.id);
        }
    }
}
