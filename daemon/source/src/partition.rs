//! One assigned partition: its fence and its acknowledgements, from assignment to revoke.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::acks::AckTracker;
use super::fence::Fence;
use super::mark::Mark;
use super::record::Record;

/// Between two records of a partition that a mark is made of.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Whether a partition is the one that its group has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked yet.
    Unchecked,
    /// It is.
    Known,
    /// It is another, of the same name: nothing of it is read or committed.
    Stopped,
}

/// A partition while it is ours. One that is taken away and comes back is another `Partition`.
#[derive(Debug)]
pub struct Partition {
    topic: Arc<str>,
    number: i32,
    fence: Arc<Fence>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Why it is stopped.
    reason: Option<Arc<str>>,
    /// A record of it that was there when it was looked at last; before the first look, the first that was read.
    mark: Option<Mark>,
    /// A record that was read since, and when.
    fresh: Option<(Mark, Instant)>,
    acks: AckTracker,
    /// Offset of the newest commit that was sent, and when.
    sent: Option<(i64, Instant)>,
    /// Newest offset that the broker holds.
    confirmed: Option<i64>,
}

impl Partition {
    /// A partition with an open fence, which is known.
    pub fn new(topic: Arc<str>, number: i32) -> Arc<Self> {
        Self::of(topic, number, Standing::Known)
    }

    /// A partition with an open fence, of which nothing is committed until it is [recognised](Self::recognise).
    pub fn unchecked(topic: Arc<str>, number: i32) -> Arc<Self> {
        Self::of(topic, number, Standing::Unchecked)
    }

    fn of(topic: Arc<str>, number: i32, standing: Standing) -> Arc<Self> {
        let (acks, reason, mark, fresh, sent, confirmed) = (AckTracker::default(), None, None, None, None, None);
        let state = Mutex::new(State { standing, reason, mark, fresh, acks, sent, confirmed });
        Arc::new(Self { topic, number, fence: Fence::open(), state })
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

    /// A record was received: the partition may be known again by it.
    pub fn note(&self, record: &Record) {
        let is_due = self.lock().fresh.is_none_or(|(_, made)| made.elapsed() >= MARK_EVERY);
        if is_due {
            let mark = Mark::of(record);
            let mut state = self.lock();
            state.fresh = Some((mark, Instant::now()));
            state.mark.get_or_insert(mark);
        }
    }

    /// What goes with each commit, and what whoever reads the partition next knows it again by.
    pub fn mark(&self) -> Option<Mark> {
        self.lock().mark
    }

    /// A record that was read lately. Where the partition still holds an older one now, it was the same all the time, so this is its too.
    pub fn fresh(&self) -> Option<Mark> {
        self.lock().fresh.map(|(mark, _)| mark)
    }

    /// Whether it is the one that its group has read.
    pub fn standing(&self) -> Standing {
        self.lock().standing
    }

    /// Whether something is finished that is not committed because nobody has looked yet whether the partition is the one that was read.
    pub fn waits_for_a_look(&self) -> bool {
        let state = self.lock();
        state.standing == Standing::Unchecked && state.acks.committable().is_some()
    }

    /// It is the one that was read, and `mark` is in it. Not where it was stopped.
    pub fn recognise(&self, mark: Option<Mark>) {
        let mut state = self.lock();
        if state.standing != Standing::Stopped {
            state.standing = Standing::Known;
            state.mark = mark.or(state.mark);
        }
    }

    /// It is another than was read: nothing more is written or committed.
    pub fn stop(&self, reason: &str) {
        let mut state = self.lock();
        state.standing = Standing::Stopped;
        state.reason.get_or_insert_with(|| Arc::from(reason));
        drop(state);
        self.fence.close();
    }

    /// Why it is stopped; `None` where it is not.
    pub fn stopped(&self) -> Option<Arc<str>> {
        self.lock().reason.clone()
    }

    /// The client read up to `position`, and every record before it was [received](Self::receive).
    pub fn pass(&self, position: i64) {
        self.lock().acks.pass(position);
    }

    /// A record is finished. Called under the guard of the fence, so that the last commit covers it. Returns
    /// the time since it was received, the first time.
    pub fn acknowledge(&self, offset: i64) -> Option<Duration> {
        self.lock().acks.acknowledge(offset).map(|received| received.elapsed())
    }

    /// The offset to commit, where the broker is not known to hold it: one that was not sent before, or whose commit was sent more than
    /// `resend_after` ago and not confirmed. It then counts as sent.
    pub fn take_committable(&self, resend_after: Duration) -> Option<i64> {
        let mut state = self.lock();
        if state.standing != Standing::Known {
            return None;
        }
        let next = state.acks.committable().filter(|next| state.confirmed.is_none_or(|held| *next > held))?;
        let under_way = state.sent.is_some_and(|(sent, at)| sent >= next && at.elapsed() < resend_after);
        if under_way {
            return None;
        }
        state.sent = Some((next, Instant::now()));
        Some(next)
    }

    /// The broker holds this offset as committed. Returns whether that is new and of a commit of ours.
    pub fn confirm(&self, offset: i64) -> bool {
        let mut state = self.lock();
        let new = state.confirmed.is_none_or(|held| offset > held);
        if new {
            state.confirmed = Some(offset);
        }
        new && state.sent.is_some()
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
    fn an_offset_is_committed_once_and_again_while_it_is_not_confirmed() {
        let (soon, now) = (Duration::from_mins(1), Duration::ZERO);
        let partition = Partition::new("t".into(), 0);
        partition.receive(4);
        assert_eq!(partition.take_committable(now), None);
        partition.acknowledge(4);
        assert_eq!(partition.take_committable(soon), Some(5));
        assert_eq!(partition.take_committable(soon), None, "under way");
        assert_eq!(partition.take_committable(now), Some(5), "not confirmed in time");
        assert!(partition.confirm(5));
        assert!(!partition.confirm(5));
        assert_eq!(partition.take_committable(now), None);
    }

    #[test]
    fn nothing_of_a_partition_is_committed_before_it_is_known_nor_after_it_was_stopped() {
        let partition = Partition::unchecked("t".into(), 0);
        partition.receive(4);
        partition.acknowledge(4);
        assert_eq!(partition.take_committable(Duration::ZERO), None);
        assert!(partition.waits_for_a_look());
        partition.recognise(None);
        assert!(!partition.waits_for_a_look());
        assert_eq!(partition.take_committable(Duration::ZERO), Some(5));
        partition.stop("made again");
        partition.recognise(None);
        assert_eq!((partition.standing(), partition.take_committable(Duration::ZERO)), (Standing::Stopped, None));
        assert!(partition.fence().enter().is_none());
    }

    #[test]
    fn what_the_broker_held_before_is_no_commit_of_ours() {
        let partition = Partition::new("t".into(), 0);
        assert!(!partition.confirm(100));
        partition.receive(100);
        partition.acknowledge(100);
        assert_eq!(partition.take_committable(Duration::ZERO), Some(101));
    }
}
