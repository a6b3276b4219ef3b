//! Which records are read: a part of each partition of each topic.

use serde::{Deserialize, Serialize};

/// What a topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Items.
    Items,
    /// The click log.
    Clicks,
}

/// The part of a partition that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWindow {
    /// The partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
}

/// The part of a topic that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicWindow {
    /// Its name.
    pub topic: String,
    /// What it holds.
    pub role: Role,
    /// Its partitions.
    pub partitions: Vec<PartitionWindow>,
}
