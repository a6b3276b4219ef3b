//! One open database, shared by every generation of this process.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc};

use super::error::{Failure, closed, sql};
use super::memory::{Delta, GenerationId, Memory};
use super::rows::over;
use super::writer::{self, Job, Work, Writes};
use super::{READS_IN_FLIGHT_MAX, WRITE_QUEUE_MAX, folder, load, schema};
use crate::IndexError;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Device and inode of a file.
fn identity(file: &Path) -> Result<(u64, u64), IndexError> {
    let found = std::fs::metadata(file);
    let found = found.map_err(|error| IndexError::transient(format!("{}: looking at it: {error}", file.display()), error))?;
    Ok((found.dev(), found.ino()))
}

/// One database, its lock, its writing thread and its connections.
pub(super) struct Store {
    root: PathBuf,
    memory: RwLock<Memory>,
    /// Most bytes of memory for vectors.
    pub(super) vector_bytes_max: usize,
    readers: Mutex<Vec<Connection>>,
    reads: Arc<Semaphore>,
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock_file: Mutex<Option<File>>,
    /// Device and inode of the database when it was opened.
    identity: (u64, u64),
    /// One generation is loaded at a time.
    loading: Mutex<()>,
}

impl Store {
    fn open(root: &Path, vector_bytes_max: usize) -> Result<Arc<Self>, IndexError> {
        let lock_file = folder::take(root)?;
        let connection = schema::open_writer(root)?;
        let identity = identity(&folder::database(root))?;
        let commits = commits(&connection).map_err(|error| sql(&folder::database(root), "reading it", error))?;
        let (sender, receiver) = mpsc::channel(WRITE_QUEUE_MAX);
        let store = Arc::new(Self {
            root: root.to_owned(),
            memory: RwLock::new(Memory::new(commits)),
            vector_bytes_max,
            readers: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT_MAX)),
            jobs: Mutex::new(Some(sender)),
            writer: Mutex::default(),
            lock_file: Mutex::new(Some(lock_file)),
            identity,
            loading: Mutex::default(),
        });
        let owned = Arc::clone(&store);
        let thread = std::thread::Builder::new().name("astromech-index".to_owned());
        let thread = thread.spawn(move || writer::run(&owned, connection, receiver));
        *lock(&store.writer) = Some(thread.map_err(|error| IndexError::transient("starting the writing thread", error))?);
        Ok(store)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Refuses to go on once the database was removed or replaced: SQLite would read and write the removed file, and all of it would be gone
    /// with this process.
    ///
    /// # Errors
    /// [`IndexError::Mismatch`] then.
    pub(super) fn check_present(&self) -> Result<(), IndexError> {
        match identity(&self.file()) {
            Ok(found) if found == self.identity => Ok(()),
            _ => {
                let file = self.file();
                let problem = format!("{} was removed or replaced while it was open; stop, and bring it back", file.display());
                Err(IndexError::Mismatch(problem.into()))
            }
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        folder::database(&self.root)
    }

    /// Waits for what was sent, closes the connections and gives the lock back.
    fn close(&self) {
        lock(&self.jobs).take();
        if let Some(writer) = lock(&self.writer).take()
            && writer.join().is_err()
        {
            tracing::error!("the index's writing thread panicked");
        }
        lock(&self.lock_file).take();
    }

    pub(super) fn forget_readers(&self) {
        lock(&self.readers).clear();
    }

    /// Runs work in the writing thread's next transaction; returns once that is on disk and shown.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection, &mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, IndexError> {
        let work: Work<T> = Box::new(work);
        let (job, answer) = writer::job(doing, work);
        let sender = lock(&self.jobs).clone().ok_or_else(closed)?;
        sender.send(job).await.map_err(|_| closed())?;
        drop(sender);
        answer.await.map_err(|_| closed())?
    }

    /// Runs a read on a blocking thread, at most [`READS_IN_FLIGHT_MAX`] at a time.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&Self, &Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, IndexError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| closed())?;
        let store = Arc::clone(self);
        // The permit goes along: who stops waiting does not stop the read.
        let read = move || {
            let _permit = permit;
            store.with_reader(doing, |connection| work(&store, connection))
        };
        blocking(read).await?
    }

    pub(super) fn with_reader<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, IndexError> {
        let pooled = lock(&self.readers).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => schema::open_reader(&self.root)?,
        };
        let done = work(&connection).map_err(|failure| failure.at(&self.file(), doing));
        // After a failure it is not known what the connection still holds.
        if done.is_ok() && lock(&self.jobs).is_some() {
            lock(&self.readers).push(connection);
        }
        done
    }

    /// What memory shows now.
    pub(super) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of the very commit that the snapshot, which begins here on `connection`, sees.
    pub(super) fn memory_of_snapshot(&self, connection: &Connection) -> Result<RwLockReadGuard<'_, Memory>, Failure> {
        loop {
            // A writing thread that is gone shows nothing any more.
            if lock(&self.jobs).as_ref().is_none_or(mpsc::Sender::is_closed) {
                return Err(closed().into());
            }
            connection.execute_batch("BEGIN")?;
            let memory = self.memory();
            if commits(connection)? == memory.commits {
                return Ok(memory);
            }
            // Between a commit and its show, which is as long as memory takes to copy the vectors.
            drop(memory);
            connection.execute_batch("COMMIT")?;
            std::thread::yield_now();
        }
    }

    pub(super) fn show(&self, delta: Delta, commits: i64) {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).show(delta, commits);
    }

    /// Brings a generation's vectors into memory, unless they are there.
    pub(super) fn join(&self, generation: GenerationId) -> Result<(), IndexError> {
        let _one = lock(&self.loading);
        if self.memory.write().unwrap_or_else(PoisonError::into_inner).join(generation) {
            return Ok(());
        }
        let room = self.vector_bytes_max.saturating_sub(self.memory().bytes());
        let most = self.vector_bytes_max;
        let arena = self.with_reader("loading its vectors", |connection| load::arena(connection, generation, room, most))?;
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        // Others have grown while it was read.
        if memory.bytes() + arena.bytes() > most {
            return Err(over(most));
        }
        memory.insert(generation, arena);
        Ok(())
    }

    pub(super) fn leave(&self, generation: GenerationId) {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).leave(generation);
    }
}

fn commits(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.prepare_cached("SELECT commits FROM state")?.query_row([], |row| row.get(0))
}

/// Runs blocking work on the runtime's blocking threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| IndexError::transient("a read of the index failed", error))
}

/// What is open of one folder in this process.
#[derive(Default)]
struct Slot {
    store: Option<Arc<Store>>,
    leases: usize,
}

static SLOTS: LazyLock<Mutex<HashMap<PathBuf, Arc<Mutex<Slot>>>>> = LazyLock::new(Mutex::default);

fn slot(root: &Path) -> Arc<Mutex<Slot>> {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    Arc::clone(lock(&SLOTS).entry(root).or_default())
}

/// A use of a folder's store. The last that is dropped closes it.
pub(super) struct Lease {
    slot: Arc<Mutex<Slot>>,
    store: Arc<Store>,
}

impl Lease {
    /// Opens the folder, or joins those of this process that have it open. Blocks.
    pub(super) fn take(root: &Path, vector_bytes_max: usize) -> Result<Self, IndexError> {
        let slot = slot(root);
        let mut open = lock(&slot);
        let store = match &open.store {
            Some(store) => Arc::clone(store),
            None => Arc::clone(open.store.insert(Store::open(root, vector_bytes_max)?)),
        };
        open.leases += 1;
        drop(open);
        Ok(Self { slot, store })
    }

    /// Joins those of this process that have the folder open; `None` where nobody has.
    pub(super) fn join(root: &Path) -> Option<Self> {
        let slot = slot(root);
        let mut open = lock(&slot);
        let store = Arc::clone(open.store.as_ref()?);
        open.leases += 1;
        drop(open);
        Some(Self { slot, store })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Drop for Lease {
    /// Waits for the writing thread, so that the folder's lock is free when this returns.
    fn drop(&mut self) {
        let mut open = lock(&self.slot);
        open.leases -= 1;
        if open.leases == 0
            && let Some(store) = open.store.take()
        {
            store.close();
        }
    }
}
