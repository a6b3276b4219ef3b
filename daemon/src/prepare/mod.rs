//! Preparing pictures and texts for the towers: what indexing and re-scoring share, below both.
//!
//! Absent here: towers' batches, the index, Kafka.

mod fault;
mod preparer;

pub use fault::Fault;
pub use preparer::Preparer;

/// sha-256 of the picture's bytes as they were embedded, hexadecimal; a field of a point, absent where the item has no picture.
pub const FIELD_IMAGE_SHA256: &str = "image_sha256";
