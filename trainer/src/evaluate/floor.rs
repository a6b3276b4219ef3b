//! What retrieval gets without learning: a text stands for the training pictures of its concept, and the gallery is ranked by its
//! nearest distance in pixels to any of them.

use std::collections::HashMap;
use std::path::Path;

use astromech_towers::{ImageLimits, decode_and_squash};
use rayon::prelude::*;

use super::recall::{Recalls, best_rank, recalls};
use super::{EvaluateError, TaskItems};
use crate::corpus::{CorpusError, Record, RecordFilter, read_records};

/// Edge of the squares that are compared.
const SIDE: u32 = 16;
const NUMBERS: usize = (SIDE * SIDE * 3) as usize;
/// Score of a picture when no training picture shows the text's concept.
const UNKNOWN: f32 = f32::NEG_INFINITY;

/// Training pictures of each concept, as points of pixel space.
pub struct PixelFloor {
    concepts: HashMap<String, Vec<Box<[f32; NUMBERS]>>>,
}

impl PixelFloor {
    /// Reads the training split.
    ///
    /// # Errors
    /// The corpus or a picture can't be read.
    pub fn load(corpus: &Path) -> Result<Self, EvaluateError> {
        let filter = RecordFilter { splits: vec!["train".to_owned()], ..RecordFilter::default() };
        let records = read_records(corpus, &filter)?;
        let points = records.par_iter().map(|record| point(corpus, record)).collect::<Result<Vec<_>, EvaluateError>>()?;
        let mut concepts: HashMap<String, Vec<_>> = HashMap::new();
        for (record, point) in records.iter().zip(points) {
            concepts.entry(record.concept.clone()).or_default().push(point);
        }
        Ok(Self { concepts })
    }

    /// Text to image, as the model is measured.
    ///
    /// # Errors
    /// A picture can't be read.
    pub fn text_to_image(&self, corpus: &Path, items: &TaskItems) -> Result<Recalls, EvaluateError> {
        let gallery = items.records.par_iter().map(|record| point(corpus, record)).collect::<Result<Vec<_>, EvaluateError>>()?;
        let ranks: Vec<_> = items
            .right
            .par_iter()
            .map(|right| {
                let concept = right.first().map(|&image| items.records[image].concept.as_str());
                let known = concept.and_then(|concept| self.concepts.get(concept));
                let scores: Vec<f32> = gallery.iter().map(|picture| known.map_or(UNKNOWN, |known| -nearest(picture, known))).collect();
                best_rank(&scores, right)
            })
            .collect();
        Ok(recalls(&ranks))
    }
}

fn nearest(picture: &[f32; NUMBERS], known: &[Box<[f32; NUMBERS]>]) -> f32 {
    known.iter().map(|other| picture.iter().zip(other.iter()).map(|(a, b)| (a - b) * (a - b)).sum()).fold(f32::INFINITY, f32::min)
}

fn point(corpus: &Path, record: &Record) -> Result<Box<[f32; NUMBERS]>, EvaluateError> {
    let path = corpus.join(&record.image);
    let bytes = std::fs::read(&path).map_err(CorpusError::io(&path))?;
    let square = decode_and_squash(&bytes, SIDE, &ImageLimits::default())
        .map_err(|error| CorpusError::Picture { id: record.id.clone(), path, message: error.to_string() })?;
    let mut point = Box::new([0.0; NUMBERS]);
    for (number, &byte) in point.iter_mut().zip(square.pixels()) {
        *number = f32::from(byte);
    }
    Ok(point)
}
