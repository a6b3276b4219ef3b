//! One step's forward pass: GCPR, and FGR where it is due.

use tch::{Kind, Tensor};

use super::config::LossConfig;
use crate::corpus::Batch;
use crate::loss::{gcpr, hard_negatives, same_concept, soft_targets, weighted_cross_entropy};
use crate::model::{Encoded, R2d2};
use crate::nn::{Context, Weights};

/// CLIP's normalisation (r2d2.md §3.4).
pub const PIXEL_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's normalisation (r2d2.md §3.4).
pub const PIXEL_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Bytes [B, 3, H, W] → normalised f32.
pub fn normalise(bytes: &Tensor) -> Tensor {
    let scale: Vec<f32> = PIXEL_STD.iter().map(|std| 1.0 / (255.0 * std)).collect();
    let shift: Vec<f32> = PIXEL_MEAN.iter().zip(PIXEL_STD).map(|(mean, std)| -mean / std).collect();
    let per_channel = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]);
    bytes.to_kind(Kind::Float) * per_channel(&scale) + per_channel(&shift)
}

/// A batch as tensors.
pub struct Inputs {
    pixels: Tensor,
    ids: Tensor,
    mask: Tensor,
    concepts: Tensor,
    keep: Option<Tensor>,
}

impl Inputs {
    /// Copies a batch into tensors; `side` is the picture's side.
    pub fn new(batch: &Batch, side: i64) -> Self {
        let (size, length) = (batch.size as i64, batch.length as i64);
        let pixels = Tensor::from_data_size(&batch.pixels, &[size, 3, side, side], Kind::Uint8);
        Self {
            pixels: normalise(&pixels),
            ids: Tensor::from_slice(&batch.ids).view([size, length]),
            mask: Tensor::from_slice(&batch.mask).view([size, length]),
            concepts: Tensor::from_slice(&batch.concepts),
            keep: batch.keep.as_ref().map(|keep| Tensor::from_slice(keep).view([size, -1])),
        }
    }
}

/// Values of one step's losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLosses {
    /// What was minimised.
    pub total: f64,
    /// Contrastive part.
    pub gcpr: f64,
    /// Matching part, where it was due.
    pub fgr: Option<f64>,
    /// Part of pairs in the batch whose own text is the nearest, before the update.
    pub batch_accuracy: f64,
}

/// The model and its loss settings.
pub struct Objective<'a> {
    /// Architecture.
    pub model: &'a R2d2,
    /// Settings.
    pub loss: &'a LossConfig,
}

impl Objective<'_> {
    /// Forward pass; the tensor returned is to be differentiated.
    pub fn forward(&self, w: &Weights, inputs: &Inputs, with_itm: bool) -> (Tensor, StepLosses) {
        let context = Context {
            train: true,
            dropout: self.loss.dropout,
            attention_dropout: self.loss.attention_dropout,
            drop_path: self.loss.drop_path,
        };
        let image = self.model.encode_image(w, &inputs.pixels, inputs.keep.as_ref(), context);
        let text = self.model.encode_text(w, &inputs.ids, &inputs.mask, context);
        let same = same_concept(&inputs.concepts);
        let targets = soft_targets(&same, self.loss.label_smoothing);
        let temperature = self.model.temperature(w);
        let temperature = if self.loss.learn_temperature { temperature.shallow_clone() } else { temperature.detach() };
        let contrast = gcpr(&image.embedding, &text.embedding, &temperature, &targets);
        let mut losses = StepLosses {
            total: 0.0,
            gcpr: contrast.loss.double_value(&[]),
            fgr: None,
            batch_accuracy: batch_accuracy(&contrast.logits, &same),
        };
        let mut total = contrast.loss;
        if with_itm && let Some(fgr) = self.fgr(w, inputs, [&image, &text], &contrast.logits, &same, context) {
            losses.fgr = Some(fgr.double_value(&[]));
            total += fgr * self.loss.fgr_weight;
        }
        losses.total = total.double_value(&[]);
        (total, losses)
    }

    /// FGR over the first anchors of the batch, so that the number of pairs stays bounded.
    fn fgr(
        &self,
        w: &Weights,
        inputs: &Inputs,
        [image, text]: [&Encoded; 2],
        logits: &Tensor,
        same: &Tensor,
        context: Context,
    ) -> Option<Tensor> {
        let anchors = logits.size()[0].min((self.loss.itm_pairs_max / 3).max(1));
        let negatives = hard_negatives(logits, same, anchors)?;
        let own = Tensor::arange(anchors, (Kind::Int64, tch::Device::Cpu));
        let image_index = Tensor::cat(&[&own, &negatives.image_of_text, &own], 0);
        let text_index = Tensor::cat(&[&own, &own, &negatives.text_of_image], 0);
        let labels = Tensor::cat(&[own.ones_like(), own.zeros_like(), own.zeros_like()], 0);
        let states =
            |encoded: &Encoded| if self.loss.itm_detach { encoded.states.detach() } else { encoded.states.shallow_clone() };
        let matched = self.model.match_pairs(
            w,
            &states(image).index_select(0, &image_index),
            &states(text).index_select(0, &text_index),
            &inputs.mask.index_select(0, &text_index),
            context,
        );
        let (text_loss, image_loss) =
            (weighted_cross_entropy(&matched.text, &labels), weighted_cross_entropy(&matched.image, &labels));
        Some((text_loss + image_loss) / 2.0)
    }
}

fn batch_accuracy(logits: &Tensor, same: &Tensor) -> f64 {
    let best = logits.argmax(1, true);
    same.gather(1, &best, false).to_kind(Kind::Float).mean(Kind::Float).double_value(&[])
}
