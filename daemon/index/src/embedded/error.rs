//! SQLite's errors as the index's, each with what to do about it.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::IndexError;

/// Why a piece of work on the database failed, before it is known at which file.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite did not do it.
    Sql(rusqlite::Error),
    /// It was found out here.
    Index(IndexError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl Failure {
    /// With the file it happened at.
    pub(super) fn at(self, file: &Path, doing: &str) -> IndexError {
        match self {
            Self::Index(error) => error,
            Self::Sql(error) => sql(file, doing, error),
        }
    }
}

/// Which of the three an error of SQLite is: only what it says about the content is `Refused`, only what no retry heals is `Mismatch`.
pub(super) fn sql(file: &Path, doing: &str, error: rusqlite::Error) -> IndexError {
    let at = format!("{}: {doing}: {error}", file.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            IndexError::mismatch(format!("{at}: it is no SQLite file, so no index: give another folder, or move it away"), error)
        }
        // Nothing: an error of rusqlite's own, a value of another type, text that is no UTF-8, a row that must be there.
        Some(ErrorCode::DatabaseCorrupt) | None => {
            let fix = "restore it from a backup, or move it away and index anew";
            IndexError::mismatch(format!("{at}: the file is damaged: {fix}"), error)
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            IndexError::mismatch(format!("{at}: give this user the right to write the file and its folder"), error)
        }
        Some(ErrorCode::DiskFull) => IndexError::transient(
            format!("{at}: free space on its disk; what was answered is kept, the rest is tried again"),
            error,
        ),
        Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => IndexError::refused(at, error),
        Some(ErrorCode::CannotOpen) => {
            IndexError::transient(format!("{at}: is the folder there, and may this user read and write it?"), error)
        }
        Some(_) => IndexError::transient(at, error),
    }
}

/// An error of the file system; one of rights is not waited for.
pub(super) fn io(path: &Path, doing: &str, error: std::io::Error) -> IndexError {
    let at = format!("{}: {doing}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            IndexError::mismatch(format!("{at}: give this user the right to write there, or another index.embedded.path"), error)
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            IndexError::mismatch(format!("{at}: index.embedded.path must name a folder"), error)
        }
        _ => IndexError::transient(at, error),
    }
}

pub(super) fn closed() -> IndexError {
    IndexError::Mismatch("the index is closed".to_owned().into())
}
