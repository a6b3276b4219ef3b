use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::corpus::CorpusError;
use crate::distil::DistilError;
use crate::files::FileError;
use crate::nn::DeviceError;

/// A run that could not go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Records, pictures or vocabulary.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// Composed scenes.
    #[error(transparent)]
    Scenes(#[from] crate::scenes::SceneError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The teacher.
    #[error(transparent)]
    Distil(#[from] DistilError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Model sizes.
    #[error(transparent)]
    Config(#[from] crate::model::ConfigError),
    /// Output files.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Fewer records than one batch.
    #[error("data.batch is {batch} but only {records} records pass the filter; lower data.batch or widen the filter")]
    TooFewRecords {
        /// Batch size.
        batch: usize,
        /// Records.
        records: usize,
    },
    /// The loss left the finite numbers and did not come back.
    #[error(
        "the gradient was not finite for {steps} steps in a row at step {step}; lower optim.lr and go on by --resume from the last checkpoint"
    )]
    Diverged {
        /// Steps in a row.
        steps: u32,
        /// Step at which the run gave up.
        step: u64,
    },
    /// A checkpoint of another run.
    #[error("the run in {path} has seed {found}, the configuration {expected}; set run.seed = {found} or another run.out")]
    Seed {
        /// The folder.
        path: PathBuf,
        /// Stored.
        found: u64,
        /// Configured.
        expected: u64,
    },
    /// A frozen name that is none.
    #[error("optim.freeze names {prefix}, with which no parameter begins; give a beginning such as visual_encoder.")]
    Freeze {
        /// What was given.
        prefix: String,
    },
    /// The batch thread ended.
    #[error("the thread that makes batches ended early")]
    LoaderGone,
}
