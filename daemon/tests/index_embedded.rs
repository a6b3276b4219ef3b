//! What only the engine in the process must hold: it survives a kill, is opened by one process at a time, and keeps its log short.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "shared with tests that use the rest of it")]
mod index_support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use astromech::index::embedded::EmbeddedIndex;
use astromech::index::{Change, Index as _, IndexError, VECTOR_IMAGE};
use astromech_schemas::Kind;

use index_support::*;

/// Set for the child process that writes until it is killed.
const CHILD_FOLDER: &str = "ASTROMECH_TEST_INDEX_FOLDER";

/// Runs as a child of [`promise_1_nothing_lost_a_kill_keeps_what_was_confirmed`]; without its variable there is nothing to do.
#[tokio::test]
async fn writer_that_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let index = EmbeddedIndex::open_tuned(Path::new(&folder), &space('a'), small_limits()).await.unwrap();
    for round in 1_u64.. {
        // Each round rewrites the items of the round before at a higher version and adds new ones.
        let batch: Vec<Change> = (0..20).map(|n| image(&format!("n{}", round * 10 + n), round, Some(n), Some(n))).collect();
        index.apply(&batch).await.unwrap();
        // Past the test harness's capture, straight to the parent.
        writeln!(std::io::stdout(), "confirmed {round}").unwrap();
    }
}

fn start_writer(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_that_is_killed", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_nothing_lost_a_kill_keeps_what_was_confirmed() {
    for confirmations in [1, 40, 90] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("index");
        let mut child = start_writer(&folder);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut confirmed = 0;
        for line in lines {
            if let Some(round) = line.unwrap().strip_prefix("confirmed ") {
                confirmed = round.parse().unwrap();
                if confirmed >= confirmations {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(confirmed >= confirmations, "the writer ended early");

        let index = EmbeddedIndex::open(&folder, &space('a')).await.unwrap();
        for round in 1..=confirmed {
            for n in 0..20 {
                let id = format!("n{}", round * 10 + n);
                let point = stored(&index, &id).await.unwrap_or_else(|| panic!("{id} of confirmed round {round} is lost"));
                assert!(point.payload["version"].as_u64().unwrap() >= round, "{id} is at an older version than confirmed");
            }
        }
        let hits = search(&index, VECTOR_IMAGE, 3, 10_000).await;
        assert!(hits.len() as u64 >= confirmed * 10, "confirmed vectors are searchable");
        // And it goes on from there.
        let again = image("n10", confirmed + 100, None, Some(77));
        index.apply(&[again]).await.unwrap();
        assert_eq!(search(&index, VECTOR_IMAGE, 77, 1).await[0].0, "n10");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let mut child = start_writer(&folder);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("confirmed")));
    let Err(error) = EmbeddedIndex::open(&folder, &space('a')).await else { panic!("opened twice") };
    assert!(matches!(error, IndexError::Transient(_)), "{error}");
    assert!(error.to_string().contains(&format!("process id {}", child.id())), "it names the holder: {error}");
    child.kill().unwrap();
    child.wait().unwrap();
    EmbeddedIndex::open(&folder, &space('a')).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_something_else_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holiday.jpg"), b"x").unwrap();
    let Err(error) = EmbeddedIndex::open(dir.path(), &space('a')).await else { panic!("took a foreign folder") };
    assert!(matches!(error, IndexError::Mismatch(_)) && error.to_string().contains("holiday.jpg"), "{error}");
    assert!(!dir.path().join("images").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_nothing_unbounded_the_log_is_cut_and_versions_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let index = EmbeddedIndex::open_tuned(&folder, &space('a'), small_limits()).await.unwrap();
    let log = folder.join("images/wal");
    // The same 100 images again and again: the data stays small, the log would not.
    for version in 1..=200 {
        let batch: Vec<Change> = (0..100).map(|n| image(&format!("n{n}"), version, Some(n), Some(n + version))).collect();
        index.apply(&batch).await.unwrap();
    }
    index.health().await.unwrap();
    // The vectors alone; the log held their payloads and the conditions as well.
    let written = 200 * 100 * 2 * u64::from(DIM) * 4;
    let kept: u64 = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum();
    assert!(kept < written, "the log keeps {kept} bytes of far more than {written} written");
    index.apply(&[image("n1", 199, None, Some(5)), image("n2", 201, None, Some(9_999))]).await.unwrap();
    assert_eq!(title(&index, "n1").await, "n1 v200");
    assert_eq!(search(&index, VECTOR_IMAGE, 9_999, 1).await[0].0, "n2");
    drop(index);
    let index = EmbeddedIndex::open_tuned(&folder, &space('a'), small_limits()).await.unwrap();
    index.apply(&[image("n1", 199, None, Some(5)), image("n3", 201, None, Some(8_888))]).await.unwrap();
    assert_eq!((title(&index, "n1").await, title(&index, "n3").await), ("n1 v200".to_owned(), "n3 v201".to_owned()));
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 100);
}
