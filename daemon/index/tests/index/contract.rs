//! The index's contract, held by both engines: SQLite in the process and a real Qdrant server.

use astromech_index::{Change, ChangeBody, Index, IndexError, Query, SearchFilter, VECTOR_IMAGE, VECTOR_TEXT};
use astromech_schemas::{Fingerprint, Kind, point_id};
use futures::future::join_all;
use serde_json::json;

use crate::support::*;

on_both_engines!(
    promise_2_nothing_stale_older_version_never_replaces_newer,
    promise_2_nothing_stale_a_delete_holds_against_an_older_upsert,
    promise_2_nothing_stale_a_newer_upsert_revives_a_deleted_item,
    promise_2_nothing_stale_replay_changes_nothing,
    promise_2_nothing_stale_of_several_changes_in_one_batch_the_highest_version_wins,
    promise_2_nothing_stale_random_orders_end_in_the_highest_version,
    promise_2_nothing_stale_nanosecond_versions_are_told_apart,
    promise_2_nothing_stale_indexed_points_lose_the_vectors_that_they_no_longer_have,
    promise_3_nothing_mixed_a_vector_of_another_space_is_refused_before_any_write,
    promise_3_nothing_mixed_an_index_of_another_bundle_is_refused,
    search_finds_the_nearest_and_counts_leave_tombstones_out,
    a_purge_removes_old_tombstones_and_nothing_else,
    a_search_keeps_to_its_filter,
    a_batch_of_all_kinds_lands_in_each_collection,
    reopening_keeps_everything,
    a_large_batch_is_written_whole,
    nothing_is_applied_after_close,
);

async fn promise_2_nothing_stale_older_version_never_replaces_newer(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[image("a", 10, None, Some(1))]).await.unwrap();
    for version in [9, 0, 10] {
        let mut late = image("a", version, Some(3), Some(2));
        if let ChangeBody::Upsert { payload, .. } = &mut late.body {
            payload.insert("title".to_owned(), "stale".into());
        }
        index.apply(&[late]).await.unwrap();
        assert_eq!(title(&*index, "a").await, "a v10");
        assert!(search(&*index, VECTOR_IMAGE, 1, 1).await[0].1 > 0.999);
        assert!(!found(&*index, VECTOR_TEXT, 3, "a").await, "an equal or lower version must not leave a vector behind");
    }
    index.apply(&[image("a", 11, None, Some(2))]).await.unwrap();
    assert_eq!(title(&*index, "a").await, "a v11");
    assert!(search(&*index, VECTOR_IMAGE, 2, 1).await[0].1 > 0.999);
}

async fn promise_2_nothing_stale_a_delete_holds_against_an_older_upsert(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[image("a", 5, Some(1), Some(1))]).await.unwrap();
    index.apply(&[delete("a", 7)]).await.unwrap();
    // A delete that arrives before its item holds as well.
    index.apply(&[delete("b", 7)]).await.unwrap();
    index.apply(&[image("a", 6, Some(1), Some(1)), image("b", 6, Some(1), Some(1))]).await.unwrap();
    for id in ["a", "b"] {
        assert_eq!(title(&*index, id).await, "deleted");
        assert_eq!(stored(&*index, id).await.unwrap().payload["version"], json!(7));
        assert!(!found(&*index, VECTOR_IMAGE, 1, id).await && !found(&*index, VECTOR_TEXT, 1, id).await);
    }
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 0);
}

async fn promise_2_nothing_stale_a_newer_upsert_revives_a_deleted_item(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[image("a", 1, None, Some(1))]).await.unwrap();
    index.apply(&[delete("a", 2)]).await.unwrap();
    index.apply(&[image("a", 3, None, Some(2))]).await.unwrap();
    let point = stored(&*index, "a").await.unwrap();
    assert!(!point.payload.contains_key("deleted"), "{point:?}");
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 1);
    assert_eq!(search(&*index, VECTOR_IMAGE, 2, 1).await[0].0, "a");
}

async fn a_purge_removes_old_tombstones_and_nothing_else(engine: Engine) {
    let index = engine.open().await;
    index
        .apply(&[image("live", 1, None, Some(1)), image("back", 1, None, Some(2)), image("gone", 1, None, Some(3))])
        .await
        .unwrap();
    index.apply(&[delete("gone", 2), delete("never-there", 2), delete("back", 2)]).await.unwrap();
    index.apply(&[image("back", 3, None, Some(2))]).await.unwrap();
    let written = stored(&*index, "gone").await.unwrap().payload["deleted_at_ms"].as_u64().unwrap();
    assert_eq!(index.purge(written - 60_000).await.unwrap(), 0, "none is a minute old");
    assert!(stored(&*index, "gone").await.is_some());
    assert_eq!(index.purge(written + 60_000).await.unwrap(), 2);
    for id in ["gone", "never-there"] {
        assert!(stored(&*index, id).await.is_none());
    }
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 2);
    assert_eq!(search(&*index, VECTOR_IMAGE, 2, 1).await[0].0, "back");
    assert_eq!(index.purge(written + 60_000).await.unwrap(), 0);
    // From here on nothing knows that it was deleted.
    index.apply(&[image("gone", 1, None, Some(3))]).await.unwrap();
    assert_eq!(title(&*index, "gone").await, "gone v1");
}

/// Changes of a few items at many versions, some of them deletes, and what each item must end as.
fn history(random: &mut Random, items: usize, versions: u64) -> (Vec<Change>, Vec<(String, String)>) {
    let mut changes = Vec::new();
    let mut ends = Vec::new();
    for item in 0..items {
        let id = format!("item-{item}");
        let mut end = String::new();
        for version in 1..=versions {
            let gone = random.below(4) == 0;
            end = if gone { "deleted".to_owned() } else { format!("{id} v{version}") };
            let seed = |random: &mut Random| (random.below(3) > 0).then(|| random.next());
            changes.push(if gone { delete(&id, version) } else { image(&id, version, seed(random), seed(random)) });
        }
        ends.push((id, end));
    }
    (changes, ends)
}

/// Every item is at its highest version, with that version's vectors and no other.
async fn assert_ends(index: &dyn Index, changes: &[Change], ends: &[(String, String)]) {
    let mut live = 0;
    for (id, end) in ends {
        assert_eq!(&title(index, id).await, end, "{id}");
        live += u64::from(end != "deleted");
        let last = changes.iter().filter(|change| &change.id == id).max_by_key(|change| change.version).unwrap();
        let (text, image) = match &last.body {
            ChangeBody::Upsert { text, image, .. } => (text.clone(), image.clone()),
            ChangeBody::Video { .. } | ChangeBody::Delete => (None, None),
        };
        for (vector_name, wanted) in [(VECTOR_TEXT, text), (VECTOR_IMAGE, image)] {
            let vector = wanted.clone().unwrap_or_else(|| vector(1));
            let query = Query { kind: Kind::Image, vector_name, vector, limit: 1000, filter: SearchFilter::default() };
            let hit = index.search(&query).await.unwrap().into_iter().find(|hit| hit.point_id == last.point_id);
            match (wanted, hit) {
                (Some(_), Some(hit)) => assert!(hit.score > 0.999, "{id}: {vector_name} is of another version"),
                (None, None) => {}
                (wanted, hit) => panic!("{id}: vector {vector_name} wanted {}, found {}", wanted.is_some(), hit.is_some()),
            }
        }
    }
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], live);
}

async fn promise_2_nothing_stale_replay_changes_nothing(engine: Engine) {
    let index = engine.open().await;
    let (changes, ends) = history(&mut Random(7), 8, 5);
    for batch in changes.chunks(7) {
        index.apply(batch).await.unwrap();
    }
    assert_ends(&*index, &changes, &ends).await;
    let ids: Vec<String> = ends.iter().map(|(id, _)| id.clone()).collect();
    let before = picture_of(&*index, &ids).await;
    for size in [1, 5, changes.len()] {
        for batch in changes.chunks(size) {
            index.apply(batch).await.unwrap();
        }
        assert_eq!(picture_of(&*index, &ids).await, before);
    }
}

async fn promise_2_nothing_stale_of_several_changes_in_one_batch_the_highest_version_wins(engine: Engine) {
    let index = engine.open().await;
    let batch = [
        image("a", 2, None, Some(2)),
        image("a", 3, None, Some(3)),
        delete("a", 1),
        image("b", 1, None, Some(1)),
        delete("b", 2),
    ];
    index.apply(&batch).await.unwrap();
    assert_eq!(title(&*index, "a").await, "a v3");
    assert_eq!(title(&*index, "b").await, "deleted");
    assert_eq!(search(&*index, VECTOR_IMAGE, 3, 5).await.len(), 1);
}

async fn promise_2_nothing_stale_random_orders_end_in_the_highest_version(engine: Engine) {
    let index = engine.open().await;
    for seed in 0..6 {
        let mut random = Random(seed);
        let (mut changes, mut ends) = history(&mut random, 10, 6);
        for change in &mut changes {
            // Items of its own for each round.
            change.id = format!("{seed}-{}", change.id);
            change.point_id = point_id(change.kind, &change.id);
        }
        for (id, end) in &mut ends {
            // The title names the item as it was made.
            let made = id.clone();
            *id = format!("{seed}-{made}");
            assert!(*end == "deleted" || end.starts_with(&made));
        }
        let mut order: Vec<Change> = changes.iter().chain(changes.iter().take(20)).cloned().collect();
        random.shuffle(&mut order);
        // Four writers at once, each with batches of random sizes.
        let mut batches: Vec<Vec<Change>> = Vec::new();
        while !order.is_empty() {
            let size = 1 + random.below(9);
            batches.push(order.split_off(order.len().saturating_sub(size)));
        }
        for group in batches.chunks(4) {
            for result in join_all(group.iter().map(|batch| index.apply(batch))).await {
                result.unwrap();
            }
        }
        for (id, end) in &ends {
            assert_eq!(&title(&*index, id).await, end, "seed {seed}, {id}");
        }
        let before: u64 = index.counts().await.unwrap()[&Kind::Image];
        let gone: Vec<Change> = ends.iter().map(|(id, _)| delete(id, 100)).collect();
        let live = ends.iter().filter(|(_, end)| end != "deleted").count() as u64;
        assert_eq!(before, live, "seed {seed}");
        index.apply(&gone).await.unwrap();
        assert!(
            search(&*index, VECTOR_IMAGE, 1, 1000).await.is_empty() && search(&*index, VECTOR_TEXT, 1, 1000).await.is_empty()
        );
    }
}

async fn promise_2_nothing_stale_nanosecond_versions_are_told_apart(engine: Engine) {
    let index = engine.open().await;
    let now_ns = 1_700_000_000_000_000_000_u64;
    let edge = 1_u64 << 53;
    for (id, versions) in [
        ("clock", vec![now_ns, now_ns + 1, now_ns + 2]),
        ("edge", vec![edge - 1, edge, edge + 1]),
        ("carry", vec![(1 << 60) - 1, 1 << 60, (1 << 60) + (1 << 32), i64::MAX as u64]),
    ] {
        for pair in versions.windows(2) {
            index.apply(&[image(id, pair[1], None, Some(1))]).await.unwrap();
            assert_eq!(title(&*index, id).await, format!("{id} v{}", pair[1]), "a version higher by one must win");
            index.apply(&[image(id, pair[0], None, Some(2))]).await.unwrap();
            assert_eq!(title(&*index, id).await, format!("{id} v{}", pair[1]), "a version lower by one must not");
        }
        assert_eq!(stored(&*index, id).await.unwrap().payload["version"], json!(versions.last().unwrap()), "stored whole");
    }
}

async fn promise_2_nothing_stale_indexed_points_lose_the_vectors_that_they_no_longer_have(engine: Engine) {
    let images: Vec<Change> = (0..2000).map(|n| image(&format!("n{n}"), 1, Some(n), Some(n + 10_000))).collect();
    let index = engine.open_indexed(&images).await;
    index.apply(&[delete("n7", 2), image("n8", 2, None, Some(10_008)), image("n9", 2, Some(9), None)]).await.unwrap();
    assert_eq!(title(&*index, "n7").await, "deleted");
    for (name, seed, id, wanted) in [
        (VECTOR_TEXT, 7, "n7", false),
        (VECTOR_IMAGE, 10_007, "n7", false),
        (VECTOR_TEXT, 8, "n8", false),
        (VECTOR_IMAGE, 10_008, "n8", true),
        (VECTOR_TEXT, 9, "n9", true),
        (VECTOR_IMAGE, 10_009, "n9", false),
        (VECTOR_TEXT, 10, "n10", true),
        (VECTOR_IMAGE, 10_010, "n10", true),
    ] {
        let nearest = search(&*index, name, seed, 5).await;
        let hit = nearest.iter().any(|(hit, score)| hit == id && *score > 0.999);
        assert_eq!(hit, wanted, "{id} by {name}: {nearest:?}");
    }
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 1999);
}

async fn promise_3_nothing_mixed_a_vector_of_another_space_is_refused_before_any_write(engine: Engine) {
    let index = engine.open().await;
    let good = image("good", 1, None, Some(1));
    let other = Change { fingerprint: space('b').fingerprint, ..image("bad", 1, None, Some(1)) };
    let with_vector = |vector: Vec<f32>| {
        let body = ChangeBody::Upsert { text: None, image: Some(vector), payload: serde_json::Map::new() };
        change(Kind::Image, "bad", 1, body)
    };
    let short = with_vector(vec![0.5; DIM as usize - 1]);
    let mut infinite = vector(1);
    infinite[3] = f32::NAN;
    for (bad, names) in [(other, "bundle"), (short, "31 numbers"), (with_vector(infinite), "number 3 is NaN")] {
        let error = index.apply(&[good.clone(), bad]).await.unwrap_err();
        assert!(matches!(error, IndexError::Mismatch(_)), "{error}");
        assert!(error.to_string().contains(names) && error.to_string().contains("image `bad`"), "{error}");
        assert_eq!(title(&*index, "good").await, "absent", "nothing of the batch is written");
    }
    let query =
        Query { kind: Kind::Image, vector_name: VECTOR_IMAGE, vector: vec![1.0; 3], limit: 1, filter: SearchFilter::default() };
    assert!(matches!(index.search(&query).await.unwrap_err(), IndexError::Mismatch(_)));
    index.apply(&[good]).await.unwrap();
    let payload = stored(&*index, "good").await.unwrap().payload;
    assert_eq!(payload["fingerprint"], json!(space('a').fingerprint), "every point carries its fingerprint");
}

async fn promise_3_nothing_mixed_an_index_of_another_bundle_is_refused(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[image("a", 1, None, Some(1))]).await.unwrap();
    index.close().await.unwrap();
    drop(index);
    let Err(error) = engine.try_open(&space('b')).await else { panic!("an index of another bundle was opened") };
    assert!(matches!(error, IndexError::Mismatch(_)), "{error}");
    let text = error.to_string();
    let names_both = [space('a'), space('b')].iter().all(|space| text.contains(space.fingerprint.as_str()));
    assert!(names_both && text.contains("test-a"), "the error says what is there and what was wanted: {text}");
    let wider = astromech_index::Space { embedding_dim: DIM + 1, ..space('a') };
    let Err(error) = engine.try_open(&wider).await else { panic!("an index of another dimension was opened") };
    assert!(matches!(error, IndexError::Mismatch(_)) && error.to_string().contains("32"), "{error}");
    let index = engine.open().await;
    assert_eq!(title(&*index, "a").await, "a v1", "and nothing of it was touched");
}

async fn search_finds_the_nearest_and_counts_leave_tombstones_out(engine: Engine) {
    let index = engine.open().await;
    let images: Vec<Change> = (0..50).map(|n| image(&format!("n{n}"), 1, (n % 2 == 0).then_some(n), Some(n + 100))).collect();
    index.apply(&images).await.unwrap();
    index.apply(&[delete("n5", 2), delete("n6", 2)]).await.unwrap();
    let hits = search(&*index, VECTOR_IMAGE, 110, 5).await;
    assert_eq!((hits.len(), hits[0].0.as_str()), (5, "n10"));
    assert!((hits[0].1 - 1.0).abs() < 1e-4 && hits.is_sorted_by(|a, b| a.1 >= b.1), "{hits:?}");
    let by_text = search(&*index, VECTOR_TEXT, 4, 100).await;
    assert_eq!((by_text.len(), by_text[0].0.as_str()), (24, "n4"), "only items with a text, and no tombstone");
    assert_eq!(search(&*index, VECTOR_IMAGE, 105, 100).await.len(), 48);
    let counts = index.counts().await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(Kind::Article, 0), (Kind::Image, 48), (Kind::Ad, 0), (Kind::Video, 0)]);
    let ids = [point_id(Kind::Image, "n5"), point_id(Kind::Image, "unknown"), point_id(Kind::Image, "n1")];
    assert_eq!(index.retrieve(Kind::Image, &ids).await.unwrap().len(), 2, "a tombstone is retrieved, an unknown id left out");
    index.health().await.unwrap();
}

async fn a_search_keeps_to_its_filter(engine: Engine) {
    let index = engine.open().await;
    let item = |id: &str, fields: serde_json::Value| {
        let payload = fields.as_object().unwrap().clone();
        change(Kind::Image, id, 1, ChangeBody::Upsert { text: None, image: Some(vector(1)), payload })
    };
    let changes = [
        item("a", json!({"tags": ["red", "car"], "language": "zh", "time_ms": 1_700_000_000_000_i64})),
        item("b", json!({"tags": ["red"], "language": "en", "time_ms": 1_700_000_000_001_i64})),
        item("c", json!({"language": "ja"})),
    ];
    index.apply(&changes).await.unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let any = SearchFilter::default();
    let cases = [
        (any.clone(), vec!["a", "b", "c"]),
        (SearchFilter { tags: words(&["red"]), ..any.clone() }, vec!["a", "b"]),
        (SearchFilter { tags: words(&["red", "car"]), ..any.clone() }, vec!["a"]),
        (SearchFilter { languages: words(&["en", "ja"]), ..any.clone() }, vec!["b", "c"]),
        (SearchFilter { time_ms_from: Some(1_700_000_000_001), ..any.clone() }, vec!["b"]),
        (SearchFilter { time_ms_to: Some(1_700_000_000_000), ..any.clone() }, vec!["a"]),
        (SearchFilter { tags: words(&["red"]), languages: words(&["ja"]), ..any }, vec![]),
    ];
    for (filter, expected) in cases {
        let query = Query { kind: Kind::Image, vector_name: VECTOR_IMAGE, vector: vector(1), limit: 10, filter: filter.clone() };
        let hits = index.search(&query).await.unwrap();
        let mut found: Vec<_> = hits.iter().map(|hit| hit.payload["id"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
}

async fn a_batch_of_all_kinds_lands_in_each_collection(engine: Engine) {
    let index = engine.open().await;
    let body = |kind: Kind| {
        let (text, payload) = (Some(vector(1)), json!({"title": "同"}).as_object().unwrap().clone());
        match kind {
            Kind::Video => ChangeBody::Video { text, frames: Vec::new(), payload },
            _ => ChangeBody::Upsert { text, image: None, payload },
        }
    };
    let batch: Vec<Change> = Kind::ALL.into_iter().map(|kind| change(kind, "same-id", 1, body(kind))).collect();
    index.apply(&batch).await.unwrap();
    for kind in Kind::ALL {
        assert_eq!(index.counts().await.unwrap()[&kind], 1);
        let query = Query { kind, vector_name: VECTOR_TEXT, vector: vector(1), limit: 10, filter: SearchFilter::default() };
        let hits = index.search(&query).await.unwrap();
        assert_eq!(hits.len(), 1);
        assert_eq!((&hits[0].payload["kind"], &hits[0].payload["title"]), (&json!(kind), &json!("同")));
    }
}

async fn reopening_keeps_everything(engine: Engine) {
    let (changes, ends) = history(&mut Random(3), 6, 4);
    let ids: Vec<String> = ends.iter().map(|(id, _)| id.clone()).collect();
    let index = engine.open().await;
    index.apply(&changes).await.unwrap();
    let before = picture_of(&*index, &ids).await;
    index.close().await.unwrap();
    drop(index);
    // The second time without a close.
    for _ in 0..2 {
        let index = engine.open().await;
        assert_eq!(picture_of(&*index, &ids).await, before);
        index.apply(&changes).await.unwrap();
        assert_eq!(picture_of(&*index, &ids).await, before);
    }
}

async fn a_large_batch_is_written_whole(engine: Engine) {
    let index = engine.open().await;
    let mut changes: Vec<Change> = (0..1000).map(|n| image(&format!("n{n}"), 1, None, Some(n))).collect();
    for change in changes.iter_mut().take(40) {
        if let ChangeBody::Upsert { payload, .. } = &mut change.body {
            payload.insert("body".to_owned(), "长".repeat(200_000).into());
        }
    }
    index.apply(&changes).await.unwrap();
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 1000);
    assert_eq!(stored(&*index, "n3").await.unwrap().payload["body"].as_str().unwrap().len(), 600_000);
    index.apply(&[]).await.unwrap();
}

async fn nothing_is_applied_after_close(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[image("a", 1, None, Some(1))]).await.unwrap();
    index.close().await.unwrap();
    let error = index.apply(&[image("a", 2, None, Some(1))]).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    index.close().await.unwrap();
    drop(index);
    assert_eq!(title(&*engine.open().await, "a").await, "a v1");
}

/// The tests' fingerprints are what they say.
#[test]
fn spaces_of_the_tests_differ() {
    assert_ne!(space('a').fingerprint, space('b').fingerprint);
    assert_eq!(space('a').fingerprint, Fingerprint::try_from("a".repeat(64)).unwrap());
}
