use std::path::PathBuf;

use thiserror::Error;

use crate::files::FileError;

/// A corpus that cannot be read; the message names the file, the line and the fix.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// A file could not be opened or read.
    #[error(transparent)]
    Io(#[from] FileError),
    /// A row that is no record.
    #[error("{path}, line {line}: {message}; mend or remove the row")]
    Row {
        /// The JSON Lines file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong, naming the field.
        message: String,
    },
    /// A picture that cannot be decoded.
    #[error("picture {path} of record {id}: {message}; replace the file or remove the row")]
    Picture {
        /// Record id.
        id: String,
        /// The picture.
        path: PathBuf,
        /// What the decoder said.
        message: String,
    },
    /// No record is left after filtering.
    #[error(
        "no record of {path} passes the filter (splits {splits:?}, licences {licences:?}); widen data.splits or data.licences"
    )]
    Empty {
        /// Corpus folder.
        path: PathBuf,
        /// Allowed splits.
        splits: Vec<String>,
        /// Allowed licences; empty allows all.
        licences: Vec<String>,
    },
    /// A stream that cannot go on.
    #[error(transparent)]
    Stream(#[from] crate::zero::ZeroError),
    /// The vocabulary cannot be used.
    #[error("vocabulary {path}: {message}")]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}
