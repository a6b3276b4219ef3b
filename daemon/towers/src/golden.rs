//! The three graphs as plain functions over batches: one session each, no queue. The bench's baseline runs on these alone.
