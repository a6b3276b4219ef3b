//! Holds every graph to what it was written from: the f32 graphs to LibTorch, the others to the f32 graphs.

use std::sync::Arc;

use astromech_schemas::manifest::Precision;
use astromech_towers::{ImageStates, MatchScore, PreparedImage, TextStates, Tokenizer};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tch::{Kind, TchError, Tensor};

use super::runtime::{Encoded, GraphInputs, GraphOutputs, TowerGraphs};
use super::{ExportError, WeightMap};
use crate::model::{PIXEL_MEAN, PIXEL_STD, R2d2};
use crate::nn::{Context, Params, Precision as Compute};

/// Largest difference of an f32 graph from LibTorch, absolute for values up to 1 and relative above (states reach hundreds).
pub const F32_DIFFERENCE_MAX: f64 = 1e-4;
const RANDOM_IMAGES: u32 = 3;
const RANDOM_SEED: u64 = 7;
/// Characters of the random texts: none, few, many, and more than any model takes.
const RANDOM_TEXT_CHARS: [usize; 4] = [0, 5, 31, 600];
/// Chinese characters, `CJK Unified Ideographs`: each is a token.
const CHARACTERS: std::ops::Range<u32> = 0x4E00..0x9FA6;

/// What a reduced precision may lose against f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least cosine of an embedding with its f32 one.
    pub cosine_min: f64,
    /// Most difference of a match probability.
    pub match_difference_max: f64,
}

/// The bounds of a precision.
pub const fn bounds(precision: Precision) -> Bounds {
    match precision {
        Precision::F32 => Bounds { cosine_min: 0.999_999, match_difference_max: 1e-4 },
        Precision::Fp16 => Bounds { cosine_min: 0.9995, match_difference_max: 0.02 },
        Precision::Int8 => Bounds { cosine_min: 0.99, match_difference_max: 0.1 },
    }
}

/// What a check measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Least cosine of an image embedding, or of an image's tokens one after another, which is the mean of theirs.
    pub image_cosine: f64,
    /// Least cosine of a text embedding, or of a text's tokens.
    pub text_cosine: f64,
    /// Most difference of a match probability.
    pub match_difference: f64,
}

impl WeightMap {
    /// Copies the weights out of LibTorch.
    ///
    /// # Errors
    /// LibTorch can't give the values.
    pub fn from_params(params: &Params) -> Result<Self, ExportError> {
        let mut map = Self::new();
        for named in params.named() {
            let values = values_of(&params.view(params.flat(), named).detach())?;
            map.insert(&named.name, named.shape.iter().map(|&size| size as usize).collect(), values);
        }
        Ok(map)
    }
}

/// Fails when an f32 graph differs from LibTorch on random inputs by more than [`F32_DIFFERENCE_MAX`]; gives the largest difference.
///
/// # Errors
/// A difference beyond the bound, or a runtime that fails.
pub fn verify_against_torch(
    model: &R2d2,
    params: &Params,
    graphs: &mut TowerGraphs,
    tokenizer: &Tokenizer,
) -> Result<f64, ExportError> {
    let inputs = random_inputs(model, tokenizer)?;
    let found = graphs.run(&inputs)?;
    let expected = torch_outputs(model, params, &inputs, graphs.late_interaction())?;
    let graph = graphs.precision().as_str();
    let mut largest = 0.0_f64;
    for (output, difference) in differences(&found, &expected) {
        if !at_most(difference, F32_DIFFERENCE_MAX) {
            let (graph, measure) = (graph.to_owned(), "largest difference");
            return Err(ExportError::Parity { graph, output, measure, found: difference, bound: F32_DIFFERENCE_MAX });
        }
        largest = largest.max(difference);
    }
    Ok(largest)
}

/// Fails when a graph's outputs lie further from the f32 graph's than its precision may.
///
/// # Errors
/// A measure beyond its bound.
pub fn verify_against_f32(precision: Precision, found: &GraphOutputs, f32: &GraphOutputs) -> Result<Measured, ExportError> {
    let bounds = bounds(precision);
    let [itm_text, itm_image] = [0, 1].map(|side| difference(&column(&found.matches, side), &column(&f32.matches, side)));
    let measured = Measured {
        image_cosine: least_cosine(&found.images, &f32.images),
        text_cosine: least_cosine(&found.texts, &f32.texts),
        match_difference: itm_text.max(itm_image),
    };
    let fail = |output, measure, found, bound| {
        Err(ExportError::Parity { graph: precision.as_str().to_owned(), output, measure, found, bound })
    };
    for (output, cosine) in [("image embedding", measured.image_cosine), ("text embedding", measured.text_cosine)] {
        if !at_most(bounds.cosine_min, cosine) {
            return fail(output, "least cosine", cosine, bounds.cosine_min);
        }
    }
    if !at_most(measured.match_difference, bounds.match_difference_max) {
        return fail("match probability", "largest difference", measured.match_difference, bounds.match_difference_max);
    }
    Ok(measured)
}

/// Noise for pictures, random characters for texts of several lengths, and every pair.
fn random_inputs(model: &R2d2, tokenizer: &Tokenizer) -> Result<GraphInputs, ExportError> {
    let mut rng = StdRng::seed_from_u64(RANDOM_SEED);
    let side = model.config.vision.image as u32;
    let images: Option<Vec<_>> =
        (0..RANDOM_IMAGES).map(|_| PreparedImage::from_rgb(side, (0..side * side * 3).map(|_| rng.random()).collect())).collect();
    let images = images.ok_or_else(|| ExportError::Checkpoint(format!("no picture of {side} pixels can be made")))?;
    let texts: Vec<_> = RANDOM_TEXT_CHARS
        .into_iter()
        .map(|length| (0..length).filter_map(|_| char::from_u32(rng.random_range(CHARACTERS))).collect::<String>())
        .map(|text| tokenizer.prepare(&text))
        .collect();
    let pairs = (0..texts.len() as u32).flat_map(|text| (0..RANDOM_IMAGES).map(move |image| (image, text))).collect();
    Ok(GraphInputs { images, texts, pairs })
}

/// What the model itself answers.
fn torch_outputs(model: &R2d2, params: &Params, inputs: &GraphInputs, late: bool) -> Result<GraphOutputs, ExportError> {
    let _no_grad = tch::no_grad_guard();
    let w = params.weights(Compute::F32);
    let (ids, mask) = padded(inputs);
    let images = model.encode_image(&w, &normalised(&inputs.images), None, Context::EVAL);
    let texts = model.encode_text(&w, &ids, &mask, Context::EVAL);
    let side = |of: fn(&(u32, u32)) -> u32| {
        let index: Vec<i64> = inputs.pairs.iter().map(|pair| i64::from(of(pair))).collect();
        Tensor::from_slice(&index)
    };
    let (image, text) = (side(|pair| pair.0), side(|pair| pair.1));
    let image_states = images.states.index_select(0, &image);
    let text_states = texts.states.index_select(0, &text);
    let logits = model.match_pairs(&w, &image_states, &text_states, &mask.index_select(0, &text), Context::EVAL);
    let (itm_text, itm_image) = logits.probabilities();
    let image_tokens = late.then(|| model.image_tokens(&w, &images.states).rows);
    let text_tokens = late.then(|| model.text_tokens(&w, &texts.states, &mask).rows);
    let matches = values_of(&itm_text)?.into_iter().zip(values_of(&itm_image)?);
    Ok(GraphOutputs {
        images: (0..inputs.images.len() as i64)
            .map(|row| {
                let (embedding, tokens, width, data) = row_of(&images.embedding, &images.states, row, None)?;
                let rows = rows_of(image_tokens.as_ref(), row, tokens)?;
                Ok(Encoded { embedding, tokens: rows, states: Arc::new(ImageStates { tokens, width, data }) })
            })
            .collect::<Result<_, ExportError>>()?,
        texts: (0i64..)
            .zip(&inputs.texts)
            .map(|(row, text)| {
                let length = text.ids().len() as i64;
                let (embedding, tokens, width, data) = row_of(&texts.embedding, &texts.states, row, Some(length))?;
                let rows = rows_of(text_tokens.as_ref(), row, tokens)?;
                Ok(Encoded { embedding, tokens: rows, states: Arc::new(TextStates { tokens, width, data }) })
            })
            .collect::<Result<_, ExportError>>()?,
        matches: matches.map(|(itm_text, itm_image)| MatchScore { itm_text, itm_image }).collect(),
    })
}

type Row = (Vec<f32>, usize, usize, Box<[f32]>);

/// Embedding, tokens, width and states of one item, its padding cut off.
fn row_of(embedding: &Tensor, states: &Tensor, row: i64, length: Option<i64>) -> Result<Row, ExportError> {
    let states = states.select(0, row);
    let states = length.map_or_else(|| states.shallow_clone(), |length| states.narrow(0, 0, length));
    let size = states.size();
    Ok((values_of(&embedding.select(0, row))?, size[0] as usize, size[1] as usize, values_of(&states)?.into()))
}

/// The first `tokens` rows of one item.
fn rows_of(all: Option<&Tensor>, row: i64, tokens: usize) -> Result<Option<Box<[f32]>>, ExportError> {
    all.map(|all| Ok(values_of(&all.select(0, row).narrow(0, 0, tokens as i64))?.into())).transpose()
}

fn values_of(tensor: &Tensor) -> Result<Vec<f32>, ExportError> {
    let flat = tensor.to_kind(Kind::Float).contiguous().view([-1]);
    Vec::try_from(flat).map_err(|error: TchError| ExportError::Checkpoint(error.to_string()))
}

/// Pictures as [N, 3, H, W], normalised (docs/R2D2.md §3.4).
fn normalised(images: &[PreparedImage]) -> Tensor {
    let side = images.first().map_or(0, |image| i64::from(image.size()));
    let bytes: Vec<u8> = images.iter().flat_map(|image| image.pixels().iter().copied()).collect();
    let pixels = Tensor::from_slice(&bytes).view([-1, side, side, 3]).permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    let channel = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
    (pixels - channel(PIXEL_MEAN)) / channel(PIXEL_STD)
}

/// Token ids and mask, padded to the longest.
fn padded(inputs: &GraphInputs) -> (Tensor, Tensor) {
    let length = inputs.texts.iter().map(|text| text.ids().len()).max().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for text in &inputs.texts {
        ids.extend_from_slice(text.ids());
        mask.resize(ids.len(), 1i64);
        ids.resize(ids.len() + length - text.ids().len(), 0);
        mask.resize(ids.len(), 0);
    }
    let shaped = |values: &[i64]| Tensor::from_slice(values).view([inputs.texts.len() as i64, length as i64]);
    (shaped(&ids), shaped(&mask))
}

fn differences(found: &GraphOutputs, expected: &GraphOutputs) -> [(&'static str, f64); 8] {
    let embeddings = |a: &mut dyn Iterator<Item = (&Vec<f32>, &Vec<f32>)>| a.map(|(a, b)| difference(a, b)).fold(0.0, worse);
    let images = || found.images.iter().zip(&expected.images);
    let texts = || found.texts.iter().zip(&expected.texts);
    let [itm_text, itm_image] = [0, 1].map(|side| difference(&column(&found.matches, side), &column(&expected.matches, side)));
    let tokens = |a: &Option<Box<[f32]>>, b: &Option<Box<[f32]>>| {
        difference(a.as_deref().unwrap_or_default(), b.as_deref().unwrap_or_default())
    };
    [
        ("image tokens", images().map(|(a, b)| tokens(&a.tokens, &b.tokens)).fold(0.0, worse)),
        ("text tokens", texts().map(|(a, b)| tokens(&a.tokens, &b.tokens)).fold(0.0, worse)),
        ("image embedding", embeddings(&mut images().map(|(a, b)| (&a.embedding, &b.embedding)))),
        ("image states", images().map(|(a, b)| difference(&a.states.data, &b.states.data)).fold(0.0, worse)),
        ("text embedding", embeddings(&mut texts().map(|(a, b)| (&a.embedding, &b.embedding)))),
        ("text states", texts().map(|(a, b)| difference(&a.states.data, &b.states.data)).fold(0.0, worse)),
        ("itm_text", itm_text),
        ("itm_image", itm_image),
    ]
}

/// One of the two probabilities of every pair.
fn column(matches: &[MatchScore], side: usize) -> Vec<f32> {
    matches.iter().map(|score| if side == 0 { score.itm_text } else { score.itm_image }).collect()
}

/// False for NaN too.
fn at_most(value: f64, bound: f64) -> bool {
    value <= bound
}

/// The larger; NaN is the worst (`f64::max` would swallow it).
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}

/// Largest difference of two lists, divided by the largest magnitude where that is above 1; infinite when lengths differ.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let largest = b.iter().fold(1.0_f64, |largest, &value| largest.max(f64::from(value.abs())));
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, worse) / largest
}

fn least_cosine<S>(a: &[Encoded<S>], b: &[Encoded<S>]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let least = |a: &Encoded<S>, b: &Encoded<S>| {
        let tokens = a.tokens.as_deref().zip(b.tokens.as_deref()).map(|(a, b)| cosine(a, b));
        tokens.into_iter().fold(-cosine(&a.embedding, &b.embedding), |worst, tokens| worse(worst, -tokens))
    };
    -a.iter().zip(b).map(|(a, b)| least(a, b)).fold(-1.0, worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_above_one_and_never_hides_nan_or_a_length() {
        let a = [0.5, 0.25];
        assert!((difference(&a, &[0.5, 0.35]) - 0.1).abs() < 1e-6);
        assert!((difference(&[101.0], &[100.0]) - 0.01).abs() < 1e-6);
        assert!(difference(&[f32::NAN, 0.0], &a).is_nan());
        assert!(difference(&[0.0, f32::NAN, 0.0], &[0.0; 3]).is_nan());
        assert!(difference(&[0.5], &a).is_infinite());
    }

    #[test]
    fn the_least_cosine_counts() {
        let item = |embedding: &[f32]| Encoded { embedding: embedding.to_vec(), tokens: None, states: Arc::new(()) };
        let a = [item(&[1.0, 0.0]), item(&[0.0, 2.0])];
        assert!((least_cosine(&a, &[item(&[3.0, 0.0]), item(&[3.0, 4.0])]) - 0.8).abs() < 1e-9);
        assert!(least_cosine(&a, &[item(&[1.0, 0.0]), item(&[0.0, 0.0])]).is_nan());
    }
}
