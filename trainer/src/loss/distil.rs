//! Distances to a teacher. No gradient reaches its side.

use tch::{Kind, Tensor};

/// Mean over rows of KL(softmax(teacher_i) ‖ softmax(student_i)); both logits [B, C].
pub fn divergence(student_logits: &Tensor, teacher_logits: &Tensor) -> Tensor {
    let target = teacher_logits.log_softmax(1, Kind::Float).detach();
    let rows = student_logits.size()[0] as f64;
    (target.exp() * (&target - student_logits.log_softmax(1, Kind::Float))).sum(Kind::Float) / rows
}

/// 1 − mean cosine of matching rows; both [B, E] of unit length.
pub fn embedding_distance(student: &Tensor, teacher: &Tensor) -> Tensor {
    1.0 - (student * teacher.detach()).sum(Kind::Float) / student.size()[0] as f64
}

/// Mean over pairs of KL between the teacher's and the student's match: `logits` `[P, 2]` with class 1 the match, `taught` `[P]` the
/// teacher's probability of it.
pub fn score_distance(logits: &Tensor, taught: &Tensor) -> Tensor {
    let taught = taught.detach().clamp(1e-6, 1.0 - 1e-6);
    let taught = Tensor::stack(&[1.0 - &taught, taught], 1).log();
    divergence(logits, &taught)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], columns: i64) -> Tensor {
        Tensor::from_slice(values).view([-1, columns])
    }

    fn value(tensor: &Tensor) -> f64 {
        tensor.double_value(&[])
    }

    #[test]
    fn divergence_is_zero_where_both_agree_and_the_closed_form_elsewhere() {
        let logits = rows(&[0.3, -1.0, 2.0, 0.0], 2);
        assert!(value(&divergence(&(&logits + 5.0), &logits)).abs() < 1e-6);
        // Teacher (1/4, 3/4), student (1/2, 1/2).
        let found = value(&divergence(&rows(&[0.0, 0.0], 2), &rows(&[0.0, 3f32.ln()], 2)));
        let closed = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((found - closed).abs() < 1e-6, "{found} is not {closed}");
    }

    #[test]
    fn embedding_distance_is_one_minus_the_mean_cosine() {
        let found = value(&embedding_distance(&rows(&[1.0, 0.0, 0.0, 1.0], 2), &rows(&[1.0, 0.0, 0.8, 0.6], 2)));
        assert!((found - 0.2).abs() < 1e-6);
    }

    #[test]
    fn score_distance_is_the_kl_of_two_coins() {
        // The student says 1/2, the teacher 3/4.
        let found = value(&score_distance(&rows(&[0.0, 0.0], 2), &Tensor::from_slice(&[0.75f32])));
        let closed = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((found - closed).abs() < 1e-5, "{found} is not {closed}");
    }

    #[test]
    fn a_teacher_that_is_sure_gives_a_finite_distance() {
        assert!(value(&score_distance(&rows(&[3.0, -3.0], 2), &Tensor::from_slice(&[1.0f32]))).is_finite());
    }
}
