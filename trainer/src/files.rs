//! Files: errors that name them, and writes that leave them whole or not there at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file or folder that the system refuses.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// Names the file of an I/O error.
pub fn file_error(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.into();
    move |source| FileError { path, source }
}

/// Writes through `write` into a temporary neighbour, syncs it, then renames it over `path`: a reader sees the old file or the new one.
/// On an error the neighbour is removed and the old file stays.
///
/// # Errors
/// What `write`, the sync or the rename answers.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("checkpoint");
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let result =
        write(&temporary).and_then(|()| File::open(&temporary)?.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rubbish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        write_atomically(&path, |at| std::fs::write(at, "old")).unwrap();
        let failed = write_atomically(&path, |at| {
            std::fs::write(at, "half of the n")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomically(&path, |at| std::fs::write(at, "new")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }
}
