//! The database: its tables, its settings, and what is refused.
//!
//! ```text
//! generations   the book: one row a vector space; at most one is live
//! points        one row a point of any generation and kind: what is true of it, tombstones included
//! vectors       one row a named vector, exactly as it was given: f32, little endian, one token after another
//! state         one row: how many commits there were, so that a reader can tell whether memory is of its snapshot
//! ```
//!
//! Words (issue 6) will stand beside the vectors: `CREATE VIRTUAL TABLE words USING fts5(title, body, content = '', contentless_delete = 1)`
//! with `points.point` as its rowid, written in the same transaction by `rows::put`. SQLite is built with FTS5 for it, and a test says so.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{Failure, sql};
use super::folder::database;
use crate::IndexError;

/// `PRAGMA application_id`: "Astx".
const APPLICATION_ID: i32 = 0x4173_7478;
/// `PRAGMA user_version`: of the tables below. A change of them takes the next number, and a step that brings older files there.
pub(super) const SCHEMA_VERSION: i32 = 2;
/// Steps from one version to the next, the first from version 1.
const UPGRADES: [&str; SCHEMA_VERSION as usize - 1] =
    ["ALTER TABLE points ADD COLUMN version_offset INTEGER; ALTER TABLE points ADD COLUMN version_source INTEGER;"];
/// Longest wait for a lock that another connection holds. This process is the only writer, so only a look from outside is waited for.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of a page: several vectors of 256 numbers fit.
const PAGE_BYTES: u32 = 8192;
/// Pages of the log after which SQLite writes it into the database: its default in bytes, 4 MiB.
const CHECKPOINT_PAGES: u32 = 500;
/// Pages that the writing connection keeps, KiB.
const WRITER_CACHE_KIB: i64 = 64 << 10;

const TABLES: &str = "
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), commits INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (1, 0);

CREATE TABLE generations (
  generation    INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: what is left of a dropped one is nobody else's
  fingerprint   TEXT NOT NULL UNIQUE,
  bundle        TEXT NOT NULL,
  embedding_dim INTEGER NOT NULL,
  similarity    TEXT NOT NULL,                     -- JSON
  live          INTEGER UNIQUE CHECK (live = 1),   -- NULL but for one
  noted         TEXT,                              -- JSON: why it is kept
  backfill      TEXT                               -- JSON: how far it is filled from another's points
) STRICT;

CREATE TABLE points (
  point         INTEGER PRIMARY KEY,
  generation    INTEGER NOT NULL,
  kind          INTEGER NOT NULL,                  -- 0 article, 1 image, 2 ad, 3 video
  id            BLOB NOT NULL,                     -- 16 bytes
  version       INTEGER NOT NULL,
  deleted_at_ms INTEGER,                           -- of a tombstone alone
  video         BLOB,                              -- of a frame alone: its video's id
  language      TEXT,
  time_ms       INTEGER,
  tags          TEXT,                              -- JSON
  payload       TEXT NOT NULL,                     -- JSON
  version_offset INTEGER,                          -- these two break ties of version; NULL of points from before version 2 of the tables
  version_source INTEGER
) STRICT;
CREATE UNIQUE INDEX points_by_id ON points (generation, kind, id);
CREATE INDEX videos ON points (generation, id) WHERE kind = 3 AND deleted_at_ms IS NULL AND video IS NULL;
CREATE INDEX frames ON points (generation, video) WHERE video IS NOT NULL;
CREATE INDEX tombstones ON points (generation, deleted_at_ms) WHERE deleted_at_ms IS NOT NULL;

CREATE TABLE vectors (
  vector INTEGER PRIMARY KEY,                      -- 2 * point, + 1 of a picture
  data   BLOB NOT NULL
) STRICT;
";

/// Opens the connection that writes, and makes the tables of a new file.
pub(super) fn open_writer(root: &Path) -> Result<Connection, IndexError> {
    let file = database(root);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = || -> Result<Connection, Failure> {
        let connection = Connection::open_with_flags(&file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let is_new = is_empty(&connection)?;
        let version = if is_new { 0 } else { check(&connection, &file)? };
        configure(&connection)?;
        if is_new {
            create(&connection)?;
        } else {
            upgrade(&connection, version)?;
        }
        Ok(connection)
    };
    opened().map_err(|failure| failure.at(&file, "opening it"))
}

/// Settings of the writing connection. `synchronous = FULL` syncs the log at every commit, before the commit is answered: a kill or a power
/// cut at any instant loses nothing that was answered.
fn configure(connection: &Connection) -> Result<(), Failure> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let problem = format!("the file system of the index takes no write-ahead log (journal_mode is {mode}): use a local disk");
        return Err(IndexError::Mismatch(problem.into()).into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "journal_size_limit", super::LOG_BYTES_MAX as i64)?;
    Ok(())
}

/// A connection that reads.
pub(super) fn open_reader(root: &Path) -> Result<Connection, IndexError> {
    let file = database(root);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(&file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    opened().map_err(|error| sql(&file, "opening it to read", error))
}

/// As [`open_reader`], for a file that no index of this process has open; `None` where a first start was cut off before its tables.
pub(super) fn open_outside(root: &Path) -> Result<Option<Connection>, IndexError> {
    let connection = open_reader(root)?;
    let file = database(root);
    let looked = || -> Result<bool, Failure> {
        if is_empty(&connection)? {
            return Ok(false);
        }
        check(&connection, &file)?;
        Ok(true)
    };
    Ok(looked().map_err(|failure| failure.at(&file, "reading it"))?.then_some(connection))
}

fn is_empty(connection: &Connection) -> Result<bool, Failure> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0)
}

/// Refuses somebody else's database, and one of a newer version; the version of its tables.
fn check(connection: &Connection, file: &Path) -> Result<i32, Failure> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let problem = if application != APPLICATION_ID {
        format!("{} is a database of another program: give an empty or a new folder", file.display())
    } else if !(1..=SCHEMA_VERSION).contains(&version) {
        format!(
            "{} has tables of version {version}, this daemon reads {SCHEMA_VERSION}: use the daemon that wrote it, or move it away and index anew",
            file.display()
        )
    } else {
        return Ok(version);
    };
    Err(IndexError::Mismatch(problem.into()).into())
}

/// Brings tables of an older version here, all steps or none.
fn upgrade(connection: &Connection, version: i32) -> Result<(), Failure> {
    let steps = UPGRADES.iter().skip((version - 1).unsigned_abs() as usize);
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    tracing::info!(from = version, to = SCHEMA_VERSION, "the tables of the embedded index were upgraded");
    Ok(())
}

/// All tables or none: the version and the id are part of the same transaction.
fn create(connection: &Connection) -> Result<(), Failure> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}
