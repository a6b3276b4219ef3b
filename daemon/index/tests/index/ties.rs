//! Changes of one version, on both engines: the later record wins, in any order of arrival, and each change is told what became of it.

use std::collections::BTreeMap;

use astromech_index::{Change, ChangeBody, FramePoint, Index, IndexWriter, Order, VECTOR_IMAGE, VECTOR_TEXT};
use astromech_schemas::results::Outcome::{self, Applied, Superseded};
use astromech_schemas::{Kind, frame_point_id, point_id};
use futures::future::join_all;
use serde_json::{Map, json};

use crate::support::*;

on_both_engines!(
    promise_2_nothing_stale_of_changes_of_one_version_the_later_record_wins,
    promise_2_nothing_stale_ties_end_the_same_way_in_any_order_and_at_once,
    promise_2_nothing_stale_a_point_of_an_older_daemon_gives_way_to_a_record_of_its_version,
    promise_2_nothing_stale_of_two_videos_of_one_version_the_frames_of_the_later_record_stay,
    what_is_read_again_is_applied_and_changes_nothing,
);

/// Versions that engines compare whole, and in halves.
const VERSIONS: [u64; 3] = [7, 1_700_000_000_000, 1_700_000_000_000_000_001];

/// An image with a title of its own.
fn titled(id: &str, version: u64, title: &str) -> Change {
    let body =
        ChangeBody::Upsert { text: None, image: Some(vector(1)), payload: json!({"title": title}).as_object().unwrap().clone() };
    change(Kind::Image, id, version, body)
}

async fn apply(index: &dyn IndexWriter, changes: &[Change]) -> Vec<Outcome> {
    index.apply(changes).await.unwrap()
}

async fn promise_2_nothing_stale_of_changes_of_one_version_the_later_record_wins(engine: Engine) {
    let index = engine.open().await;
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let id = |name: &str| format!("{name}{n}");
        let (first, second) = (
            |name: &str| at(0, 4, titled(&id(name), version, "first")),
            |name: &str| at(0, 5, titled(&id(name), version, "second")),
        );
        assert_eq!(apply(&*index, &[first("batch"), second("batch")]).await, [Superseded, Applied]);
        assert_eq!(apply(&*index, &[second("turned"), first("turned")]).await, [Applied, Superseded]);
        assert_eq!(apply(&*index, &[first("later")]).await, [Applied]);
        assert_eq!(apply(&*index, &[second("later")]).await, [Applied]);
        assert_eq!(apply(&*index, &[second("late")]).await, [Applied]);
        assert_eq!(apply(&*index, &[first("late")]).await, [Superseded]);
        for name in ["batch", "turned", "later", "late"] {
            assert_eq!(title(&*index, &id(name)).await, "second", "{name} {version}");
        }
        // A delete is a change like any other.
        let gone = at(0, 6, delete(&id("batch"), version));
        assert_eq!(
            apply(&*index, &[gone.clone(), at(0, 5, titled(&id("batch"), version, "second"))]).await,
            [Applied, Superseded]
        );
        assert_eq!(title(&*index, &id("batch")).await, "deleted");
        assert_eq!(apply(&*index, &[at(0, 7, titled(&id("batch"), version, "back"))]).await, [Applied]);
        assert_eq!(apply(&*index, &[gone]).await, [Superseded]);
        assert_eq!(title(&*index, &id("batch")).await, "back");
        // The version counts first.
        assert_eq!(apply(&*index, &[at(0, 9, titled(&id("later"), version - 1, "older"))]).await, [Superseded]);
        assert_eq!(apply(&*index, &[at(0, 1, titled(&id("later"), version + 1, "newer"))]).await, [Applied]);
        assert_eq!(title(&*index, &id("later")).await, "newer");
    }
}

/// Changes of a few items in two partitions and with few versions, so that most meet another of theirs; the last of each by their order.
fn tied(random: &mut Random, version: u64, round: usize) -> (Vec<Change>, BTreeMap<String, (Order, String)>) {
    let mut changes = Vec::new();
    let mut newest: BTreeMap<String, (Order, String)> = BTreeMap::new();
    for offset in 0..60 {
        // Both partitions begin at 0, as those of new topics do.
        let (partition, id) = ((offset % 2) as i32, format!("{round}-{}", random.below(8)));
        let (version, name) = (version + random.below(2) as u64, format!("{partition}@{}", offset / 2));
        let change = if random.below(4) == 0 { delete(&id, version) } else { titled(&id, version, &name) };
        let change = at(partition, offset / 2, change);
        let end = if matches!(change.body, ChangeBody::Delete) { "deleted".to_owned() } else { name };
        let seen = newest.entry(id).or_insert((change.order(), end.clone()));
        if change.order() > seen.0 {
            *seen = (change.order(), end);
        }
        changes.push(change);
    }
    (changes, newest)
}

async fn promise_2_nothing_stale_ties_end_the_same_way_in_any_order_and_at_once(engine: Engine) {
    let index = engine.open().await;
    let mut random = Random(11);
    for (round, version) in VERSIONS.into_iter().chain(VERSIONS).enumerate() {
        let (changes, newest) = tied(&mut random, version, round);
        let mut order: Vec<Change> = changes.iter().chain(changes.iter().skip(20)).cloned().collect();
        random.shuffle(&mut order);
        let batches: Vec<&[Change]> = order.chunks(1 + random.below(9)).collect();
        for group in batches.chunks(4) {
            join_all(group.iter().map(|batch| index.apply(batch))).await.into_iter().for_each(|applied| drop(applied.unwrap()));
        }
        for (id, (_, end)) in &newest {
            assert_eq!(&title(&*index, id).await, end, "round {round}, {id}");
        }
        // Whatever is read again is told the same: the newest of each item is there, everything else is superseded.
        let outcomes = apply(&*index, &changes).await;
        for (change, outcome) in changes.iter().zip(outcomes) {
            let wanted = if change.order() == newest[&change.id].0 { Applied } else { Superseded };
            assert_eq!(outcome, wanted, "round {round}, {} at {:?}", change.id, change.order());
        }
    }
}

async fn promise_2_nothing_stale_a_point_of_an_older_daemon_gives_way_to_a_record_of_its_version(engine: Engine) {
    let index = engine.open().await;
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let id = format!("a{n}");
        assert_eq!(apply(&*index, &[titled(&id, version, "without a place")]).await, [Applied]);
        assert_eq!(apply(&*index, &[at(0, 0, titled(&id, version, "with one"))]).await, [Applied]);
        assert_eq!(title(&*index, &id).await, "with one");
        assert_eq!(apply(&*index, &[titled(&id, version, "without a place")]).await, [Superseded]);
        assert_eq!(title(&*index, &id).await, "with one");
    }
}

async fn promise_2_nothing_stale_of_two_videos_of_one_version_the_frames_of_the_later_record_stay(engine: Engine) {
    let index = engine.open().await;
    let video = |offset: u64, frames: u64| {
        let frame = |n: u64| FramePoint { image: vector(offset * 100 + n), time_ms: n, payload: Map::new() };
        let payload = json!({"title": format!("at {offset}")}).as_object().unwrap().clone();
        let body = ChangeBody::Video { text: None, frames: (0..frames).map(frame).collect(), payload };
        at(0, offset, change(Kind::Video, "v", 3, body))
    };
    let head = point_id(Kind::Video, "v");
    let ids: Vec<_> = std::iter::once(head).chain((0..5).map(|n| frame_point_id(head, n))).collect();
    for (order, frames, outcomes) in [
        ([(1, 4), (2, 2)], 2, [Applied, Applied]),
        ([(4, 3), (3, 5)], 3, [Applied, Superseded]),
        ([(5, 1), (6, 5)], 5, [Applied, Applied]),
    ] {
        for ((offset, count), outcome) in order.into_iter().zip(outcomes) {
            assert_eq!(apply(&*index, &[video(offset, count)]).await, [outcome], "{order:?}");
        }
        let newest = order.iter().map(|(offset, _)| *offset).max().unwrap();
        let stored = index.retrieve(Kind::Video, &ids).await.unwrap();
        assert_eq!(stored.len(), 1 + frames, "{order:?}: {stored:?}");
        let of_newest = stored.iter().all(|point| point.payload["version_offset"] == json!(newest));
        assert!(of_newest, "{order:?}: {stored:?}");
    }
}

async fn what_is_read_again_is_applied_and_changes_nothing(engine: Engine) {
    let index = engine.open().await;
    let changes = [at(0, 1, image("a", 5, Some(1), Some(2))), at(0, 2, image("b", 5, None, Some(3))), at(0, 3, delete("c", 5))];
    assert_eq!(apply(&*index, &changes).await, [Applied; 3]);
    let ids = ["a", "b", "c"].map(str::to_owned);
    let before = picture_of(&*index, &ids).await;
    for _ in 0..2 {
        assert_eq!(apply(&*index, &changes).await, [Applied; 3]);
        assert_eq!(picture_of(&*index, &ids).await, before);
    }
    assert!(found(&*index, VECTOR_TEXT, 1, "a").await && found(&*index, VECTOR_IMAGE, 3, "b").await);
    let counted: &dyn Index = &*index;
    assert_eq!(counted.counts().await.unwrap()[&Kind::Image], 2);
}
