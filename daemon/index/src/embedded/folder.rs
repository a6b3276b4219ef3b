//! The index's folder: its lock, and what else may lie there.
//!
//! ```text
//! ROOT/lock                          held by the process that has the index open, with its process id
//! ROOT/index.sqlite, -wal, -shm      everything else (see `schema`)
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::io;
use crate::IndexError;

const LOCK_FILE: &str = "lock";
const DATABASE_FILE: &str = "index.sqlite";
/// Files that the engine before SQLite kept in a folder of its own, or below it in one a generation.
const OLD_FILES: [&str; 4] = ["meta.json", "live.json", "note.json", "backfill.json"];

/// The database of a folder.
pub(super) fn database(root: &Path) -> PathBuf {
    root.join(DATABASE_FILE)
}

/// The database's write-ahead log.
pub(super) fn log(root: &Path) -> PathBuf {
    root.join(format!("{DATABASE_FILE}-wal"))
}

/// Makes the folder where it is missing and takes its lock, which the system gives back when this process ends, however it ends.
pub(super) fn take(root: &Path) -> Result<File, IndexError> {
    fs::create_dir_all(root).map_err(|error| io(root, "creating it", error))?;
    check(root)?;
    let path = root.join(LOCK_FILE);
    let fail = |error: std::io::Error| io(&path, "locking it", error);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: an unreadable file still says who can't have it.
            let _ = file.read_to_string(&mut holder);
            let problem = format!(
                "{} is open in another process (process id {}): stop that one, or give this one a folder of its own",
                root.display(),
                holder.trim()
            );
            return Err(IndexError::Transient(problem.into()));
        }
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(fail)?;
    Ok(file)
}

/// Refuses a folder of something else, and one of the engine before SQLite.
pub(super) fn check(root: &Path) -> Result<(), IndexError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(|error| io(root, "listing it", error))? {
        let entry = entry.map_err(|error| io(root, "listing it", error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    if names.iter().any(|name| name == DATABASE_FILE) {
        return Ok(());
    }
    let is_old = |folder: &Path| OLD_FILES.iter().any(|file| folder.join(file).exists());
    if is_old(root) || names.iter().any(|name| is_old(&root.join(name))) {
        let shown = root.display();
        return Err(IndexError::Mismatch(
            format!(
                "{shown} holds an index of the engine before SQLite, which this version does not read: build it anew from the topics \
                 with `mv '{shown}' '{shown}.old' && astromech offsets reset --config FILE --to earliest`, or without Kafka with \
                 `mv '{shown}' '{shown}.old'` and `astromech index` again"
            )
            .into(),
        ));
    }
    match names.iter().find(|name| *name != LOCK_FILE) {
        None => Ok(()),
        Some(name) => Err(IndexError::Mismatch(
            format!(
                "{shown} has `{name}` but no {DATABASE_FILE}, so it is not an index: give an empty or a new folder",
                shown = root.display()
            )
            .into(),
        )),
    }
}

/// Bytes of the write-ahead log; 0 where there is none. Only looked up: opening and closing a file that SQLite has open in this process
/// would give its locks back.
pub(super) fn log_bytes(root: &Path) -> u64 {
    fs::metadata(log(root)).map_or(0, |meta| meta.len())
}

/// Whether there is a database to read. A folder that is not there has none.
pub(super) fn has_database(root: &Path) -> Result<bool, IndexError> {
    match fs::metadata(database(root)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound && !root.exists() => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => check(root).map(|()| false),
        Err(error) => Err(io(root, "reading it", error)),
    }
}
