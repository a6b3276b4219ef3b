//! Fine-grained ranking: hard negatives, the weighted matching loss (docs/R2D2.md §2.2), and a listwise one beside it.

use tch::{Kind, Tensor};

/// Class weight of a matching pair for each negative that is drawn a direction; that of a mismatch is 1. With the source's one negative
/// matches weigh 2, with any number as much as the mismatches together.
pub const POSITIVE_WEIGHT: f64 = 2.0;

/// Keeps a row drawable when all its probability lies on entries that are masked out.
const PROBABILITY_FLOOR: f64 = 1e-8;

/// The drawn negatives of each of the first rows.
#[derive(Debug)]
pub struct Negatives {
    /// For text i, the places of `count` mismatching images, [N, count] i64, each once.
    pub image_of_text: Tensor,
    /// For image i, the places of `count` mismatching texts, [N, count] i64, each once.
    pub text_of_image: Tensor,
}

/// Draws `count` negatives a direction in proportion to the model's own probabilities, without replacement and never of the anchor's
/// concept. `logits` are image-to-text [B, B], `same` the bool matrix of equal concepts. `None` when some anchor has fewer samples of
/// another concept than are to be drawn.
pub fn hard_negatives(logits: &Tensor, same: &Tensor, anchors: i64, count: i64) -> Option<Negatives> {
    let draw = |logits: &Tensor| {
        let logits = logits.narrow(0, 0, anchors);
        let same = same.narrow(0, 0, anchors);
        let weights = (logits.softmax(1, Kind::Float) + PROBABILITY_FLOOR).masked_fill(&same, 0.0);
        let others = weights.greater(0.0).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).min().int64_value(&[]);
        (others >= count).then(|| weights.multinomial(count, false))
    };
    Some(Negatives { image_of_text: draw(&logits.tr())?, text_of_image: draw(logits)? })
}

/// Cross entropy of match logits `[P, 2]` against labels `[P]` i64 with class weights [1, `positive`], normalised by the sum of weights.
pub fn weighted_cross_entropy(logits: &Tensor, labels: &Tensor, positive: f64) -> Tensor {
    let weights = Tensor::from_slice(&[1.0f32, positive as f32]).to_device(logits.device());
    logits.cross_entropy_loss(labels, Some(&weights), tch::Reduction::Mean, -100, 0.0)
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
            let negatives = hard_negatives(&logits, &same, 4, count).unwrap();
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
        assert!(hard_negatives(&logits, &same_concept(&Tensor::from_slice(&[5i64, 5])), 2, 1).is_none());
        let different = same_concept(&Tensor::from_slice(&[5i64, 6]));
        assert!(hard_negatives(&logits, &different, 2, 1).is_some() && hard_negatives(&logits, &different, 2, 2).is_none());
    }
}
