//! Counters of the towers, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Priority;

/// One of the three graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tower {
    /// Pictures to vectors.
    Image,
    /// Texts to vectors.
    Text,
    /// Pairs of states to match scores.
    Cross,
}

impl Tower {
    /// The word in metrics, errors and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Cross => "cross",
        }
    }
}

/// Entries waiting for each tower, live and indexing together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepths {
    /// Pictures.
    pub image: usize,
    /// Texts.
    pub text: usize,
    /// Chunks of pairs.
    pub cross: usize,
}

/// Counters of one tower. They only grow.
#[derive(Debug, Default)]
pub struct TowerCounter {
    batches: AtomicU64,
    items: AtomicU64,
    dropped: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    busy_us: AtomicU64,
    live_batches: AtomicU64,
    indexing_batches: AtomicU64,
}

impl TowerCounter {
    /// Batches run.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Entries answered with a result: pictures, texts, or chunks of pairs.
    pub fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    /// Entries dropped before they cost anything, because their caller had gone away.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Entries dropped before they cost anything, because their deadline had passed in the queue or before there was room in it.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Entries answered with an error.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Batches handed to a worker whose oldest entry, the one whose turn it was, is of `priority`. One that fails is among them.
    pub fn batches_led(&self, priority: Priority) -> u64 {
        self.led(priority).load(Ordering::Relaxed)
    }

    const fn led(&self, priority: Priority) -> &AtomicU64 {
        match priority {
            Priority::Live => &self.live_batches,
            Priority::Indexing => &self.indexing_batches,
        }
    }

    /// Time that workers spent in batches, all workers together.
    pub fn busy(&self) -> Duration {
        Duration::from_micros(self.busy_us.load(Ordering::Relaxed))
    }

    pub(crate) fn add_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_failed(&self, count: usize) {
        self.failed.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_led(&self, priority: Priority) {
        self.led(priority).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_batch(&self, items: usize, busy: Duration) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        self.busy_us.fetch_add(busy.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Counters of the three towers.
#[derive(Debug, Default)]
pub struct TowerCounters {
    /// Image tower.
    pub image: TowerCounter,
    /// Text tower.
    pub text: TowerCounter,
    /// Cross tower.
    pub cross: TowerCounter,
}

impl TowerCounters {
    /// Counters of `tower`.
    pub const fn of(&self, tower: Tower) -> &TowerCounter {
        match tower {
            Tower::Image => &self.image,
            Tower::Text => &self.text,
            Tower::Cross => &self.cross,
        }
    }
}

/// Told of what the towers do, as it happens, on their threads: for metrics. Must not block.
pub trait BatchObserver: Send + Sync {
    /// A batch of `items` entries took `busy`.
    fn batch(&self, tower: Tower, items: usize, busy: Duration);

    /// A batch whose turn was that of an entry of `priority` was handed to a worker.
    fn led(&self, _tower: Tower, _priority: Priority) {}

    /// One entry was dropped before it cost anything, because its deadline had passed.
    fn expired(&self, _tower: Tower) {}

    /// One entry was dropped before it cost anything, because its caller had gone away.
    fn dropped(&self, _tower: Tower) {}
}
