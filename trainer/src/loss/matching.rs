//! The objective of matching fine-tuning (docs/R2D2.md §2.6).

use tch::{Kind, Tensor};

/// Cross entropy of labels `[P]` i64 against the mean of both heads' probabilities, p = ½·softmax(text) + ½·softmax(image), taken as if
/// they were logits: a second log-softmax lies over them, so the loss is within ln(1 + 1/e) = 0.3133 and ln(1 + e) = 1.3133. Unweighted
/// mean over the pairs; both logits [P, 2].
pub fn averaged_cross_entropy(text: &Tensor, image: &Tensor, labels: &Tensor) -> Tensor {
    let probabilities = (text.softmax(-1, Kind::Float) + image.softmax(-1, Kind::Float)) * 0.5;
    probabilities.cross_entropy_loss(labels, None::<Tensor>, tch::Reduction::Mean, -100, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_closed_form_of_the_double_softmax() {
        // Text head: (1/4, 3/4) and (1/2, 1/2). Image head: (1/2, 1/2) and (9/10, 1/10).
        let text = Tensor::from_slice(&[0.0f32, 3f32.ln(), 0.0, 0.0]).view([2, 2]);
        let image = Tensor::from_slice(&[0.0f32, 0.0, 9f32.ln(), 0.0]).view([2, 2]);
        let loss = averaged_cross_entropy(&text, &image, &Tensor::from_slice(&[1i64, 0])).double_value(&[]);
        // Mean probabilities of the labels: 5/8 against 3/8, and 7/10 against 3/10.
        let of = |own: f64, other: f64| (1.0 + (other - own).exp()).ln();
        let closed = f64::midpoint(of(0.625, 0.375), of(0.7, 0.3));
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
    }

    #[test]
    fn the_loss_lies_within_its_bounds() {
        let sure = Tensor::from_slice(&[-50.0f32, 50.0]).view([1, 2]);
        let loss = |label: i64| averaged_cross_entropy(&sure, &sure, &Tensor::from_slice(&[label])).double_value(&[]);
        assert!((loss(1) - 0.313_261_687).abs() < 1e-6);
        assert!((loss(0) - 1.313_261_687).abs() < 1e-6);
    }
}
