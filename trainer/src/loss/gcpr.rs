//! Global contrastive pre-ranking (docs/R2D2.md §2.1).

use tch::{Kind, Tensor};

/// The loss and the similarity matrix that the hard negatives are drawn from.
#[derive(Debug)]
pub struct Gcpr {
    /// Scalar: mean of the two directions.
    pub loss: Tensor,
    /// Image-to-text logits [B, B], detached.
    pub logits: Tensor,
}

/// Bool `[B, B]`: entries whose rows are of one concept, from concept ids `[B]` i64.
pub fn same_concept(ids: &Tensor) -> Tensor {
    ids.unsqueeze(0).eq_tensor(&ids.unsqueeze(1))
}

/// Bool `[B, C]`: which of the columns' concepts `[C]` equals the row's `[B]`.
pub fn same_concept_columns(rows: &Tensor, columns: &Tensor) -> Tensor {
    columns.unsqueeze(0).eq_tensor(&rows.unsqueeze(1))
}

/// Soft multi-positive targets `Y[i,j] = 1[id_i = id_j] / Σ_k 1[id_i = id_k]`, with label smoothing spread over all columns.
pub fn soft_targets(same: &Tensor, label_smoothing: f64) -> Tensor {
    let same = same.to_kind(Kind::Float);
    let targets = &same / same.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    if label_smoothing <= 0.0 {
        return targets;
    }
    let columns = same.size()[1] as f64;
    targets * (1.0 - label_smoothing) + label_smoothing / columns
}

/// Both directions of the contrastive loss over one batch. Embeddings are unit vectors [B, E] f32, `temperature` a scalar that divides,
/// `targets` [B, B] as [`soft_targets`] makes them (symmetric, so they serve both directions).
pub fn gcpr(image: &Tensor, text: &Tensor, temperature: &Tensor, targets: &Tensor) -> Gcpr {
    let logits = image.matmul(&text.tr()) / temperature;
    let direction = |logits: &Tensor| -(targets * logits.log_softmax(1, Kind::Float)).sum(Kind::Float);
    let batch = image.size()[0] as f64;
    let loss = (direction(&logits) + direction(&logits.tr())) / (2.0 * batch);
    Gcpr { loss, logits: logits.detach() }
}

/// One direction of the contrastive loss over any columns: `−(1/B) Σ_i Σ_j w_j·Y[i,j]·log softmax_j(logits[i,·])_j`. `logits` and
/// `targets` `[B, C]`; `weights` `[C]` ages queued columns (docs/R2D2.md §2.4 as written there), `None` weighs all by 1.
pub fn contrast(logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Tensor {
    let targets = weights.map_or_else(|| targets.shallow_clone(), |weights| targets * weights);
    -(targets * logits.log_softmax(1, Kind::Float)).sum(Kind::Float) / logits.size()[0] as f64
}

/// Target-guided distillation (docs/R2D2.md §2.4, equation 4): ŷ = α·softmax(teacher) + (1−α)·y, no gradient. Both [B, C]; the teacher's
/// logits come from the momentum towers over the same columns.
pub fn distilled_targets(targets: &Tensor, teacher_logits: &Tensor, alpha: f64) -> Tensor {
    targets * (1.0 - alpha) + teacher_logits.softmax(1, Kind::Float).detach() * alpha
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], columns: i64) -> Tensor {
        Tensor::from_slice(values).view([-1, columns])
    }

    #[test]
    fn gcpr_of_orthogonal_pairs_is_the_closed_form() {
        // Two unit pairs, each equal to its partner and orthogonal to the other: logits are 1/τ on the diagonal and 0 beside it.
        let x = rows(&[1.0, 0.0, 0.0, 1.0], 2);
        let targets = soft_targets(&same_concept(&Tensor::from_slice(&[1i64, 2])), 0.0);
        let tau = 0.5f64;
        let loss = gcpr(&x, &x, &Tensor::from(tau as f32), &targets).loss.double_value(&[]);
        let closed = (1.0 + (-1.0 / tau).exp()).ln();
        assert!((loss - closed).abs() < 1e-6, "{loss} is not {closed}");
    }

    #[test]
    fn gcpr_with_one_concept_is_the_entropy_of_uniform_targets() {
        let x = rows(&[1.0, 0.0, 1.0, 0.0], 2);
        let targets = soft_targets(&same_concept(&Tensor::from_slice(&[7i64, 7])), 0.0);
        let loss = gcpr(&x, &x, &Tensor::from(0.07f32), &targets).loss.double_value(&[]);
        assert!((loss - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn soft_targets_rows_sum_to_one() {
        let same = same_concept(&Tensor::from_slice(&[1i64, 2, 1]));
        for smoothing in [0.0, 0.1] {
            let sums = soft_targets(&same, smoothing).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            let sums: Vec<f32> = sums.try_into().unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6));
        }
        let targets = soft_targets(&same, 0.0);
        assert!((targets.double_value(&[0, 2]) - 0.5).abs() < 1e-6);
        assert!(targets.double_value(&[0, 1]).abs() < 1e-6);
    }

    #[test]
    fn contrast_over_the_batch_alone_is_gcpr() {
        let (image, text) = (rows(&[1.0, 0.0, 0.6, 0.8], 2), rows(&[0.8, 0.6, 0.0, 1.0], 2));
        let targets = soft_targets(&same_concept(&Tensor::from_slice(&[1i64, 2])), 0.0);
        let tau = Tensor::from(0.3f32);
        let whole = gcpr(&image, &text, &tau, &targets).loss.double_value(&[]);
        let logits = image.matmul(&text.tr()) / &tau;
        let directions = (contrast(&logits, &targets, None) + contrast(&logits.tr(), &targets, None)) / 2.0;
        assert!((whole - directions.double_value(&[])).abs() < 1e-6);
    }

    #[test]
    fn a_queued_column_takes_part_as_negative_and_as_aged_positive() {
        // Logits 0 over three columns: every log softmax is −ln 3; the targets are columns 0 and 2, the latter a queued twin of weight .5.
        let same = same_concept_columns(&Tensor::from_slice(&[7i64]), &Tensor::from_slice(&[7i64, 8, 7]));
        let logits = rows(&[0.0, 0.0, 0.0], 3);
        let loss = contrast(&logits, &soft_targets(&same, 0.0), Some(&Tensor::from_slice(&[1.0f32, 1.0, 0.5])));
        let closed = 3f64.ln() * (0.5 + 0.5 * 0.5);
        assert!((loss.double_value(&[]) - closed).abs() < 1e-6);
    }

    #[test]
    fn distilled_targets_are_equation_4() {
        let (targets, teacher) = (rows(&[1.0, 0.0], 2), rows(&[0.0, 3f32.ln()], 2));
        let mixed: Vec<f32> = distilled_targets(&targets, &teacher, 0.4).view([-1]).try_into().unwrap();
        // softmax of (0, ln 3) is (1/4, 3/4).
        assert!((mixed[0] - 0.7).abs() < 1e-6 && (mixed[1] - 0.3).abs() < 1e-6, "{mixed:?}");
    }
}
