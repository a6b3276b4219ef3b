//! The table of the feature cache's tier on disk: entries in the order in which they came, in a file whose bytes are taken at the start.
//!
//! They are taken behind the file's end, where SQLite's pages will come to lie, since SQLite cuts off what a file has beyond its last page
//! when a transaction ends. The folder's lock is a file of its own: a process that closes any descriptor of a file gives up all POSIX locks
//! on it, SQLite's included.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::cache::StateKey;
use super::entry::Entry;

const PAGE_BYTES: u64 = 16 * 1024;
/// Pages that an entry may take beside its own: of the table, its index, and the lists of pages.
const PAGES_BESIDE: u64 = 16;
/// A file system counts its own map of a file among the file's bytes.
const MAP_BYTES: u64 = 64 * 1024;

/// Without a sync: the journal keeps the file whole when the process is killed, for which the kernel's order of writes is enough. After a
/// loss of power entries may be damaged, which their checksums find, or the file, which is made anew: it is a cache.
const SETUP: &str = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = TRUNCATE; \
    PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS entries \
    (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, checksum BLOB NOT NULL, entry BLOB NOT NULL);";

/// Why there is no tier on disk.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error(
        "{available} bytes are free there and it needs {needed} more; fix: free the disk, or lower rescore.cache.disk_bytes_max"
    )]
    Full { available: u64, needed: u64 },
    #[error("another process uses it; fix: give each its own rescore.cache.disk_path")]
    Used,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Opens the database of a folder with all the bytes that it may take; a file whose limit was larger gives the rest back.
pub(super) fn connect(folder: &Path, bytes_max: u64) -> Result<Connection, DiskError> {
    let needed = bytes_max.saturating_sub(taken(folder)?);
    let space = statvfs(folder).map_err(io::Error::from)?;
    let available = space.f_bavail.saturating_mul(space.f_frsize);
    if needed > available {
        return Err(DiskError::Full { available, needed });
    }
    let path = folder.join("entries.sqlite3");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    // What lies behind the file's end may have been taken for a larger limit.
    file.set_len(file.metadata()?.len())?;
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes_max).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        result => result?,
    }
    drop(file);
    let db = Connection::open(&path)?;
    db.pragma_update(None, "page_size", PAGE_BYTES as u32)?;
    db.execute_batch(SETUP)?;
    let pages_max = bytes_max / PAGE_BYTES;
    make_room(&db, pages_max, 0)?;
    while let surplus @ 1.. = count(&db, "page_count")?.saturating_sub(pages_max) {
        // A few at a time: the journal holds the pages of a transaction.
        let mut give_back = db.prepare(&format!("PRAGMA incremental_vacuum({})", surplus.min(256)))?;
        let mut rows = give_back.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(db)
}

/// Begins anew, with a new file.
pub(super) fn make_anew(folder: &Path, bytes_max: u64, damage: &rusqlite::Error) -> Result<Connection, DiskError> {
    warn!(path = %folder.display(), %damage, "the feature cache on disk is damaged and begins anew");
    files(folder)?.iter().try_for_each(std::fs::remove_file)?;
    connect(folder, bytes_max)
}

/// Whether the file is not what was written.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn count(db: &Connection, of: &str) -> rusqlite::Result<u64> {
    db.pragma_query_value(None, of, |row| row.get(0).map(i64::cast_unsigned))
}

/// Drops the oldest entries until `needed` pages can be had; whether they can.
fn make_room(db: &Connection, pages_max: u64, needed: u64) -> rusqlite::Result<bool> {
    while count(db, "page_count")? + needed > pages_max + count(db, "freelist_count")? {
        let oldest = "DELETE FROM entries WHERE number = (SELECT min(number) FROM entries)";
        if db.prepare_cached(oldest)?.execute([])? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The entry of `key`; `None` where there is none. One that does not agree with its checksum goes.
pub(super) fn get(db: &Connection, key: &StateKey) -> rusqlite::Result<Option<Entry>> {
    let mut select = db.prepare_cached("SELECT checksum, entry FROM entries WHERE key = ?1")?;
    let found = select.query_row([key.as_bytes()], |row| {
        let [checksum, bytes] = [row.get_ref(0)?.as_blob().unwrap_or_default(), row.get_ref(1)?.as_blob().unwrap_or_default()];
        Ok((checksum == checksum_of(key, bytes)).then(|| Entry::from_bytes(bytes)).flatten())
    });
    let found = found.optional()?;
    if let Some(None) = found {
        db.prepare_cached("DELETE FROM entries WHERE key = ?1")?.execute([key.as_bytes()])?;
    }
    Ok(found.flatten())
}

/// Keeps an entry that is not there, in the place of the oldest where all bytes are used; none that is larger than everything.
pub(super) fn put(db: &Connection, bytes_max: u64, key: &StateKey, bytes: &[u8]) -> rusqlite::Result<()> {
    if db.prepare_cached("SELECT 1 FROM entries WHERE key = ?1")?.exists([key.as_bytes()])? {
        return Ok(());
    }
    if make_room(db, bytes_max / PAGE_BYTES, bytes.len() as u64 / PAGE_BYTES + PAGES_BESIDE)? {
        let insert = "INSERT INTO entries (key, checksum, entry) VALUES (?1, ?2, ?3)";
        db.prepare_cached(insert)?.execute((key.as_bytes(), checksum_of(key, bytes), bytes))?;
    }
    Ok(())
}

fn checksum_of(key: &StateKey, bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key.as_bytes()).chain_update(bytes).finalize().into()
}

/// Files of a folder: the database, and its journal.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect()
}

/// Bytes that a folder's files take of the disk.
pub(super) fn taken(folder: &Path) -> io::Result<u64> {
    let bytes: Vec<u64> = files(folder)?.iter().map(|path| Ok(path.metadata()?.blocks() * 512)).collect::<io::Result<_>>()?;
    Ok(bytes.iter().sum::<u64>() / MAP_BYTES * MAP_BYTES)
}
