//! Why no snapshot was made.

use std::path::PathBuf;

use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::files::FileError;
use crate::zero::ZeroError;

/// A snapshot that could not be made.
#[derive(Debug, Error)]
pub enum CollectError {
    /// A setting outside its range.
    #[error("{field} is {value}; it must be {limit}")]
    Setting {
        /// Dotted name.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        limit: &'static str,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] FileError),
    /// A file that is not what it should be.
    #[error("{path}: {message}; {fix}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        fix: &'static str,
    },
    /// A topic that can't be read.
    #[error("topic {topic}: {message}; {fix}")]
    Topic {
        /// Its name.
        topic: String,
        /// What is wrong.
        message: String,
        /// What to do.
        fix: &'static str,
    },
    /// The broker.
    #[error("{what}: {source}")]
    Kafka {
        /// What was asked of it.
        what: String,
        /// What the client said.
        source: KafkaError,
    },
    /// The broker went silent.
    #[error(
        "no record and no end of a partition came within {seconds} s, {open} partitions are not read to their ends; see to the broker and run the same command again: it goes on"
    )]
    Silent {
        /// How long.
        seconds: u64,
        /// Partitions that are not read to their ends.
        open: usize,
    },
    /// More of the records are refused than is borne.
    #[error(
        "{rejects} of {records} records were refused ({reasons}), over reject_share_max = {share_max}; {path} names them. Mend the producers or raise the limit"
    )]
    TooManyRejects {
        /// Refused.
        rejects: u64,
        /// Read.
        records: u64,
        /// Counts by reason.
        reasons: String,
        /// The limit.
        share_max: f64,
        /// The list.
        path: PathBuf,
    },
    /// The work of another configuration lies there.
    #[error("{path} was made by another configuration; remove it, or give another --out")]
    OtherWork {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is at it.
    #[error("{path} is in use by another process; wait for it, or give another --out")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Shards and the click-log pipeline.
    #[error(transparent)]
    Zero(#[from] ZeroError),
    /// A stop was asked for; the same command goes on.
    #[error("stopped; the same command goes on")]
    Stopped,
}

impl CollectError {
    /// True where trying again can't help: a setting, a topic or its records have to change first.
    pub const fn is_input(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::Damaged { .. }
            | Self::Topic { .. }
            | Self::TooManyRejects { .. }
            | Self::OtherWork { .. } => true,
            Self::Zero(error) => !matches!(error, ZeroError::Io(_)),
            Self::Io(_) | Self::Kafka { .. } | Self::Silent { .. } | Self::Busy { .. } | Self::Stopped => false,
        }
    }
}
