//! The way to stop the daemon from inside: the first cause counts, everything else follows.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tracing::error;

/// Why the daemon can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HaltCause {
    /// The index is of another space or form (promise 3).
    #[error("the index does not match: {0}")]
    Mismatch(String),
    /// The towers failed: not one item, the runtime.
    #[error("the towers failed: {0}")]
    Towers(String),
    /// Most of the last records were dead letters (promise 5).
    #[error("poison: {dead} of the last {window} records can never be applied, the newest because of {reason}: {detail}")]
    Poison {
        /// Dead letters among the last records.
        dead: usize,
        /// How many were looked at.
        window: usize,
        /// Reason of the newest.
        reason: &'static str,
        /// Detail of the newest.
        detail: String,
    },
    /// Too many items would be lost where a generation is filled from points.
    #[error("{0}")]
    Backfill(String),
    /// A producer gave up for good.
    #[error("publishing failed for good: {0}")]
    Publish(String),
}

impl HaltCause {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Mismatch(_) => "point the configuration at the bundle and the index that belong together",
            Self::Towers(_) => "run `astromech check-config`, and look at memory and, with CUDA, the device",
            Self::Poison { .. } => {
                "compare the producer's messages with `astromech schema` and the topic's kind and version in the configuration; then start again"
            }
            Self::Backfill(_) => "the live generation is untouched; see rollout.backfill in the reference configuration",
            Self::Publish(_) => "start again: nothing that was not published is committed",
        }
    }
}

/// Shared by every part that may stop the daemon or must stop with it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Halt {
    token: CancellationToken,
    cause: Arc<OnceLock<HaltCause>>,
}

impl Halt {
    /// Stops everything; the first cause is kept.
    pub fn halt(&self, cause: HaltCause) {
        if self.cause.set(cause).is_ok()
            && let Some(cause) = self.cause.get()
        {
            error!(%cause, hint = cause.hint(), "stopping");
        }
        self.token.cancel();
    }

    /// Cancelled by [`Halt::halt`].
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The first cause, if there was one.
    pub fn cause(&self) -> Option<&HaltCause> {
        self.cause.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_is_kept() {
        let halt = Halt::default();
        assert!(!halt.token().is_cancelled());
        halt.halt(HaltCause::Mismatch("a".to_owned()));
        halt.halt(HaltCause::Towers("b".to_owned()));
        assert!(halt.token().is_cancelled());
        assert_eq!(halt.cause(), Some(&HaltCause::Mismatch("a".to_owned())));
    }
}
