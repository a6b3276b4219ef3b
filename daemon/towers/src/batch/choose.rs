//! Which of the waiting entries share a batch.

/// Below this padded size a batch costs about the same whatever is in it: the weights have to pass through the cache anyway.
const SMALL_BATCH_LENGTH: usize = 256;
/// Above it, padded length may be this share of true length, as a fraction.
const PADDED_SHARE_MAX: (usize, usize) = (5, 4);

/// Indices, in order, of the entries to run now, given the lengths of all that wait, oldest first. The oldest is always among them,
/// so nothing starves; the others are those nearest to its length, as long as padding to the longest costs little.
pub(super) fn choose(lengths: &[usize], batch_max: usize) -> Vec<usize> {
    if lengths.is_empty() {
        return Vec::new();
    }
    let mut sorted: Vec<usize> = (0..lengths.len()).collect();
    sorted.sort_by_key(|index| (lengths[*index], *index));
    let oldest = sorted.iter().position(|index| *index == 0).unwrap_or(0);
    let (mut low, mut high) = (oldest, oldest);
    let mut total = lengths[0];
    while high - low + 1 < batch_max {
        let count = high - low + 1;
        let longest = lengths[sorted[high]];
        let below = low.checked_sub(1).map(|at| (longest - lengths[sorted[at]], at));
        let above = (high + 1 < sorted.len()).then(|| ((lengths[sorted[high + 1]] - longest) * count, high + 1));
        let Some((_, next)) = below.into_iter().chain(above).min_by_key(|(padding, at)| (*padding, *at)) else { break };
        total += lengths[sorted[next]];
        let padded = longest.max(lengths[sorted[next]]) * (count + 1);
        if padded > SMALL_BATCH_LENGTH && padded * PADDED_SHARE_MAX.1 > total * PADDED_SHARE_MAX.0 {
            break;
        }
        (low, high) = (low.min(next), high.max(next));
    }
    let mut chosen = sorted[low..=high].to_vec();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn entries_of_one_length_go_in_order_of_arrival() {
        assert_eq!(choose(&[1; 5], 3), [0, 1, 2]);
        assert_eq!(choose(&[1; 2], 3), [0, 1]);
        assert_eq!(choose(&[], 3), Vec::<usize>::new());
    }

    #[test]
    fn short_texts_are_not_padded_to_long_ones_and_the_oldest_always_goes() {
        let lengths: Vec<usize> = (0..128).map(|index| if index % 2 == 0 { 10 } else { 64 }).collect();
        let short = choose(&lengths, 64);
        assert_eq!(short.len(), 64);
        assert!(short.iter().all(|index| index % 2 == 0) && short[0] == 0);
        let long = choose(&lengths[1..], 64);
        assert!(long.iter().all(|index| lengths[1 + index] == 64) && long[0] == 0);
    }

    #[test]
    fn a_small_batch_takes_whatever_waits() {
        assert_eq!(choose(&[64, 5, 20], 8), [0, 1, 2]);
    }
}
