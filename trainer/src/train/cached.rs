//! Gradient caching (Gao et al. 2021, GradCache): the contrastive loss over a large batch whose towers run on small parts of it.
//!
//! Embeddings of the whole batch are made without a graph, the loss over all of them gives each embedding's gradient, and every part is
//! encoded once more with a graph that this gradient is sent through: the exact gradient of the whole batch (r2d2.md §2.1 says why one
//! device with batch N equals N spread over ranks), with one part's activations in memory. It takes one forward pass more.

use tch::{Kind, Tensor};

use super::objective::{Guide, Inputs, Objective, StepLosses, batch_logits};
use crate::loss::same_concept;
use crate::model::Encoded;
use crate::nn::Weights;

impl Objective<'_> {
    /// Adds the gradient of a step to the parameters, from parts of at most `part` pairs. The matching loss draws its negatives within a
    /// part. `seed` makes both passes of a part drop the same elements.
    pub fn backward_cached(
        &self,
        w: &Weights,
        inputs: &Inputs,
        part: i64,
        with_itm: bool,
        guide: &mut Guide<'_>,
        seed: i64,
    ) -> StepLosses {
        let size = inputs.size();
        let parts: Vec<(i64, i64)> = (0..size).step_by(part as usize).map(|from| (from, part.min(size - from))).collect();
        let encode = |index: usize| {
            let (from, length) = parts[index];
            tch::manual_seed(seed.wrapping_add(index as i64));
            let own = inputs.narrow(from, length);
            let encoded = self.encode(w, &own, with_itm);
            (own, encoded)
        };
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        tch::no_grad(|| {
            for index in 0..parts.len() {
                let (_, [image, text]) = encode(index);
                images.push(image.embedding);
                texts.push(text.embedding);
            }
        });
        let leaf = |rows: &[Tensor]| Tensor::cat(rows, 0).detach().set_requires_grad(true);
        let (image, text) = (leaf(&images), leaf(&texts));
        let temperature = self.temperature(w);
        let (loss, fgd) = self.contrastive(inputs, [&image, &text], with_itm, &temperature, guide);
        let logits = batch_logits([&image, &text], &temperature);
        let mut losses = StepLosses::of_contrast(&loss, &logits, &same_concept(&inputs.concepts));
        let mut total = loss;
        if let Some(fgd) = fgd {
            losses.fgd = Some(fgd.double_value(&[]));
            total += fgd * self.loss.fgd_weight;
        }
        losses.total = total.double_value(&[]);
        total.backward();
        let gradients = [image.grad(), text.grad()];
        for (index, &(from, length)) in parts.iter().enumerate() {
            let (own, encoded) = encode(index);
            let [image, text] = &encoded;
            let through =
                |encoded: &Encoded, gradient: &Tensor| (&encoded.embedding * gradient.narrow(0, from, length)).sum(Kind::Float);
            let mut surrogate = through(image, &gradients[0]) + through(text, &gradients[1]);
            if with_itm {
                let share = length as f64 / size as f64;
                let logits = batch_logits([&image.embedding, &text.embedding], &temperature);
                if let Some((term, weighted)) = self.cross_terms(w, &own, [image, text], &logits, &same_concept(&own.concepts)) {
                    losses.add_cross(&term, share);
                    losses.total += weighted.double_value(&[]) * share;
                    surrogate += weighted * share;
                }
            }
            surrogate.backward();
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Batch;
    use crate::model::{ModelConfig, R2d2};
    use crate::nn::Precision;
    use crate::train::LossConfig;

    #[test]
    fn the_gradient_from_parts_is_the_whole_batch_s() {
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
        let inputs = Inputs::new(&batch, side as i64);
        let loss = LossConfig { itm_every: 0, ..LossConfig::default() };
        let objective = Objective { model: &model, loss: &loss };
        let w = params.weights(Precision::F32);
        let (total, whole_losses) = objective.forward(&w, &inputs, false, &mut Guide::default());
        total.backward();
        let whole = params.grad().copy();
        params.zero_grad();
        let losses = objective.backward_cached(&w, &inputs, 4, false, &mut Guide::default(), 1);
        let difference = (params.grad() - &whole).abs().max().double_value(&[]);
        let scale = whole.abs().max().double_value(&[]);
        assert!(difference < scale * 1e-4, "{difference} beside {scale}");
        assert!((losses.gcpr - whole_losses.gcpr).abs() < 1e-5);
    }
}
