//! The thread that owns every write.

use astromech_schemas::Kind;
use tokio::sync::{mpsc, oneshot};

use super::GROUP_BATCHES_MAX;
use super::convert::Batch;
use super::shard::Shards;
use crate::index::IndexError;

type Reply = oneshot::Sender<Result<(), IndexError>>;

/// What the writing thread is asked.
pub(super) enum Job {
    /// Write and flush.
    Apply {
        /// One a kind.
        batches: Vec<Batch>,
        /// Told once it is on disk.
        reply: Reply,
    },
    /// Answer.
    Ping {
        /// Told at once.
        reply: Reply,
    },
    /// Flush, close and end.
    Close {
        /// Told once it is closed.
        reply: Reply,
    },
}

/// Takes jobs until the index is closed or dropped; then flushes and closes the shards.
pub(super) fn run(shards: &Shards, mut jobs: mpsc::Receiver<Job>) {
    let mut closing = None;
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES_MAX
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        closing = write_group(shards, group);
        if closing.is_some() {
            break;
        }
        for shard in shards.all() {
            if let Err(error) = shard.maintain() {
                tracing::warn!(%error, "maintaining the embedded index failed; it goes on unoptimized");
            }
        }
    }
    let result = shards.close();
    match (closing, result) {
        // The closer may have gone; nothing is lost by that.
        (Some(reply), result) => drop(reply.send(result)),
        (None, Err(error)) => tracing::error!(%error, "closing the embedded index failed"),
        (None, Ok(())) => {}
    }
}

/// Applies a group, flushes the shards that it touched once, then answers. Returns the closer, if the group had one; what came after it
/// is told that the index is closed by the dropped reply.
fn write_group(shards: &Shards, group: Vec<Job>) -> Option<Reply> {
    let mut answers: Vec<(Reply, Result<(), IndexError>)> = Vec::with_capacity(group.len());
    let mut touched: Vec<Kind> = Vec::with_capacity(Kind::ALL.len());
    let mut closing = None;
    for job in group {
        match job {
            Job::Ping { reply } => answers.push((reply, Ok(()))),
            Job::Close { reply } => {
                closing = Some(reply);
                break;
            }
            Job::Apply { batches, reply } => {
                touched.extend(batches.iter().map(|batch| batch.kind));
                answers.push((reply, batches.into_iter().try_for_each(|batch| write(shards, batch))));
            }
        }
    }
    touched.sort_unstable();
    touched.dedup();
    let flushed: Result<(), String> =
        touched.into_iter().try_for_each(|kind| shards.get(kind).flush()).map_err(|error| error.to_string());
    for (reply, result) in answers {
        let durable = result.and_then(|()| flushed.clone().map_err(IndexError::Transient));
        // A caller that went away no longer needs the answer.
        let _ = reply.send(durable);
    }
    closing
}

fn write(shards: &Shards, batch: Batch) -> Result<(), IndexError> {
    let shard = shards.get(batch.kind);
    shard.note_written(batch.points);
    batch.operations.into_iter().try_for_each(|operation| shard.update(operation))
}
