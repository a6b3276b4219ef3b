//! Who goes first in the towers' queues, and until when an answer is of use.

use std::time::Instant;

/// How urgent a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// Somebody waits for the answer: goes before indexing, and has places in the queues of its own.
    Live,
    /// Work that may wait.
    #[default]
    Indexing,
}

/// What a handle gives to its entries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Urgency {
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Instant>,
}

impl Urgency {
    /// Narrowed to `deadline`: the earlier of two holds.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline))), ..self }
    }
}
