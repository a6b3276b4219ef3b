//! A sample that keeps the shares of rare and frequent queries.

use super::spill::{hash64, mix};

/// Strata: query frequencies by powers of two.
const STRATA: usize = 65;
/// Leading bits of the drawn number that are counted in the first pass.
const PREFIX_BITS: u32 = 12;

/// Stratum of a query that was shown so often: 0 for none, else one more than the whole part of the binary logarithm.
pub(super) fn stratum(query_impressions: u64) -> usize {
    (u64::BITS - query_impressions.leading_zeros()) as usize
}

/// The number by which a record is drawn: the smallest are taken, so that a smaller sample is a part of a larger one.
pub(super) fn lot(seed: u64, id: &str) -> u64 {
    hash64(mix(seed ^ 0x5A3E), id.as_bytes())
}

/// First pass: counts, per stratum and per leading bits of the lot.
pub(super) struct Counts(Vec<Vec<u64>>);

/// Second pass: the lots that lie in the one prefix where the border is.
pub(super) struct Border {
    wanted: Vec<u64>,
    /// Prefix of the border, and how many are taken in it.
    at: Vec<Option<(u64, u64)>>,
    lots: Vec<Vec<u64>>,
}

/// Which lots are taken.
pub(super) struct Chosen {
    /// Largest lot that is taken of each stratum; none takes nothing.
    largest: Vec<Option<u64>>,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self(vec![vec![0; 1 << PREFIX_BITS]; STRATA])
    }

    pub(super) fn add(&mut self, stratum: usize, lot: u64) {
        self.0[stratum][(lot >> (64 - PREFIX_BITS)) as usize] += 1;
    }

    /// Records of each stratum.
    pub(super) fn totals(&self) -> Vec<u64> {
        self.0.iter().map(|counts| counts.iter().sum()).collect()
    }

    /// Shares `records` out over the strata in proportion, by largest remainders.
    pub(super) fn border(&self, records: u64) -> Border {
        let totals = self.totals();
        let all: u64 = totals.iter().sum();
        let share = |total: u64| u128::from(total) * u128::from(records.min(all));
        let mut wanted: Vec<u64> = totals.iter().map(|&total| (share(total) / u128::from(all.max(1))) as u64).collect();
        let mut order: Vec<usize> = (0..STRATA).filter(|&stratum| totals[stratum] > 0).collect();
        order.sort_by_key(|&stratum| (std::cmp::Reverse(share(totals[stratum]) % u128::from(all.max(1))), stratum));
        let left = records.min(all) - wanted.iter().sum::<u64>();
        for &stratum in order.iter().take(left as usize) {
            wanted[stratum] += 1;
        }
        let at = wanted.iter().zip(&self.0).map(|(&wanted, counts)| {
            let mut left = wanted;
            for (prefix, &count) in counts.iter().enumerate() {
                if left > 0 && left <= count {
                    return Some((prefix as u64, left));
                }
                left -= left.min(count);
            }
            None
        });
        let at = at.collect();
        Border { wanted, at, lots: vec![Vec::new(); STRATA] }
    }
}

impl Border {
    pub(super) fn add(&mut self, stratum: usize, lot: u64) {
        if self.at[stratum].is_some_and(|(prefix, _)| lot >> (64 - PREFIX_BITS) == prefix) {
            self.lots[stratum].push(lot);
        }
    }

    /// Records wanted of each stratum.
    pub(super) fn wanted(&self) -> &[u64] {
        &self.wanted
    }

    pub(super) fn chosen(mut self) -> Chosen {
        let largest = self.at.iter().zip(&mut self.lots).map(|(at, lots)| {
            lots.sort_unstable();
            at.and_then(|(_, left)| lots.get(left as usize - 1).copied())
        });
        Chosen { largest: largest.collect() }
    }
}

impl Chosen {
    pub(super) fn takes(&self, stratum: usize, lot: u64) -> bool {
        self.largest[stratum].is_some_and(|largest| lot <= largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(records: u64, seed: u64) -> Vec<u64> {
        let items: Vec<(u64, usize, u64)> =
            (0..5000u64).map(|id| (id, stratum(if id % 10 == 0 { 1000 } else { 3 }), lot(seed, &id.to_string()))).collect();
        let mut counts = Counts::new();
        for &(_, stratum, lot) in &items {
            counts.add(stratum, lot);
        }
        let mut border = counts.border(records);
        for &(_, stratum, lot) in &items {
            border.add(stratum, lot);
        }
        let chosen = border.chosen();
        items.iter().filter(|&&(_, stratum, lot)| chosen.takes(stratum, lot)).map(|&(id, ..)| id).collect()
    }

    #[test]
    fn a_sample_has_the_size_and_the_shares_asked_for() {
        let ids = drawn(500, 3);
        assert_eq!(ids.len(), 500);
        assert_eq!(ids.iter().filter(|&&id| id % 10 == 0).count(), 50);
        assert_eq!(drawn(9000, 3).len(), 5000);
        assert_eq!(drawn(0, 3).len(), 0);
    }

    #[test]
    fn a_smaller_sample_is_a_part_of_a_larger_one_and_another_seed_draws_another() {
        let (large, small) = (drawn(1000, 3), drawn(100, 3));
        assert!(small.iter().all(|id| large.contains(id)));
        assert_ne!(drawn(100, 4), small);
    }
}
