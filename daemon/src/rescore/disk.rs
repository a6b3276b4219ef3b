//! The feature cache's tier on disk: one table of an SQLite file, shared by all generations of a daemon.
//!
//! An entry lies beside its whole key, under a checksum of both; one that does not agree is a miss, and goes. The file's bytes are
//! taken at the start, so that a disk that fills later costs nothing but others' files; when all are used the oldest entries fall out.
//! What can't be had (a full disk, a folder that another process uses) leaves the cache in memory only, and says so.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::cache::StateKey;
use super::entry::Entry;
use super::metrics::RescoreMetrics;
use super::table::{self, DiskError};
use crate::config::DiskConfig;
use crate::vitals::{Meter, Metrics, WarnLimiter};

/// Most bytes waiting to be written; beyond them an entry stays in memory only.
const WRITES_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Folder of this form of entries below the configured one: another form never reads them.
const FORM: &str = "states-v2";
/// The form before this one, which nothing reads any more.
const FORM_BEFORE: &str = "states-v1";
/// Held by the process that uses the folder.
const LOCK_FILE: &str = "lock";
/// Longest wait for a read: encoding anew is not much slower.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Entries that a failing disk does not take.
static LEFT_OUT: WarnLimiter = WarnLimiter::new();

/// States of items on disk.
#[derive(Debug)]
pub struct DiskTier {
    store: Arc<Mutex<Store>>,
    writes: mpsc::UnboundedSender<(StateKey, Vec<u8>, OwnedSemaphorePermit)>,
    /// A permit for each byte that may wait.
    room: Arc<Semaphore>,
}

impl DiskTier {
    /// Opens the folder with what it holds; `None`, said in log and metrics, where it can't be used.
    pub async fn open(config: &DiskConfig, metrics: &Metrics) -> Option<Arc<Self>> {
        let (path, bytes_max, meter) = (config.path.clone(), config.bytes_max, metrics.of::<RescoreMetrics>());
        let opened = tokio::task::spawn_blocking(move || Self::try_open(&path, bytes_max, meter)).await;
        match opened.unwrap_or_else(|error| Err(DiskError::Io(error.into()))) {
            Ok(tier) => {
                metrics.of::<RescoreMetrics>().set_disk(true, config.bytes_max);
                info!(path = %config.path.display(), bytes_max = config.bytes_max, "the feature cache has a tier on disk");
                Some(Arc::new(tier))
            }
            Err(problem) => {
                metrics.of::<RescoreMetrics>().set_disk(false, 0);
                warn!(path = %config.path.display(), %problem, "the feature cache is in memory only: rescore.cache.disk_path");
                None
            }
        }
    }

    fn try_open(path: &Path, bytes_max: u64, metrics: Meter<RescoreMetrics>) -> Result<Self, DiskError> {
        let store = Arc::new(Mutex::new(Store::open(path, bytes_max, metrics)?));
        let (writes, mut queue) = mpsc::unbounded_channel::<(StateKey, Vec<u8>, OwnedSemaphorePermit)>();
        let written = Arc::clone(&store);
        // It ends with the tier, which holds the other side of the queue.
        std::thread::Builder::new().name("rescore-disk".into()).spawn(move || {
            while let Some((key, bytes, _permit)) = queue.blocking_recv() {
                written.blocking_lock().with(|db, bytes_max| table::put(db, bytes_max, &key, &bytes));
            }
        })?;
        Ok(Self { store, writes, room: Arc::new(Semaphore::new(WRITES_BYTES_MAX as usize)) })
    }

    /// The entry of `key`; `None` where it is not there, damaged, or not read in time.
    pub(super) async fn get(&self, key: &StateKey) -> Option<Entry> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        let read = async {
            let mut store = store.lock_owned().await;
            tokio::task::spawn_blocking(move || store.with(|db, _| table::get(db, &key)).flatten()).await
        };
        tokio::time::timeout(READ_TIMEOUT, read).await.ok()?.ok()?
    }

    /// Queues `entry` to be written, unless it is there. Where too much waits it is left out.
    pub(super) fn put(&self, key: &StateKey, entry: &Entry) {
        let bytes = entry.to_bytes();
        let permits = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(permits) {
            let _ = self.writes.send((key.clone(), bytes, permit));
        }
    }

    /// Waits until everything that was queued is written.
    pub async fn flushed(&self) {
        let _ = self.room.acquire_many(WRITES_BYTES_MAX).await;
    }

    /// Writes what is queued; afterwards nothing more is.
    pub async fn close(&self) {
        self.flushed().await;
        self.room.close();
        self.store.lock().await.open = None;
    }
}

/// The folder, and while it is used its database and lock.
#[derive(Debug)]
struct Store {
    folder: PathBuf,
    bytes_max: u64,
    metrics: Meter<RescoreMetrics>,
    open: Option<(Connection, File)>,
}

impl Store {
    fn open(path: &Path, bytes_max: u64, metrics: Meter<RescoreMetrics>) -> Result<Self, DiskError> {
        let folder = path.join(FORM);
        std::fs::create_dir_all(&folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DiskError::Used,
            TryLockError::Error(error) => error.into(),
        })?;
        if path.join(FORM_BEFORE).is_dir() {
            info!(path = %path.join(FORM_BEFORE).display(), "the feature cache of an older version is removed");
            std::fs::remove_dir_all(path.join(FORM_BEFORE))?;
        }
        let db = match table::connect(&folder, bytes_max) {
            Err(DiskError::Sqlite(error)) if table::is_damage(&error) => table::make_anew(&folder, bytes_max, &error)?,
            db => db?,
        };
        Ok(Self { folder, bytes_max, metrics, open: Some((db, lock)) })
    }

    /// What `act` gives, of the database and its most bytes. A file that turns out to be damaged is made anew.
    fn with<T>(&mut self, act: impl FnOnce(&Connection, u64) -> rusqlite::Result<T>) -> Option<T> {
        let (db, lock) = self.open.take()?;
        let (db, found) = match act(&db, self.bytes_max) {
            Ok(found) => (db, Some(found)),
            Err(error) if table::is_damage(&error) => {
                drop(db);
                let anew = table::make_anew(&self.folder, self.bytes_max, &error);
                let lost = |error| {
                    self.metrics.set_disk(false, 0);
                    warn!(%error, "the feature cache's tier on disk is lost until the next start");
                };
                (anew.map_err(lost).ok()?, None)
            }
            Err(error) => {
                if let Some(repeated) = LEFT_OUT.due("") {
                    warn!(%error, repeated, "the feature cache's tier on disk leaves out an entry");
                }
                (db, None)
            }
        };
        self.open = Some((db, lock));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use astromech_schemas::Fingerprint;
    use astromech_towers::{EmbeddedStates, ImageStates};

    use super::*;
    use crate::config::{CacheConfig, StatesForm};
    use crate::media::ContentHash;
    use crate::rescore::StateCache;
    use crate::rescore::table::{files, taken};

    const BYTES_MAX: u64 = 64 * 1024 * 1024;
    /// Found again in the files.
    const MARK: f32 = 0.123_456_7;

    async fn open(path: &Path, bytes_max: u64) -> (Option<Arc<DiskTier>>, Metrics) {
        let metrics = Metrics::new();
        let tier = DiskTier::open(&DiskConfig { path: path.to_owned(), bytes_max }, &metrics).await;
        (tier, metrics)
    }

    /// A cache that keeps nothing in memory, of the bundle named by `letter`.
    fn cache(tier: &Arc<DiskTier>, letter: &str) -> StateCache {
        let config = CacheConfig { bytes_max: 0, states: StatesForm::F16, warm: false, disk: None };
        let fingerprint = Fingerprint::try_from(letter.repeat(64)).unwrap();
        StateCache::new(fingerprint, &config, Some(Arc::clone(tier)), Metrics::new().of())
    }

    fn encoded(number: f32, count: usize) -> EmbeddedStates<ImageStates> {
        let states = ImageStates { tokens: 1, width: count, data: vec![number; count].into() };
        EmbeddedStates { embedding: vec![MARK, number], tokens: None, states: Arc::new(states) }
    }

    async fn found(cache: &StateCache, content: &[u8]) -> Option<EmbeddedStates<ImageStates>> {
        cache.get(&cache.image_key(&ContentHash::of(content))).await
    }

    fn put(cache: &StateCache, content: &[u8], states: &EmbeddedStates<ImageStates>) {
        cache.put(cache.image_key(&ContentHash::of(content)), states);
    }

    /// Folder of a closed tier that holds one entry, of content `a`.
    async fn one_entry() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tier = open(folder.path(), BYTES_MAX).await.0.unwrap();
        put(&cache(&tier, "a"), b"a", &encoded(0.5, 1000));
        tier.close().await;
        folder
    }

    /// The file that holds the entry, and where.
    fn entry_of(folder: &Path) -> (std::path::PathBuf, u64) {
        let mark = MARK.to_le_bytes();
        let files = files(&folder.join(FORM)).unwrap().into_iter();
        let mut places = files.filter_map(|path| {
            let at = std::fs::read(&path).unwrap().windows(4).position(|bytes| bytes == mark)?;
            Some((path, at as u64))
        });
        places.next().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_encoded_before_a_restart_is_found_after_it_and_only_by_its_own_bundle() {
        let folder = one_entry().await;
        let tier = open(folder.path(), BYTES_MAX).await.0.unwrap();
        let states = found(&cache(&tier, "a"), b"a").await.unwrap();
        assert_eq!(states.embedding, vec![MARK, 0.5]);
        assert_eq!(&states.states.data[..], &vec![0.5; 1000]);
        assert!(found(&cache(&tier, "a"), b"b").await.is_none(), "another content");
        assert!(found(&cache(&tier, "b"), b"a").await.is_none(), "another bundle");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flipped_byte_anywhere_in_an_entry_is_a_miss() {
        // In the embedding, in the states, and in the entry's head before both.
        for offset in [0_i64, 100, 1500, -HEAD] {
            let folder = one_entry().await;
            let (path, at) = entry_of(folder.path());
            let file = File::options().read(true).write(true).open(path).unwrap();
            let (mut byte, at) = ([0], at.checked_add_signed(offset).unwrap());
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let tier = open(folder.path(), BYTES_MAX).await.0.unwrap();
            assert!(found(&cache(&tier, "a"), b"a").await.is_none(), "byte {offset}");
        }
    }

    /// Bytes from an entry's form word to its vector.
    const HEAD: i64 = 16;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_truncated_file_is_a_miss_and_what_comes_next_is_kept() {
        for rest in [100, 0] {
            let folder = one_entry().await;
            let (path, at) = entry_of(folder.path());
            File::options().write(true).open(path).unwrap().set_len(if rest == 0 { 0 } else { at + rest }).unwrap();
            let tier = open(folder.path(), BYTES_MAX).await.0.unwrap();
            let cache = cache(&tier, "a");
            assert!(found(&cache, b"a").await.is_none(), "{rest} bytes left");
            put(&cache, b"a", &encoded(0.25, 10));
            tier.flushed().await;
            assert_eq!(found(&cache, b"a").await.unwrap().embedding, vec![MARK, 0.25]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_disk_takes_its_bytes_at_the_start_and_never_more() {
        let folder = tempfile::tempdir().unwrap();
        let (tier, metrics) = open(folder.path(), BYTES_MAX).await;
        let tier = tier.unwrap();
        let line = format!("astromech_rescore_cache_bytes{{tier=\"disk\"}} {BYTES_MAX}");
        assert!(metrics.encode().lines().any(|l| l == line), "no `{line}`");
        let cache = cache(&tier, "a");
        let states = encoded(0.5, 500_000);
        // 100 entries of a megabyte each, one and a half times what is there.
        for content in 0..100_u32 {
            put(&cache, &content.to_le_bytes(), &states);
            tier.flushed().await;
        }
        assert_eq!(taken(&folder.path().join(FORM)).unwrap(), BYTES_MAX);
        assert!(found(&cache, &99_u32.to_le_bytes()).await.is_some(), "the newest is there");
        assert!(found(&cache, &0_u32.to_le_bytes()).await.is_none(), "the oldest fell out");
        tier.close().await;
        drop((cache, tier));
        // A smaller limit gives the rest back.
        let half = open(folder.path(), BYTES_MAX / 2).await.0;
        assert!(half.is_some());
        assert_eq!(taken(&folder.path().join(FORM)).unwrap(), BYTES_MAX / 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_and_a_folder_in_use_leave_the_cache_in_memory_and_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let (tier, metrics) = open(folder.path(), 1 << 60).await;
        assert!(tier.is_none());
        assert!(metrics.encode().lines().any(|line| line == "astromech_rescore_cache_disk_up 0"));
        assert_eq!(taken(&folder.path().join(FORM)).unwrap(), 0, "nothing was taken");
        let (first, metrics) = open(folder.path(), BYTES_MAX).await;
        assert!(first.is_some());
        assert!(metrics.encode().lines().any(|line| line == "astromech_rescore_cache_disk_up 1"));
        assert!(open(folder.path(), BYTES_MAX).await.0.is_none(), "two would write over each other");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_folder_of_an_older_version_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FORM_BEFORE)).unwrap();
        std::fs::write(folder.path().join(FORM_BEFORE).join("foyer-storage-direct-fs-00000000"), "block").unwrap();
        assert!(open(folder.path(), BYTES_MAX).await.0.is_some());
        assert!(!folder.path().join(FORM_BEFORE).exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_is_damaged_while_it_is_used_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let tier = open(folder.path(), BYTES_MAX).await.0.unwrap();
        let cache = cache(&tier, "a");
        put(&cache, b"a", &encoded(0.5, 1_000_000));
        tier.flushed().await;
        let [path] = &files(&folder.path().join(FORM))
            .unwrap()
            .into_iter()
            .filter(|path| path.extension().unwrap() == "sqlite3")
            .collect::<Vec<_>>()[..]
        else {
            panic!("one database")
        };
        let file = File::options().write(true).open(path).unwrap();
        // All but the first page, which the connection knows by heart.
        file.write_all_at(&vec![0xff; 3_000_000], 16 * 1024).unwrap();
        assert!(found(&cache, b"a").await.is_none());
        for content in 0..3_u32 {
            put(&cache, &content.to_le_bytes(), &encoded(0.25, 1_000_000));
            tier.flushed().await;
        }
        assert!(found(&cache, &2_u32.to_le_bytes()).await.is_some());
        assert!(open(folder.path(), BYTES_MAX).await.0.is_none(), "and it is still of one process");
    }
}
