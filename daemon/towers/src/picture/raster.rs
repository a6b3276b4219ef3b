//! PNG, WebP, GIF and BMP through the `image` crate, with Pillow's conversions of 16-bit samples.
//!
//! Known difference: a GIF whose first frame is smaller than its canvas gets a black rest here, a colour of its palette from Pillow.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, ImageResult, Limits};

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Bytes that a decoder may take beside the pixels: chunks of metadata, tables, windows.
const DECODER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the widest pixel, 16-bit RGBA.
const PIXEL_BYTES_MAX: u64 = 8;
/// Where a PNG's first chunk begins.
const PNG_CHUNKS_AT: usize = 8;
/// Where a PNG keeps its colour type, and gray without alpha there. Gray with one transparent value is decoded with alpha, so the
/// decoder's colour type does not tell it from gray with alpha.
const PNG_COLOR_TYPE_AT: usize = 25;
const PNG_GRAY: u8 = 0;

pub(super) fn decode(format: Format, bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let reader = Cursor::new(bytes);
    let (size, color) = match format {
        Format::Png => {
            let bare = without_profile(bytes);
            read(format, PngDecoder::with_limits(Cursor::new(&*bare), decoder_limits(limits)), limits, pixels)
        }
        Format::WebP => read(format, WebPDecoder::new(reader), limits, pixels),
        Format::Gif => read(format, GifDecoder::new(reader), limits, pixels),
        Format::Bmp | Format::Jpeg => read(format, BmpDecoder::new(reader), limits, pixels),
    }?;
    let layout = match color {
        ColorType::L8 => Layout::Gray,
        ColorType::La8 => Layout::GrayAlpha,
        ColorType::Rgb8 => Layout::Rgb,
        ColorType::Rgba8 => Layout::Rgba,
        // Pillow keeps 16-bit gray as numbers and clips them; 16-bit samples of the other kinds lose their low byte.
        ColorType::L16 => narrow(pixels, Layout::Gray, clip),
        ColorType::La16 if bytes.get(PNG_COLOR_TYPE_AT) == Some(&PNG_GRAY) => narrow(pixels, Layout::GrayAlpha, clip),
        ColorType::La16 => narrow(pixels, Layout::GrayAlpha, high_byte),
        ColorType::Rgb16 => narrow(pixels, Layout::Rgb, high_byte),
        ColorType::Rgba16 => narrow(pixels, Layout::Rgba, high_byte),
        other => return Err(damaged(format, format!("its colour type {other:?} is not read"))),
    };
    Ok(Decoded { width: size.0, height: size.1, layout })
}

/// The PNG without its colour profile, which the decoder would unpack for nobody: a few kilobytes may hold gigabytes.
fn without_profile(png: &[u8]) -> Cow<'_, [u8]> {
    let (mut at, mut kept) = (PNG_CHUNKS_AT, Vec::new());
    let mut copied = 0;
    // Chunks: length, name, data, check. The profile stands before the pixels.
    while let Some(&[a, b, c, d, ref name @ ..]) = png.get(at..at + 8) {
        let end = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(at + 12).min(png.len());
        match name {
            b"iCCP" => {
                kept.extend_from_slice(&png[copied..at]);
                copied = end;
            }
            b"IDAT" => break,
            _ => {}
        }
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(png);
    }
    kept.extend_from_slice(&png[copied..]);
    Cow::Owned(kept)
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
) -> Result<((u32, u32), ColorType), ImageError> {
    let mut decoder = decoder.map_err(|error| damaged(format, error))?;
    let (width, height) = decoder.dimensions();
    check_size(format, width, height, limits)?;
    decoder.set_limits(decoder_limits(limits)).map_err(|error| damaged(format, error))?;
    let color = decoder.color_type();
    // Not cleared first: the decoders write every byte.
    pixels.resize(width as usize * height as usize * usize::from(color.bytes_per_pixel()), 0);
    decoder.read_image(pixels).map_err(|error| damaged(format, error))?;
    Ok(((width, height), color))
}

/// 16-bit samples to 8-bit ones, in place.
fn narrow(pixels: &mut Vec<u8>, layout: Layout, convert: fn(u16) -> u8) -> Layout {
    let samples = pixels.len() / 2;
    for index in 0..samples {
        pixels[index] = convert(u16::from_ne_bytes([pixels[index * 2], pixels[index * 2 + 1]]));
    }
    pixels.truncate(samples);
    layout
}

fn clip(sample: u16) -> u8 {
    sample.min(255) as u8
}

fn high_byte(sample: u16) -> u8 {
    (sample >> 8) as u8
}
