//! The results topic: one record for each change that the index has taken, with what became of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::{Fingerprint, Kind};

/// What the change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Embed and write the item.
    Upsert,
    /// Delete the item.
    Delete,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The index holds the change: it was written, or was there already.
    #[default]
    Applied,
    /// The index holds a newer change of the item, which stays: nothing of this one is stored.
    Superseded,
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

/// An item near the change's own, as the index held it when the result was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbour {
    /// Id of the item.
    pub id: String,
    /// Its source version.
    pub version: u64,
    /// Cosine to the item.
    pub score: f32,
}

/// A key frame that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrameResult {
    /// Where it stands, milliseconds from the video's beginning.
    pub time_ms: u64,
    /// Point in the collection.
    pub point_id: String,
    /// Its vector, of unit length, where `kafka.results.embeddings` asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
}

/// A result: published with the item's id as key after the index has taken the change, so with `outcome` `applied` its arrival means that the
/// change is searchable. Delivered at least once; `source` makes a repeat recognisable, whose `outcome` is of its own time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultMessage {
    /// Schema version of this message.
    pub schema: u32,
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Source version of the change.
    pub version: u64,
    /// What the change asks for.
    pub operation: Operation,
    /// What became of it. A change that was superseded names no vectors, neighbours or frames: those of the item are a newer change's.
    #[serde(default)]
    pub outcome: Outcome,
    /// Point in the collection; of a video the one that its frames belong to.
    pub point_id: String,
    /// Collection that holds the point.
    pub collection: String,
    /// Vector space of the point.
    pub fingerprint: Fingerprint,
    /// Which vectors the point has: `text`, `image`.
    pub vectors: Vec<String>,
    /// Those vectors by name, of unit length, where `kafka.results.embeddings` asks for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub embeddings: BTreeMap<String, Vec<f32>>,
    /// The nearest items of each kind, best first, where `kafka.results.neighbours` asks for them: what a recommender starts from. By the
    /// text of the item, or its picture (a video's first frame) where it is an image or has no text; never the item itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub neighbours: BTreeMap<Kind, Vec<Neighbour>>,
    /// The frames of a video, in the order of its record; absent for other kinds and deletes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<FrameResult>,
    /// The record that caused it.
    pub source: RecordPosition,
}

/// [`ResultMessage`] as a schema of Avro.
pub const RESULT_AVRO_SCHEMA: &str = include_str!("../avro/result.avsc");

/// Current [`ResultMessage::schema`].
pub const RESULT_SCHEMA: u32 = 1;
