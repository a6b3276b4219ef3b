//! Holds every graph to what it was written from: the f32 graphs to LibTorch, the others to the f32 graphs.

use ndarray::{Array, Array1, Array2, Array4, ArrayView2, Axis, Dimension};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tch::{Kind, Tensor};

use astromech_schemas::manifest::Precision;

use super::runtime::{EncodedArrays, MatchArrays, TowerGraphs};
use super::{ExportError, WeightMap};
use crate::model::R2d2;
use crate::nn::{Context, Params, Precision as Compute};

/// Largest difference of an f32 graph from LibTorch, absolute for values up to 1 and relative above (states reach hundreds).
pub const F32_DIFFERENCE_MAX: f64 = 1e-4;
const RANDOM_IMAGES: usize = 3;
const RANDOM_TEXTS: usize = 4;
const RANDOM_SEED: u64 = 7;
/// Standard deviation of normalised pixels is about 1, so uniform ones go this far.
const PIXEL_RANGE: f32 = 2.0;

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
    /// Least cosine of an image embedding.
    pub image_cosine: f64,
    /// Least cosine of a text embedding.
    pub text_cosine: f64,
    /// Most difference of a match probability.
    pub match_difference: f64,
}

/// Inputs of all three graphs.
pub struct GraphInputs {
    /// [B, 3, H, W], normalised.
    pub pixels: Array4<f32>,
    /// [T, L].
    pub ids: Array2<i64>,
    /// [T, L].
    pub mask: Array2<i64>,
    /// [P, 2].
    pub pairs: Array2<i64>,
}

/// Outputs of all three graphs.
pub struct GraphOutputs {
    /// Of the images.
    pub images: EncodedArrays,
    /// Of the texts.
    pub texts: EncodedArrays,
    /// Of the pairs.
    pub matches: MatchArrays,
}

/// Runs the three graphs, the cross tower on what the other two made.
///
/// # Errors
/// ONNX Runtime fails.
pub fn run_graphs(graphs: &mut TowerGraphs, inputs: &GraphInputs) -> Result<GraphOutputs, ExportError> {
    let images = graphs.encode_images(&inputs.pixels)?;
    let texts = graphs.encode_texts(&inputs.ids, &inputs.mask)?;
    let matches = graphs.match_pairs(&images.states, &texts.states, &inputs.mask, &inputs.pairs)?;
    Ok(GraphOutputs { images, texts, matches })
}

impl WeightMap {
    /// Copies the weights out of LibTorch.
    ///
    /// # Errors
    /// LibTorch can't give the values.
    pub fn from_params(params: &Params) -> Result<Self, ExportError> {
        let mut map = Self::new();
        for named in params.named() {
            let tensor = params.view(params.flat(), named);
            let values = Vec::try_from(tensor.detach().contiguous().view([-1]))
                .map_err(|error: tch::TchError| ExportError::Checkpoint(format!("{}: {error}", named.name)))?;
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
    max_tokens: usize,
) -> Result<f64, ExportError> {
    let inputs = random_inputs(model, max_tokens);
    let found = run_graphs(graphs, &inputs)?;
    let expected = torch_outputs(model, params, &inputs)?;
    let (f, e) = (&found, &expected);
    let mut largest = 0.0_f64;
    let label = graphs.label();
    let mut check = |output, difference: f64| {
        largest = largest.max(difference);
        // Written so that NaN fails too.
        if difference <= F32_DIFFERENCE_MAX {
            return Ok(());
        }
        let (graph, measure) = (label.to_owned(), "largest difference");
        Err(ExportError::Parity { graph, output, measure, found: difference, bound: F32_DIFFERENCE_MAX })
    };
    check("image embedding", difference(&f.images.embedding, &e.images.embedding))?;
    check("image states", difference(&f.images.states, &e.images.states))?;
    check("text embedding", difference(&f.texts.embedding, &e.texts.embedding))?;
    check("text states", difference(&f.texts.states, &e.texts.states))?;
    check("itm_text", difference(&f.matches.itm_text, &e.matches.itm_text))?;
    check("itm_image", difference(&f.matches.itm_image, &e.matches.itm_image))?;
    Ok(largest)
}

/// Fails when a graph's outputs lie further from the f32 graph's than its precision may.
///
/// # Errors
/// A measure beyond its bound.
pub fn verify_against_f32(precision: Precision, found: &GraphOutputs, f32: &GraphOutputs) -> Result<Measured, ExportError> {
    let bounds = bounds(precision);
    let measured = Measured {
        image_cosine: least_cosine(found.images.embedding.view(), f32.images.embedding.view()),
        text_cosine: least_cosine(found.texts.embedding.view(), f32.texts.embedding.view()),
        match_difference: difference(&found.matches.itm_text, &f32.matches.itm_text)
            .max(difference(&found.matches.itm_image, &f32.matches.itm_image)),
    };
    let fail = |output, measure, found, bound| {
        Err(ExportError::Parity { graph: precision.as_str().to_owned(), output, measure, found, bound })
    };
    for (output, cosine) in [("image embedding", measured.image_cosine), ("text embedding", measured.text_cosine)] {
        if !(cosine >= bounds.cosine_min) {
            return fail(output, "least cosine", cosine, bounds.cosine_min);
        }
    }
    if !(measured.match_difference <= bounds.match_difference_max) {
        return fail("match probability", "largest difference", measured.match_difference, bounds.match_difference_max);
    }
    Ok(measured)
}

/// Texts of several lengths, the longest and the shortest among them; every pair.
fn random_inputs(model: &R2d2, max_tokens: usize) -> GraphInputs {
    let mut rng = StdRng::seed_from_u64(RANDOM_SEED);
    let side = model.config.vision.image as usize;
    let pixels = Array4::from_shape_simple_fn((RANDOM_IMAGES, 3, side, side), || rng.random_range(-PIXEL_RANGE..PIXEL_RANGE));
    let lengths = Array1::from_shape_fn(RANDOM_TEXTS, |text| (max_tokens * (text + 1) / RANDOM_TEXTS).max(2));
    let mask = Array2::from_shape_fn((RANDOM_TEXTS, max_tokens), |(text, at)| i64::from(at < lengths[text]));
    let ids = mask.mapv(|token| if token == 1 { rng.random_range(0..model.config.vocab) } else { 0 });
    let pairs = Array2::from_shape_fn((RANDOM_IMAGES * RANDOM_TEXTS, 2), |(pair, side)| {
        (if side == 0 { pair % RANDOM_IMAGES } else { pair / RANDOM_IMAGES }) as i64
    });
    GraphInputs { pixels, ids, mask, pairs }
}

fn torch_outputs(model: &R2d2, params: &Params, inputs: &GraphInputs) -> Result<GraphOutputs, ExportError> {
    let _no_grad = tch::no_grad_guard();
    let w = params.weights(Compute::F32);
    let mask = integers(&inputs.mask);
    let images = model.encode_image(&w, &floats(&inputs.pixels), None, Context::EVAL);
    let texts = model.encode_text(&w, &integers(&inputs.ids), &mask, Context::EVAL);
    let pairs = integers(&inputs.pairs);
    let (image, text) = (pairs.select(1, 0), pairs.select(1, 1));
    let take = |tensor: &Tensor, index: &Tensor| tensor.index_select(0, index);
    let logits = model.match_pairs(&w, &take(&images.states, &image), &take(&texts.states, &text), &take(&mask, &text), Context::EVAL);
    let (itm_text, itm_image) = logits.probabilities();
    Ok(GraphOutputs {
        images: EncodedArrays { embedding: from_torch(&images.embedding)?, states: from_torch(&images.states)? },
        texts: EncodedArrays { embedding: from_torch(&texts.embedding)?, states: from_torch(&texts.states)? },
        matches: MatchArrays { itm_text: from_torch(&itm_text)?, itm_image: from_torch(&itm_image)? },
    })
}

fn floats(array: &Array4<f32>) -> Tensor {
    let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
    let values: Vec<f32> = array.iter().copied().collect();
    Tensor::from_slice(&values).view(shape.as_slice())
}

fn integers(array: &Array2<i64>) -> Tensor {
    let values: Vec<i64> = array.iter().copied().collect();
    Tensor::from_slice(&values).view([array.nrows() as i64, array.ncols() as i64])
}

fn from_torch<D: Dimension>(tensor: &Tensor) -> Result<Array<f32, D>, ExportError> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor.to_kind(Kind::Float).contiguous().view([-1]);
    let values: Vec<f32> = Vec::try_from(flat).map_err(|error: tch::TchError| ExportError::Checkpoint(error.to_string()))?;
    Array::from_shape_vec(shape, values)
        .and_then(Array::into_dimensionality)
        .map_err(|error| ExportError::Checkpoint(error.to_string()))
}

/// Largest difference of two arrays of one shape, divided by the largest magnitude where that is above 1; infinite when shapes differ
/// or a value is not a number.
fn difference<D: Dimension>(a: &Array<f32, D>, b: &Array<f32, D>) -> f64 {
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    let largest = b.iter().fold(1.0_f64, |largest, &value| largest.max(f64::from(value.abs())));
    let worst = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // `max` would swallow NaN.
    worst.fold(0.0, |worst, value| if value.is_nan() || value > worst { value } else { worst }) / largest
}

fn least_cosine(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> f64 {
    let rows = a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(0)));
    rows.map(|(a, b)| {
        let norm = f64::from(a.dot(&a)).sqrt() * f64::from(b.dot(&b)).sqrt();
        f64::from(a.dot(&b)) / norm
    })
    .fold(1.0, |least, cosine| if cosine.is_nan() || cosine < least { cosine } else { least })
}

/// Stacks token ids to [N, longest] with their mask.
pub fn pad_texts(texts: &[Vec<i64>]) -> (Array2<i64>, Array2<i64>) {
    let length = texts.iter().map(Vec::len).max().unwrap_or(0);
    let at = |text: usize, token: usize| texts[text].get(token).copied();
    let ids = Array2::from_shape_fn((texts.len(), length), |(text, token)| at(text, token).unwrap_or(0));
    let mask = Array2::from_shape_fn((texts.len(), length), |(text, token)| i64::from(at(text, token).is_some()));
    (ids, mask)
}

/// Normalises 8-bit RGB squares [N, H, W, 3] to pixels [N, 3, H, W] (r2d2.md §3.4).
pub fn normalise(squares: &Array4<u8>, mean: [f32; 3], std: [f32; 3]) -> Array4<f32> {
    let (n, h, w, _) = squares.dim();
    Array4::from_shape_fn((n, 3, h, w), |(n, c, y, x)| (f32::from(squares[[n, y, x, c]]) / 255.0 - mean[c]) / std[c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_above_one_and_never_hides_nan_or_a_shape() {
        let a = Array1::from(vec![0.5, 0.25]);
        assert!((difference(&a, &Array1::from(vec![0.5, 0.35])) - 0.1).abs() < 1e-6);
        assert!((difference(&Array1::from(vec![101.0]), &Array1::from(vec![100.0])) - 0.01).abs() < 1e-6);
        assert!(difference(&Array1::from(vec![f32::NAN, 0.0]), &a).is_nan());
        assert!(difference(&Array1::from(vec![0.5]), &a).is_infinite());
    }

    #[test]
    fn texts_are_padded_to_the_longest_with_zeros_and_a_mask() {
        let (ids, mask) = pad_texts(&[vec![5, 6, 7], vec![8]]);
        assert_eq!(ids, ndarray::array![[5, 6, 7], [8, 0, 0]]);
        assert_eq!(mask, ndarray::array![[1, 1, 1], [1, 0, 0]]);
    }

    #[test]
    fn pixels_become_planar_and_normalised() {
        let mut squares = Array4::<u8>::zeros((1, 1, 2, 3));
        squares[[0, 0, 1, 2]] = 255;
        let pixels = normalise(&squares, [0.5; 3], [0.25; 3]);
        assert_eq!(pixels.into_raw_vec_and_offset().0, [-2.0, -2.0, -2.0, -2.0, -2.0, 2.0]);
    }
}
