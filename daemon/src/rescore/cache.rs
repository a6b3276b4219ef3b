//! The feature cache: vector and states of items that were encoded once.
//!
//! A key is the hash of the bundle's fingerprint, the side, and the content as the tower sees it: a picture's encoded bytes, a text's
//! token ids. So a changed item or another bundle never finds an old state, and nothing has to be invalidated. In memory what is over
//! `rescore.cache.bytes_max` falls out, the least used first; what is encoded goes to disk too, where there is a tier
//! (`rescore.cache.disk_path`), and comes back from there after a restart.

use std::sync::Arc;

use astromech_schemas::Fingerprint;
use astromech_schemas::rescore::Side;
use astromech_towers::EmbeddedStates;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest as _, Sha256};

use super::disk::DiskTier;
use super::entry::{Entry, States};
use super::metrics::{CacheTier, RescoreMetrics};
use crate::config::{CacheConfig, StatesForm};
use crate::media::ContentHash;
use crate::vitals::Meter;

/// Parts that lock alone. Few, because each has its own share of the bytes, and one item must fit into it.
const SHARDS: usize = 4;
/// About how large an item is, for the tables beside the items: a small model's states.
const ITEM_BYTES_GUESS: u64 = 64 * 1024;

/// Name of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateKey([u8; 32]);

impl StateKey {
    /// The hash itself.
    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<StateKey, Entry> for ByBytes {
    fn weight(&self, _: &StateKey, entry: &Entry) -> u64 {
        entry.bytes() as u64
    }
}

/// The feature cache of one bundle.
pub struct StateCache {
    fingerprint: Fingerprint,
    form: StatesForm,
    entries: Cache<StateKey, Entry, ByBytes>,
    disk: Option<Arc<DiskTier>>,
    metrics: Meter<RescoreMetrics>,
}

impl StateCache {
    /// A cache for the states of the bundle `fingerprint`: nothing in memory, on disk what `disk` holds, which caches of several bundles
    /// may share.
    ///
    /// # Panics
    /// Never: the options are complete.
    pub fn new(
        fingerprint: Fingerprint,
        config: &CacheConfig,
        disk: Option<Arc<DiskTier>>,
        metrics: Meter<RescoreMetrics>,
    ) -> Self {
        let items = (config.bytes_max / ITEM_BYTES_GUESS).max(1) as usize;
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(items)
            .weight_capacity(config.bytes_max)
            .build()
            .expect("both capacities are set");
        let entries = Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self { fingerprint, form: config.states, entries, disk, metrics }
    }

    /// Key of an encoded picture.
    pub fn image_key(&self, content: &ContentHash) -> StateKey {
        self.key(Side::Image, content.as_bytes())
    }

    /// Key of a text, by its token ids: texts that the tower can't tell apart share it.
    pub fn text_key(&self, ids: &[i64]) -> StateKey {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.key(Side::Text, &bytes)
    }

    fn key(&self, side: Side, content: &[u8]) -> StateKey {
        let mut hash = Sha256::new();
        // Of fixed length each, so no two keys run into each other.
        hash.update(self.fingerprint.as_str());
        hash.update([match side {
            Side::Image => 0_u8,
            Side::Text => 1,
        }]);
        hash.update(content);
        StateKey(hash.finalize().into())
    }

    /// The entry of `key`, else what `encode` gives, which is kept; and whether it was there. Callers that want the same at once wait
    /// for the first; where that one fails or is dropped, the next encodes.
    ///
    /// # Errors
    /// Those of `encode`; nothing is kept then.
    pub async fn get_or_encode<S: States, E>(
        &self,
        key: &StateKey,
        encode: impl Future<Output = Result<EmbeddedStates<S>, E>>,
    ) -> Result<(EmbeddedStates<S>, bool), E> {
        match self.entries.get_value_or_guard_async(key).await {
            Ok(entry) => {
                self.looked::<S>(CacheTier::Memory, true);
                Ok((entry.load(), true))
            }
            Err(guard) => {
                self.looked::<S>(CacheTier::Memory, false);
                let found = self.look_on_disk::<S>(key).await;
                let hit = found.is_some();
                let (entry, encoded) = if let Some(entry) = found {
                    let encoded = entry.load();
                    (entry, encoded)
                } else {
                    let encoded = encode.await?;
                    (self.written(key, &encoded), encoded)
                };
                // An entry that was put there meanwhile is the same.
                let _ = guard.insert(entry);
                self.report();
                Ok((encoded, hit))
            }
        }
    }

    /// The entry of `key`, if it is there.
    pub async fn get<S: States>(&self, key: &StateKey) -> Option<EmbeddedStates<S>> {
        if let Some(entry) = self.entries.get(key) {
            self.looked::<S>(CacheTier::Memory, true);
            return Some(entry.load());
        }
        self.looked::<S>(CacheTier::Memory, false);
        let entry = self.look_on_disk::<S>(key).await?;
        let encoded = entry.load();
        self.entries.insert(key.clone(), entry);
        self.report();
        Some(encoded)
    }

    /// Keeps what somebody else has encoded: the indexing pipeline.
    pub fn put<S: States>(&self, key: StateKey, encoded: &EmbeddedStates<S>) {
        let entry = self.written(&key, encoded);
        self.entries.insert(key, entry);
        self.report();
    }

    /// The tier on disk, where there is one.
    pub const fn disk(&self) -> Option<&Arc<DiskTier>> {
        self.disk.as_ref()
    }

    async fn look_on_disk<S: States>(&self, key: &StateKey) -> Option<Entry> {
        let found = self.disk.as_ref()?.get(key).await;
        self.looked::<S>(CacheTier::Disk, found.is_some());
        found
    }

    /// An entry for memory, on its way to the disk too.
    fn written<S: States>(&self, key: &StateKey, encoded: &EmbeddedStates<S>) -> Entry {
        let entry = Entry::new(encoded, self.form);
        if let Some(disk) = &self.disk {
            disk.put(key, &entry);
        }
        entry
    }

    fn looked<S: States>(&self, tier: CacheTier, hit: bool) {
        self.metrics.cache_looked(S::SIDE, tier, hit);
    }

    /// Entries held.
    pub fn items(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn report(&self) {
        self.metrics.set_cache(self.items(), self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use astromech_towers::ImageStates;

    use super::*;
    use crate::vitals::Metrics;

    fn cache(bytes_max: u64, states: StatesForm) -> StateCache {
        let fingerprint = Fingerprint::try_from("a".repeat(64)).unwrap();
        let config = CacheConfig { bytes_max, states, warm: false, disk: None };
        StateCache::new(fingerprint, &config, None, Metrics::new().of())
    }

    fn encoded(numbers: &[f32]) -> EmbeddedStates<ImageStates> {
        let states = ImageStates { tokens: 1, width: numbers.len(), data: numbers.into() };
        EmbeddedStates { embedding: vec![1.0, 0.0], tokens: None, states: Arc::new(states) }
    }

    fn key(cache: &StateCache, content: u32) -> StateKey {
        cache.image_key(&ContentHash::of(&content.to_le_bytes()))
    }

    #[tokio::test]
    async fn states_come_back_within_half_precision_and_what_is_beyond_it_in_full() {
        let cache = cache(1 << 20, StatesForm::F16);
        for (content, numbers) in [[0.1_f32, -3.25, 1e-3], [1e6, -0.1, 0.0]].iter().enumerate() {
            let key = key(&cache, content as u32);
            cache.put(key.clone(), &encoded(numbers));
            let found = cache.get::<ImageStates>(&key).await.unwrap();
            for (found, put) in found.states.data.iter().zip(numbers) {
                assert!((found - put).abs() <= put.abs() * 1e-3, "{found} for {put}");
            }
        }
    }

    #[test]
    fn a_key_depends_on_content_side_and_bundle() {
        let one = cache(1 << 20, StatesForm::F32);
        let other = StateCache { fingerprint: Fingerprint::try_from("b".repeat(64)).unwrap(), ..cache(1 << 20, StatesForm::F32) };
        let text = one.text_key(&[1, 2]);
        let keys = [key(&one, 1), key(&one, 2), key(&other, 1), text.clone(), other.text_key(&[1, 2]), one.text_key(&[2, 1])];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert_eq!(one.text_key(&[1, 2]), text);
    }

    #[test]
    fn bytes_stay_under_their_limit() {
        let cache = cache(64 * 1024, StatesForm::F32);
        for content in 0..200 {
            cache.put(key(&cache, content), &encoded(&[0.5; 1000]));
            assert!(cache.bytes() <= 64 * 1024);
        }
        assert!(cache.items() > 5, "{}", cache.items());
        // One that is larger than everything is not kept, and takes nothing with it.
        let before = cache.items();
        cache.put(key(&cache, 1000), &encoded(&vec![0.5; 100_000]));
        assert_eq!(cache.items(), before);
    }

    #[tokio::test]
    async fn a_failed_encoding_keeps_nothing_and_the_next_caller_encodes() {
        let cache = cache(1 << 20, StatesForm::F32);
        let key = key(&cache, 1);
        let failed = cache.get_or_encode::<ImageStates, _>(&key, async { Err("no") }).await;
        assert_eq!(failed.unwrap_err(), "no");
        let (_, hit) = cache.get_or_encode::<ImageStates, &str>(&key, async { Ok(encoded(&[1.0])) }).await.unwrap();
        assert!(!hit);
        let (_, hit) = cache.get_or_encode::<ImageStates, _>(&key, async { Err("not asked") }).await.unwrap();
        assert!(hit);
    }
}
