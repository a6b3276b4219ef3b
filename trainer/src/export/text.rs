//! The text tower: BERT (docs/R2D2.md §1.3), and the parts of a BERT layer that the cross encoders share.

use super::layers::{Emitter, LinearInput, Queries};
use super::{ExportError, GraphOptions, WeightMap};
use crate::model::ModelConfig;
use crate::onnx::{Dim, Element, Value};

/// Of every LayerNorm of BERT and the cross encoders.
const LAYER_NORM_EPS: f32 = 1e-12;
const PREFIX: &str = "text_encoder";

/// Writes `input_ids` i64 [B, L], `attention_mask` i64 [B, L] → `embedding` [B, D], `states` [B, L, Dt], and for late
/// interaction `tokens` [B, L, D]: every token, those of padding zero.
pub fn text_graph(config: &ModelConfig, weights: &WeightMap, options: &GraphOptions) -> Result<Vec<u8>, ExportError> {
    let (t, embed) = (&config.text, config.embed as usize);
    let (width, heads, mlp) = (t.width as usize, t.heads as usize, t.mlp as usize);
    let mut e = Emitter::new("text", weights, options.clone());
    let (batch, length) = (Dim::Name("batch"), Dim::Name("length"));
    let ids = e.graph.input("input_ids", Element::I64, &[batch, length]);
    let mask = e.graph.input("attention_mask", Element::I64, &[batch, length]);
    let tokens = e.length(&ids);
    let mut x = embed_tokens(&mut e, config, options.max_tokens, &ids, &tokens)?;
    let bias = e.mask_bias(&mask);
    let fitted = e.fit_mask(&bias, Queries::Many(&tokens));
    for layer in 0..t.layers {
        let prefix = format!("{PREFIX}.encoder.layer.{layer}");
        let input = LinearInput::of(&x);
        let query = e.linear(&input, &format!("{prefix}.attention.self.query"), width, width)?;
        let key = e.linear(&input, &format!("{prefix}.attention.self.key"), width, width)?;
        let value = e.linear(&input, &format!("{prefix}.attention.self.value"), width, width)?;
        let mixed = e.attention([&query, &key, &value], Some(&fitted), heads, width);
        x = attention_output(&mut e, &format!("{prefix}.attention"), &mixed, &x, width)?;
        x = feed_forward(&mut e, &prefix, &x, width, mlp)?;
    }
    let states = e.cast_f32(&x);
    let (embedding, rows) = e.project(&x, "text_proj", width, embed)?;
    e.graph.output("embedding", &embedding, Element::F32, &[batch, Dim::Size(embed)]);
    if let Some(rows) = rows {
        let rows = e.mask_rows(&rows, &mask);
        e.graph.output("tokens", &rows, Element::F32, &[batch, length, Dim::Size(embed)]);
    }
    e.graph.output("states", &states, Element::F32, &[batch, length, Dim::Size(width)]);
    Ok(e.graph.finish())
}

/// Word, position and type embeddings, normalised. The type is always 0 (docs/R2D2.md §1.3), so its row is added to the positions here,
/// and of the positions only those that a text can reach are written.
fn embed_tokens(
    e: &mut Emitter<'_>,
    config: &ModelConfig,
    max_tokens: usize,
    ids: &Value,
    tokens: &Value,
) -> Result<Value, ExportError> {
    let width = config.text.width as usize;
    let at = |part: &str| format!("{PREFIX}.embeddings.{part}");
    let words = e.embedding(&at("word_embeddings.weight"), ids, config.vocab as usize, width)?;
    let positions = e.raw().rows(&at("position_embeddings.weight"), max_tokens, width)?;
    let kind = e.raw().rows(&at("token_type_embeddings.weight"), 1, width)?;
    let positions: Vec<f32> = positions.chunks_exact(width).flat_map(|row| row.iter().zip(kind).map(|(a, b)| a + b)).collect();
    let positions = e.graph.floats(&at("position_embeddings.weight"), e.element(), &[max_tokens, width], &positions);
    let zero = e.graph.integers(&[1], &[0]);
    let positions = e.graph.node("Slice", &[&positions, &zero, tokens, &zero]);
    let sum = e.graph.node("Add", &[&words, &positions]);
    e.layer_norm(&sum, &at("LayerNorm"), width, LAYER_NORM_EPS)
}

/// Output projection of an attention, its residual and LayerNorm.
pub(super) fn attention_output(
    e: &mut Emitter<'_>,
    prefix: &str,
    mixed: &Value,
    residual: &Value,
    width: usize,
) -> Result<Value, ExportError> {
    let mixed = LinearInput::of(mixed);
    let branch = e.linear(&mixed, &format!("{prefix}.output.dense"), width, width)?;
    let sum = e.graph.node("Add", &[&branch, residual]);
    e.layer_norm(&sum, &format!("{prefix}.output.LayerNorm"), width, LAYER_NORM_EPS)
}

/// Feed-forward part, its residual and LayerNorm.
pub(super) fn feed_forward(e: &mut Emitter<'_>, prefix: &str, x: &Value, width: usize, mlp: usize) -> Result<Value, ExportError> {
    let input = LinearInput::of(x);
    let hidden = e.linear(&input, &format!("{prefix}.intermediate.dense"), width, mlp)?;
    let hidden = e.gelu(&hidden);
    let hidden = LinearInput::of(&hidden);
    let branch = e.linear(&hidden, &format!("{prefix}.output.dense"), mlp, width)?;
    let sum = e.graph.node("Add", &[&branch, x]);
    e.layer_norm(&sum, &format!("{prefix}.output.LayerNorm"), width, LAYER_NORM_EPS)
}
