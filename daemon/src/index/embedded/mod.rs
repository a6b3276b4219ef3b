//! The index inside this process: Qdrant's own engine (qdrant-edge 0.7.0), one shard a kind.
//!
//! One thread owns every write: it takes the batches that wait (up to [`GROUP_BATCHES_MAX`] share one flush), applies them under the
//! guard, flushes, and only then answers. The flush is what makes an answer durable: this engine writes a log of its own but never
//! replays it, so after a kill only what was flushed is there. Reads run on blocking threads beside it.

mod catalog;
mod convert;
mod folder;
mod shard;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use astromech_schemas::{Fingerprint, Kind};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

pub use self::catalog::EmbeddedCatalog;
use self::convert::Batch;
use self::shard::Shards;
use self::writer::Job;
use super::guard::{Condition, check, live};
use super::purge::purge;
use super::video::{self, Points};
use super::{Change, Finding, Index, IndexError, Page, Query, Scope, Space, Stored, VECTOR_IMAGE};

/// Most batches that wait for the writing thread; beyond it `apply` waits.
pub const WRITE_QUEUE_MAX: usize = 8;
/// Most waiting batches that share one flush.
pub const GROUP_BATCHES_MAX: usize = 8;
/// Most reads at a time; beyond it a read waits.
pub const READS_IN_FLIGHT_MAX: usize = 32;
/// Frames that are looked at for each video that is wanted; where they are of fewer videos, the search goes on beside those.
const FRAMES_A_VIDEO: usize = 4;

/// When the writing thread cares for a shard, between two groups of batches.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Written points after which a shard is optimized: segments merged, large ones indexed.
    pub optimize_every_points: u64,
    /// Vectors of a segment above which it gets an HNSW graph instead of being scanned.
    pub index_above_bytes: usize,
    /// A log longer than this, and longer than the data itself, is cut.
    pub log_bytes_max: u64,
    /// Size of one file of the log; what is cut is whole files.
    pub log_file_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { optimize_every_points: 10_000, index_above_bytes: 10 << 20, log_bytes_max: 128 << 20, log_file_bytes: 8 << 20 }
    }
}

/// What [`EmbeddedIndex::open`] would find, create or refuse in the folder; nothing is changed, and its lock is not taken.
///
/// # Errors
/// [`IndexError::Transient`] when the folder can't be read.
pub async fn survey(path: &Path, space: &Space) -> Result<Vec<Finding>, IndexError> {
    let (root, wanted) = (path.to_owned(), space.clone());
    Ok(vec![blocking(move || folder::survey(&root, &wanted)).await??])
}

/// The collections of one vector space in a folder of this machine.
pub struct EmbeddedIndex {
    space: Space,
    shards: Arc<Shards>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reads: Semaphore,
}

impl EmbeddedIndex {
    /// Opens the folder, creating it on first start, and takes its lock.
    ///
    /// # Errors
    /// [`IndexError::Mismatch`] when the folder holds vectors of another space or is not an index; [`IndexError::Transient`] when another
    /// process has it open or the disk fails.
    pub async fn open(path: &Path, space: &Space) -> Result<Self, IndexError> {
        Self::open_tuned(path, space, Tuning::default()).await
    }

    /// As [`Self::open`], with other limits.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_tuned(path: &Path, space: &Space, tuning: Tuning) -> Result<Self, IndexError> {
        let (root, wanted) = (path.to_owned(), space.clone());
        let shards = blocking(move || folder::open(&root, &wanted, tuning)).await??;
        let shards = Arc::new(shards);
        let (sender, receiver) = mpsc::channel(WRITE_QUEUE_MAX);
        let owned = Arc::clone(&shards);
        let writer = std::thread::Builder::new()
            .name("astromech-index".to_owned())
            .spawn(move || writer::run(&owned, receiver))
            .map_err(|error| IndexError::Transient(format!("starting the writing thread: {error}")))?;
        Ok(Self {
            space: space.clone(),
            shards,
            jobs: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            reads: Semaphore::new(READS_IN_FLIGHT_MAX),
        })
    }

    fn sender(&self) -> Option<mpsc::Sender<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a job to the writing thread and waits for its answer.
    async fn submit(&self, job: impl FnOnce(oneshot::Sender<Result<(), IndexError>>) -> Job) -> Result<(), IndexError> {
        let closed = || IndexError::Mismatch("the index is closed".to_owned());
        let sender = self.sender().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        sender.send(job(reply)).await.map_err(|_| closed())?;
        drop(sender);
        answer.await.map_err(|_| closed())?
    }

    /// Runs a read on a blocking thread, at most [`READS_IN_FLIGHT_MAX`] at a time.
    async fn read_shards<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shards) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let _permit = self.reads.acquire().await.map_err(|_| IndexError::Mismatch("the index is closed".to_owned()))?;
        let shards = Arc::clone(&self.shards);
        blocking(move || work(&shards)).await?
    }
}

/// Runs blocking work on the runtime's blocking threads; a panic of the engine becomes an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| IndexError::Transient(format!("the engine failed: {error}")))
}

impl Drop for EmbeddedIndex {
    /// Waits for the writing thread, so that the folder's lock is free when this returns.
    fn drop(&mut self) {
        self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            && writer.join().is_err()
        {
            tracing::error!("the index's writing thread panicked");
        }
    }
}

impl Points for EmbeddedIndex {
    async fn write(&self, changes: Vec<&Change>) -> Result<(), IndexError> {
        let batches = Batch::of(changes, &self.space);
        self.submit(|reply| Job::Apply { batches, reply }).await
    }

    async fn read(&self, ids: &[Uuid]) -> Result<Vec<Stored>, IndexError> {
        self.retrieve(Kind::Video, ids).await
    }

    async fn count(&self, kind: Kind, which: Condition) -> Result<u64, IndexError> {
        self.read_shards(move |shards| shards.get(kind).count(&which)).await
    }

    async fn remove(&self, kind: Kind, which: Condition) -> Result<(), IndexError> {
        let batches = vec![Batch::removal(kind, &which)];
        self.submit(|reply| Job::Apply { batches, reply }).await
    }

    async fn frames(&self, query: &Query, found: &[Uuid], videos: usize) -> Result<Vec<Stored>, IndexError> {
        let (query, found) = (query.clone(), found.to_vec());
        let frames = videos.saturating_mul(FRAMES_A_VIDEO);
        self.read_shards(move |shards| shards.get(query.kind).search(&query, &found, frames)).await
    }
}

impl Index for EmbeddedIndex {
    fn fingerprint(&self) -> &Fingerprint {
        &self.space.fingerprint
    }

    fn apply<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<(), IndexError>> {
        async move {
            check(changes, &self.space)?;
            if changes.is_empty() {
                return Ok(());
            }
            video::apply(self, changes).await
        }
        .boxed()
    }

    fn search<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            self.space.check_query(query)?;
            if query.kind == Kind::Video && query.vector_name == VECTOR_IMAGE {
                return video::search(self, query).await;
            }
            let query = query.clone();
            self.read_shards(move |shards| shards.get(query.kind).search(&query, &[], query.limit as usize)).await
        }
        .boxed()
    }

    fn retrieve<'a>(&'a self, kind: Kind, point_ids: &'a [Uuid]) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            let ids = point_ids.to_vec();
            self.read_shards(move |shards| shards.get(kind).retrieve(&ids)).await
        }
        .boxed()
    }

    fn scroll(&self, kind: Kind, scope: Scope, from: Option<Uuid>, limit: u32) -> BoxFuture<'_, Result<Page, IndexError>> {
        self.read_shards(move |shards| shards.get(kind).scroll(kind, scope, from, limit as usize)).boxed()
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<Kind, u64>, IndexError>> {
        self.read_shards(|shards| Kind::ALL.into_iter().map(|kind| Ok((kind, shards.get(kind).count(&live(kind))?))).collect())
            .boxed()
    }

    fn purge(&self, before_ms: u64) -> BoxFuture<'_, Result<u64, IndexError>> {
        purge(self, before_ms).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        self.submit(|reply| Job::Ping { reply }).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move {
            if self.sender().is_none() {
                return Ok(());
            }
            let result = self.submit(|reply| Job::Close { reply }).await;
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(writer) = writer {
                blocking(move || writer.join())
                    .await?
                    .map_err(|_| IndexError::Transient("the writing thread panicked".to_owned()))?;
            }
            result
        }
        .boxed()
    }
}
