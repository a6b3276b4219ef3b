//! kill -9 at any instant loses nothing that was answered, and leaves nothing half done.
//!
//! A child process writes three lanes of batches at once, so that several share a commit, and says of each batch when it is answered. The
//! parent kills it at a moment drawn from a seed, opens the index, and compares every item, frame and vector with what the batches say.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use astromech_index::embedded::EmbeddedIndex;
use astromech_index::payload::{frame_of, is_tombstone};
use astromech_index::{
    Change, ChangeBody, EmbeddedOptions, FramePoint, Index as _, IndexWriter as _, Query, SearchFilter, VECTOR_IMAGE,
};
use astromech_schemas::{Kind, frame_point_id, point_id};
use futures::future::join_all;
use serde_json::json;

use crate::support::*;

/// Set for the child: the folder, and the round that each lane is at.
const CHILD: &str = "ASTROMECH_TEST_KILLS";
const KILLS: u64 = 100;
const LANES: usize = 3;
/// Images of a lane; each has a video too.
const IMAGES: usize = 5;
const FRAMES_MAX: u32 = 4;

/// What an item is after a change: how many frames it has where it is a video; `None` where it is deleted.
type Expected = BTreeMap<(Kind, String), (u64, Option<u32>)>;

/// The changes of a lane's round; no round is empty.
fn batch(lane: usize, round: u64) -> Vec<Change> {
    let mut random = Random(round * LANES as u64 + lane as u64);
    let mut changes = Vec::new();
    for number in 0..IMAGES {
        let id = format!("{lane}-{number}");
        match random.below(4) {
            0 => changes.push(delete(&id, round)),
            1 if number > 0 => {}
            _ => changes.push(image(&id, round, (random.below(2) == 0).then_some(round), Some(seed(&id, round, 0)))),
        }
    }
    let id = format!("{lane}-video");
    let frames = random.below(FRAMES_MAX as usize + 1) as u64;
    let frame = |number| FramePoint { image: vector(seed(&id, round, number)), time_ms: number, payload: serde_json::Map::new() };
    let body = if random.below(4) == 0 {
        ChangeBody::Delete
    } else {
        let payload = json!({"title": format!("{id} v{round}")}).as_object().unwrap().clone();
        ChangeBody::Video { text: None, frames: (0..frames).map(frame).collect(), payload }
    };
    changes.push(change(Kind::Video, &id, round, body));
    changes
}

/// Vectors of different items, rounds and frames are different.
fn seed(id: &str, round: u64, number: u64) -> u64 {
    id.bytes().fold(round * 100 + number, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// What a lane's items are after `round` rounds.
fn expected(lane: usize, round: u64) -> Expected {
    let mut items = Expected::new();
    for change in (1..=round).flat_map(|round| batch(lane, round)) {
        let frames = match &change.body {
            ChangeBody::Delete => None,
            ChangeBody::Video { frames, .. } => Some(frames.len() as u32),
            ChangeBody::Upsert { .. } => Some(0),
        };
        items.insert((change.kind, change.id), (change.version, frames));
    }
    items
}

/// What a lane's items are in the index. Every frame is of its video's version, without a gap.
async fn found(index: &EmbeddedIndex, lane: usize) -> Expected {
    let mut items = Expected::new();
    let images = (0..IMAGES).map(|number| (Kind::Image, format!("{lane}-{number}")));
    for (kind, id) in images.chain([(Kind::Video, format!("{lane}-video"))]) {
        let own = point_id(kind, &id);
        let points: Vec<_> = std::iter::once(own).chain((0..FRAMES_MAX).map(|number| frame_point_id(own, number))).collect();
        let stored = index.retrieve(kind, &points).await.unwrap();
        let Some(item) = stored.iter().find(|point| point.point_id == own) else {
            assert!(stored.is_empty(), "frames of {id} without their video");
            continue;
        };
        let version = item.payload["version"].as_u64().unwrap();
        let mut frames = 0;
        for point in stored.iter().filter(|point| point.point_id != own) {
            assert_eq!(frame_of(&point.payload).unwrap().number, frames, "{id}");
            assert_eq!(point.payload["version"], json!(version), "a frame of another version than {id}");
            frames += 1;
        }
        let is_deleted = is_tombstone(&item.payload);
        assert!(is_deleted || item.payload["title"] == json!(format!("{id} v{version}")), "{id}: {:?}", item.payload);
        assert!(!is_deleted || frames == 0, "a deleted video has frames");
        items.insert((kind, id), (version, (!is_deleted).then_some(frames)));
    }
    items
}

/// Each item is found by the vector of its version, and by none where it is deleted.
async fn assert_searchable(index: &EmbeddedIndex, items: &Expected) {
    for ((kind, id), (version, frames)) in items {
        let query = Query {
            kind: *kind,
            vector_name: VECTOR_IMAGE,
            vector: vector(seed(id, *version, 0)),
            limit: 1000,
            filter: SearchFilter::default(),
        };
        let hits = index.search(&query).await.unwrap();
        let hit = hits.iter().find(|hit| hit.payload["id"] == id.as_str());
        let wanted = frames.is_some_and(|frames| *kind == Kind::Image || frames > 0);
        assert_eq!(hit.is_some_and(|hit| hit.score > 0.9999), wanted, "{kind} {id} v{version}");
        assert!(wanted || hit.is_none(), "{kind} {id} v{version} left a vector");
    }
}

/// Runs as a child of the test below; without its variable there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_that_is_killed() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (rounds, folder) = task.split_once(' ').unwrap();
    let rounds: Vec<u64> = rounds.split(',').map(|round| round.parse().unwrap()).collect();
    let index = EmbeddedIndex::open(&EmbeddedOptions::new(folder), &space('a')).await.unwrap();
    let index = &index;
    let write = |(lane, round): (usize, u64)| async move {
        for round in round + 1.. {
            index.apply(&batch(lane, round)).await.unwrap();
            // Past the test harness's capture, straight to the parent; one write, so that a kill cuts no line in two.
            std::io::stdout().write_all(format!("confirmed {lane} {round}\n").as_bytes()).unwrap();
        }
    };
    join_all(rounds.into_iter().enumerate().map(write)).await;
}

/// Lets a child write from `rounds` on, and kills it `after` its first answer; returns the last round that was answered of each lane.
fn write_and_kill(folder: &Path, rounds: [u64; LANES], after: Duration) -> [u64; LANES] {
    let task = format!("{} {}", rounds.map(|round| round.to_string()).join(","), folder.display());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::writer_that_is_killed", "--nocapture"])
        .env(CHILD, task)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut answered = rounds;
    let mut note = |line: &str| {
        let Some((lane, round)) = line.strip_prefix("confirmed ").and_then(|rest| rest.split_once(' ')) else { return false };
        answered[lane.parse::<usize>().unwrap()] = round.parse().unwrap();
        true
    };
    assert!(lines.any(|line| note(&line)), "the writer ended early");
    // The moment itself is what is drawn: nothing is waited for.
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        note(&line);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_nothing_lost_a_hundred_kills_keep_what_was_answered_and_leave_nothing_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let (mut random, mut rounds, mut unanswered) = (Random(18), [0; LANES], 0);
    for kill in 0..KILLS {
        let after = Duration::from_micros(random.below(40_000) as u64);
        let answered = write_and_kill(&folder, rounds, after);
        let index = EmbeddedIndex::open(&EmbeddedOptions::new(&folder), &space('a')).await.unwrap();
        for lane in 0..LANES {
            let items = found(&index, lane).await;
            // What was under way is there whole or not at all.
            let is_more = items == expected(lane, answered[lane] + 1);
            assert!(is_more || items == expected(lane, answered[lane]), "kill {kill}, lane {lane}, {answered:?}: {items:?}");
            assert_searchable(&index, &items).await;
            rounds[lane] = answered[lane] + u64::from(is_more);
            unanswered += u64::from(is_more);
        }
        index.close().await.unwrap();
        let connection = rusqlite::Connection::open(folder.join("index.sqlite")).unwrap();
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "kill {kill}");
    }
    assert!(rounds.iter().sum::<u64>() >= KILLS, "{rounds:?}");
    assert!(unanswered > 0, "no kill came between a commit and its answer: the moments are not drawn well");
}
