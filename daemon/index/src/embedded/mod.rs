//! The index inside this process: one SQLite file for all generations and kinds, and their vectors in memory.
//!
//! ```text
//! apply ─WRITE_QUEUE_MAX─> one thread that owns all writes (up to GROUP_JOBS_MAX share a transaction and its sync) -> memory -> answer
//! search -> a pass over the vectors in memory, of one commit -> their exact vectors and payloads on disk, of the same commit
//! ```
//!
//! The database holds what is true; memory is a copy of the vectors of the generations that are open, loaded at open and changed by
//! committed rows only. So a search never shows what is not committed, and what was applied is found once `apply` has returned. Every read
//! sees one commit whole. A commit is synced before it is answered (`synchronous = FULL`).
//!
//! One process at a time has a folder open, by a lock of its own; `plan` and the like look into the book from outside.

mod catalog;
mod error;
mod folder;
mod load;
mod memory;
mod read;
mod rows;
mod schema;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod vector;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use astromech_schemas::results::Outcome;
use astromech_schemas::{Fingerprint, Kind};
use futures::future::{BoxFuture, FutureExt as _};
use uuid::Uuid;

pub use self::catalog::EmbeddedCatalog;
use self::error::{Failure, closed};
use self::memory::{GenerationId, code};
use self::store::{Lease, Store, blocking};
use super::guard::{check, each_outcome, newest};
use super::{Change, EmbeddedOptions, Finding, Index, IndexError, IndexWriter, Page, Query, Scope, Space, Stored, Verdict};

/// Most jobs that wait for the writing thread; beyond it `apply` waits.
pub const WRITE_QUEUE_MAX: usize = 8;
/// Most waiting jobs that share one commit.
pub const GROUP_JOBS_MAX: usize = 8;
/// Most reads at a time; beyond it a read waits.
pub const READS_IN_FLIGHT_MAX: usize = 32;
/// Bytes of the write-ahead log above which the writing thread waits for readers and cuts it.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// What [`EmbeddedIndex::open`] would find, create or refuse in the folder; nothing is changed, and its lock is not taken.
///
/// # Errors
/// [`IndexError::Transient`] when the folder can't be read.
pub async fn survey(options: &EmbeddedOptions, space: &Space) -> Result<Vec<Finding>, IndexError> {
    let (options, space) = (options.clone(), space.clone());
    Ok(vec![blocking(move || look(&options, &space)).await??])
}

fn look(options: &EmbeddedOptions, space: &Space) -> Result<Finding, IndexError> {
    let root = &options.path;
    let found = catalog::read_book(root, |connection| {
        if !options.beside {
            catalog::check_live(connection, root, space)?;
        }
        catalog::find(connection, root, space)
    });
    let looked = found.map(|found| if found.flatten().is_some() { Verdict::Right } else { Verdict::Create });
    let detail = format!("collections of bundle {} ({})", space.bundle, space.fingerprint.short());
    Finding::of(format!("folder {}", root.display()), looked, &detail)
}

/// One generation of an open folder; left when dropped.
struct Opened {
    generation: GenerationId,
    lease: Lease,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.lease.store().leave(self.generation);
    }
}

/// The collections of one vector space in a folder of this machine.
pub struct EmbeddedIndex {
    space: Space,
    opened: Mutex<Option<Opened>>,
}

impl EmbeddedIndex {
    /// Opens the folder, creating it on first start, takes its lock unless this process has it, and brings the vectors into memory.
    ///
    /// # Errors
    /// [`IndexError::Mismatch`] when another space is live there, when the folder is not an index, one of the engine before SQLite or of a
    /// newer version, or damaged, when this user may not write it, and when its vectors take more memory than they may;
    /// [`IndexError::Transient`] when another process has it open or the disk fails.
    pub async fn open(options: &EmbeddedOptions, space: &Space) -> Result<Self, IndexError> {
        let (root, most) = (options.path.clone(), options.vector_bytes_max);
        let lease = blocking(move || Lease::take(&root, most)).await??;
        let registered = register(lease.store(), options, space).await;
        let joined = blocking(move || {
            // On a blocking thread also where it failed: the last lease waits for the writing thread.
            let generation = registered?;
            lease.store().join(generation)?;
            Ok(Opened { generation, lease })
        });
        let opened = joined.await??;
        Ok(Self { space: space.clone(), opened: Mutex::new(Some(opened)) })
    }

    fn opened(&self) -> Result<(Arc<Store>, GenerationId), IndexError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(|opened| (Arc::clone(opened.lease.store()), opened.generation)).ok_or_else(closed)
    }
}

/// Writes the generation into the book where it is new; where nothing is live it is, unless it is opened beside.
async fn register(store: &Arc<Store>, options: &EmbeddedOptions, space: &Space) -> Result<GenerationId, IndexError> {
    let (space, root, beside) = (space.clone(), options.path.clone(), options.beside);
    let register = move |connection: &rusqlite::Connection, writes: &mut writer::Writes<'_>| -> Result<_, Failure> {
        let live = if beside { None } else { catalog::check_live(connection, &root, &space)? };
        catalog::ensure(connection, &space, None, writes)?;
        let generation = catalog::find(connection, &root, &space)?.ok_or_else(closed)?;
        if !beside && live.is_none() {
            catalog::promote(connection, &space.fingerprint, writes)?;
        }
        Ok(generation)
    };
    store.write("opening a generation", register).await
}

impl Drop for EmbeddedIndex {
    /// Waits for the writing thread, so that the folder's lock is free when this returns.
    fn drop(&mut self) {
        self.opened.get_mut().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Index for EmbeddedIndex {
    fn fingerprint(&self) -> &Fingerprint {
        &self.space.fingerprint
    }

    fn search<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            self.space.check_query(query)?;
            let ((store, generation), query, dim) = (self.opened()?, query.clone(), self.space.embedding_dim as usize);
            let search = move |store: &Store, connection: &rusqlite::Connection| {
                search::search(store, connection, generation, &query, dim)
            };
            store.read("searching", search).await
        }
        .boxed()
    }

    fn retrieve<'a>(&'a self, kind: Kind, point_ids: &'a [Uuid]) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            let ((store, generation), ids) = (self.opened()?, point_ids.to_vec());
            store.read("reading points", move |_, connection| read::retrieve(connection, generation, kind, &ids)).await
        }
        .boxed()
    }

    fn scroll(&self, kind: Kind, scope: Scope, from: Option<Uuid>, limit: u32) -> BoxFuture<'_, Result<Page, IndexError>> {
        async move {
            let (store, generation) = self.opened()?;
            let page = move |_: &Store, connection: &rusqlite::Connection| {
                read::scroll(connection, generation, kind, scope, from, limit as usize)
            };
            store.read("listing points", page).await
        }
        .boxed()
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<Kind, u64>, IndexError>> {
        async move {
            let (store, generation) = self.opened()?;
            store.check_present()?;
            let memory = store.memory();
            let arena = memory.arena(generation).ok_or_else(closed)?;
            Ok(Kind::ALL.into_iter().map(|kind| (kind, arena.live[code(kind)].max(0) as u64)).collect())
        }
        .boxed()
    }

    fn purge(&self, before_ms: u64) -> BoxFuture<'_, Result<u64, IndexError>> {
        async move {
            let (store, generation) = self.opened()?;
            let mut purged = 0;
            loop {
                let some = move |connection: &rusqlite::Connection, writes: &mut writer::Writes<'_>| {
                    rows::purge(connection, generation, before_ms, writes)
                };
                match store.write("removing tombstones", some).await? {
                    0 => return Ok(purged),
                    some => purged += some as u64,
                }
            }
        }
        .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move { self.opened()?.0.write("answering", |_, _| Ok(())).await }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            blocking(move || drop(opened)).await
        }
        .boxed()
    }
}

impl IndexWriter for EmbeddedIndex {
    fn apply<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<Vec<Outcome>, IndexError>> {
        async move {
            check(changes, &self.space)?;
            let (store, generation) = self.opened()?;
            if changes.is_empty() {
                return Ok(Vec::new());
            }
            store.check_present()?;
            let ready: Vec<rows::Write> =
                newest(changes).into_iter().map(|change| rows::Write::of(change, &self.space)).collect();
            let write = move |connection: &rusqlite::Connection, writes: &mut writer::Writes<'_>| {
                let apply = |write: &rows::Write| {
                    let outcome = rows::apply(connection, generation, write, writes)?;
                    Ok((write.id(), (write.order(), outcome)))
                };
                ready.iter().map(apply).collect::<Result<_, Failure>>()
            };
            Ok(each_outcome(changes, &store.write("writing points", write).await?))
        }
        .boxed()
    }
}
