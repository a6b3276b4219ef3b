//! What only a look inside can tell: the settings of the connection that writes, and a disk that is full.

use astromech_schemas::{Fingerprint, Kind, Similarity, point_id};
use rusqlite::Connection;

use super::writer::Writes;
use super::*;
use crate::ChangeBody;

const DIM: u32 = 8;

fn space() -> Space {
    let fingerprint = Fingerprint::try_from("a".repeat(64)).unwrap();
    Space { fingerprint, embedding_dim: DIM, similarity: Similarity::Cosine, bundle: "test".to_owned() }
}

fn change(id: &str, version: u64, body: &str) -> Change {
    let payload = serde_json::json!({"body": body}).as_object().unwrap().clone();
    let body = ChangeBody::Upsert { text: None, image: Some(vec![1.0; DIM as usize]), payload };
    let fingerprint = space().fingerprint;
    Change {
        kind: Kind::Image,
        id: id.to_owned(),
        point_id: point_id(Kind::Image, id),
        version,
        tie_breaker: None,
        fingerprint,
        body,
    }
}

async fn open(root: &std::path::Path) -> EmbeddedIndex {
    EmbeddedIndex::open(&EmbeddedOptions::new(root), &space()).await.unwrap()
}

/// Runs work on the connection that writes.
async fn on_writer<T: Send + 'static>(index: &EmbeddedIndex, work: impl FnOnce(&Connection) -> T + Send + 'static) -> T {
    let store = index.opened().unwrap().0;
    store.write("testing", move |connection, _: &mut Writes<'_>| Ok(work(connection))).await.unwrap()
}

#[tokio::test]
async fn promise_1_nothing_lost_every_commit_is_synced_before_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index")).await;
    let read = |connection: &Connection| {
        let pragma =
            |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        ["journal_mode", "synchronous", "application_id", "user_version"].map(pragma)
    };
    // 2 is FULL, by SQLite's documentation.
    let wanted = ["wal".to_owned().into(), 2.into(), 0x4173_7478.into(), i64::from(schema::SCHEMA_VERSION).into()];
    assert_eq!(on_writer(&index, read).await, wanted);
}

#[tokio::test]
async fn sqlite_is_built_with_fts5_for_words() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index")).await;
    let used = |connection: &Connection| {
        connection.query_row("SELECT sqlite_compileoption_used('ENABLE_FTS5')", [], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(on_writer(&index, used).await);
}

#[tokio::test]
async fn promise_5_transient_is_not_poison_a_full_disk_is_waited_for_and_nothing_half_written_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index")).await;
    index.apply(&[change("a", 1, "small")]).await.unwrap();
    // The limit of the file is SQLite's own way to a full disk.
    let limit = |pages: i64| move |connection: &Connection| connection.pragma_update(None, "max_page_count", pages).unwrap();
    let pages = on_writer(&index, |connection| connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap());
    on_writer(&index, limit(pages.await)).await;
    let large = [change("b", 1, &"x".repeat(1 << 20)), change("a", 2, "newer")];
    let error = index.apply(&large).await.unwrap_err();
    assert!(matches!(&error, IndexError::Transient(problem) if problem.contains("free space")), "{error}");
    let cause =
        error.cause().and_then(|cause| cause.downcast_ref::<rusqlite::Error>()).and_then(rusqlite::Error::sqlite_error_code);
    assert_eq!(cause, Some(rusqlite::ErrorCode::DiskFull), "the cause is kept");
    let ids = [point_id(Kind::Image, "a"), point_id(Kind::Image, "b")];
    let stored = index.retrieve(Kind::Image, &ids).await.unwrap();
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!((&stored[0].payload["version"], index.counts().await.unwrap()[&Kind::Image]), (&1.into(), 1));
    on_writer(&index, limit(1 << 30)).await;
    index.apply(&large).await.unwrap();
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 2);
}

#[tokio::test]
async fn one_job_that_fails_takes_nobody_else_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("index")).await;
    let store = index.opened().unwrap().0;
    let bad = store.write("testing", |connection, writes: &mut Writes<'_>| -> Result<(), Failure> {
        writes.touched = true;
        connection.execute("DELETE FROM points", [])?;
        connection.execute("no such thing", [])?;
        Ok(())
    });
    let (first, second) = ([change("a", 1, "")], [change("b", 1, "")]);
    let (first, bad, second) = futures::join!(index.apply(&first), bad, index.apply(&second));
    first.unwrap();
    second.unwrap();
    assert!(bad.unwrap_err().to_string().contains("index.sqlite: testing"));
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 2);
}

#[tokio::test]
async fn promise_6_nothing_unbounded_the_log_is_cut_when_readers_have_let_it_grow() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("index");
    let index = open(&root).await;
    index.apply(&[change("a", 1, "")]).await.unwrap();
    // A reader that stays in its snapshot keeps every page of the log that came after it.
    let reader = schema::open_reader(&root).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM points").unwrap();
    let body = "x".repeat(4 << 20);
    let mut version = 1;
    while folder::log_bytes(&root) <= LOG_BYTES_MAX {
        version += 1;
        index.apply(&[change("b", version, &body)]).await.unwrap();
    }
    reader.execute_batch("COMMIT").unwrap();
    index.apply(&[change("b", version + 1, "small")]).await.unwrap();
    // The answer to the next job comes after the cut.
    index.health().await.unwrap();
    assert!(folder::log_bytes(&root) < LOG_BYTES_MAX / 8, "{} bytes are left", folder::log_bytes(&root));
}
