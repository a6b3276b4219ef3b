//! The replay of a bundle's golden vectors: the same numbers must come out on this machine, provider and precision.

use astromech_schemas::Similarity;
use astromech_schemas::manifest::Precision;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::bundle::GOLDEN_FILE;
use crate::graph::{CrossGraph, CrossRequest, ImageGraph, TextGraph};
use crate::{Bundle, PreparedImage, PreparedText, TowersError};

/// How far a replay may be off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tolerance {
    /// Least cosine of an embedding with the golden one.
    pub(crate) cosine_min: f32,
    /// Most absolute difference of a match probability.
    pub(crate) itm_max: f32,
}

impl Tolerance {
    pub(crate) const fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self { cosine_min: 0.9999, itm_max: 1e-3 },
            // int8 activations have one scale a tensor, so a vector depends a little on its batch mates; where the sigmoid of a match is steep
            // that is much.
            // Other CPUs have other int8 kernels, and a half has 11 bits.
            // A Zen 3 (AVX2, no VNNI) gives 0.0274 on one of the demo bundle's pairs, of probability 0.6, and at most 0.003 on the others.
            Precision::Int8 => Self { cosine_min: 0.999, itm_max: 0.05 },
            Precision::Fp16 => Self { cosine_min: 0.999, itm_max: 0.02 },
        }
    }
}

/// Golden samples: inputs, and what came out when the bundle was released. Pair i is (picture i, text i).
#[derive(Debug)]
pub(crate) struct Golden {
    images: Vec<PreparedImage>,
    texts: Vec<PreparedText>,
    image_embedding: Vec<Vec<f32>>,
    text_embedding: Vec<Vec<f32>>,
    /// Unit vectors of the tokens of each picture and each text; only of a bundle of late interaction.
    tokens: Option<[Vec<Vec<f32>>; 2]>,
    itm_text: Vec<f32>,
    itm_image: Vec<f32>,
}

/// Names in errors.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) provider: String,
    pub(crate) precision: Precision,
}

impl Golden {
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, TowersError> {
        let path = bundle.dir.join(GOLDEN_FILE);
        let bytes = std::fs::read(&path).map_err(|error| TowersError::read(&path, error))?;
        parse(bundle, &bytes)
            .map_err(|problem| TowersError::bundle(&bundle.dir, format!("{GOLDEN_FILE}: {problem}; release the bundle again")))
    }

    /// Runs the samples and compares.
    pub(crate) fn replay(
        &self,
        setting: &Setting,
        image: &mut ImageGraph,
        text: &mut TextGraph,
        cross: Option<&mut CrossGraph>,
    ) -> Result<(), TowersError> {
        let tolerance = Tolerance::of(setting.precision);
        let fail = |what, sample, found, limit| {
            let Setting { provider, precision } = setting.clone();
            Err(TowersError::Golden { what, sample, found, limit, provider, precision: precision.as_str() })
        };
        let images = image.run(&self.images.iter().collect::<Vec<_>>(), cross.is_some())?;
        let texts = text.run(&self.texts.iter().collect::<Vec<_>>(), cross.is_some())?;
        for sample in 0..self.images.len() {
            let cosines = [
                ("cosine of the image embedding", cosine(&images[sample].embedding, &self.image_embedding[sample])),
                ("cosine of the text embedding", cosine(&texts[sample].embedding, &self.text_embedding[sample])),
            ];
            // Of unit vectors one after another, the cosine is the mean of each token's.
            let tokens = self.tokens.iter().flat_map(|[of_images, of_texts]| {
                let of = |found: &Option<Box<[f32]>>, golden: &[f32]| cosine(found.as_deref().unwrap_or_default(), golden);
                [
                    ("cosine of the image tokens", of(&images[sample].tokens, &of_images[sample])),
                    ("cosine of the text tokens", of(&texts[sample].tokens, &of_texts[sample])),
                ]
            });
            let cosines = cosines.into_iter().chain(tokens);
            for (what, found) in cosines {
                if found.is_nan() || found < tolerance.cosine_min {
                    return fail(what, sample, found, tolerance.cosine_min);
                }
            }
        }
        let Some(cross) = cross else { return Ok(()) };
        let request = CrossRequest {
            images: images.into_iter().filter_map(|output| output.states).collect(),
            texts: texts.into_iter().filter_map(|output| output.states).collect(),
            pairs: (0..self.images.len() as u32).map(|index| (index, index)).collect(),
        };
        for (sample, score) in cross.run(&request)?.into_iter().enumerate() {
            let differences = [
                ("difference of itm_text", (score.itm_text - self.itm_text[sample]).abs()),
                ("difference of itm_image", (score.itm_image - self.itm_image[sample]).abs()),
            ];
            for (what, found) in differences {
                if found.is_nan() || found > tolerance.itm_max {
                    return fail(what, sample, found, tolerance.itm_max);
                }
            }
        }
        Ok(())
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

fn parse(bundle: &Bundle, bytes: &[u8]) -> Result<Golden, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let size = bundle.manifest.image.size;
    let edge = size as usize;
    let dim = bundle.manifest.embedding_dim as usize;
    let (shape, pixels) = tensor(&tensors, "pixels", Dtype::U8)?;
    let count = shape.first().copied().unwrap_or(0);
    if count == 0 || shape != [count, edge, edge, 3] {
        return Err(format!("pixels has shape {shape:?}, expected [N, {edge}, {edge}, 3]"));
    }
    let images =
        pixels.chunks_exact(edge * edge * 3).filter_map(|pixels| PreparedImage::from_rgb(size, pixels.to_vec())).collect();
    let ids = integers(&tensors, "input_ids", count, bundle.manifest.text.max_tokens as usize)?;
    let mask = integers(&tensors, "attention_mask", count, bundle.manifest.text.max_tokens as usize)?;
    let texts: Vec<_> = ids
        .into_iter()
        .zip(mask)
        .map(|(ids, mask)| {
            let length = mask.iter().filter(|seen| **seen == 1).count();
            PreparedText::from_ids(ids.into_iter().take(length).collect())
        })
        .collect();
    let column = |name| floats(&tensors, name, count, 1).map(|rows| rows.into_iter().flatten().collect());
    Ok(Golden {
        tokens: golden_tokens(bundle, &tensors, &texts)?,
        images,
        texts,
        image_embedding: floats(&tensors, "image_embedding", count, dim)?,
        text_embedding: floats(&tensors, "text_embedding", count, dim)?,
        itm_text: column("itm_text")?,
        itm_image: column("itm_image")?,
    })
}

/// `image_tokens` [N, T, D] and `text_tokens` [N, L, D], the latter cut to each text's length.
fn golden_tokens(
    bundle: &Bundle,
    tensors: &SafeTensors<'_>,
    texts: &[PreparedText],
) -> Result<Option<[Vec<Vec<f32>>; 2]>, String> {
    let Similarity::LateInteraction { image_tokens, .. } = bundle.manifest.similarity else { return Ok(None) };
    let dim = bundle.manifest.embedding_dim as usize;
    let of_images = floats(tensors, "image_tokens", texts.len(), image_tokens as usize * dim)?;
    let (shape, _) = tensor(tensors, "text_tokens", Dtype::F32)?;
    let mut of_texts = floats(tensors, "text_tokens", texts.len(), shape.iter().skip(1).product::<usize>().max(1))?;
    for (rows, text) in of_texts.iter_mut().zip(texts) {
        rows.truncate(text.ids().len() * dim);
    }
    Ok(Some([of_images, of_texts]))
}

fn tensor<'t>(tensors: &SafeTensors<'t>, name: &str, dtype: Dtype) -> Result<(Vec<usize>, &'t [u8]), String> {
    let view = tensors.tensor(name).map_err(|error| format!("{name}: {error}"))?;
    if view.dtype() != dtype {
        return Err(format!("{name} is {:?}, expected {dtype:?}", view.dtype()));
    }
    Ok((view.shape().to_vec(), view.data()))
}

/// Rows of `[count, width]`; a vector `[count]` has width 1.
fn floats(tensors: &SafeTensors<'_>, name: &str, count: usize, width: usize) -> Result<Vec<Vec<f32>>, String> {
    let (shape, data) = tensor(tensors, name, Dtype::F32)?;
    if shape.first() != Some(&count) || shape.iter().product::<usize>() != count * width {
        return Err(format!("{name} has shape {shape:?}, expected [{count}, {width}]"));
    }
    let numbers: Vec<f32> = data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(numbers.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

fn integers(tensors: &SafeTensors<'_>, name: &str, count: usize, width_max: usize) -> Result<Vec<Vec<i64>>, String> {
    let (shape, data) = tensor(tensors, name, Dtype::I64)?;
    let width = shape.get(1).copied().unwrap_or(0);
    if shape != [count, width] || width == 0 || width > width_max {
        return Err(format!("{name} has shape {shape:?}, expected [{count}, 1 to {width_max}]"));
    }
    let numbers: Vec<i64> = data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    Ok(numbers.chunks_exact(width).map(<[i64]>::to_vec).collect())
}
