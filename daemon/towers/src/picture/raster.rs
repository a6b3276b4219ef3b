//! WebP and BMP through the `image` crate.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, ImageResult, Limits};

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Bytes that a decoder may take beside the pixels: chunks of metadata, tables, windows.
const DECODER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the widest pixel.
const PIXEL_BYTES_MAX: u64 = 8;

pub(super) fn webp(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    read(Format::WebP, WebPDecoder::new(Cursor::new(bytes)), limits, pixels)
}

pub(super) fn bmp(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    read(Format::Bmp, BmpDecoder::new(Cursor::new(bytes)), limits, pixels)
}

fn decoder_limits(limits: &ImageLimits) -> Limits {
    let mut result = Limits::no_limits();
    result.max_alloc = Some(limits.pixels_max.saturating_mul(PIXEL_BYTES_MAX).saturating_add(DECODER_BYTES_MAX));
    result
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn damaged(format: Format, reason: impl ToString) -> ImageError {
    ImageError::Damaged { format: format.as_str(), reason: reason.to_string() }
}

fn read<D: ImageDecoder>(
    format: Format,
    decoder: ImageResult<D>,
    limits: &ImageLimits,
    pixels: &mut Vec<u8>,
) -> Result<Decoded, ImageError> {
    let mut decoder = decoder.map_err(|error| damaged(format, error))?;
    let (width, height) = decoder.dimensions();
    check_size(format, width, height, limits)?;
    decoder.set_limits(decoder_limits(limits)).map_err(|error| damaged(format, error))?;
    let layout = match decoder.color_type() {
        ColorType::L8 => Layout::Gray,
        ColorType::La8 => Layout::GrayAlpha,
        ColorType::Rgb8 => Layout::Rgb,
        ColorType::Rgba8 => Layout::Rgba,
        other => return Err(damaged(format, format!("its colour type {other:?} is not read"))),
    };
    // Not cleared first: the decoders write every byte.
    pixels.resize(width as usize * height as usize * layout.channels(), 0);
    decoder.read_image(pixels).map_err(|error| damaged(format, error))?;
    Ok(Decoded::whole(width, height, layout))
}
