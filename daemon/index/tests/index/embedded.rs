//! What only the engine in the process must hold: it survives a kill, is opened by one process at a time, keeps its log short and its memory
//! bounded, and refuses what is not its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use astromech_index::embedded::{EmbeddedIndex, survey};
use astromech_index::{
    Change, EmbeddedOptions, Index as _, IndexError, IndexOptions, IndexWriter as _, Query, SearchFilter, VECTOR_IMAGE,
    VECTOR_TEXT, Verdict,
};
use astromech_schemas::Kind;

use crate::support::*;

/// Set for the child process that writes until it is killed.
const CHILD_FOLDER: &str = "ASTROMECH_TEST_INDEX_FOLDER";

async fn open(folder: &Path) -> Result<EmbeddedIndex, IndexError> {
    EmbeddedIndex::open(&EmbeddedOptions::new(folder), &space('a')).await
}

/// The text of the mismatch that opening the folder ends with.
async fn refused(folder: &Path) -> String {
    match open(folder).await {
        Err(IndexError::Mismatch(problem)) => problem.into(),
        Err(other) => panic!("not a mismatch: {other}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn promise_1_nothing_lost_a_file_that_is_removed_under_the_daemon_takes_no_more_writes() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).await.unwrap();
    index.apply(&[image("1", 1, Some(1), Some(1))]).await.unwrap();
    assert!(index.counts().await.is_ok());
    for file in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    // SQLite itself would go on with the removed file.
    for answer in [index.apply(&[image("2", 1, Some(1), Some(1))]).await.map(drop), index.counts().await.map(drop)] {
        let error = answer.unwrap_err();
        assert!(matches!(&error, IndexError::Mismatch(problem) if problem.contains("was removed or replaced")), "{error}");
    }
}

/// Runs as a child of [`promise_1_nothing_lost_a_kill_keeps_what_was_confirmed`]; without its variable there is nothing to do.
#[tokio::test]
async fn writer_that_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let index = open(Path::new(&folder)).await.unwrap();
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
        .args(["--exact", "embedded::writer_that_is_killed", "--nocapture"])
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

        let index = open(&folder).await.unwrap();
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
    let Err(error) = open(&folder).await else { panic!("opened twice") };
    assert!(matches!(error, IndexError::Transient(_)), "{error}");
    assert!(error.to_string().contains(&format!("process id {}", child.id())), "it names the holder: {error}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(&folder).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_something_else_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holiday.jpg"), b"x").unwrap();
    assert!(refused(dir.path()).await.contains("holiday.jpg"));
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["holiday.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_engine_before_sqlite_is_recognised_and_refused_with_the_command_that_rebuilds_it() {
    for file in ["meta.json", "live.json", "0a1b2c3d4e5f/meta.json", "0a1b2c3d4e5f/backfill.json"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("index");
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), b"{}").unwrap();
        let shown = folder.display();
        let command = format!("`mv '{shown}' '{shown}.old' && astromech offsets reset --config FILE --to earliest`");
        let text = refused(&folder).await;
        assert!(text.contains(&command) && text.contains("the engine before SQLite"), "{file}: {text}");
        let findings = survey(&EmbeddedOptions::new(&folder), &space('a')).await.unwrap();
        assert!(findings[0].verdict == Verdict::Wrong && findings[0].detail.contains(&command), "{findings:?}");
        assert!(!folder.join("index.sqlite").exists());
    }
}

/// What somebody does to the file.
type Spoil<'a> = &'a dyn Fn(&Path);

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_foreign_newer_or_damaged_is_refused_with_what_to_do() {
    let make = |statements: &'static str| {
        move |file: &Path| rusqlite::Connection::open(file).unwrap().execute_batch(statements).unwrap()
    };
    let damage = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 8192 / 2 * 8192;
        bytes[middle..].fill(0xa5);
        fs::write(file, bytes).unwrap();
    };
    let cases: [(&str, Spoil<'_>); 4] = [
        ("it is no SQLite file", &|file| fs::write(file, b"holiday".repeat(1000)).unwrap()),
        ("of another program", &make("DROP TABLE state; PRAGMA application_id = 7")),
        ("has tables of version 9, this daemon reads 2", &make("PRAGMA user_version = 9")),
        ("damaged: restore it from a backup", &damage),
    ];
    for (expected, spoil) in cases {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("index");
        let index = open(&folder).await.unwrap();
        let images: Vec<Change> = (0..500).map(|n| image(&format!("n{n}"), 1, Some(n), Some(n))).collect();
        index.apply(&images).await.unwrap();
        index.close().await.unwrap();
        spoil(&folder.join("index.sqlite"));
        let text = refused(&folder).await;
        assert!(text.contains(expected) && text.contains("index.sqlite"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_first_tables_is_upgraded_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let index = open(&folder).await.unwrap();
    index.apply(&[image("a", 1, Some(1), Some(2)), delete("b", 4)]).await.unwrap();
    index.close().await.unwrap();
    let older = rusqlite::Connection::open(folder.join("index.sqlite")).unwrap();
    older
        .execute_batch(
            "ALTER TABLE points DROP COLUMN version_offset; ALTER TABLE points DROP COLUMN version_source; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(older);
    for _ in 0..2 {
        let index = open(&folder).await.unwrap();
        assert_eq!((title(&index, "a").await, title(&index, "b").await), ("a v1".to_owned(), "deleted".to_owned()));
        assert!(found(&index, VECTOR_IMAGE, 2, "a").await);
        index.apply(&[at(0, 0, image("a", 1, Some(1), Some(2)))]).await.unwrap();
        assert!(stored(&index, "a").await.unwrap().payload.contains_key("version_offset"));
        index.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_may_not_be_written_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // Root may write anywhere, so for it the folder is one that nobody can make.
    let forbidden = if fs::metadata("/proc/self").unwrap().uid() == 0 { Path::new("/proc/index") } else { dir.path() };
    if forbidden == dir.path() {
        fs::set_permissions(forbidden, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let Err(error) = open(&forbidden.join("index")).await else { panic!("opened") };
    assert!(error.to_string().contains("/index: creating it"), "{error}");
    let file = dir.path().join("file");
    if fs::write(&file, b"").is_ok() {
        assert!(refused(&file).await.contains("must name a folder"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_nothing_unbounded_the_log_is_cut_and_versions_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let index = open(&folder).await.unwrap();
    // The same 100 images again and again: the data stays small, the log would not.
    for version in 1..=200 {
        let batch: Vec<Change> = (0..100).map(|n| image(&format!("n{n}"), version, Some(n), Some(n + version))).collect();
        index.apply(&batch).await.unwrap();
    }
    index.health().await.unwrap();
    // The vectors alone; the log held their payloads and the conditions as well.
    let written = 200 * 100 * 2 * u64::from(DIM) * 4;
    let kept: u64 = fs::metadata(folder.join("index.sqlite-wal")).unwrap().blocks() * 512;
    assert!(kept < written, "the log keeps {kept} bytes of far more than {written} written");
    index.apply(&[image("n1", 199, None, Some(5)), image("n2", 201, None, Some(9_999))]).await.unwrap();
    assert_eq!(title(&index, "n1").await, "n1 v200");
    assert_eq!(search(&index, VECTOR_IMAGE, 9_999, 1).await[0].0, "n2");
    drop(index);
    let index = open(&folder).await.unwrap();
    index.apply(&[image("n1", 199, None, Some(5)), image("n3", 201, None, Some(8_888))]).await.unwrap();
    assert_eq!((title(&index, "n1").await, title(&index, "n3").await), ("n1 v200".to_owned(), "n3 v201".to_owned()));
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_nothing_unbounded_vectors_that_take_more_memory_than_they_may_are_refused_and_deletes_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { vector_bytes_max: 1 << 20, ..EmbeddedOptions::new(dir.path().join("index")) };
    let index = EmbeddedIndex::open(&options, &space('a')).await.unwrap();
    let batch = |from: u64| (from..from + 100).map(|n| image(&format!("n{n}"), 1, Some(n), Some(n))).collect::<Vec<_>>();
    let mut written = 0;
    let error = loop {
        match index.apply(&batch(written)).await {
            Ok(_) => written += 100,
            Err(error) => break error,
        }
        assert!(written < 10_000, "a vector takes at least its numbers");
    };
    let text = error.to_string();
    assert!(matches!(error, IndexError::Mismatch(_)) && text.contains("index.embedded.vector_bytes_max = 1048576"), "{text}");
    assert!(text.contains("Qdrant server (index.engine = \"qdrant\")"), "{text}");
    assert!(written >= 1000, "only {written} items of two vectors of 32 numbers");
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], written, "nothing of the refused batch is there");
    // What is there can be replaced, and what is deleted makes room.
    let newer: Vec<Change> = (0..100).map(|n| image(&format!("n{n}"), 2, Some(n), Some(n))).collect();
    index.apply(&newer).await.unwrap();
    let gone: Vec<Change> = (0..100).map(|n| delete(&format!("n{n}"), 3)).collect();
    index.apply(&gone).await.unwrap();
    index.apply(&batch(written)).await.unwrap();
    // In one batch too.
    let gone = (100..200).map(|n| delete(&format!("n{n}"), 3));
    index.apply(&gone.chain(batch(written + 100)).collect::<Vec<_>>()).await.unwrap();
    index.close().await.unwrap();
    let less = EmbeddedOptions { vector_bytes_max: 1 << 19, ..options };
    let Err(error) = EmbeddedIndex::open(&less, &space('a')).await else { panic!("loaded more than it may") };
    assert!(error.to_string().contains("index.embedded.vector_bytes_max"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_a_generation_that_is_filled_meets_the_limit_of_memory_before_the_live_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { vector_bytes_max: 1 << 20, ..EmbeddedOptions::new(dir.path().join("index")) };
    let live = EmbeddedIndex::open(&options, &space('a')).await.unwrap();
    let filled = EmbeddedIndex::open(&EmbeddedOptions { beside: true, ..options }, &space('b')).await.unwrap();
    let batch = |index: &EmbeddedIndex, from: u64| -> Vec<Change> {
        let of = |n: u64| Change { fingerprint: index.fingerprint().clone(), ..image(&format!("n{n}"), 1, Some(n), Some(n)) };
        (from..from + 20).map(of).collect()
    };
    let mut written = 0;
    while filled.apply(&batch(&filled, written)).await.is_ok() {
        written += 20;
        assert!(written < 10_000, "a vector takes at least its numbers");
    }
    for from in (0..100).step_by(20) {
        live.apply(&batch(&live, from)).await.unwrap();
    }
    assert_eq!(live.counts().await.unwrap()[&Kind::Image], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_is_1_whatever_lies_close_together() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index")).await.unwrap();
    let mut random = Random(4);
    // A crowd that differs by less than the short form in memory can tell, and a few thousand others.
    let centre = vector(1);
    let near =
        |random: &mut Random| -> Vec<f32> { centre.iter().zip(random.unit_vector(DIM)).map(|(a, b)| a + 0.002 * b).collect() };
    let vectors: Vec<Vec<f32>> =
        (0..4000).map(|n| if n % 4 == 0 { near(&mut random) } else { random.unit_vector(DIM) }).collect();
    let change_of = |(n, vector): (usize, &Vec<f32>)| {
        let body =
            astromech_index::ChangeBody::Upsert { text: None, image: Some(vector.clone()), payload: serde_json::Map::new() };
        change(Kind::Image, &n.to_string(), 1, body)
    };
    let changes: Vec<Change> = vectors.iter().enumerate().map(change_of).collect();
    index.apply(&changes).await.unwrap();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    for _ in 0..20 {
        let query = near(&mut random);
        let mut best: Vec<(f64, usize)> = vectors.iter().enumerate().map(|(n, vector)| (cosine(&query, vector), n)).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        for limit in [1, 10, 500, 2000] {
            let query = Query {
                kind: Kind::Image,
                vector_name: VECTOR_IMAGE,
                vector: query.clone(),
                limit,
                filter: SearchFilter::default(),
            };
            let hits = index.search(&query).await.unwrap();
            assert_eq!(hits.len(), limit as usize);
            let worst = best[limit as usize - 1].0;
            for hit in hits {
                let n: usize = hit.payload["id"].as_str().unwrap().parse().unwrap();
                let score = cosine(&query.vector, &vectors[n]);
                // f32 can't tell more.
                assert!(score >= worst - 1e-7, "{n} with {score} is not among the best {limit}, which end at {worst}");
                assert!((f64::from(hit.score) - score).abs() < 1e-6);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_shows_one_commit_whole_while_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let index = std::sync::Arc::new(open(&dir.path().join("index")).await.unwrap());
    // Both vectors and the payload of an item are of one version: the title says which vectors it was written with.
    let item = |version: u64| image("n", version, Some(version), Some(version + 1_000_000));
    index.apply(&[item(1)]).await.unwrap();
    let writing = std::sync::Arc::clone(&index);
    let writer = tokio::spawn(async move {
        for version in 2..=300 {
            writing.apply(&[item(version)]).await.unwrap();
        }
    });
    let mut looks = 0_u64;
    while !writer.is_finished() {
        for (vector_name, offset) in [(VECTOR_TEXT, 0), (VECTOR_IMAGE, 1_000_000)] {
            let query = Query { kind: Kind::Image, vector_name, vector: vector(5), limit: 1, filter: SearchFilter::default() };
            let hit = index.search(&query).await.unwrap().pop().unwrap();
            let version = hit.payload["version"].as_u64().unwrap();
            let expected: f32 = vector(5).iter().zip(vector(version + offset)).map(|(a, b)| a * b).sum();
            assert!((hit.score - expected).abs() < 1e-5, "{vector_name} of version {version}: {}, not {expected}", hit.score);
        }
        looks += 1;
    }
    writer.await.unwrap();
    assert!(looks > 10, "{looks} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_from_outside_works_beside_the_process_that_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("index");
    let options = EmbeddedOptions::new(&folder);
    assert_eq!(survey(&options, &space('a')).await.unwrap()[0].verdict, Verdict::Create);
    assert!(!folder.exists(), "a look makes nothing");
    let mut child = start_writer(&folder);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("confirmed")));
    assert_eq!(survey(&options, &space('a')).await.unwrap()[0].verdict, Verdict::Right);
    assert_eq!(survey(&options, &space('b')).await.unwrap()[0].verdict, Verdict::Wrong);
    let book = astromech_index::catalog(&IndexOptions::Embedded(options)).unwrap();
    assert_eq!(book.live().await.unwrap(), Some(space('a').fingerprint));
    let Err(error) = book.promote(&space('a').fingerprint).await else { panic!("wrote beside the holder") };
    assert!(error.to_string().contains("process id"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}
