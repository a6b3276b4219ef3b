//! Gradient caching (Gao et al. 2021, GradCache): the contrastive loss over a large batch whose towers run on small parts of it.
//!
//! Embeddings of the whole batch are made without a graph, the loss over all of them gives each embedding's gradient, and every part is
//! encoded once more with a graph that this gradient is sent through: the exact gradient of the whole batch (docs/R2D2.md §2.1 says why one
//! device with batch N equals N spread over ranks), with one part's activations in memory. It takes one forward pass more.
//!
//! It is also the seam for several devices: ranks would all-gather embeddings (and the queue's new rows) before
//! `Objective::contrastive` and all-reduce the one flat gradient buffer after it. tch 0.24 binds none of LibTorch's collectives, and no kept
//! Rust library has them over TCP for training, so that is not built.

use tch::{Kind, Tensor};

use super::objective::{Guide, Objective, StepLosses};
use crate::distil::DistilError;
use crate::inputs::Inputs;
use crate::model::Encoded;
use crate::nn::Weights;

impl Objective<'_> {
    /// Adds the gradient of a step to the parameters, from parts of at most `part` pairs. The cross encoders see the whole batch: their
    /// negatives are drawn from all of it, and the states of what was drawn get their gradient as the embeddings do. `seed` makes both
    /// passes of a part drop the same elements.
    ///
    /// # Errors
    /// A teacher's towers failed.
    pub fn backward_cached(
        &self,
        w: &Weights,
        inputs: &Inputs,
        part: i64,
        with_itm: bool,
        guide: &mut Guide<'_>,
        seed: i64,
    ) -> Result<StepLosses, DistilError> {
        let size = inputs.size();
        let parts: Vec<(i64, i64)> = (0..size).step_by(part as usize).map(|from| (from, part.min(size - from))).collect();
        let encode = |index: usize| {
            let (from, length) = parts[index];
            tch::manual_seed(seed.wrapping_add(index as i64));
            self.encode(w, &inputs.narrow(from, length), with_itm)
        };
        let [image, text] = cached((0..parts.len()).map(|index| tch::no_grad(|| encode(index))), with_itm);
        let (total, losses) = self.terms(w, inputs, [&image, &text], with_itm, guide)?;
        total.backward();
        for (index, &(from, length)) in parts.iter().enumerate() {
            let encoded = encode(index);
            let sides = encoded.iter().zip([&image, &text]);
            let surrogate = sides.map(|(own, leaves)| {
                let through = |own: &Tensor, leaf: &Tensor| {
                    let gradient = leaf.grad();
                    gradient.defined().then(|| (own * gradient.narrow(0, from, length)).sum(Kind::Float))
                };
                let states = with_itm.then(|| through(&own.states, &leaves.states)).flatten();
                [through(&own.embedding, &leaves.embedding), states].into_iter().flatten().reduce(|sum, term| sum + term)
            });
            if let Some(surrogate) = surrogate.flatten().reduce(|sum, term| sum + term) {
                surrogate.backward();
            }
        }
        Ok(losses)
    }
}

/// The batch from its parts: embeddings, and states where the cross encoders need them, as leaves that gather gradient. States of a whole
/// batch are what a part's graph holds a layer many times over.
fn cached(parts: impl Iterator<Item = [Encoded; 2]>, with_states: bool) -> [Encoded; 2] {
    let mut rows: [[Vec<Tensor>; 2]; 2] = Default::default();
    for encoded in parts {
        for ([embeddings, states], own) in rows.iter_mut().zip(encoded) {
            embeddings.push(own.embedding);
            if with_states {
                states.push(own.states);
            }
        }
    }
    let leaf = |rows: &[Tensor]| Tensor::cat(rows, 0).detach().set_requires_grad(true);
    rows.map(|[embeddings, states]| Encoded {
        embedding: leaf(&embeddings),
        states: if with_states { leaf(&states) } else { Tensor::new() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Batch;
    use crate::model::{ModelConfig, R2d2};
    use crate::nn::{Params, Precision};
    use crate::train::LossConfig;

    fn tiny() -> (R2d2, Params, Inputs) {
        let text = include_str!("../../../configs/models/tiny.toml");
        let mut config: ModelConfig = toml::from_str(text).unwrap();
        config.vision.image = 64;
        let (model, mut params) = R2d2::new(&config).unwrap();
        params.initialise(5);
        let (size, length, side) = (6, 7, 64);
        let batch = Batch {
            step: 0,
            size,
            pixels: (0..size * 3 * side * side).map(|at| (at * 7919 % 251) as u8).collect(),
            ids: (0..size * length).map(|at| (at * 31 % 5000) as i64).collect(),
            mask: vec![1; size * length],
            length,
            concepts: vec![0, 1, 2, 2, 3, 4],
            keep: None,
            masked: None,
            position: None,
        };
        (model, params, Inputs::new(&batch, side as i64, tch::Device::Cpu))
    }

    /// Gradient of the contrastive loss, and its value.
    fn whole(model: &R2d2, params: &mut Params, inputs: &Inputs, loss: &LossConfig, guide: &mut Guide<'_>) -> (Tensor, f64) {
        params.zero_grad();
        tch::manual_seed(9);
        let with_itm = loss.itm_every > 0;
        let (total, losses) =
            Objective { model, loss }.forward(&params.weights(Precision::F32), inputs, with_itm, guide).unwrap();
        total.backward();
        (params.grad().copy(), losses.gcpr)
    }

    /// Largest difference, as a part of the largest element.
    fn difference(found: &Tensor, expected: &Tensor) -> f64 {
        (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
    }

    #[test]
    fn the_gradient_from_parts_is_the_whole_batch_s() {
        let (model, mut params, inputs) = tiny();
        let loss = LossConfig { itm_every: 0, ..LossConfig::default() };
        let (gradient, value) = whole(&model, &mut params, &inputs, &loss, &mut Guide::default());
        params.zero_grad();
        let objective = Objective { model: &model, loss: &loss };
        let w = params.weights(Precision::F32);
        let losses = objective.backward_cached(&w, &inputs, 4, false, &mut Guide::default(), 1).unwrap();
        assert!(difference(params.grad(), &gradient) < 1e-4);
        assert!((losses.gcpr - value).abs() < 1e-5);
    }

    #[test]
    fn the_cross_encoders_gradient_from_parts_is_the_whole_batch_s_too() {
        let (model, mut params, inputs) = tiny();
        // The one anchor takes every other pair, so that what is drawn does not hang on the generator's state.
        for itm_detach in [false, true] {
            let loss = LossConfig { fgr_negatives: 5, itm_detach, itm_pairs_max: 11, ..LossConfig::default() };
            let (gradient, value) = whole(&model, &mut params, &inputs, &loss, &mut Guide::default());
            params.zero_grad();
            let w = params.weights(Precision::F32);
            let objective = Objective { model: &model, loss: &loss };
            let losses = objective.backward_cached(&w, &inputs, 2, true, &mut Guide::default(), 1).unwrap();
            assert!(losses.fgr.is_some() && (losses.gcpr - value).abs() < 1e-5);
            assert!(difference(params.grad(), &gradient) < 1e-4, "itm_detach = {itm_detach}");
        }
    }

    #[test]
    fn own_columns_give_both_sides_their_gradient_and_momentum_columns_the_row_s_alone() {
        let (model, mut params, inputs) = tiny();
        let loss = |momentum_columns| LossConfig { itm_every: 0, momentum: true, momentum_columns, ..LossConfig::default() };
        let (alone, value) = whole(&model, &mut params, &inputs, &loss(true), &mut Guide::default());
        // The momentum towers are the towers themselves here, so that the two differ in the gradient alone.
        let teacher = params.weights_of(&params.flat().copy(), Precision::F32);
        let mut with = |momentum_columns| {
            let mut guide = Guide { teacher: Some(&teacher), ..Guide::default() };
            whole(&model, &mut params, &inputs, &loss(momentum_columns), &mut guide)
        };
        let ((own, own_value), (one_sided, one_sided_value)) = (with(false), with(true));
        assert!((own_value - value).abs() < 1e-5 && (one_sided_value - value).abs() < 1e-5);
        assert!(difference(&own, &alone) < 1e-4);
        assert!(difference(&one_sided, &alone) > 0.05);
    }
}
