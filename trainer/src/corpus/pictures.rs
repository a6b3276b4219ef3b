//! Decoded pictures, kept in memory at one working size.

use std::collections::HashMap;
use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rayon::prelude::*;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::error::CorpusError;
use super::record::Record;

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

/// All pictures of a set of records, in their order.
pub struct Pictures {
    /// One per record.
    pub all: Vec<Picture>,
}

impl Pictures {
    /// Decodes the pictures of `records` on all threads and squashes each to `side` pixels.
    ///
    /// # Errors
    /// A picture is missing or cannot be decoded; the error names its record.
    pub fn load(folder: &Path, records: &[Record], side: usize) -> Result<Self, CorpusError> {
        let load = |record: &Record| {
            let path = folder.join(&record.image);
            let bytes = std::fs::read(&path).map_err(CorpusError::io(&path))?;
            let fail = |message| CorpusError::Picture { id: record.id.clone(), path: path.clone(), message };
            let rgb = squash(&decode_rgb(&bytes).map_err(fail)?, side as u32).map_err(fail)?;
            Ok(Picture { side, rgba: with_background(&rgb, side) })
        };
        Ok(Self { all: records.par_iter().map(load).collect::<Result<_, CorpusError>>()? })
    }

    /// Loads pictures as plain RGB squares for evaluation: id → `side * side * 3` bytes.
    ///
    /// # Errors
    /// A picture is missing or cannot be decoded; the error names its record.
    pub fn load_rgb(folder: &Path, records: &[Record], side: usize) -> Result<HashMap<String, Vec<u8>>, CorpusError> {
        let load = |record: &Record| {
            let path = folder.join(&record.image);
            let bytes = std::fs::read(&path).map_err(CorpusError::io(&path))?;
            let fail = |message| CorpusError::Picture { id: record.id.clone(), path: path.clone(), message };
            Ok((record.id.clone(), squash(&decode_rgb(&bytes).map_err(fail)?, side as u32).map_err(fail)?))
        };
        records.par_iter().map(load).collect()
    }
}

/// A decoded picture of any size.
pub struct Rgb {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub data: Vec<u8>,
}

/// Decodes JPEG, PNG, WebP, GIF or BMP to RGB; alpha is dropped as Pillow's `convert("RGB")` drops it.
///
/// # Errors
/// What the decoder says.
pub fn decode_rgb(bytes: &[u8]) -> Result<Rgb, String> {
    if bytes.starts_with(&[0xFF, 0xD8]) {
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let data = decoder.decode().map_err(|error| format!("{error:?}"))?;
        let info = decoder.info().ok_or("the JPEG has no header")?;
        return Ok(Rgb { width: u32::from(info.width), height: u32::from(info.height), data });
    }
    let decoded = image::load_from_memory(bytes).map_err(|error| error.to_string())?.to_rgb8();
    Ok(Rgb { width: decoded.width(), height: decoded.height(), data: decoded.into_raw() })
}

/// Resizes to a square by Pillow's antialiased bicubic (r2d2.md §3.4), not keeping the aspect ratio.
///
/// # Errors
/// The buffer does not have the size it claims.
pub fn squash(rgb: &Rgb, side: u32) -> Result<Vec<u8>, String> {
    if rgb.width == side && rgb.height == side {
        return Ok(rgb.data.clone());
    }
    let source = Image::from_vec_u8(rgb.width, rgb.height, rgb.data.clone(), PixelType::U8x3).map_err(|e| e.to_string())?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    // Pillow's bicubic has a = -0.5, which this crate calls Catmull-Rom.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}

/// Marks the white region connected to the border as background.
fn with_background(rgb: &[u8], side: usize) -> Vec<u8> {
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
