//! One assigned partition: its fence and its acknowledgements, from assignment to revoke.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::acks::AckTracker;
use super::fence::Fence;

/// A partition while it is ours. One that is taken away and comes back is another `Partition`.
#[derive(Debug)]
pub struct Partition {
    topic: Arc<str>,
    number: i32,
    fence: Arc<Fence>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    acks: AckTracker,
    /// Offset of the newest commit that was sent and has not failed.
    committed: Option<i64>,
}

impl Partition {
    /// A partition with an open fence.
    pub fn new(topic: Arc<str>, number: i32) -> Arc<Self> {
        Arc::new(Self { topic, number, fence: Fence::open(), state: Mutex::default() })
    }

    /// Topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Number of the partition.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Its fence.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// A record was received and goes into the pipeline.
    pub fn receive(&self, offset: i64) {
        self.lock().acks.receive(offset, Instant::now());
    }

    /// A record is finished. Called under the guard of the fence, so that the last commit covers it.
    pub fn acknowledge(&self, offset: i64) {
        self.lock().acks.acknowledge(offset);
    }

    /// The offset to commit, if it is newer than the last one that was sent; it then counts as sent.
    pub fn take_committable(&self) -> Option<i64> {
        let mut state = self.lock();
        let next = state.acks.committable().filter(|next| state.committed.is_none_or(|sent| *next > sent))?;
        state.committed = Some(next);
        Some(next)
    }

    /// A commit failed: it is sent again with the next one.
    pub fn commit_failed(&self) {
        self.lock().committed = None;
    }

    /// Records from the oldest that is not finished to the newest received.
    pub fn window(&self) -> usize {
        self.lock().acks.window()
    }

    /// When the oldest record that is not finished was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.lock().acks.oldest()
    }

    // Nothing inside the lock can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_committed_once_and_again_after_a_failure() {
        let partition = Partition::new("t".into(), 0);
        partition.receive(4);
        assert_eq!(partition.take_committable(), None);
        partition.acknowledge(4);
        assert_eq!(partition.take_committable(), Some(5));
        assert_eq!(partition.take_committable(), None);
        partition.commit_failed();
        assert_eq!(partition.take_committable(), Some(5));
    }
}
