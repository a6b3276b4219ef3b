//! Fine-grained ranking: hard negatives and the weighted matching loss (r2d2.md §2.2).

use tch::{Kind, Tensor};

/// Class weight of a matching pair; that of a mismatch is 1.
pub const POSITIVE_WEIGHT: f64 = 2.0;

/// Keeps a row drawable when all its probability lies on entries that are masked out.
const PROBABILITY_FLOOR: f64 = 1e-8;

/// One drawn negative for each of the first `anchors` rows.
#[derive(Debug)]
pub struct Negatives {
    /// For text i, the index of a mismatching image, [N] i64.
    pub image_of_text: Tensor,
    /// For image i, the index of a mismatching text, [N] i64.
    pub text_of_image: Tensor,
}

/// Draws negatives in proportion to the model's own probabilities, never of the anchor's concept. `logits` are image-to-text [B, B],
/// `same` the bool matrix of equal concepts. `None` when some anchor has no sample of another concept to be drawn.
pub fn hard_negatives(logits: &Tensor, same: &Tensor, anchors: i64) -> Option<Negatives> {
    let draw = |logits: &Tensor| {
        let logits = logits.narrow(0, 0, anchors);
        let same = same.narrow(0, 0, anchors);
        let weights = (logits.softmax(1, Kind::Float) + PROBABILITY_FLOOR).masked_fill(&same, 0.0);
        let drawable = weights.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).min().double_value(&[]) > 0.0;
        drawable.then(|| weights.multinomial(1, false).squeeze_dim(1))
    };
    Some(Negatives { image_of_text: draw(&logits.tr())?, text_of_image: draw(logits)? })
}

/// Cross entropy of match logits [P, 2] against labels [P] i64 with class weights [1, 2], normalised by the sum of weights.
pub fn weighted_cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let weights = Tensor::from_slice(&[1.0f32, POSITIVE_WEIGHT as f32]).to_device(logits.device());
    logits.cross_entropy_loss(labels, Some(&weights), tch::Reduction::Mean, -100, 0.0)
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
        let loss = weighted_cross_entropy(&logits, &labels).double_value(&[]);
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
    }

    #[test]
    fn negatives_never_share_the_concept() {
        let ids = Tensor::from_slice(&[1i64, 1, 2, 3]);
        let same = same_concept(&ids);
        // The model is sure of the diagonal and of the twin: only the floor is left for the others.
        let logits = same.to_kind(Kind::Float) * 100.0;
        let concept: Vec<i64> = ids.try_into().unwrap();
        for _ in 0..50 {
            let negatives = hard_negatives(&logits, &same, 4).unwrap();
            for drawn in [negatives.image_of_text, negatives.text_of_image] {
                let drawn: Vec<i64> = drawn.try_into().unwrap();
                for (anchor, other) in drawn.into_iter().enumerate() {
                    assert_ne!(concept[anchor], concept[other as usize]);
                }
            }
        }
    }

    #[test]
    fn a_batch_of_one_concept_has_no_negatives() {
        let same = same_concept(&Tensor::from_slice(&[5i64, 5]));
        assert!(hard_negatives(&Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu)), &same, 2).is_none());
    }
}
