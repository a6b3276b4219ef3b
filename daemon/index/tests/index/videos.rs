//! Videos, on both engines: many points, one item.

use std::collections::BTreeMap;

use astromech_index::payload::{FIELD_VIDEO, frame_of, is_tombstone};
use astromech_index::{Change, ChangeBody, FramePoint, Index, Query, Scope, SearchFilter, VECTOR_IMAGE};
use astromech_schemas::{Kind, frame_point_id, point_id};
use futures::future::join_all;
use serde_json::json;

use crate::support::*;

on_both_engines!(
    promise_2_nothing_stale_a_video_with_fewer_frames_loses_the_others,
    promise_2_nothing_stale_a_deleted_video_has_no_frames_and_an_older_version_brings_none_back,
    promise_2_nothing_stale_videos_end_in_the_highest_version_in_any_order_and_at_once,
    of_two_contents_of_one_version_the_first_is_kept_whole,
    a_search_finds_each_video_once_by_its_nearest_frame,
    a_search_for_videos_keeps_to_its_filter,
);

/// Most frames of any video here.
const FRAMES_MAX: u32 = 6;

fn frames(vectors: Vec<Vec<f32>>, tags: &[&str]) -> Vec<FramePoint> {
    let frame = |(image, number): (Vec<f32>, u64)| FramePoint {
        image,
        time_ms: number * 1000,
        payload: json!({"tags": tags, "image_url": format!("https://host.test/{number}.jpg")}).as_object().unwrap().clone(),
    };
    vectors.into_iter().zip(0..).map(frame).collect()
}

fn video_of(id: &str, version: u64, vectors: Vec<Vec<f32>>, tags: &[&str]) -> Change {
    let payload = json!({"title": format!("{id} v{version}"), "tags": tags}).as_object().unwrap().clone();
    change(Kind::Video, id, version, ChangeBody::Video { text: None, frames: frames(vectors, tags), payload })
}

/// Vectors of a version's frames are its own.
fn seed(version: u64, number: u64) -> u64 {
    version.wrapping_mul(1000).wrapping_add(number)
}

fn video(id: &str, version: u64, count: u64) -> Change {
    video_of(id, version, (0..count).map(|number| vector(seed(version, number))).collect(), &[])
}

fn deleted(id: &str, version: u64) -> Change {
    change(Kind::Video, id, version, ChangeBody::Delete)
}

async fn search_videos(index: &dyn Index, vector: Vec<f32>, limit: u32, filter: SearchFilter) -> Vec<(String, u32, u64, f32)> {
    let query = Query { kind: Kind::Video, vector_name: VECTOR_IMAGE, vector, limit, filter };
    let hit = |hit: astromech_index::Stored| {
        let frame = frame_of(&hit.payload).unwrap();
        let id = hit.payload["id"].as_str().unwrap().to_owned();
        assert_eq!(hit.point_id, point_id(Kind::Video, &id));
        assert!(hit.payload["title"].as_str().unwrap().starts_with(&id) && !hit.payload.contains_key(FIELD_VIDEO));
        assert_eq!(hit.payload["image_url"], json!(format!("https://host.test/{}.jpg", frame.number)));
        (id, frame.number, frame.time_ms, hit.score)
    };
    index.search(&query).await.unwrap().into_iter().map(hit).collect()
}

/// What is stored of a video: the version and whether it is deleted at its own point, and the version of each frame that is there.
async fn state(index: &dyn Index, id: &str) -> (Option<(u64, bool)>, BTreeMap<u32, u64>) {
    let head = point_id(Kind::Video, id);
    let points: Vec<_> = std::iter::once(head).chain((0..FRAMES_MAX).map(|number| frame_point_id(head, number))).collect();
    let (mut own, mut frames) = (None, BTreeMap::new());
    for stored in index.retrieve(Kind::Video, &points).await.unwrap() {
        let version = stored.payload["version"].as_u64().unwrap();
        match frame_of(&stored.payload) {
            Some(frame) => drop(frames.insert(frame.number, version)),
            None => own = Some((version, is_tombstone(&stored.payload))),
        }
    }
    (own, frames)
}

/// As [`state`] must be after `count` frames of `version`.
fn whole(version: u64, count: u32) -> (Option<(u64, bool)>, BTreeMap<u32, u64>) {
    (Some((version, false)), (0..count).map(|number| (number, version)).collect())
}

async fn promise_2_nothing_stale_a_video_with_fewer_frames_loses_the_others(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[video("a", 1, 5), video("b", 1, 3)]).await.unwrap();
    assert_eq!(index.counts().await.unwrap()[&Kind::Video], 2, "a video counts once");
    index.apply(&[video("a", 2, 2)]).await.unwrap();
    assert_eq!(state(&*index, "a").await, whole(2, 2));
    assert_eq!(state(&*index, "b").await, whole(1, 3), "another video is left alone");
    let hits = search_videos(&*index, vector(seed(1, 4)), 10, SearchFilter::default()).await;
    assert!(hits.iter().all(|(id, .., score)| id == "b" || *score < 0.99), "{hits:?}");
    index.apply(&[video("a", 3, 6)]).await.unwrap();
    assert_eq!(state(&*index, "a").await, whole(3, 6));
    let page = index.scroll(Kind::Video, Scope::Live, None, 10).await.unwrap();
    assert_eq!((page.points.len(), page.next), (2, None), "videos are listed without their frames");
}

async fn promise_2_nothing_stale_a_deleted_video_has_no_frames_and_an_older_version_brings_none_back(engine: Engine) {
    let index = engine.open().await;
    // Versions of nanosecond clocks, which are compared in halves.
    let base = 1_700_000_000_000_000_000;
    index.apply(&[video("a", base + 1, 4)]).await.unwrap();
    index.apply(&[deleted("a", base + 3), deleted("b", base + 3)]).await.unwrap();
    for _ in 0..2 {
        for id in ["a", "b"] {
            assert_eq!(state(&*index, id).await, (Some((base + 3, true)), BTreeMap::new()));
        }
        index.apply(&[video("a", base + 2, 5), video("b", base + 2, 5)]).await.unwrap();
    }
    assert_eq!(index.counts().await.unwrap()[&Kind::Video], 0);
    assert!(search_videos(&*index, vector(seed(base + 2, 0)), 10, SearchFilter::default()).await.is_empty());
    index.apply(&[video("a", base + 4, 2)]).await.unwrap();
    assert_eq!(state(&*index, "a").await, whole(base + 4, 2));
}

async fn promise_2_nothing_stale_videos_end_in_the_highest_version_in_any_order_and_at_once(engine: Engine) {
    let index = engine.open().await;
    let ids = ["a", "b", "c", "d"];
    let count = |version: u64| 1 + (version * 7 % u64::from(FRAMES_MAX)) as u32;
    let versions = 8;
    let mut random = Random(11);
    let mut changes = Vec::new();
    for (place, id) in ids.into_iter().enumerate() {
        for version in 1..=versions {
            // One ends in a delete, one has a delete in the middle.
            let deletes = (place == 0 && version == versions) || (place == 1 && version == versions / 2);
            changes.push(if deletes { deleted(id, version) } else { video(id, version, count(version).into()) });
        }
    }
    // The second time is a replay in another order.
    for _ in 0..2 {
        random.shuffle(&mut changes);
        for together in changes.chunks(8) {
            let applied = join_all(together.chunks(2).map(|batch| index.apply(batch))).await;
            for result in applied {
                result.unwrap();
            }
        }
        for (place, id) in ids.into_iter().enumerate() {
            let expected = if place == 0 { (Some((versions, true)), BTreeMap::new()) } else { whole(versions, count(versions)) };
            assert_eq!(state(&*index, id).await, expected, "{id}");
        }
    }
}

async fn of_two_contents_of_one_version_the_first_is_kept_whole(engine: Engine) {
    let index = engine.open().await;
    index.apply(&[video("a", 1, 2)]).await.unwrap();
    index.apply(&[video("a", 1, 5)]).await.unwrap();
    assert_eq!(state(&*index, "a").await, whole(1, 2));
}

async fn a_search_finds_each_video_once_by_its_nearest_frame(engine: Engine) {
    let index = engine.open().await;
    let query = vector(7);
    // Frames nearer to the query the smaller the weight of the rest; one video's many frames are nearer than all others.
    let near = |weight: f32, other: u64| {
        let mixed: Vec<f32> = query.iter().zip(vector(other)).map(|(q, o)| q + weight * o).collect();
        let length = mixed.iter().map(|x| x * x).sum::<f32>().sqrt();
        mixed.into_iter().map(|x| x / length).collect::<Vec<f32>>()
    };
    let mut videos = vec![("crowd".to_owned(), (0..60).map(|n| near(0.001 * (60 - n) as f32, 100 + n)).collect::<Vec<_>>())];
    for n in 0..12_u64 {
        let frames = (0..=n % 4).map(|frame| near(0.3 + 0.1 * n as f32 + 0.05 * frame as f32, 1000 + n * 10 + frame));
        videos.push((format!("v{n}"), frames.collect()));
    }
    let changes: Vec<Change> = videos.iter().map(|(id, vectors)| video_of(id, 1, vectors.clone(), &[])).collect();
    index.apply(&changes).await.unwrap();
    let mut expected: Vec<(String, u32, f32)> = videos
        .iter()
        .map(|(id, vectors)| {
            let scores = vectors
                .iter()
                .zip(0..)
                .map(|(vector, number)| (number, vector.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>()));
            let (number, score) = scores.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
            (id.clone(), number, score)
        })
        .collect();
    expected.sort_by(|(.., a), (.., b)| b.total_cmp(a));
    for limit in [1, 2, 5, 13, 50] {
        let hits = search_videos(&*index, query.clone(), limit, SearchFilter::default()).await;
        assert_eq!(hits.len(), expected.len().min(limit as usize), "{hits:?}");
        for ((id, number, time_ms, score), (expected_id, expected_number, expected_score)) in hits.iter().zip(&expected) {
            assert_eq!((id, number, *time_ms), (expected_id, expected_number, u64::from(*number) * 1000));
            assert!((score - expected_score).abs() < 1e-4, "{id}: {score}, not {expected_score}");
        }
    }
    let of: Vec<_> = ["v3", "crowd"].iter().map(|id| point_id(Kind::Video, id)).collect();
    let hits = search_videos(&*index, query, 50, SearchFilter { videos: of, ..SearchFilter::default() }).await;
    assert_eq!(hits.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["crowd", "v3"]);
}

async fn a_search_for_videos_keeps_to_its_filter(engine: Engine) {
    let index = engine.open().await;
    let of = |id: &str, tags: &[&str]| video_of(id, 1, (0..3).map(|n| vector(n + 1)).collect(), tags);
    index.apply(&[of("red", &["red"]), of("blue", &["blue"])]).await.unwrap();
    let filter = SearchFilter { tags: vec!["blue".to_owned()], ..SearchFilter::default() };
    let hits = search_videos(&*index, vector(2), 10, filter).await;
    assert_eq!(hits.iter().map(|(id, number, ..)| (id.as_str(), *number)).collect::<Vec<_>>(), [("blue", 1)]);
}
