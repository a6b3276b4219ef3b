//! Ranks and recalls. A query may have several right answers: it is a hit at k when any of them is among the first k.

use serde::{Deserialize, Serialize};

/// Recalls and the mean reciprocal rank, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recalls {
    /// At 1.
    pub r1: f64,
    /// At 5.
    pub r5: f64,
    /// At 10.
    pub r10: f64,
    /// Mean of 1 / rank of the best right answer, ranks counted from 1.
    #[serde(default)]
    pub mrr: f64,
}

impl Recalls {
    /// R@1, R@5, R@10.
    pub fn at(&self) -> [f64; 3] {
        [self.r1, self.r5, self.r10]
    }
}

/// Recalls of ranks that count from 0; `None` is a query whose right answers were not ranked at all.
pub fn recalls(ranks: &[Option<usize>]) -> Recalls {
    let mean = |sum: f64| if ranks.is_empty() { 0.0 } else { sum / ranks.len() as f64 };
    let at = |k: usize| mean(ranks.iter().filter(|rank| rank.is_some_and(|rank| rank < k)).count() as f64);
    let mrr = mean(ranks.iter().flatten().map(|rank| 1.0 / (rank + 1) as f64).sum());
    Recalls { r1: at(1), r5: at(5), r10: at(10), mrr }
}

/// R@M: the mean of the six recalls of both directions, or of the three of a task asked by text alone (docs/R2D2.md §4.1 step 6).
pub fn mean_recall(text_to_image: &Recalls, image_to_text: Option<&Recalls>) -> f64 {
    let all: Vec<f64> = text_to_image.at().into_iter().chain(image_to_text.iter().flat_map(|recalls| recalls.at())).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// Rank of the best right answer: how many wrong ones score higher. Wrong answers that tie with it count as higher, so that a model
/// that says the same of everything gains nothing.
pub fn best_rank(scores: &[f32], right: &[usize]) -> Option<usize> {
    let best = right.iter().map(|&index| scores[index]).max_by(f32::total_cmp)?;
    Some(scores.iter().enumerate().filter(|(index, score)| **score >= best && !right.contains(index)).count())
}

/// [`best_rank`] among `gallery` answers of which only `candidates` (index, score) have a score; all others lie below them and tie with
/// each other (the −100 of docs/R2D2.md §4.1).
pub fn best_rank_among(candidates: &[(usize, f32)], gallery: usize, right: &[usize]) -> Option<usize> {
    right.first()?;
    let best = candidates.iter().filter(|(index, _)| right.contains(index)).map(|(_, score)| *score).max_by(f32::total_cmp);
    Some(match best {
        Some(best) => candidates.iter().filter(|(index, score)| *score >= best && !right.contains(index)).count(),
        None => gallery - right.len(),
    })
}

/// Indices of the `k` highest scores, best first; ties in the order of indices.
pub fn top_k(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if k == 0 {
        return Vec::new();
    }
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, by_score);
        order.truncate(k);
    }
    order.sort_unstable_by(by_score);
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
    fn ranks_among_candidates_are_those_of_the_whole_list_with_the_rest_at_minus_100() {
        let gallery = 6;
        let candidates = [(2, 0.9), (0, 0.7), (5, 0.7)];
        let mut whole = vec![-100.0; gallery];
        for (index, score) in candidates {
            whole[index] = score;
        }
        for right in [vec![2], vec![0], vec![1], vec![1, 3], vec![0, 1], vec![4, 5, 2], vec![]] {
            assert_eq!(best_rank_among(&candidates, gallery, &right), best_rank(&whole, &right), "{right:?}");
        }
    }

    #[test]
    fn recall_counts_hits_among_the_first_k() {
        let ranks = [Some(0), Some(4), Some(9), Some(10), None];
        let mrr = (1.0 + 1.0 / 5.0 + 1.0 / 10.0 + 1.0 / 11.0) / 5.0;
        let found = recalls(&ranks);
        assert!(found.at().iter().zip([0.2, 0.4, 0.6]).all(|(found, expected)| (found - expected).abs() < 1e-12));
        assert!((found.mrr - mrr).abs() < 1e-12);
        assert_eq!(recalls(&[]), Recalls { r1: 0.0, r5: 0.0, r10: 0.0, mrr: 0.0 });
    }

    #[test]
    fn mean_recall_is_that_of_the_papers_table() {
        // R2D2 ViT-L on Flickr30k-CNA and on MUGE (docs/R2D2.md §7.1): 96.2 and 77.5.
        let recalls = |[r1, r5, r10]: [f64; 3]| Recalls { r1, r5, r10, mrr: 0.0 };
        let both = mean_recall(&recalls([84.9, 97.0, 98.6]), Some(&recalls([96.9, 99.8, 100.0])));
        assert!((both - 96.2).abs() < 0.05, "{both}");
        let one = mean_recall(&recalls([60.1, 82.9, 89.4]), None);
        assert!((one - 77.5).abs() < 0.05, "{one}");
    }

    #[test]
    fn the_first_k_are_the_best_in_order() {
        assert_eq!(top_k(&[0.1, 0.9, 0.5, 0.9], 3), [1, 3, 2]);
        assert_eq!(top_k(&[0.1, 0.9, 0.5, 0.9], 1), [1]);
        assert_eq!(top_k(&[0.1], 3), [0]);
        assert_eq!(top_k(&[0.1], 0), [0; 0]);
    }
}
