//! Global contrastive pre-ranking (r2d2.md §2.1).

use tch::{Kind, Tensor};

/// The loss and the similarity matrix that the hard negatives are drawn from.
#[derive(Debug)]
pub struct Gcpr {
    /// Scalar: mean of the two directions.
    pub loss: Tensor,
    /// Image-to-text logits [B, B], detached.
    pub logits: Tensor,
}

/// Bool [B, B]: entries whose rows are of one concept, from concept ids [B] i64.
pub fn same_concept(ids: &Tensor) -> Tensor {
    ids.unsqueeze(0).eq_tensor(&ids.unsqueeze(1))
}

/// Soft multi-positive targets Y[i,j] = 1[id_i = id_j] / Σ_k 1[id_i = id_k], with label smoothing spread over all columns.
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
}
