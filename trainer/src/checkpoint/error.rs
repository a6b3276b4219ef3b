use std::path::PathBuf;

use thiserror::Error;

use super::report::{KeyReport, TowerReport};
use crate::files::FileError;

/// A checkpoint that cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The file is damaged or of another format.
    #[error("{path}: {message}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Keys or shapes differ from the model's.
    #[error("{path} does not hold this model: {report}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// Every difference.
        report: Box<KeyReport>,
    },
    /// A tower's file lacks keys, or holds them in other shapes.
    #[error(
        "{} does not hold this tower: {report}; give a model configuration of its sizes, or --partial to start the rest from random \
         values",
        .report.path.display()
    )]
    Tower {
        /// Every difference.
        report: Box<TowerReport>,
    },
    /// Its metadata describes no model.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: crate::model::ConfigError,
    },
}
