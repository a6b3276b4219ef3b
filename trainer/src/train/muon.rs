//! Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"): momentum, then the nearest semi-orthogonal
//! matrix. For the matrices inside the blocks; embeddings, vectors and heads stay with AdamW.
//!
//! It learns several times as fast a step as AdamW for about 0.1 s more an update (BENCHMARKS.md). A restarted schedule at its full rate makes
//! the cross encoders' loss rise; it falls as the rate does.

use tch::{Kind, Tensor};

use crate::nn::{Named, Params};

/// Coefficients of the quintic Newton-Schulz iteration, and how often it runs (the authors').
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// Keeps the norm of a zero gradient divisible.
const NORM_FLOOR: f64 = 1e-7;

/// Constants of Muon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonSettings {
    /// Learning rate as a multiple of AdamW's: its update has spectral norm about 1, so it wants about twenty times AdamW's.
    pub lr_scale: f64,
    /// Decay of the momentum (the authors': 0.95), Nesterov's form.
    pub momentum: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
}

/// True for the matrices that Muon updates: two-dimensional weights inside a block of any tower.
pub fn is_hidden_matrix(named: &Named) -> bool {
    named.shape.len() == 2 && (named.name.contains(".encoder.layer.") || named.name.contains(".encoder.layers."))
}

/// Updates matrices in place. `momentum` is a flat buffer of the parameters' layout; the gradients are read from `params`. A matrix
/// without gradient (its term of the loss was not due) stays as it is.
pub fn update(params: &Params, matrices: &[Named], momentum: &Tensor, lr: f64, settings: &MuonSettings) {
    let lr = lr * settings.lr_scale;
    for same_shape in by_shape(matrices) {
        let due: Vec<&Named> =
            same_shape.into_iter().filter(|named| params.view(params.grad(), named).any().int64_value(&[]) != 0).collect();
        let Some(first) = due.first() else { continue };
        let directions: Vec<Tensor> = due
            .iter()
            .map(|named| {
                let gradient = params.view(params.grad(), named);
                let mut buffer = params.view(momentum, named);
                let _ = buffer.lerp_(&gradient, 1.0 - settings.momentum);
                gradient.lerp(&buffer, settings.momentum)
            })
            .collect();
        // One batched product for all matrices of a shape: small ones alone leave the cores idle.
        let directions = orthogonal(&Tensor::stack(&directions, 0));
        let (rows, columns) = (first.shape[0] as f64, first.shape[1] as f64);
        let directions = directions * (lr * (rows / columns).max(1.0).sqrt());
        for (index, named) in due.iter().enumerate() {
            let mut weights = params.view(params.flat(), named);
            if settings.weight_decay > 0.0 {
                let _ = weights.g_mul_scalar_(1.0 - lr * settings.weight_decay);
            }
            let _ = weights.g_sub_(&directions.get(index as i64));
        }
    }
}

fn by_shape(matrices: &[Named]) -> Vec<Vec<&Named>> {
    let mut groups: Vec<Vec<&Named>> = Vec::new();
    for named in matrices {
        match groups.iter_mut().find(|group| group[0].shape == named.shape) {
            Some(group) => group.push(named),
            None => groups.push(vec![named]),
        }
    }
    groups
}

/// Near the semi-orthogonal matrices closest to each of a stack [N, rows, columns]: singular values end between about 0.7 and 1.2.
pub fn orthogonal(matrices: &Tensor) -> Tensor {
    let [a, b, c] = QUINTIC;
    let tall = matrices.size()[1] > matrices.size()[2];
    let mut x = if tall { matrices.transpose(1, 2) } else { matrices.shallow_clone() };
    let norm = x.square().sum_dim_intlist([1i64, 2].as_slice(), true, Kind::Float).sqrt() + NORM_FLOOR;
    x /= norm;
    for _ in 0..ITERATIONS {
        let gram = x.matmul(&x.transpose(1, 2));
        let polynomial = &gram * b + gram.matmul(&gram) * c;
        x = &x * a + polynomial.matmul(&x);
    }
    if tall { x.transpose(1, 2) } else { x }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_direction_is_nearly_orthogonal_whatever_the_shape() {
        tch::manual_seed(2);
        for shape in [[2i64, 24, 24], [1, 12, 48], [3, 48, 12]] {
            let (_, values, _) = orthogonal(&Tensor::randn(shape, (Kind::Float, Device::Cpu))).svd(true, true);
            let (low, high) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(low > 0.3 && high < 1.3, "{shape:?}: singular values from {low} to {high}");
        }
    }

    #[test]
    fn a_zero_gradient_gives_a_zero_direction() {
        let direction = orthogonal(&Tensor::zeros([1, 4, 4], (Kind::Float, Device::Cpu)));
        assert!(direction.abs().max().double_value(&[]) < 1e-6);
    }
}
