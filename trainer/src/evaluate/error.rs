use std::path::PathBuf;

use astromech_towers::TowersError;
use thiserror::Error;

use crate::corpus::CorpusError;

/// An evaluation that can't be made.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The bundle or a batch.
    #[error(transparent)]
    Towers(#[from] TowersError),
    /// Tasks, records or pictures.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A task that names a picture of no record.
    #[error("task {task} names picture {id}, which is in no record of split {split}; unpack the corpus again")]
    UnknownPicture {
        /// Task.
        task: String,
        /// Picture.
        id: String,
        /// Split.
        split: String,
    },
    /// A matching task whose pairs all have one label.
    #[error("task {task} has {matching} matching pairs of {pairs}; AUC needs pairs of both labels")]
    OneLabel {
        /// Task.
        task: String,
        /// Pairs with label 1.
        matching: usize,
        /// Pairs.
        pairs: usize,
    },
    /// Tasks that weights can't be fitted on.
    #[error("no query of {tasks} has both right and wrong answers among its candidates; give other tasks, or a larger --top-k")]
    NothingToFit {
        /// The tasks.
        tasks: String,
    },
    /// A task without texts or pictures.
    #[error("task {task} has no queries; give another file or split")]
    EmptyTask {
        /// Task.
        task: String,
    },
    /// A worker ended by a panic.
    #[error("a worker of the evaluation ended early: {0}")]
    Worker(String),
    /// A plot or a report that can't be written or read.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}
