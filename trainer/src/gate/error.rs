use std::path::PathBuf;

use astromech_towers::TowersError;
use thiserror::Error;

use crate::corpus::CorpusError;
use crate::evaluate::EvaluateError;

/// Why the gate could not decide.
#[derive(Debug, Error)]
pub enum GateError {
    /// A bundle is damaged or does not start.
    #[error(transparent)]
    Towers(#[from] TowersError),
    /// The data can't be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A task could not be measured.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// No threads.
    #[error("the runtime did not start: {0}")]
    Runtime(std::io::Error),
    /// The report can't be written.
    #[error("{}: {problem}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
}
