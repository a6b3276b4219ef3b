//! Both cross encoders (docs/R2D2.md §1.4) over pairs of cached states.
//!
//! What depends on one item only is computed once per item and then taken by the pairs' indices: the keys and values of every layer,
//! the images' projection, and everything up to the first cross-attention (layer 0's self-attention and cross queries).
//! Only token 0 is read at the end, so the last layer computes only it.

use super::layers::{Emitter, LinearInput, MaskBias, Queries};
use super::text::{attention_output, feed_forward};
use super::{ExportError, GraphOptions, WeightMap};
use crate::model::ModelConfig;
use crate::onnx::{Attribute, Dim, Element, Value};

/// One modality's tokens as a stack sees them.
struct Side {
    /// [N, L, width].
    states: LinearInput,
    width: usize,
    /// Padding of the tokens per item, and per pair; none for images.
    padding: Option<[MaskBias; 2]>,
    /// Which item each pair takes, [P].
    index: Value,
    /// L, as a tensor of one element.
    length: Value,
}

/// Writes `image_states` [I, Lv, Dv], `text_states` [T, L, Dt], `attention_mask` i64 [T, L], `pairs` i64 [P, 2] →
/// `itm_text` [P], `itm_image` [P].
pub fn cross_graph(config: &ModelConfig, weights: &WeightMap, options: &GraphOptions) -> Result<Vec<u8>, ExportError> {
    let (vision, width) = (config.vision.width as usize, config.text.width as usize);
    let mut e = Emitter::new("cross", weights, options.clone());
    let (images, texts, pairs, length) = (Dim::Name("images"), Dim::Name("texts"), Dim::Name("pairs"), Dim::Name("length"));
    let image_shape = [images, Dim::Size(config.vision.tokens() as usize), Dim::Size(vision)];
    let image_states = e.graph.input("image_states", Element::F32, &image_shape);
    let text_states = e.graph.input("text_states", Element::F32, &[texts, length, Dim::Size(width)]);
    let mask = e.graph.input("attention_mask", Element::I64, &[texts, length]);
    let pair_list = e.graph.input("pairs", Element::I64, &[pairs, Dim::Size(2)]);

    let image_index = column(&mut e, &pair_list, 0);
    let text_index = column(&mut e, &pair_list, 1);
    let image_states = e.cast_compute(&image_states);
    let text_states = e.cast_compute(&text_states);
    let image_input = LinearInput::of(&image_states);
    // The image stack's queries are a projection of the images; the text stack's keys and values are not (docs/R2D2.md §1.4).
    let image_queries = e.linear(&image_input, "img_joint_proj", vision, width)?;
    let image_length = e.length(&image_states);
    let text_length = e.length(&text_states);
    let item_padding = e.mask_bias(&mask);
    let pair_padding = MaskBias(e.gather(&item_padding.0, &text_index));
    let image_memory =
        Side { states: image_input, width: vision, padding: None, index: image_index.clone(), length: image_length.clone() };
    let text_memory = Side {
        states: LinearInput::of(&text_states),
        width,
        padding: Some([item_padding, pair_padding]),
        index: text_index,
        length: text_length,
    };
    let image_own =
        Side { states: LinearInput::of(&image_queries), width, padding: None, index: image_index, length: image_length };

    let text = stack(&mut e, config, "text_joint_layer", &text_memory, &image_memory)?;
    let image = stack(&mut e, config, "img_joint_layer", &image_own, &text_memory)?;
    for (name, token, head) in [("itm_text", &text, "itm_head"), ("itm_image", &image, "itm_head_i")] {
        let pooled = e.pool(token);
        let logits = e.linear_f32(&pooled, head, width, 2)?;
        let shares = e.graph.node_with("Softmax", &[&logits], vec![("axis", Attribute::Int(-1))]);
        // Class 1 is match (docs/R2D2.md §1.1).
        let share = column(&mut e, &shares, 1);
        e.graph.output(name, &share, Element::F32, &[pairs]);
    }
    Ok(e.graph.finish())
}

fn column(e: &mut Emitter<'_>, table: &Value, column: i64) -> Value {
    let index = e.graph.integers(&[], &[column]);
    e.graph.node_with("Gather", &[table, &index], vec![("axis", Attribute::Int(1))])
}

/// One stack: `own` tokens query, `memory` tokens answer → token 0 as [P, 1, width].
fn stack(e: &mut Emitter<'_>, config: &ModelConfig, name: &str, own: &Side, memory: &Side) -> Result<Value, ExportError> {
    let (width, heads) = (config.text.width as usize, config.cross.heads as usize);
    let mlp = config.cross.mlp as usize;
    let layers = config.cross.layers;
    let mut per_pair: Option<Value> = None;
    for layer in 0..layers {
        let prefix = format!("{name}.encoder.layer.{layer}");
        let queries = if layer + 1 == layers { Queries::One } else { Queries::Many(&own.length) };
        // Layer 0 works on items, later ones on pairs.
        let fresh;
        let tokens = match &per_pair {
            None => &own.states,
            Some(x) => {
                fresh = LinearInput::of(x);
                &fresh
            }
        };
        let own_padding = own.padding.as_ref().map(|[item, pair]| if per_pair.is_none() { item } else { pair });
        let mut x = self_attention(e, &format!("{prefix}.attention"), tokens, own_padding, queries, width, heads)?;
        let query = LinearInput::of(&x);
        let mut q = e.linear(&query, &format!("{prefix}.crossattention.self.query"), width, width)?;
        if per_pair.is_none() {
            x = e.gather(&x, &own.index);
            q = e.gather(&q, &own.index);
        }
        let keys = e.linear(&memory.states, &format!("{prefix}.crossattention.self.key"), memory.width, width)?;
        let values = e.linear(&memory.states, &format!("{prefix}.crossattention.self.value"), memory.width, width)?;
        let (keys, values) = (e.gather(&keys, &memory.index), e.gather(&values, &memory.index));
        let mask = memory.padding.as_ref().map(|[_, pair]| e.fit_mask(pair, queries));
        let mixed = e.attention([&q, &keys, &values], mask.as_ref(), heads, width);
        x = attention_output(e, &format!("{prefix}.crossattention"), &mixed, &x, width)?;
        per_pair = Some(feed_forward(e, &prefix, &x, width, mlp)?);
    }
    per_pair.ok_or_else(|| ExportError::Setting {
        field: "model.cross.layers",
        value: layers.to_string(),
        problem: "it must be at least 1".to_owned(),
    })
}

fn self_attention(
    e: &mut Emitter<'_>,
    prefix: &str,
    tokens: &LinearInput,
    padding: Option<&MaskBias>,
    queries: Queries<'_>,
    width: usize,
    heads: usize,
) -> Result<Value, ExportError> {
    let k = e.linear(tokens, &format!("{prefix}.self.key"), width, width)?;
    let v = e.linear(tokens, &format!("{prefix}.self.value"), width, width)?;
    // After keys and values, so that in int8 it is a slice of the bytes made for them.
    let first;
    let asking = match queries {
        Queries::Many(_) => tokens,
        Queries::One => {
            first = e.first_token(tokens);
            &first
        }
    };
    let q = e.linear(asking, &format!("{prefix}.self.query"), width, width)?;
    let mask = padding.map(|bias| e.fit_mask(bias, queries));
    let mixed = e.attention([&q, &k, &v], mask.as_ref(), heads, width);
    attention_output(e, prefix, &mixed, asking.value(), width)
}
