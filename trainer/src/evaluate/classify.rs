//! Figures of a score that says match or no match.

use serde::{Deserialize, Serialize};

/// Threshold of the fixed accuracy: what a probability calls a match.
const HALF: f32 = 0.5;

/// How well scores tell matching pairs from the others; each figure from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// Area under the ROC curve: how often a matching pair scores above another one, ties counting half (docs/R2D2.md §4.2).
    pub auc: f64,
    /// Average precision, Σ (R_k − R_{k−1})·P_k over falling thresholds; equal scores share a threshold.
    pub average_precision: f64,
    /// Part of the pairs that the threshold .5 (score ≥ .5 is a match) puts right.
    pub accuracy: f64,
    /// Part of the matching pairs that score at least .5.
    pub recall: f64,
    /// Highest accuracy that any threshold gives.
    pub best_accuracy: f64,
    /// The lowest score that it calls a match. Chosen on the same pairs, so `best_accuracy` is an upper bound.
    pub best_threshold: f32,
}

/// Measures scores against labels. `None` where there are no pairs of one of the two labels: no curve is defined then.
pub fn classify(scores: &[f32], labels: &[bool]) -> Option<Classification> {
    let positives = labels.iter().filter(|label| **label).count();
    let negatives = labels.len() - positives;
    if scores.len() != labels.len() || positives == 0 || negatives == 0 {
        return None;
    }
    let groups = groups(scores, labels);
    let (best_accuracy, best_threshold) = best_threshold(&groups, positives, negatives);
    let accepted = |label: bool| scores.iter().zip(labels).filter(|(score, own)| **own == label && **score >= HALF).count();
    let (hits, false_hits) = (accepted(true), accepted(false));
    Some(Classification {
        auc: roc_auc(&groups, positives, negatives),
        average_precision: average_precision(&groups, positives),
        accuracy: (hits + negatives - false_hits) as f64 / labels.len() as f64,
        recall: hits as f64 / positives as f64,
        best_accuracy,
        best_threshold,
    })
}

/// Pairs of one score.
struct Group {
    score: f32,
    positives: usize,
    negatives: usize,
}

/// Pairs by falling score, equal scores together.
fn groups(scores: &[f32], labels: &[bool]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut groups: Vec<Group> = Vec::new();
    for index in order {
        let (positives, negatives) = (usize::from(labels[index]), usize::from(!labels[index]));
        match groups.last_mut() {
            Some(group) if group.score.total_cmp(&scores[index]).is_eq() => {
                group.positives += positives;
                group.negatives += negatives;
            }
            _ => groups.push(Group { score: scores[index], positives, negatives }),
        }
    }
    groups
}

/// The Mann-Whitney statistic over P·N; a pair of equal scores counts half, which is what mid-ranks give.
fn roc_auc(groups: &[Group], positives: usize, negatives: usize) -> f64 {
    let mut below = negatives;
    let mut won = 0.0;
    for group in groups {
        below -= group.negatives;
        won += group.positives as f64 * (below as f64 + 0.5 * group.negatives as f64);
    }
    won / (positives as f64 * negatives as f64)
}

fn average_precision(groups: &[Group], positives: usize) -> f64 {
    let (mut found, mut taken, mut sum) = (0, 0, 0.0);
    for group in groups {
        found += group.positives;
        taken += group.positives + group.negatives;
        sum += group.positives as f64 / positives as f64 * found as f64 / taken as f64;
    }
    sum
}

/// Accuracy and threshold; of equally good thresholds the highest. Above all scores nothing matches.
fn best_threshold(groups: &[Group], positives: usize, negatives: usize) -> (f64, f32) {
    let highest = groups.first().map_or(HALF, |group| group.score.next_up());
    let (mut hits, mut right) = (0, negatives);
    let mut best = (negatives, highest);
    for group in groups {
        hits += group.positives;
        right = right + group.positives - group.negatives;
        if right > best.0 {
            best = (right, group.score);
        }
    }
    debug_assert_eq!(hits, positives);
    (best.0 as f64 / (positives + negatives) as f64, best.1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn figures_without_ties_are_those_worked_out_by_hand() {
        // By falling score: + − + − −. Of 6 pairs (+, −) the first + wins 3, the second 2.
        let found = classify(&[0.9, 0.8, 0.7, 0.4, 0.1], &[true, false, true, false, false]).unwrap();
        near(found.auc, 5.0 / 6.0);
        near(found.average_precision, 0.5 * 1.0 + 0.5 * (2.0 / 3.0));
        near(found.accuracy, 4.0 / 5.0);
        near(found.recall, 1.0);
        // Above .9: 3 right; ≥ .9: 4; ≥ .8: 3; ≥ .7: 4, where the highest threshold of both is told.
        near(found.best_accuracy, 4.0 / 5.0);
        assert_eq!(found.best_threshold.to_bits(), 0.9f32.to_bits());
    }

    #[test]
    fn ties_count_half_and_share_one_threshold() {
        // {+,−} at .6, {+,−} at .2: the first + ties one and beats one, the second ties one and loses to one.
        let found = classify(&[0.6, 0.6, 0.2, 0.2], &[true, false, false, true]).unwrap();
        near(found.auc, (1.5 + 0.5) / 4.0);
        near(found.average_precision, 0.5 * 0.5 + 0.5 * 0.5);
        near(found.accuracy, 0.5);
        near(found.recall, 0.5);
        let same = classify(&[0.3; 4], &[true, true, true, false]).unwrap();
        near(same.auc, 0.5);
        near(same.average_precision, 0.75);
        near(same.best_accuracy, 0.75);
    }

    #[test]
    fn perfect_and_reversed_scores_are_the_ends_of_the_scale() {
        let perfect = classify(&[0.9, 0.6, 0.4, 0.2], &[true, true, false, false]).unwrap();
        for value in [perfect.auc, perfect.average_precision, perfect.accuracy, perfect.recall, perfect.best_accuracy] {
            near(value, 1.0);
        }
        let reversed = classify(&[0.1, 0.9], &[true, false]).unwrap();
        near(reversed.auc, 0.0);
        near(reversed.average_precision, 0.5);
        near(reversed.best_accuracy, 0.5);
        assert!(reversed.best_threshold > 0.9);
    }

    #[test]
    fn pairs_of_one_label_have_no_curve() {
        assert!(classify(&[0.1, 0.2], &[true, true]).is_none());
        assert!(classify(&[], &[]).is_none());
    }
}
