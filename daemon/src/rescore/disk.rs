//! The feature cache's tier on disk: foyer's block engine over one folder, shared by all generations of a daemon.
//!
//! An entry is written beside its whole key, under a checksum; one that does not agree is a miss. The folder's bytes are taken at the
//! start, so that a disk that fills later costs nothing but others' files. What can't be had (a full disk, a folder that another process
//! uses) leaves the cache in memory only, and says so.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foyer::{
    BlockEngineConfig, Code, DeviceBuilder as _, Error as FoyerError, FsDeviceBuilder, HybridCache, HybridCacheBuilder, Load,
    PsyncIoEngineConfig, RecoverMode,
};
use fs4::fs_std::FileExt as _;
use tracing::{info, warn};

use super::cache::StateKey;
use super::entry::Entry;
use super::metrics::RescoreMetrics;
use crate::config::DiskConfig;
use crate::telemetry::Metrics;

/// Bytes of one block, which is thrown away as a whole when room is needed; no entry is larger.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes waiting to be written; beyond them an entry stays in memory only.
const WRITES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Folder of this form of entries below the configured one: another form never reads them.
const FORM: &str = "states-v1";
/// Held by the process that uses the folder.
const LOCK_FILE: &str = "lock";
/// Longest wait for a read: encoding anew is not much slower.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// An entry's bytes.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Code for Bytes {
    fn encode(&self, writer: &mut impl io::Write) -> Result<(), FoyerError> {
        writer.write_all(&self.0).map_err(FoyerError::io_error)
    }

    fn decode(reader: &mut impl io::Read) -> Result<Self, FoyerError> {
        let mut bytes = Vec::new();
        // The reader ends with the entry, whose length is under its block's.
        reader.read_to_end(&mut bytes).map_err(FoyerError::io_error)?;
        Ok(Self(bytes))
    }

    fn estimated_size(&self) -> usize {
        self.0.len()
    }
}

impl Code for StateKey {
    fn encode(&self, writer: &mut impl io::Write) -> Result<(), FoyerError> {
        writer.write_all(self.as_bytes()).map_err(FoyerError::io_error)
    }

    fn decode(reader: &mut impl io::Read) -> Result<Self, FoyerError> {
        let mut hash = [0; 32];
        reader.read_exact(&mut hash).map_err(FoyerError::io_error)?;
        Ok(Self::from_bytes(hash))
    }

    fn estimated_size(&self) -> usize {
        self.as_bytes().len()
    }
}

/// Why there is no tier on disk.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(
        "{available} bytes are free there and it needs {needed} more; fix: free the disk, or lower rescore.cache.disk_bytes_max"
    )]
    Full { available: u64, needed: u64 },
    #[error("another process uses it; fix: give each its own rescore.cache.disk_path")]
    Used,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Engine(#[from] FoyerError),
}

/// States of items on disk.
pub struct DiskTier {
    store: HybridCache<StateKey, Bytes>,
    // Held as long as the folder is used.
    _lock: File,
}

impl std::fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskTier").finish_non_exhaustive()
    }
}

impl DiskTier {
    /// Opens the folder with what it holds; `None`, said in log and metrics, where it can't be used. On the runtime that it lives on.
    pub async fn open(config: &DiskConfig, metrics: &Metrics) -> Option<Arc<Self>> {
        match Self::try_open(&config.path, config.bytes_max).await {
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

    async fn try_open(path: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        let folder = path.join(FORM);
        std::fs::create_dir_all(&folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DiskError::Used,
            TryLockError::Error(error) => error.into(),
        })?;
        let blocks = usize::try_from(bytes_max).unwrap_or(usize::MAX) / BLOCK_BYTES;
        drop_surplus(&folder, blocks)?;
        let needed = (blocks as u64 * BLOCK_BYTES as u64).saturating_sub(taken(&folder)?);
        let available = fs4::available_space(&folder)?;
        if needed > available {
            return Err(DiskError::Full { available, needed });
        }
        let device = FsDeviceBuilder::new(&folder).with_capacity(blocks * BLOCK_BYTES).build()?;
        let engine =
            BlockEngineConfig::new(device).with_block_size(BLOCK_BYTES).with_submit_queue_size_threshold(WRITES_BYTES_MAX);
        // Nothing stays in its memory: that tier is the caller's.
        let builder = HybridCacheBuilder::new().with_name("rescore").with_flush_on_close(false).memory(1).storage();
        let builder = builder.with_io_engine_config(PsyncIoEngineConfig::new()).with_engine_config(engine);
        let store = builder.with_recover_mode(RecoverMode::Quiet).build().await?;
        let tier = Self { store, _lock: lock };
        if let Err(error) = take_all(&folder) {
            tier.close().await;
            return Err(error.into());
        }
        Ok(tier)
    }

    /// The entry of `key`; `None` where it is not there, damaged, or not read in time.
    pub(super) async fn get(&self, key: &StateKey) -> Option<Entry> {
        let load = tokio::time::timeout(READ_TIMEOUT, self.store.storage().load(key)).await.ok()?;
        match load.ok()? {
            Load::Entry { value, .. } => Entry::from_bytes(&value.0),
            Load::Piece { piece, .. } => Entry::from_bytes(&piece.value().0),
            Load::Throttled | Load::Miss => None,
        }
    }

    /// Queues `entry` to be written, unless it is there. Where too much waits it is left out.
    pub(super) fn put(&self, key: &StateKey, entry: &Entry) {
        if !self.store.storage().may_contains(key) {
            let _ = self.store.storage_writer(key.clone()).force().insert(Bytes(entry.to_bytes()));
        }
    }

    /// Waits until everything that was queued is written.
    pub async fn flushed(&self) {
        self.store.storage().wait().await;
    }

    /// Writes what is queued; afterwards nothing more is.
    pub async fn close(&self) {
        if let Err(error) = self.store.close().await {
            warn!(%error, "the feature cache's tier on disk was not closed cleanly");
        }
    }
}

/// Blocks of a folder: foyer's files, one a block, in their order.
fn blocks(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let files: io::Result<Vec<_>> = std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect();
    let mut files = files?;
    files.sort();
    Ok(files)
}

/// Removes blocks beyond the limit, which was larger once.
fn drop_surplus(folder: &Path, most: usize) -> io::Result<()> {
    blocks(folder)?.iter().skip(most).try_for_each(std::fs::remove_file)
}

/// Bytes that a folder's files take of the disk.
fn taken(folder: &Path) -> io::Result<u64> {
    blocks(folder)?.iter().map(|path| File::open(path)?.allocated_size()).sum()
}

/// Takes each block's bytes of the disk, where the file system can.
fn take_all(folder: &Path) -> io::Result<()> {
    for path in blocks(folder)? {
        let file = File::options().write(true).open(path)?;
        match file.allocate(BLOCK_BYTES as u64) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            result => result?,
        }
    }
    Ok(())
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
        let files = blocks(&folder.join(FORM)).unwrap().into_iter();
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
}
