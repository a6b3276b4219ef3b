//! `[index]` and the sections of its engines.

use std::path::PathBuf;
use std::time::Duration;

use astromech_settings::kinds::{choice, float, int, millis, path, path_or_none, text};
use astromech_settings::{Value as _, settings};

use crate::limits::hours;
use crate::secret::Secret;
use crate::{GIB, MIB, MINUTE_MS};

/// Which engine, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineConfig {
    /// SQLite in this process.
    Embedded {
        /// Folder of the index; created where it is missing.
        path: PathBuf,
        /// Most bytes of memory for vectors.
        vector_bytes_max: usize,
    },
    /// A Qdrant server over gRPC.
    Qdrant {
        /// gRPC address.
        url: String,
        /// API key, read from the file that the configuration names.
        api_key: Option<Secret>,
        /// Longest wait for one request.
        timeout: Duration,
    },
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Embedded,
    Qdrant,
}

/// What a start does where the index is gone and its group's offsets are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Nothing is made; the daemon is not ready, and says why.
    #[default]
    Refuse,
    /// The group is set to the oldest records.
    Refill,
}

const ON_LOST: &[(&str, OnLost)] = &[("refuse", OnLost::Refuse), ("refill", OnLost::Refill)];

settings! {
    /// `[index]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct IndexConfig {
        /// Which engine, and where.
        engine: EngineConfig = derived => EngineConfig::Embedded { path: PathBuf::new(), vector_bytes_max: 0 };
        /// Most points in one write.
        batch_points_max: usize = 256 => int(1, 4096);
        /// Longest wait for a write to fill, milliseconds.
        batch_wait_max as "batch_wait_ms_max": Duration = 20 => millis(0, 10_000);
        /// Most writes under way at once.
        in_flight_max: usize = 4 => int(1, 64);
        /// What a start does where the index, or a part of it, is not there and the consumer group has read records already. refuse: makes
        /// nothing, and is not ready until the index is back or the group's offsets are reset. refill: sets the group to the oldest records.
        on_lost: OnLost = "refuse" => choice(ON_LOST);
        /// How long it is remembered that an item was deleted, hours; 0.0 for ever. Longer than an older version of it may still come:
        /// than the topics keep records (compacted: delete.retention.ms), and than dead letters wait to be replayed.
        tombstone_retention as "tombstone_retention_hours": Option<Duration> =
            0.0 => float(0.0, 87_600.0).map(|of| (of > 0.0).then(|| hours(of)));
    }

    /// `[index.embedded]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct EmbeddedSection {
        /// Folder of the index, one file for all generations; created where it is missing. One daemon at a time.
        path: PathBuf = (required "data/index") => path();
        /// Most memory for the vectors of all generations, bytes: 2 a number, and about 150 a vector. What goes over it is refused: use
        /// a Qdrant server for more.
        vector_bytes_max: usize = 2147483648 => int(MIB, 1024 * GIB);
    }

    /// `[index.qdrant]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct QdrantSection {
        /// gRPC address of the server.
        url: String = "http://127.0.0.1:6334" => text();
        /// File that holds the API key; empty for none. Keys are never written here.
        api_key_file: Option<PathBuf> = "" => path_or_none();
        /// Longest wait for one request, milliseconds; at most kafka.drain_timeout_ms, so that a write ends before its partition is
        /// given up.
        timeout as "timeout_ms": Duration = 10000 => millis(100, 10 * MINUTE_MS);
    }
}
