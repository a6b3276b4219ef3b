//! What retrieval gets without learning: a text stands for the training pictures of its concept, and the gallery is ranked by the
//! likeness of its small pixels to the nearest of them. Each picture's own mean is taken off and its length scaled to 1 first, which
//! makes the floor higher (R@1 .10 instead of .06 on emoji of test_unseen_render) and so the comparison harder.

use std::collections::HashMap;
use std::path::Path;

use astromech_towers::{ImageLimits, decode_and_squash};
use rayon::prelude::*;

use super::recall::{Recalls, best_rank, recalls};
use super::{EvaluateError, TaskItems};
use crate::corpus::{CorpusError, RecordFilter, read_records};
use crate::files::file_error;

/// Edge of the squares that are compared.
const SIDE: u32 = 16;
const NUMBERS: usize = (SIDE * SIDE * 3) as usize;
/// Score of a picture when no training picture shows the text's concept.
const UNKNOWN: f32 = f32::NEG_INFINITY;

/// Training pictures of each concept, as points of pixel space.
pub struct PixelFloor {
    concepts: HashMap<String, Vec<[f32; NUMBERS]>>,
}

impl PixelFloor {
    /// Reads the training split.
    ///
    /// # Errors
    /// The corpus or a picture can't be read.
    pub fn load(corpus: &Path) -> Result<Self, EvaluateError> {
        let filter = RecordFilter { splits: vec!["train".to_owned()], ..RecordFilter::default() };
        let records = read_records(corpus, &filter)?;
        let points = records
            .par_iter()
            .map(|record| point(&corpus.join(&record.image), &record.id))
            .collect::<Result<Vec<_>, EvaluateError>>()?;
        let mut concepts: HashMap<String, Vec<_>> = HashMap::new();
        for (record, point) in records.iter().zip(points) {
            concepts.entry(record.concept.clone()).or_default().push(point);
        }
        Ok(Self { concepts })
    }

    /// Text to image, as the model is measured. A text whose right pictures have no concept finds nothing.
    ///
    /// # Errors
    /// A picture can't be read.
    pub fn text_to_image(&self, items: &TaskItems) -> Result<Recalls, EvaluateError> {
        let pictures = items.pictures.par_iter();
        let gallery = pictures.map(|picture| point(&picture.path, &picture.id)).collect::<Result<Vec<_>, EvaluateError>>()?;
        let ranks: Vec<_> = items
            .right
            .par_iter()
            .map(|right| {
                let concept = right.first().and_then(|&image| items.pictures[image].concept.as_deref());
                let known = concept.and_then(|concept| self.concepts.get(concept));
                let scores: Vec<f32> =
                    gallery.iter().map(|picture| known.map_or(UNKNOWN, |known| nearest(picture, known))).collect();
                best_rank(&scores, right)
            })
            .collect();
        Ok(recalls(&ranks))
    }
}

/// Largest cosine.
fn nearest(picture: &[f32; NUMBERS], known: &[[f32; NUMBERS]]) -> f32 {
    known.iter().map(|other| picture.iter().zip(other.iter()).map(|(a, b)| a * b).sum()).fold(f32::NEG_INFINITY, f32::max)
}

fn point(path: &Path, id: &str) -> Result<[f32; NUMBERS], EvaluateError> {
    let bytes = std::fs::read(path).map_err(file_error(path)).map_err(CorpusError::from)?;
    let square = decode_and_squash(&bytes, SIDE, &ImageLimits::default()).map_err(|error| CorpusError::Picture {
        id: id.to_owned(),
        path: path.to_path_buf(),
        message: error.to_string(),
    })?;
    let mut point = [0.0; NUMBERS];
    for (number, &byte) in point.iter_mut().zip(square.pixels()) {
        *number = f32::from(byte);
    }
    centre(&mut point);
    Ok(point)
}

/// Takes the mean off and scales to unit length; a picture of one colour becomes zeros.
fn centre(point: &mut [f32; NUMBERS]) {
    let mean = point.iter().sum::<f32>() / NUMBERS as f32;
    for number in point.iter_mut() {
        *number -= mean;
    }
    let norm = point.iter().map(|number| number * number).sum::<f32>().sqrt();
    if norm > 0.0 {
        for number in point.iter_mut() {
            *number /= norm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_contrast_do_not_count_and_one_colour_is_like_nothing() {
        let mut a = [0.0; NUMBERS];
        let mut b = [0.0; NUMBERS];
        for (index, (a, b)) in a.iter_mut().zip(&mut b).enumerate() {
            *a = (index % 7) as f32;
            *b = 30.0 + 5.0 * (index % 7) as f32;
        }
        let mut flat = [9.0; NUMBERS];
        for point in [&mut a, &mut b, &mut flat] {
            centre(point);
        }
        assert!((nearest(&a, &[flat, b]) - 1.0).abs() < 1e-4);
        assert!(nearest(&a, &[flat]).abs() < 1e-6);
    }
}
