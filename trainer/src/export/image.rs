//! The image tower: CLIP's ViT (docs/R2D2.md §1.2).

use super::layers::{Emitter, LinearInput};
use super::{ExportError, GraphOptions, WeightMap};
use crate::model::ModelConfig;
use crate::onnx::{Attribute, Dim, Element, Value};

const LAYER_NORM_EPS: f32 = 1e-5;
const PREFIX: &str = "visual_encoder";

/// Writes `pixels` f32 [B, 3, H, W] → `embedding` [B, D], `states` [B, Lv, Dv], and for late interaction `tokens` [B, Lv, D]: the class
/// token and every patch, as training compares them.
pub fn image_graph(config: &ModelConfig, weights: &WeightMap, options: &GraphOptions) -> Result<Vec<u8>, ExportError> {
    let (v, embed) = (&config.vision, config.embed as usize);
    let (width, side, tokens) = (v.width as usize, v.image as usize, v.tokens() as usize);
    let mut e = Emitter::new("image", weights, options.clone());
    let batch = Dim::Name("batch");
    let pixels = e.graph.input("pixels", Element::F32, &[batch, Dim::Size(3), Dim::Size(side), Dim::Size(side)]);
    let mut x = embed_patches(&mut e, config, &pixels)?;
    for layer in 0..v.layers {
        x = block(&mut e, config, &format!("{PREFIX}.encoder.layers.{layer}"), &x)?;
    }
    // The states are those of the last block: the final LayerNorm is in the checkpoint but no official path applies it (docs/R2D2.md §1.2).
    let states = e.cast_f32(&x);
    let (embedding, rows) = e.project(&x, "vision_proj", width, embed)?;
    e.graph.output("embedding", &embedding, Element::F32, &[batch, Dim::Size(embed)]);
    if let Some(rows) = rows {
        e.graph.output("tokens", &rows, Element::F32, &[batch, Dim::Size(tokens), Dim::Size(embed)]);
    }
    e.graph.output("states", &states, Element::F32, &[batch, Dim::Size(tokens), Dim::Size(width)]);
    Ok(e.graph.finish())
}

/// Pixels → [B, Lv, Dv]: class token and patches, plus positions, normalised.
///
/// The convolution stays a float one in int8 too: it is one hundredth of the work and everything after it depends on it.
fn embed_patches(e: &mut Emitter<'_>, config: &ModelConfig, pixels: &Value) -> Result<Value, ExportError> {
    let v = &config.vision;
    let (width, patch, patches) = (v.width as usize, v.patch as usize, v.patches() as usize);
    let pixels = e.cast_compute(pixels);
    let at = |part: &str| format!("{PREFIX}.embeddings.{part}");
    let kernel = e.weight(&at("patch_embedding.weight"), &[width, 3, patch, patch])?;
    let strides = Attribute::Ints(vec![v.patch, v.patch]);
    let grid = e.graph.node_with("Conv", &[&pixels, &kernel], vec![("strides", strides)]);
    let shape = e.graph.integers(&[3], &[0, width as i64, patches as i64]);
    let flat = e.graph.node("Reshape", &[&grid, &shape]);
    let flat = e.graph.node_with("Transpose", &[&flat], vec![("perm", Attribute::Ints(vec![0, 2, 1]))]);

    let class = e.raw().get(&at("class_embedding"), &[width])?;
    let class = e.graph.floats(&at("class_embedding"), e.element(), &[1, 1, width], class);
    let batch = e.graph.node_with("Shape", &[&pixels], vec![("start", Attribute::Int(0)), ("end", Attribute::Int(1))]);
    let rest = e.graph.integers(&[2], &[1, width as i64]);
    let shape = e.graph.node_with("Concat", &[&batch, &rest], vec![("axis", Attribute::Int(0))]);
    let class = e.graph.node("Expand", &[&class, &shape]);
    let sequence = e.graph.node_with("Concat", &[&class, &flat], vec![("axis", Attribute::Int(1))]);
    let positions = e.weight(&at("position_embedding.weight"), &[patches + 1, width])?;
    let sequence = e.graph.node("Add", &[&sequence, &positions]);
    e.layer_norm(&sequence, &format!("{PREFIX}.pre_layrnorm"), width, LAYER_NORM_EPS)
}

/// One pre-LayerNorm block.
fn block(e: &mut Emitter<'_>, config: &ModelConfig, prefix: &str, x: &Value) -> Result<Value, ExportError> {
    let sizes = &config.vision;
    let (width, heads, mlp) = (sizes.width as usize, sizes.heads as usize, sizes.mlp as usize);
    let normed = e.layer_norm(x, &format!("{prefix}.layer_norm1"), width, LAYER_NORM_EPS)?;
    let normed = LinearInput::of(&normed);
    let query = e.linear(&normed, &format!("{prefix}.self_attn.q_proj"), width, width)?;
    let key = e.linear(&normed, &format!("{prefix}.self_attn.k_proj"), width, width)?;
    let value = e.linear(&normed, &format!("{prefix}.self_attn.v_proj"), width, width)?;
    let mixed = e.attention([&query, &key, &value], None, heads, width);
    let mixed = LinearInput::of(&mixed);
    let branch = e.linear(&mixed, &format!("{prefix}.self_attn.out_proj"), width, width)?;
    let x = e.graph.node("Add", &[&branch, x]);

    let normed = e.layer_norm(&x, &format!("{prefix}.layer_norm2"), width, LAYER_NORM_EPS)?;
    let normed = LinearInput::of(&normed);
    let hidden = e.linear(&normed, &format!("{prefix}.mlp.fc1"), width, mlp)?;
    let hidden = e.quick_gelu(&hidden);
    let hidden = LinearInput::of(&hidden);
    let branch = e.linear(&hidden, &format!("{prefix}.mlp.fc2"), mlp, width)?;
    Ok(e.graph.node("Add", &[&branch, &x]))
}
