//! The results topic: one record for each change that the index holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::{Fingerprint, Kind};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The item was embedded and written, unless the index already held a newer version.
    Upsert,
    /// The item was deleted, unless the index already held a newer version.
    Delete,
}

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RecordPosition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A result: published with the item's id as key after the index has applied the change, so its arrival means the change is searchable.
/// Delivered at least once; `source` makes a repeat recognisable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResultMessage {
    /// Schema version of this message.
    pub schema: u32,
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Source version that was applied.
    pub version: u64,
    /// What was done.
    pub operation: Operation,
    /// Point in the collection.
    pub point_id: String,
    /// Collection that holds the point.
    pub collection: String,
    /// Vector space of the point.
    pub fingerprint: Fingerprint,
    /// Which vectors the point has: `text`, `image`.
    pub vectors: Vec<String>,
    /// The record that caused it.
    pub source: RecordPosition,
}

/// Current [`ResultMessage::schema`].
pub const RESULT_SCHEMA: u32 = 1;
