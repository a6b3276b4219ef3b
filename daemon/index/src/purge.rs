//! Taking tombstones away once nothing older than them can come any more.

use astromech_schemas::Kind;

use super::IndexError;
use super::guard::expired;
use super::video::Points;

/// Removes the tombstones that were written before `before_ms`; returns how many there were. What is written meanwhile stays: the engine
/// looks at each point as it removes it.
pub(super) async fn purge(points: &impl Points, before_ms: u64) -> Result<u64, IndexError> {
    let mut purged = 0;
    for kind in Kind::ALL {
        let tombstones = points.count(kind, expired(before_ms)).await?;
        if tombstones > 0 {
            points.remove(kind, expired(before_ms)).await?;
        }
        purged += tombstones;
    }
    Ok(purged)
}
