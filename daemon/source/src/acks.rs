//! Which offset may be committed (promise 1: nothing lost): the end of the contiguous prefix of acknowledged records.
//!
//! The prefix is over the records *received*, not over the numbers: compaction and transactions leave gaps in the offsets. What lies between
//! them is passed once the client is told that it read beyond it ([`AckTracker::pass`]): behind the last record of a transaction comes its
//! control marker, which no consumer ever receives, and behind an aborted transaction nothing else comes.

use std::collections::VecDeque;
use std::time::Instant;

/// Received and acknowledged records of one partition.
#[derive(Debug, Default)]
pub struct AckTracker {
    /// Received and not yet part of the prefix, ascending. The first is never done.
    open: VecDeque<Open>,
    /// Offset after the last record of the prefix.
    next: Option<i64>,
    /// Newest offset that was received.
    newest: Option<i64>,
    /// Every record before this offset was received.
    passed: Option<i64>,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    received: Instant,
    done: bool,
}

impl AckTracker {
    /// A record was received. One that was received before (after a rewind) is not tracked twice.
    pub fn receive(&mut self, offset: i64, now: Instant) {
        if self.newest.is_some_and(|newest| offset <= newest) {
            return;
        }
        self.newest = Some(offset);
        self.open.push_back(Open { offset, received: now, done: false });
    }

    /// A record is finished: applied and its result acknowledged, or in the dead letters. Returns when it was received, the first time.
    pub fn acknowledge(&mut self, offset: i64) -> Option<Instant> {
        let found = self.open.binary_search_by_key(&offset, |open| open.offset).ok();
        let open = found.map(|at| &mut self.open[at]).filter(|open| !open.done);
        let received = open.map(|open| {
            open.done = true;
            open.received
        });
        while let Some(first) = self.open.front().filter(|first| first.done) {
            self.next = Some(first.offset + 1);
            self.open.pop_front();
        }
        received
    }

    /// The client read up to `position`: whatever could be received before it was. Anything lower than before is ignored.
    pub fn pass(&mut self, position: i64) {
        self.passed = self.passed.max(Some(position));
    }

    /// The offset to commit: that of the next record to read. `None` before the first. It is one after the last record of the prefix, or
    /// further where nothing that can be received lies between.
    pub fn committable(&self) -> Option<i64> {
        let passed = self.passed.filter(|passed| self.open.front().is_none_or(|first| first.offset >= *passed));
        self.next.max(passed)
    }

    /// Records from the oldest that is not finished to the newest received.
    pub fn window(&self) -> usize {
        self.open.len()
    }

    /// When the oldest record that is not finished was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.open.front().map(|open| open.received)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tracker(offsets: &[i64]) -> AckTracker {
        let mut tracker = AckTracker::default();
        for offset in offsets {
            tracker.receive(*offset, Instant::now());
        }
        tracker
    }

    #[test]
    fn what_no_consumer_receives_is_committed_over_once_all_before_it_is_acknowledged() {
        let mut tracker = tracker(&[4, 5]);
        tracker.pass(9);
        assert_eq!(tracker.committable(), None);
        tracker.acknowledge(5);
        assert_eq!(tracker.committable(), None, "4 is open");
        tracker.receive(9, Instant::now());
        tracker.acknowledge(4);
        assert_eq!(tracker.committable(), Some(9), "markers at 6, 7 and 8");
        tracker.pass(8);
        tracker.acknowledge(9);
        assert_eq!(tracker.committable(), Some(10));
    }

    #[test]
    fn a_partition_of_which_nothing_can_be_received_is_passed() {
        let mut tracker = AckTracker::default();
        tracker.pass(4);
        assert_eq!(tracker.committable(), Some(4));
    }

    #[test]
    fn nothing_is_committed_over_a_record_that_is_not_acknowledged() {
        let mut tracker = tracker(&[0, 1, 2]);
        tracker.acknowledge(2);
        tracker.acknowledge(1);
        assert_eq!(tracker.committable(), None);
        tracker.acknowledge(0);
        assert_eq!(tracker.committable(), Some(3));
        assert_eq!(tracker.window(), 0);
    }

    #[test]
    fn gaps_of_compaction_and_transactions_do_not_hold_the_prefix() {
        let mut tracker = tracker(&[5, 9, 10, 400]);
        tracker.acknowledge(5);
        assert_eq!(tracker.committable(), Some(6));
        tracker.acknowledge(10);
        tracker.acknowledge(9);
        assert_eq!(tracker.committable(), Some(11));
        tracker.acknowledge(400);
        assert_eq!(tracker.committable(), Some(401));
    }

    #[test]
    fn repeats_and_strangers_change_nothing() {
        let mut tracker = tracker(&[7, 8]);
        tracker.acknowledge(7);
        tracker.acknowledge(7);
        tracker.acknowledge(3);
        tracker.acknowledge(99);
        tracker.receive(7, Instant::now());
        assert_eq!((tracker.committable(), tracker.window()), (Some(8), 1));
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_finished() {
        let mut tracker = AckTracker::default();
        let start = Instant::now();
        let later = start + std::time::Duration::from_secs(1);
        tracker.receive(0, start);
        tracker.receive(1, later);
        tracker.acknowledge(0);
        assert_eq!(tracker.oldest(), Some(later));
    }

    /// A small deterministic generator: failures repeat by their seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit as u64).unwrap()
        }
    }

    #[test]
    fn the_prefix_equals_a_plain_model_under_random_gaps_and_orders() {
        for seed in 1..=300 {
            let mut random = Random(seed);
            let (mut tracker, mut offset) = (AckTracker::default(), random.below(1000) as i64);
            let (mut received, mut acknowledged) = (Vec::new(), BTreeSet::new());
            for _ in 0..200 {
                if random.below(2) == 0 {
                    offset += 1 + random.below(4) as i64;
                    tracker.receive(offset, Instant::now());
                    received.push(offset);
                } else if !received.is_empty() {
                    let chosen = received[random.below(received.len())];
                    tracker.acknowledge(chosen);
                    acknowledged.insert(chosen);
                }
                let prefix = received.iter().take_while(|offset| acknowledged.contains(offset)).count();
                let expected = prefix.checked_sub(1).map(|last| received[last] + 1);
                assert_eq!(tracker.committable(), expected, "seed {seed}");
                assert_eq!(tracker.window(), received.len() - prefix, "seed {seed}");
            }
        }
    }
}
