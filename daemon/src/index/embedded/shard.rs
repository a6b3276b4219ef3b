//! One kind's shard of the engine, and the care it needs: flushing, optimizing, and keeping its log short.

use std::any::Any;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use astromech_schemas::Kind;
use qdrant_edge::{
    CountRequest, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeVectorParamsBuilder, MultiVectorComparator,
    MultiVectorConfig, NamedQuery, OperationResult, PointId, QueryEnum, ScrollRequest, SearchRequest, TypedMultiDenseVector,
    UpdateOperation, VectorInternal, WalOptions, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use super::Tuning;
use super::convert::{to_error, to_filter, to_stored};
use super::folder::io;
use crate::index::guard::{Condition, VECTORS, live};
use crate::index::payload::is_tombstone;
use crate::index::{IndexError, Page, Query, Scope, Space, Stored};

/// Unit of a file's block count (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The shards of all kinds, and the folder's lock while they are open.
pub(super) struct Shards {
    shards: [Shard; Kind::ALL.len()],
    lock: Mutex<Option<File>>,
}

impl Shards {
    pub(super) fn open(root: &Path, space: &Space, tuning: Tuning, lock: File) -> Result<Self, IndexError> {
        let [a, b, c, d] = Kind::ALL.map(|kind| Shard::open(root.join(kind.collection()), space.clone(), tuning));
        Ok(Self { shards: [a?, b?, c?, d?], lock: Mutex::new(Some(lock)) })
    }

    pub(super) fn get(&self, kind: Kind) -> &Shard {
        match kind {
            Kind::Article => &self.shards[0],
            Kind::Image => &self.shards[1],
            Kind::Ad => &self.shards[2],
            Kind::Video => &self.shards[3],
        }
    }

    pub(super) fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// Closes every shard and gives the folder's lock back.
    pub(super) fn close(&self) -> Result<(), IndexError> {
        let results: Vec<_> = self.shards.iter().map(Shard::close).collect();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        results.into_iter().collect()
    }
}

/// One kind's shard. It has no payload indexes: nothing here filters by payload over many points, and each index would add a dozen
/// syncs to every flush. Every write comes from the one writing thread; reads come from any.
pub(super) struct Shard {
    path: PathBuf,
    space: Space,
    tuning: Tuning,
    /// `None` once closed. Written only to close, or to reopen with a shorter log.
    engine: RwLock<Option<EdgeShard>>,
    /// Points written since the last optimization.
    written: AtomicU64,
}

impl Shard {
    fn open(path: PathBuf, space: Space, tuning: Tuning) -> Result<Self, IndexError> {
        fs::create_dir_all(&path).map_err(|error| io(&path, "creating it", &error))?;
        let engine = caught("opening the index", || load(&path, &space, tuning))?;
        Ok(Self { path, space, tuning, engine: RwLock::new(Some(engine)), written: AtomicU64::new(0) })
    }

    /// Runs work on the open engine; its panics become errors.
    fn with<T>(&self, doing: &str, work: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T, IndexError> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = guard.as_ref().ok_or_else(|| IndexError::Mismatch("the index is closed".to_owned()))?;
        caught(doing, || work(engine))
    }

    /// Applies one operation; it is durable after [`Self::flush`].
    pub(super) fn update(&self, operation: UpdateOperation) -> Result<(), IndexError> {
        self.with("writing points", |engine| engine.update(operation))
    }

    pub(super) fn note_written(&self, points: u64) {
        self.written.fetch_add(points, Ordering::Relaxed);
    }

    /// Writes everything to disk and waits for it. Only for the writing thread: the engine panics when it finds itself locked.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.with("flushing the index", |engine| {
            engine.flush();
            Ok(())
        })
    }

    /// Optimizes after enough writes, and cuts the log when it is long. Only for the writing thread.
    pub(super) fn maintain(&self) -> Result<(), IndexError> {
        if self.written.load(Ordering::Relaxed) < self.tuning.optimize_every_points {
            return Ok(());
        }
        self.written.store(0, Ordering::Relaxed);
        self.with("optimizing the index", |engine| engine.optimize().map(|_| ()))?;
        self.flush()?;
        let log_bytes = folder_bytes(&self.log_path());
        if log_bytes > self.tuning.log_bytes_max && log_bytes > folder_bytes(&self.path.join("segments")) {
            self.cut_log()
        } else {
            Ok(())
        }
    }

    fn log_path(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Removes the closed files of the log but the last, which carries the numbering on. The engine neither replays nor shortens its log,
    /// and holds every file mapped, so it is closed meanwhile; reads wait.
    fn cut_log(&self) -> Result<(), IndexError> {
        let mut guard = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = guard.take() else { return Ok(()) };
        let closed = caught("closing the index to cut its log", || {
            drop(engine);
            Ok(())
        });
        let cut = closed
            .and_then(|()| remove_closed_logs(&self.log_path()).map_err(|error| io(&self.log_path(), "cutting the log", &error)));
        *guard = Some(caught("opening the index again", || load(&self.path, &self.space, self.tuning))?);
        cut
    }

    fn close(&self) -> Result<(), IndexError> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping the engine flushes it.
        caught("closing the index", || {
            drop(engine);
            Ok(())
        })
    }

    /// The nearest points, but for the frames of the videos `beside`.
    pub(super) fn search(&self, query: &Query, beside: &[Uuid], limit: usize) -> Result<Vec<Stored>, IndexError> {
        let vector = if self.space.similarity.is_cosine() {
            VectorInternal::Dense(query.vector.clone())
        } else {
            let tokens = TypedMultiDenseVector::try_from_flatten(query.vector.clone(), self.space.embedding_dim as usize);
            VectorInternal::MultiDense(tokens.map_err(|error| to_error("searching", &error))?)
        };
        let request = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery::new(vector, query.vector_name)),
            filter: query.filter.condition_beside(beside).as_ref().map(to_filter),
            params: None,
            limit,
            offset: 0,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: Some(WithVector::Bool(false)),
            score_threshold: None,
        };
        let hits = self.with("searching", |engine| engine.search(request))?;
        let mut stored = Vec::with_capacity(hits.len());
        for hit in hits {
            let hit = to_stored(hit.id, self.space.score(hit.score, query), hit.payload)?;
            // Between a delete and the removal of its leftover vectors a search can still see the tombstone.
            if !is_tombstone(&hit.payload) {
                stored.push(hit);
            }
        }
        Ok(stored)
    }

    /// A page of points in the order of their ids.
    pub(super) fn scroll(&self, kind: Kind, scope: Scope, from: Option<Uuid>, limit: usize) -> Result<Page, IndexError> {
        let request = ScrollRequest {
            offset: from.map(PointId::Uuid),
            limit: Some(limit),
            filter: (scope == Scope::Live).then(|| to_filter(&live(kind))),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(false),
            order_by: None,
        };
        let (records, next) = self.with("listing points", |engine| engine.scroll(request))?;
        let points = records.into_iter().map(|record| to_stored(record.id, 0.0, record.payload)).collect::<Result<_, _>>()?;
        let next = next.map(|id| to_stored(id, 0.0, None)).transpose()?.map(|stored| stored.point_id);
        Ok(Page { points, next })
    }

    pub(super) fn retrieve(&self, ids: &[Uuid]) -> Result<Vec<Stored>, IndexError> {
        let ids: Vec<PointId> = ids.iter().map(|id| PointId::Uuid(*id)).collect();
        let records =
            self.with("reading points", |engine| engine.retrieve(&ids, Some(WithPayloadInterface::Bool(true)), None))?;
        records.into_iter().map(|record| to_stored(record.id, 0.0, record.payload)).collect()
    }

    pub(super) fn count(&self, which: &Condition) -> Result<u64, IndexError> {
        self.with("counting points", |engine| engine.count(CountRequest { filter: Some(to_filter(which)), exact: true }))
            .map(|count| count as u64)
    }
}

fn load(path: &Path, space: &Space, tuning: Tuning) -> OperationResult<EdgeShard> {
    let wal = WalOptions { segment_capacity: tuning.log_file_bytes, ..WalOptions::default() };
    let optimizers = EdgeOptimizersConfig {
        indexing_threshold: Some((tuning.index_above_bytes >> 10).max(1)),
        ..EdgeOptimizersConfig::default()
    };
    let mut config = EdgeConfig::builder().wal_options(wal).optimizers(optimizers);
    for vector in VECTORS {
        let params = EdgeVectorParamsBuilder::new(space.embedding_dim as usize, Distance::Cosine);
        let max_sim = MultiVectorConfig { comparator: MultiVectorComparator::MaxSim };
        let params = if space.similarity.is_cosine() { params } else { params.multivector_config(max_sim) };
        config = config.vector(vector, params.build());
    }
    let config = config.build();
    // The engine writes its configuration before its first segment, and `load` makes the segment that a kill in between left out.
    if path.join("edge_config.json").exists() { EdgeShard::load(path, Some(config)) } else { EdgeShard::new(path, config) }
}

/// Runs the engine's work; it panics on a failed flush (a full disk), which must not end the daemon.
fn caught<T>(doing: &str, work: impl FnOnce() -> OperationResult<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| to_error(doing, &error)),
        Err(panic) => Err(IndexError::Transient(format!("{doing}: {}", panic_text(panic.as_ref())))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("the engine panicked")
}

/// Deletes `closed-N` files, oldest first so that a kill in between leaves the rest contiguous, but for the newest.
fn remove_closed_logs(path: &Path) -> std::io::Result<()> {
    let mut closed: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(start) = name.to_str().and_then(|name| name.strip_prefix("closed-")).and_then(|start| start.parse().ok()) {
            closed.push((start, entry.path()));
        }
    }
    closed.sort_unstable();
    closed.pop();
    for (_, file) in closed {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Bytes that a folder takes on disk: the engine's files are mostly holes, so their lengths say nothing. What vanishes while it is
/// counted counts nothing.
fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * BLOCK_BYTES,
            Err(_) => 0,
        })
        .sum()
}
