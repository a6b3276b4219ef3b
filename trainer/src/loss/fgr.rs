//! Fine-grained ranking: hard negatives, the weighted matching loss (docs/R2D2.md §2.2), and a listwise one beside it.

use tch::{Kind, Tensor};

/// Class weight of a matching pair for each negative that is drawn a direction; that of a mismatch is 1. With the source's one negative
/// matches weigh 2, with any number as much as the mismatches together.
pub const POSITIVE_WEIGHT: f64 = 2.0;

/// Keeps an entry drawable whose probability is too small for f32. What is masked out is masked before the softmax, so a row's own match
/// takes no probability from the rest, and this floor is no share of any draw that has something to choose.
const PROBABILITY_FLOOR: f64 = 1e-30;

/// The drawn negatives of each of the first rows.
#[derive(Debug)]
pub struct Negatives {
    /// For text i, the places of `count` mismatching images, [N, count] i64, each once.
    pub image_of_text: Tensor,
    /// For image i, the places of `count` mismatching texts, [N, count] i64, each once.
    pub text_of_image: Tensor,
}

/// How negatives are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// The first so many pairs of the batch get negatives.
    pub anchors: i64,
    /// Negatives a direction.
    pub count: i64,
    /// Part of the anchors (0..1) whose negatives are drawn evenly in place of by the model's own probabilities.
    pub uniform: f64,
}

/// Draws negatives a direction in proportion to the model's own probabilities among the pairs that may serve (for `draw.uniform` of the
/// anchors: evenly), without replacement. `logits` are image-to-text [B, B]; `same` [B, B], bool and symmetric, marks what can't be a
/// negative: pairs of one concept or with the same text. `None` when some anchor has fewer others than are to be drawn.
pub fn hard_negatives(logits: &Tensor, same: &Tensor, draw: Draw) -> Option<Negatives> {
    let Draw { anchors, count, uniform } = draw;
    let same = same.narrow(0, 0, anchors);
    let others = same.logical_not();
    let fewest = others.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).min().int64_value(&[]);
    if fewest < count {
        return None;
    }
    let direction = |logits: &Tensor| {
        let masked = logits.narrow(0, 0, anchors).masked_fill(&same, f64::NEG_INFINITY);
        let hard = masked.softmax(1, Kind::Float).clamp_min(PROBABILITY_FLOOR);
        let weights = if uniform > 0.0 {
            let evenly = Tensor::rand([anchors, 1], (Kind::Float, logits.device())).less(uniform);
            hard.ones_like().where_self(&evenly, &hard)
        } else {
            hard
        };
        weights.masked_fill(&same, 0.0).multinomial(count, false)
    };
    Some(Negatives { image_of_text: direction(&logits.tr()), text_of_image: direction(logits) })
}

/// Cross entropy of match logits `[P, 2]` against labels `[P]` i64 with class weights [1, `positive`], normalised by the sum of weights.
pub fn weighted_cross_entropy(logits: &Tensor, labels: &Tensor, positive: f64) -> Tensor {
    let weights = Tensor::from_slice(&[1.0f32, positive as f32]).to_device(logits.device());
    logits.cross_entropy_loss(labels, Some(&weights), tch::Reduction::Mean, -100, 0.0)
}

/// What one cross encoder's head tells of the pairs it was trained on in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadFigures {
    /// Matching loss: class-weighted cross entropy, ln 2 where nothing is known.
    pub loss: f64,
    /// Part of matches and mismatches that it classifies right, both counted alike; 0.5 is chance.
    pub accuracy: f64,
    /// Probability that a match scores above a mismatch (area under the ROC curve), 0.5 is chance: against other pictures of a text, and
    /// against other texts of a picture.
    pub auc: [f64; 2],
}

impl HeadFigures {
    /// Of match logits [N·(1 + 2·count), 2] in the order of [`listwise`], with `loss` of the same.
    pub fn of(logits: &Tensor, anchors: i64, count: i64, loss: f64) -> Self {
        tch::no_grad(|| {
            let odds = (logits.select(1, 1) - logits.select(1, 0)).to_kind(Kind::Float);
            let part = |from: i64, length: i64| odds.narrow(0, from, length);
            let (own, others) = (part(0, anchors), part(anchors, 2 * anchors * count));
            let share = |right: &Tensor| right.to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            let accuracy = f64::midpoint(share(&own.greater(0.0)), share(&others.less_equal(0.0)));
            let auc = [0, 1].map(|at| auc(&own, &part(anchors * (1 + at * count), anchors * count)));
            Self { loss, accuracy, auc }
        })
    }
}

/// Area under the ROC curve of scores of matches `[N]` and of mismatches `[M]`: the part of N·M comparisons that a match wins, a tie by half
/// (Mann and Whitney's U).
pub fn auc(matches: &Tensor, mismatches: &Tensor) -> f64 {
    let (matches, mismatches) = (matches.unsqueeze(1), mismatches.unsqueeze(0));
    let part = |wins: Tensor| wins.to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    part(matches.greater_tensor(&mismatches)) + part(matches.eq_tensor(&mismatches)) / 2.0
}

/// Listwise ranking of each anchor's match among its own negatives (our choice, InfoNCE over the log-odds of a match): with
/// d = logit(match) − logit(mismatch), the mean over anchors and both directions of −log softmax(d)\[match\]. `logits` [N·(1 + 2·count), 2] hold
/// the N matches, then the mismatching images of each text in turn, then the mismatching texts of each image.
pub fn listwise(logits: &Tensor, anchors: i64, count: i64) -> Tensor {
    let odds = logits.select(1, 1) - logits.select(1, 0);
    let own = odds.narrow(0, 0, anchors).view([anchors, 1]);
    let direction = |at: i64| {
        let others = odds.narrow(0, anchors * (1 + at * count), anchors * count).view([anchors, count]);
        -Tensor::cat(&[&own, &others], 1).log_softmax(1, Kind::Float).select(1, 0).mean(Kind::Float)
    };
    (direction(0) + direction(1)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::same_concept;

    const fn draw(anchors: i64, count: i64) -> Draw {
        Draw { anchors, count, uniform: 0.0 }
    }

    #[test]
    fn a_sure_match_leaves_the_draw_to_the_hardest_of_the_others_however_sharp_the_temperature_is() {
        // Cosines .9 for the match and .65, .5, .4 for the others over a temperature of .01: of the whole row's probability the hardest
        // negative has e^-25, of the negatives' all but e^-15.
        let row = [0.9f32, 0.65, 0.5, 0.4].map(|cosine| cosine / 0.01);
        let logits = Tensor::from_slice(&row).view([1, 4]).repeat([4, 1]);
        let same = same_concept(&Tensor::from_slice(&[0i64, 1, 2, 3]));
        for _ in 0..200 {
            let negatives = hard_negatives(&logits, &same, draw(1, 1)).unwrap();
            assert_eq!(negatives.text_of_image.int64_value(&[0, 0]), 1);
        }
    }

    #[test]
    fn a_uniform_share_is_drawn_evenly() {
        let logits = Tensor::from_slice(&[0.0f32, 90.0, 0.0, 0.0]).view([1, 4]).repeat([4, 1]);
        let same = same_concept(&Tensor::from_slice(&[0i64, 1, 2, 3]));
        tch::manual_seed(1);
        let mut seen = [0; 4];
        for _ in 0..600 {
            let negatives = hard_negatives(&logits, &same, Draw { uniform: 0.5, ..draw(1, 1) }).unwrap();
            seen[negatives.text_of_image.int64_value(&[0, 0]) as usize] += 1;
        }
        // Half of 600 lie on the hardest, and a third of the other half.
        assert!(seen[0] == 0 && (360..440).contains(&seen[1]) && seen[2].min(seen[3]) > 60, "{seen:?}");
    }

    #[test]
    fn matching_loss_is_normalised_by_the_sum_of_weights() {
        let logits = Tensor::from_slice(&[0.0f32, 1.0, 2.0, -1.0, 0.5, 0.5]).view([3, 2]);
        let labels = Tensor::from_slice(&[1i64, 0, 0]);
        let nll = |own: f64, other: f64| (1.0 + (other - own).exp()).ln();
        let closed = (2.0 * nll(1.0, 0.0) + nll(2.0, -1.0) + nll(0.5, 0.5)) / 4.0;
        let loss = weighted_cross_entropy(&logits, &labels, POSITIVE_WEIGHT).double_value(&[]);
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
    }

    #[test]
    fn negatives_never_share_the_concept() {
        let ids = Tensor::from_slice(&[1i64, 1, 2, 3]);
        let same = same_concept(&ids);
        // The model is sure of the diagonal and of the twin: only the floor is left for the others.
        let logits = same.to_kind(Kind::Float) * 100.0;
        let concept: Vec<i64> = ids.try_into().unwrap();
        for round in 0..50 {
            let count = 1 + round % 2;
            let negatives = hard_negatives(&logits, &same, draw(4, count)).unwrap();
            for drawn in [negatives.image_of_text, negatives.text_of_image] {
                assert_eq!(drawn.size(), [4, count]);
                for anchor in 0..4 {
                    let mut others: Vec<i64> = drawn.get(anchor).try_into().unwrap();
                    assert!(others.iter().all(|&other| concept[other as usize] != concept[anchor as usize]));
                    others.dedup();
                    assert_eq!(others.len() as i64, count, "an anchor's negatives are different ones");
                }
            }
        }
    }

    #[test]
    fn the_listwise_loss_is_the_closed_form_of_both_directions() {
        // One anchor, two negatives a direction; the log-odds of a match are 1, then 0 and −1 for images, 2 and 1 for texts.
        let logits = Tensor::from_slice(&[0.0f32, 1.0, 0.5, 0.5, 1.0, 0.0, -1.0, 1.0, 0.0, 1.0]).view([5, 2]);
        let images = ((0f64.exp() + (-1f64).exp() + 1f64.exp()) / 1f64.exp()).ln();
        let texts = ((2f64.exp() + 1f64.exp() + 1f64.exp()) / 1f64.exp()).ln();
        let loss = listwise(&logits, 1, 2).double_value(&[]);
        assert!((loss - f64::midpoint(images, texts)).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn a_batch_with_fewer_other_concepts_than_asked_for_has_no_negatives() {
        let logits = Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu));
        assert!(hard_negatives(&logits, &same_concept(&Tensor::from_slice(&[5i64, 5])), draw(2, 1)).is_none());
        let different = same_concept(&Tensor::from_slice(&[5i64, 6]));
        assert!(
            hard_negatives(&logits, &different, draw(2, 1)).is_some()
                && hard_negatives(&logits, &different, draw(2, 2)).is_none()
        );
    }
}
