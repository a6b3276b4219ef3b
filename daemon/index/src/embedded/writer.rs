//! The thread that owns the connection that writes.
//!
//! ```text
//! jobs ─WRITE_QUEUE_MAX─> one IMMEDIATE transaction for up to GROUP_JOBS_MAX that wait, a savepoint each -> COMMIT, synced
//!   -> memory shows it -> each job's answer
//! ```

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::{Failure, closed};
use super::memory::Delta;
use super::schema::BUSY_TIMEOUT;
use super::store::Store;
use super::{GROUP_JOBS_MAX, LOG_BYTES_MAX, folder};
use crate::IndexError;

/// Longest wait for readers when the log is cut.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// What is done inside the transaction: on the database, and noted for memory.
pub(super) type Work<T> = Box<dyn FnOnce(&Connection, &mut Writes<'_>) -> Result<T, Failure> + Send>;

/// What a job leaves behind beside its rows.
pub(super) struct Writes<'a> {
    pub(super) store: &'a Store,
    pub(super) delta: Delta,
    /// Whether there is anything to commit.
    pub(super) touched: bool,
}

/// A job that waits, whatever its answer is.
pub(super) trait Job: Send {
    /// Does the work; whether it went well.
    fn run(&mut self, connection: &Connection, writes: &mut Writes<'_>) -> bool;
    /// Answers, once what it did is on disk, or that it is not.
    fn settle(self: Box<Self>, committed: Result<(), IndexError>);
}

struct Task<T> {
    work: Option<Work<T>>,
    doing: &'static str,
    done: Option<Result<T, IndexError>>,
    reply: oneshot::Sender<Result<T, IndexError>>,
}

impl<T: Send> Job for Task<T> {
    fn run(&mut self, connection: &Connection, writes: &mut Writes<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let done = work(connection, writes).map_err(|failure| failure.at(&writes.store.file(), self.doing));
        let went_well = done.is_ok();
        self.done = Some(done);
        went_well
    }

    fn settle(self: Box<Self>, committed: Result<(), IndexError>) {
        let answer = match (self.done, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(closed()),
        };
        // A caller that went away no longer needs the answer.
        let _ = self.reply.send(answer);
    }
}

/// A job, and where its answer comes.
pub(super) fn job<T: Send + 'static>(
    doing: &'static str,
    work: Work<T>,
) -> (Box<dyn Job>, oneshot::Receiver<Result<T, IndexError>>) {
    let (reply, answer) = oneshot::channel();
    (Box::new(Task { work: Some(work), doing, done: None, reply }), answer)
}

/// Takes jobs until the store is closed; then the connection is closed, which writes the log into the database.
pub(super) fn run(store: &Arc<Store>, connection: Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_JOBS_MAX
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        write_group(store, &connection, group);
        shorten_log(store, &connection);
    }
    store.forget_readers();
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the embedded index was not closed cleanly; the next start reads its log");
    }
}

/// One transaction for all; one that fails is rolled back alone.
fn write_group(store: &Store, connection: &Connection, mut group: Vec<Box<dyn Job>>) {
    let mut writes = Writes { store, delta: Delta::default(), touched: false };
    let committed = transact(connection, &mut group, &mut writes);
    let committed = committed.map_err(|error| super::error::sql(&store.file(), "committing", error));
    match committed {
        Ok(Some(commits)) => {
            store.show(writes.delta, commits);
            settle(group, None);
        }
        Ok(None) => settle(group, None),
        Err(error) => {
            if !connection.is_autocommit()
                && let Err(error) = connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "the embedded index could not take a failed commit back");
            }
            settle(group, Some(&error));
        }
    }
}

fn settle(group: Vec<Box<dyn Job>>, error: Option<&IndexError>) {
    for job in group {
        job.settle(error.map_or(Ok(()), |error| Err(error.clone())));
    }
}

/// The number of commits there are then; `None` where there was nothing to commit.
fn transact(
    connection: &Connection,
    group: &mut [Box<dyn Job>],
    writes: &mut Writes<'_>,
) -> Result<Option<i64>, rusqlite::Error> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for job in group {
        connection.execute_batch("SAVEPOINT job")?;
        let (shown, bytes) = (writes.delta.changes.len(), writes.delta.bytes);
        if !job.run(connection, writes) {
            // A full disk or a failing one may have ended the whole transaction: then this fails, and with it everybody.
            connection.execute_batch("ROLLBACK TO job")?;
            writes.delta.changes.truncate(shown);
            writes.delta.bytes = bytes;
        }
        connection.execute_batch("RELEASE job")?;
    }
    if !writes.touched {
        connection.execute_batch("COMMIT")?;
        return Ok(None);
    }
    let commits = connection.query_row("UPDATE state SET commits = commits + 1 RETURNING commits", [], |row| row.get(0))?;
    connection.execute_batch("COMMIT")?;
    Ok(Some(commits))
}

/// SQLite itself writes the log into the database every thousand pages, unless somebody reads all the time. Then the log grows, and here
/// readers are waited for.
fn shorten_log(store: &Store, connection: &Connection) {
    if folder::log_bytes(store.root()) <= LOG_BYTES_MAX {
        return;
    }
    // While a generation is loaded its snapshot holds the log for seconds: writes must not wait as long at each commit.
    let cut = connection
        .busy_timeout(CHECKPOINT_WAIT)
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)));
    if let Err(error) = connection.busy_timeout(BUSY_TIMEOUT) {
        tracing::warn!(%error, "the embedded index's time-out was not set back");
    }
    match cut {
        Ok(0) => {}
        Ok(_) => tracing::debug!("the embedded index's log is still being read; it is cut later"),
        Err(error) => tracing::warn!(%error, "the embedded index's log was not cut; the next commit tries again"),
    }
}
