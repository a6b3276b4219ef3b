//! Whose turn a batch is, and which of the waiting entries share it.

use std::cmp::Reverse;
use std::time::Duration;

use crate::{LIVE_BATCHES_MAX, Priority};

/// Below this padded size a batch costs about the same whatever is in it: the weights have to pass through the cache anyway.
pub(crate) const SMALL_BATCH_LENGTH: usize = 256;
/// Above it, padded length may be this share of true length, as a fraction.
const PADDED_SHARE_MAX: (usize, usize) = (5, 4);

/// Whose turn the next batch is. Live entries go first, but once an indexing entry has waited `indexing_wait_max`, at most
/// [`LIVE_BATCHES_MAX`] batches in a row are led by live ones.
pub(super) struct Turns {
    indexing_wait_max: Duration,
    live_in_row: usize,
}

impl Turns {
    pub(super) fn new(indexing_wait_max: Duration) -> Self {
        Self { indexing_wait_max, live_in_row: 0 }
    }

    /// Who leads the next batch, given whether a live entry waits and how long the oldest indexing entry has waited.
    pub(super) fn next(&mut self, live_waits: bool, indexing_waited: Option<Duration>) -> Priority {
        let overdue = || indexing_waited.is_some_and(|waited| waited >= self.indexing_wait_max);
        if live_waits && !(self.live_in_row >= LIVE_BATCHES_MAX && overdue()) {
            self.live_in_row = self.live_in_row.saturating_add(1);
            return Priority::Live;
        }
        self.live_in_row = 0;
        Priority::Indexing
    }
}

/// An entry that waits, as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// All entries of a batch are padded to the longest.
    pub(super) length: usize,
    /// How much of `batch_max` it takes.
    pub(super) size: usize,
    pub(super) priority: Priority,
}

/// Indices, in order, of the entries to run now, given all that wait, oldest first. The oldest of `lead`'s is always among them, so
/// nothing starves; then those of its priority nearest to its length, as long as padding to the longest costs little; then others in
/// what room is left: live ones as indexing ones would be, indexing ones beside live ones only while the batch costs about the same
/// with them.
pub(super) fn choose(waiting: &[Waiting], lead: Priority, batch_max: usize) -> Vec<usize> {
    let of = |leading: bool| (0..waiting.len()).filter(move |index| (waiting[*index].priority == lead) == leading);
    let Some(oldest) = of(true).next() else { return Vec::new() };
    let first = waiting[oldest];
    let mut batch =
        Choice { indices: vec![oldest], size: first.size, longest: first.length, total: first.length * first.size, batch_max };
    batch.grow(waiting, of(true).skip(1), |padded, total| {
        padded <= SMALL_BATCH_LENGTH || padded * PADDED_SHARE_MAX.1 <= total * PADDED_SHARE_MAX.0
    });
    batch.grow(waiting, of(false), |padded, total| {
        let little = padded * PADDED_SHARE_MAX.1 <= total * PADDED_SHARE_MAX.0;
        padded <= SMALL_BATCH_LENGTH || (lead == Priority::Indexing && little)
    });
    batch.indices.sort_unstable();
    batch.indices
}

/// A batch that is being put together.
struct Choice {
    indices: Vec<usize>,
    size: usize,
    longest: usize,
    /// Sum of the true lengths.
    total: usize,
    batch_max: usize,
}

impl Choice {
    /// Takes in candidates, nearest in length first and of one length the oldest, while there is room and `fits(padded, total)`.
    fn grow(&mut self, waiting: &[Waiting], candidates: impl Iterator<Item = usize>, fits: impl Fn(usize, usize) -> bool) {
        // The next to take is at the end of each.
        let (mut shorter, mut longer): (Vec<_>, Vec<_>) = candidates.partition(|index| waiting[*index].length < self.longest);
        shorter.sort_by_key(|index| (waiting[*index].length, Reverse(*index)));
        longer.sort_by_key(|index| Reverse((waiting[*index].length, *index)));
        loop {
            let room = self.batch_max.saturating_sub(self.size);
            let next_of = |side: &mut Vec<usize>| {
                // What is too large for the room left waits for a batch that it leads.
                while side.pop_if(|index| waiting[*index].size > room).is_some() {}
                side.last().copied()
            };
            let below = next_of(&mut shorter).map(|index| ((self.longest - waiting[index].length) * waiting[index].size, index));
            let above = next_of(&mut longer).map(|index| ((waiting[index].length - self.longest) * self.size, index));
            let Some((_, next)) = below.into_iter().chain(above).min() else { break };
            let Waiting { length, size, .. } = waiting[next];
            let (longest, total) = (self.longest.max(length), self.total + length * size);
            if !fits(longest * (self.size + size), total) {
                break;
            }
            let taken = if length < self.longest { &mut shorter } else { &mut longer };
            taken.pop();
            self.indices.push(next);
            (self.size, self.longest, self.total) = (self.size + size, longest, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Turns, Waiting, choose};
    use crate::LIVE_BATCHES_MAX;
    use crate::Priority::{self, Indexing, Live};

    fn waiting(entries: &[(usize, usize, Priority)]) -> Vec<Waiting> {
        entries.iter().map(|&(length, size, priority)| Waiting { length, size, priority }).collect()
    }

    fn choose_lengths(lengths: &[usize], batch_max: usize) -> Vec<usize> {
        let entries: Vec<_> = lengths.iter().map(|length| (*length, 1, Indexing)).collect();
        choose(&waiting(&entries), Indexing, batch_max)
    }

    #[test]
    fn entries_of_one_length_go_in_order_of_arrival() {
        assert_eq!(choose_lengths(&[1; 5], 3), [0, 1, 2]);
        assert_eq!(choose_lengths(&[1; 2], 3), [0, 1]);
        assert_eq!(choose_lengths(&[], 3), Vec::<usize>::new());
    }

    #[test]
    fn short_texts_are_not_padded_to_long_ones_and_the_oldest_always_goes() {
        let lengths: Vec<usize> = (0..128).map(|index| if index % 2 == 0 { 10 } else { 64 }).collect();
        let short = choose_lengths(&lengths, 64);
        assert_eq!(short.len(), 64);
        assert!(short.iter().all(|index| index % 2 == 0) && short[0] == 0);
        let long = choose_lengths(&lengths[1..], 64);
        assert!(long.iter().all(|index| lengths[1 + index] == 64) && long[0] == 0);
    }

    #[test]
    fn a_small_batch_takes_whatever_waits() {
        assert_eq!(choose_lengths(&[64, 5, 20], 8), [0, 1, 2]);
    }

    #[test]
    fn entries_count_by_their_size_and_one_that_is_too_large_keeps_no_other_out() {
        let entries = waiting(&[(1, 3, Indexing), (1, 6, Indexing), (1, 4, Indexing), (1, 1, Indexing), (1, 1, Indexing)]);
        assert_eq!(choose(&entries, Indexing, 8), [0, 2, 3]);
        assert_eq!(choose(&entries[1..], Indexing, 8), [0, 2, 3], "it leads the next");
        assert_eq!(choose(&waiting(&[(1, 9, Indexing)]), Indexing, 8), [0], "the oldest goes, whatever its size");
    }

    #[test]
    fn live_entries_are_chosen_before_older_indexing_entries_which_take_the_room_left() {
        let entries = waiting(&[(4, 1, Indexing), (4, 1, Indexing), (9, 1, Live), (4, 1, Live), (4, 1, Indexing)]);
        assert_eq!(choose(&entries, Live, 2), [2, 3]);
        assert_eq!(choose(&entries, Live, 4), [0, 1, 2, 3]);
        assert_eq!(choose(&entries[..2], Live, 4), Vec::<usize>::new());
    }

    #[test]
    fn a_live_batch_is_not_made_slower_by_indexing_entries_and_an_indexing_batch_takes_live_ones_along() {
        let mixed: Vec<_> = (0..40).map(|index| (40, 1, if index % 10 == 3 { Live } else { Indexing })).collect();
        let chosen = choose(&waiting(&mixed), Live, 64);
        assert_eq!(chosen, [0, 1, 3, 13, 23, 33], "4 live ones and what fits into 256 tokens");
        let chosen = choose(&waiting(&mixed), Indexing, 64);
        assert_eq!(chosen.len(), 40);
        let chosen = choose(&waiting(&mixed), Indexing, 37);
        assert_eq!(chosen.iter().filter(|index| mixed[**index].2 == Live).count(), 1, "its own first");
    }

    #[test]
    fn indexing_gets_its_turn_once_it_has_waited_longer_than_the_limit() {
        let limit = Duration::from_millis(500);
        let mut turns = Turns::new(limit);
        let mut patient = (0..10).map(|_| turns.next(true, Some(limit.mul_f32(0.9))));
        assert!(patient.all(|turn| turn == Live), "not before the limit");
        for _ in 0..3 {
            assert_eq!(turns.next(true, Some(limit)), Indexing);
            for _ in 0..LIVE_BATCHES_MAX {
                assert_eq!(turns.next(true, Some(limit)), Live);
            }
        }
        assert_eq!(turns.next(true, None), Live, "no indexing entry waits");
        assert_eq!(turns.next(false, Some(Duration::ZERO)), Indexing, "no live entry waits");
    }
}
