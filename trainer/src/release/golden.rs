//! Golden vectors: what the graphs answered on the machine that released them.

use std::collections::HashMap;

use ndarray::{ArrayBase, Data, Dimension};
use safetensors::tensor::{Dtype, TensorView};

use super::{ReleaseError, Samples};
use crate::export::verify::GraphOutputs;

struct Entry {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn entry<T: Copy, S: Data<Elem = T>, D: Dimension, const N: usize>(
    name: &'static str,
    dtype: Dtype,
    array: &ArrayBase<S, D>,
    bytes: fn(T) -> [u8; N],
) -> Entry {
    Entry { name, dtype, shape: array.shape().to_vec(), bytes: array.iter().flat_map(|&value| bytes(value)).collect() }
}

/// The file: inputs of the samples (pair i is picture i with text i) and what the graphs made of them.
pub(super) fn golden_file(samples: &Samples, outputs: &GraphOutputs) -> Result<Vec<u8>, ReleaseError> {
    let (ids, mask) = samples.texts();
    let entries = [
        entry("pixels", Dtype::U8, samples.squares(), |value: u8| [value]),
        entry("input_ids", Dtype::I64, &ids, i64::to_le_bytes),
        entry("attention_mask", Dtype::I64, &mask, i64::to_le_bytes),
        entry("image_embedding", Dtype::F32, &outputs.images.embedding, f32::to_le_bytes),
        entry("text_embedding", Dtype::F32, &outputs.texts.embedding, f32::to_le_bytes),
        entry("itm_text", Dtype::F32, &outputs.matches.itm_text, f32::to_le_bytes),
        entry("itm_image", Dtype::F32, &outputs.matches.itm_image, f32::to_le_bytes),
    ];
    let fail = |error: safetensors::SafeTensorError| ReleaseError::Samples(error.to_string());
    let views = entries
        .iter()
        .map(|entry| Ok((entry.name, TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes).map_err(fail)?)))
        .collect::<Result<Vec<_>, ReleaseError>>()?;
    safetensors::serialize(views, None::<HashMap<String, String>>).map_err(fail)
}
