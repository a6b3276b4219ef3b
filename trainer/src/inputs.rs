//! A batch as tensors: what a step of training and a teacher are given.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use crate::corpus::Batch;
use crate::model::{PIXEL_MEAN, PIXEL_STD};

/// Bytes [B, 3, H, W] → normalised f32.
pub fn normalise(bytes: &Tensor) -> Tensor {
    let scale: Vec<f32> = PIXEL_STD.iter().map(|std| 1.0 / (255.0 * std)).collect();
    let shift: Vec<f32> = PIXEL_MEAN.iter().zip(PIXEL_STD).map(|(mean, std)| -mean / std).collect();
    let per_channel = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(bytes.device());
    bytes.to_kind(Kind::Float) * per_channel(&scale) + per_channel(&shift)
}

/// The bytes that [`normalise`] made these pixels of.
pub fn denormalise(pixels: &Tensor) -> Tensor {
    let per_channel = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(pixels.device());
    ((pixels * per_channel(&PIXEL_STD) + per_channel(&PIXEL_MEAN)) * 255.0).round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// A batch as tensors.
pub struct Inputs {
    pub(crate) pixels: Tensor,
    pub(crate) ids: Tensor,
    pub(crate) mask: Tensor,
    pub(crate) concepts: Tensor,
    /// [B] i64: the place of the first pair with the same text.
    pub(crate) first_with_text: Tensor,
    pub(crate) keep: Option<Tensor>,
    /// Masked ids and labels.
    pub(crate) masked: Option<[Tensor; 2]>,
}

impl Inputs {
    /// Copies a batch into tensors of a device; `side` is the picture's side.
    pub fn new(batch: &Batch, side: i64, device: Device) -> Self {
        let (size, length) = (batch.size as i64, batch.length as i64);
        let pixels = Tensor::from_data_size(&batch.pixels, &[size, 3, side, side], Kind::Uint8).to_device(device);
        let shaped = |values: &[i64], columns: i64| Tensor::from_slice(values).view([size, columns]).to_device(device);
        Self {
            pixels: normalise(&pixels),
            ids: shaped(&batch.ids, length),
            mask: shaped(&batch.mask, length),
            concepts: Tensor::from_slice(&batch.concepts).to_device(device),
            first_with_text: Tensor::from_slice(&first_equal(&batch.ids, batch.length)).to_device(device),
            keep: batch.keep.as_ref().map(|keep| shaped(keep, -1)),
            masked: batch.masked.as_ref().map(|both| both.each_ref().map(|ids| shaped(ids, length))),
        }
    }

    /// Where the batch is.
    pub fn device(&self) -> Device {
        self.concepts.device()
    }

    /// Pairs.
    pub fn size(&self) -> i64 {
        self.concepts.size()[0]
    }

    /// Normalised pixels [B, 3, S, S], resized where `side` is another than the batch's.
    pub fn pixels_at(&self, side: i64) -> Tensor {
        if self.pixels.size()[3] == side {
            return self.pixels.shallow_clone();
        }
        self.pixels.internal_upsample_bilinear2d_aa([side, side], false, None, None)
    }

    /// Ids and mask [B, L] of the texts as they are, no token hidden.
    pub fn whole_text(&self) -> (&Tensor, &Tensor) {
        (&self.ids, &self.mask)
    }

    /// Ids of each text at its true length.
    pub fn texts(&self) -> Vec<Vec<i64>> {
        let ids = self.ids.to_device(Device::Cpu);
        let lengths = self.mask.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).to_device(Device::Cpu);
        let row = |row: i64| (0..lengths.int64_value(&[row])).map(|at| ids.int64_value(&[row, at])).collect();
        (0..self.size()).map(row).collect()
    }

    /// A part of the batch, sharing its memory.
    #[must_use]
    pub fn narrow(&self, from: i64, length: i64) -> Self {
        let part = |tensor: &Tensor| tensor.narrow(0, from, length);
        Self {
            pixels: part(&self.pixels),
            ids: part(&self.ids),
            mask: part(&self.mask),
            concepts: part(&self.concepts),
            first_with_text: part(&self.first_with_text),
            keep: self.keep.as_ref().map(part),
            masked: self.masked.as_ref().map(|both| both.each_ref().map(part)),
        }
    }
}

/// For each row of `length` ids, the place of the first row that is equal.
fn first_equal(ids: &[i64], length: usize) -> Vec<i64> {
    let mut first = HashMap::new();
    ids.chunks(length.max(1)).enumerate().map(|(at, row)| *first.entry(row).or_insert(at as i64)).collect()
}
