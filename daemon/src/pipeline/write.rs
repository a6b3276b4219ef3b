//! The messages between a record's task and the index writer.

use std::sync::Arc;

use astromech_schemas::results::Outcome;
use tokio::sync::oneshot;

use crate::index::Change;
use crate::source::{FenceGuard, Partition};

/// A change to write.
#[derive(Debug)]
pub struct WriteRequest {
    /// The change.
    pub change: Change,
    /// Whose fence the write passes.
    pub partition: Arc<Partition>,
    /// Gets the answer.
    pub reply: oneshot::Sender<WriteReply>,
}

/// What became of it. A dropped reply means that the daemon is stopping.
#[derive(Debug)]
pub enum WriteReply {
    /// The index has taken the change. The guard lasts until the record is acknowledged.
    Taken(FenceGuard, Outcome),
    /// The engine refused this very change for what it contains.
    Refused(FenceGuard, String),
    /// The partition was taken away before the write began.
    Fenced,
}
