//! What a snapshot says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::CollectError;
use super::window::TopicWindow;
use crate::files::file_error;

/// Name of a snapshot's manifest; it is written last, and its folder appears with it.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the list of what was refused, JSON Lines.
pub const REJECTS_FILE: &str = "rejects.jsonl";
/// Current [`SnapshotManifest::schema`].
pub const SNAPSHOT_SCHEMA: u32 = 1;
/// Pattern of the names of shards to train on.
pub const SHARDS_TRAIN: &str = "train-*.tar";
/// Pattern of the names of shards that are held out.
pub const SHARDS_HELD_OUT: &str = "held-out-*.tar";

/// What was read, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records of all topics, the refused ones too.
    pub records: u64,
    /// Records that write an item.
    pub upserts: u64,
    /// Records that delete one.
    pub deletes: u64,
    /// Records of the click log.
    pub clicks: u64,
    /// Changes that a newer version of their item replaced.
    pub superseded: u64,
    /// Items that were deleted in the end: none of them is in the snapshot.
    pub deleted: u64,
    /// Items that live.
    pub items: u64,
    /// Of them, those without a picture: nothing can be learnt of them here.
    pub without_picture: u64,
    /// Of them, those with a picture but neither text nor query.
    pub without_text: u64,
    /// Of them, those with a picture that no query was answered with.
    pub unshown: u64,
    /// Pairs of query and item whose item is not in the window, or deleted.
    pub clicks_without_item: u64,
}

/// Records by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// To train on.
    pub train: u64,
    /// Held out.
    pub held_out: u64,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// Its name.
    pub name: String,
    /// Records in it.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
    /// Sha-256 of it.
    pub sha256: String,
}

/// `manifest.json` of a snapshot. It names no time of its own: the same records make the same file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    /// Version of this document.
    pub schema: u32,
    /// Sha-256 of the configuration that it follows from.
    pub config_sha256: String,
    /// What was read, by partition: from the first offset to before the last.
    pub topics: Vec<TopicWindow>,
    /// What became of it.
    pub counts: Counts,
    /// Refused records by reason; `rejects.jsonl` names them.
    pub rejects: BTreeMap<String, u64>,
    /// Steps of the click-log pipeline: what each was given, left and took away.
    pub filter: serde_json::Value,
    /// Records of the shards.
    pub records: Records,
    /// The shards.
    pub shards: Vec<ShardFile>,
}

impl SnapshotManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The file can't be read, or is none.
    pub fn read(path: &Path) -> Result<Self, CollectError> {
        let bytes = std::fs::read(path).map_err(file_error(path))?;
        let damaged = |message| CollectError::Damaged {
            path: path.to_owned(),
            message,
            fix: "give the manifest.json of a snapshot of this version",
        };
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.schema != SNAPSHOT_SCHEMA {
            return Err(damaged(format!("schema {}, known is {SNAPSHOT_SCHEMA}", manifest.schema)));
        }
        Ok(manifest)
    }
}
