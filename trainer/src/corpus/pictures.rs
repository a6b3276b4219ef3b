//! Decoded pictures, kept in memory at one working size.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use astromech_towers::{ImageLimits, decode_and_squash};
use rayon::prelude::*;

use super::error::CorpusError;
use super::record::Record;
use crate::files::file_error;

/// Darkest channel value that still counts as white paper when the background is looked for.
const PAPER_LEVEL_MIN: u8 = 235;
/// Part of a picture's border that must be white for it to have a background at all.
const PAPER_BORDER_MIN: f64 = 0.6;

/// One square picture: RGBA, where alpha 0 marks the white background reachable from the border.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Side in pixels.
    pub side: usize,
    /// `side * side * 4` bytes.
    pub rgba: Vec<u8>,
}

impl Picture {
    /// Decodes the picture of record `id` and squashes it to `side` pixels, by the code that serves.
    ///
    /// # Errors
    /// It is missing or cannot be decoded; the error names the record.
    pub fn read(path: &Path, id: &str, side: usize) -> Result<Self, CorpusError> {
        Ok(Self { side, rgba: with_background(&square(path, id, side)?, side) })
    }
}

/// All pictures of a set of records, in their order.
pub struct Pictures {
    /// One per record; records of one file share it.
    pub all: Vec<Arc<Picture>>,
}

impl Pictures {
    /// Decodes the pictures of `records` on all threads and squashes each to `side` pixels, by the code that serves.
    ///
    /// # Errors
    /// A picture is missing or cannot be decoded; the error names its record.
    pub fn load(folder: &Path, records: &[Record], side: usize) -> Result<Self, CorpusError> {
        let mut first: HashMap<&str, &Record> = HashMap::new();
        for record in records {
            first.entry(&record.image).or_insert(record);
        }
        let first: Vec<(&str, &Record)> = first.into_iter().collect();
        let read = first
            .into_par_iter()
            .map(|(image, record)| Ok((image, Arc::new(Picture::read(&folder.join(image), &record.id, side)?))))
            .collect::<Result<HashMap<&str, Arc<Picture>>, CorpusError>>()?;
        Ok(Self { all: records.iter().map(|record| Arc::clone(&read[record.image.as_str()])).collect() })
    }

    /// Loads pictures as plain RGB squares for evaluation: id → `side * side * 3` bytes.
    ///
    /// # Errors
    /// A picture is missing or cannot be decoded; the error names its record.
    pub fn load_rgb(folder: &Path, records: &[Record], side: usize) -> Result<HashMap<String, Vec<u8>>, CorpusError> {
        records.par_iter().map(|record| Ok((record.id.clone(), square(&folder.join(&record.image), &record.id, side)?))).collect()
    }
}

/// A picture of record `id`, squashed: `side * side * 3` bytes.
fn square(path: &Path, id: &str, side: usize) -> Result<Vec<u8>, CorpusError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    let fail = |message| CorpusError::Picture { id: id.to_owned(), path: path.to_path_buf(), message };
    let squashed = decode_and_squash(&bytes, side as u32, &ImageLimits::default()).map_err(|error| fail(error.to_string()))?;
    Ok(squashed.pixels().to_vec())
}

/// Marks the white region connected to the border as background.
pub(super) fn with_background(rgb: &[u8], side: usize) -> Vec<u8> {
    let paper = |index: usize| rgb[index * 3..index * 3 + 3].iter().all(|&value| value >= PAPER_LEVEL_MIN);
    let border: Vec<usize> = (0..side).flat_map(|i| [i, (side - 1) * side + i, i * side, i * side + side - 1]).collect();
    let mut background = vec![false; side * side];
    let white = border.iter().filter(|&&index| paper(index)).count();
    if white as f64 >= border.len() as f64 * PAPER_BORDER_MIN {
        let mut stack: Vec<usize> = border.into_iter().filter(|&index| paper(index)).collect();
        while let Some(index) = stack.pop() {
            if background[index] || !paper(index) {
                continue;
            }
            background[index] = true;
            let (x, y) = (index % side, index / side);
            if x > 0 {
                stack.push(index - 1);
            }
            if x + 1 < side {
                stack.push(index + 1);
            }
            if y > 0 {
                stack.push(index - side);
            }
            if y + 1 < side {
                stack.push(index + side);
            }
        }
    }
    let mut rgba = Vec::with_capacity(side * side * 4);
    for (index, pixel) in rgb.chunks_exact(3).enumerate() {
        rgba.extend_from_slice(pixel);
        rgba.push(if background[index] { 0 } else { 255 });
    }
    rgba
}
