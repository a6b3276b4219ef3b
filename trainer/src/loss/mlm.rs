//! Masked language modelling and feature-guided distillation (docs/R2D2.md §2.3, §2.5).

use tch::Tensor;

use super::divergence;

/// Mean cross entropy of vocabulary logits `[M, V]` against true ids `[M]` i64, M the masked places of the batch.
pub fn masked_cross_entropy(logits: &Tensor, ids: &Tensor) -> Tensor {
    logits.cross_entropy_loss(ids, None::<Tensor>, tch::Reduction::Mean, -100, 0.0)
}

/// Feature-guided distillation in its smallest form (the source leaves feature and distance open; this is our choice): the distribution
/// that the masked text gives over the image columns is drawn to the momentum towers' for the whole text,
/// mean_i KL(softmax(teacher_i) ‖ softmax(student_i)). Both [B, C]; no gradient reaches the teacher.
pub fn feature_distillation(student_logits: &Tensor, teacher_logits: &Tensor) -> Tensor {
    divergence(student_logits, teacher_logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_cross_entropy_is_the_mean_over_masked_places() {
        let logits = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 3f32.ln()]).view([2, 2]);
        let loss = masked_cross_entropy(&logits, &Tensor::from_slice(&[0i64, 1])).double_value(&[]);
        let closed = f64::midpoint(2f64.ln(), (4.0f64 / 3.0).ln());
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
    }

    #[test]
    fn feature_distillation_is_the_divergence_of_the_two_distributions() {
        let teacher = Tensor::from_slice(&[0.0f32, 3f32.ln()]).view([1, 2]);
        let student = Tensor::from_slice(&[0.0f32, 0.0]).view([1, 2]);
        let loss = feature_distillation(&student, &teacher).double_value(&[]);
        let closed = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
        assert!(feature_distillation(&teacher, &teacher).double_value(&[]).abs() < 1e-7);
    }
}
