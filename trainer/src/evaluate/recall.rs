//! Ranks and recalls. A query may have several right answers: it is a hit at k when any of them is among the first k.

use serde::{Deserialize, Serialize};

/// Recalls, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recalls {
    /// At 1.
    pub r1: f64,
    /// At 5.
    pub r5: f64,
    /// At 10.
    pub r10: f64,
}

/// Recalls of ranks that count from 0; `None` is a query whose right answers were not ranked at all.
pub fn recalls(ranks: &[Option<usize>]) -> Recalls {
    let at = |k: usize| {
        let hits = ranks.iter().filter(|rank| rank.is_some_and(|rank| rank < k)).count();
        if ranks.is_empty() { 0.0 } else { hits as f64 / ranks.len() as f64 }
    };
    Recalls { r1: at(1), r5: at(5), r10: at(10) }
}

/// Rank of the best right answer: how many wrong ones score higher. Wrong answers that tie with it count as higher, so that a model
/// that says the same of everything gains nothing.
pub fn best_rank(scores: &[f32], right: &[usize]) -> Option<usize> {
    let best = right.iter().map(|&index| scores[index]).max_by(f32::total_cmp)?;
    Some(scores.iter().enumerate().filter(|(index, score)| **score >= best && !right.contains(index)).count())
}

/// Indices of the `k` highest scores, best first; ties in the order of indices.
pub fn top_k(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_right_answers_counts() {
        assert_eq!(best_rank(&[0.1, 0.9, 0.5, 0.7], &[0, 2]), Some(2));
        assert_eq!(best_rank(&[0.1, 0.9, 0.5, 0.7], &[1, 0]), Some(0));
        assert_eq!(best_rank(&[0.1], &[]), None);
    }

    #[test]
    fn a_tie_counts_against_the_model() {
        assert_eq!(best_rank(&[0.5, 0.5, 0.5], &[1]), Some(2));
    }

    #[test]
    fn recall_counts_hits_among_the_first_k() {
        let ranks = [Some(0), Some(4), Some(9), Some(10), None];
        assert_eq!(recalls(&ranks), Recalls { r1: 0.2, r5: 0.4, r10: 0.6 });
        assert_eq!(recalls(&[]), Recalls { r1: 0.0, r5: 0.0, r10: 0.0 });
    }

    #[test]
    fn the_first_k_are_the_best_in_order() {
        assert_eq!(top_k(&[0.1, 0.9, 0.5, 0.9], 3), [1, 3, 2]);
        assert_eq!(top_k(&[0.1], 3), [0]);
    }
}
