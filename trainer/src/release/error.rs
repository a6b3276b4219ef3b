use std::path::PathBuf;

use thiserror::Error;

use crate::export::ExportError;
use crate::files::FileError;

/// A release that was not made.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The graphs.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// ONNX Runtime, or the bundle opened again.
    #[error(transparent)]
    Towers(#[from] astromech_towers::TowersError),
    /// The corpus that samples are taken from.
    #[error(transparent)]
    Corpus(#[from] crate::corpus::CorpusError),
    /// A setting outside its limits.
    #[error("{field} is `{value}`: {problem}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What was given.
        value: String,
        /// The limit, and what to give instead.
        problem: String,
    },
    /// The samples for the golden vectors do not fit.
    #[error("samples: {0}")]
    Samples(String),
    /// The manifest would not be read back.
    #[error("manifest: {0}")]
    Manifest(String),
    /// There is a bundle already.
    #[error("{path} is there already; give another --out, or --force to replace it")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
}
