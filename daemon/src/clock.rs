//! The wall clock. What it is read for is listed in docs/TORTURE.md: it may jump, so nothing waits by it and no version comes from it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 before.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
