//! Golden vectors: what the graphs answered on the machine that released them.

use std::collections::HashMap;

use astromech_towers::{MatchScore, TextStates};
use safetensors::tensor::{Dtype, TensorView};

use super::ReleaseError;
use crate::export::runtime::{Encoded, GraphInputs, GraphOutputs};

/// The file: inputs (pair i is picture i with text i) and what the graphs made of them.
pub(super) fn golden_file(inputs: &GraphInputs, outputs: &GraphOutputs) -> Result<Vec<u8>, ReleaseError> {
    let count = inputs.images.len();
    let side = inputs.images.first().map_or(0, |image| image.size() as usize);
    let length = inputs.texts.iter().map(|text| text.ids().len()).max().unwrap_or(0);
    let token = |text: &[i64], at: usize| text.get(at).copied().unwrap_or(0);
    let over_tokens = |value: &dyn Fn(&[i64], usize) -> i64| -> Vec<u8> {
        let texts = inputs.texts.iter().flat_map(|text| (0..length).map(|at| value(text.ids(), at)));
        texts.flat_map(i64::to_le_bytes).collect()
    };
    let column = |of: fn(&MatchScore) -> f32| floats(outputs.matches.iter().map(of));
    let dim = outputs.images.first().map_or(0, |image| image.embedding.len());
    let mut entries = vec![
        (
            "pixels",
            Dtype::U8,
            vec![count, side, side, 3],
            inputs.images.iter().flat_map(|i| i.pixels().iter().copied()).collect(),
        ),
        ("input_ids", Dtype::I64, vec![count, length], over_tokens(&token)),
        ("attention_mask", Dtype::I64, vec![count, length], over_tokens(&|text, at| i64::from(at < text.len()))),
        (
            "image_embedding",
            Dtype::F32,
            vec![count, dim],
            floats(outputs.images.iter().flat_map(|i| i.embedding.iter().copied())),
        ),
        ("text_embedding", Dtype::F32, vec![count, dim], floats(outputs.texts.iter().flat_map(|t| t.embedding.iter().copied()))),
        ("itm_text", Dtype::F32, vec![count], column(|score| score.itm_text)),
        ("itm_image", Dtype::F32, vec![count], column(|score| score.itm_image)),
    ];
    if let Some(rows) = outputs.images.first().and_then(|image| image.tokens.as_ref()) {
        let image = outputs.images.iter().filter_map(|image| image.tokens.as_deref()).flatten().copied();
        entries.push(("image_tokens", Dtype::F32, vec![count, rows.len() / dim.max(1), dim], floats(image)));
        // Zero beyond a text's length, as the graph gives them.
        let padded = |text: &Encoded<TextStates>| {
            let rows = text.tokens.iter().flat_map(|rows| rows.iter().copied());
            rows.chain(std::iter::repeat(0.0)).take(length * dim).collect::<Vec<f32>>()
        };
        entries.push(("text_tokens", Dtype::F32, vec![count, length, dim], floats(outputs.texts.iter().flat_map(padded))));
    }
    let fail = |error: safetensors::SafeTensorError| ReleaseError::Samples(error.to_string());
    let views = entries
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(fail)?)))
        .collect::<Result<Vec<_>, ReleaseError>>()?;
    safetensors::serialize(views, None::<HashMap<String, String>>).map_err(fail)
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}
