//! WebP and BMP through the `image` crate.

use std::borrow::Cow;
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

/// Where a WebP has its size without the first eight bytes, the name of its first chunk, and an extended header's flags.
const RIFF_SIZE_AT: usize = 4;
const FIRST_CHUNK_AT: usize = 12;
const FLAGS_AT: usize = 20;
const HEAD_BYTES: usize = 8;
/// Flags that say that a chunk is there: a profile, EXIF, XMP; alpha.
const EXTRAS: u8 = 0x2c;
const ALPHA: u8 = 0x10;
const ANIMATION: u8 = 0x02;

pub(super) fn webp(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let declared = bytes.get(RIFF_SIZE_AT..HEAD_BYTES).and_then(|size| Some(u32::from_le_bytes(size.try_into().ok()?)));
    if declared.is_none_or(|declared| bytes.len() - HEAD_BYTES < declared as usize) {
        return Err(damaged(Format::WebP, "it is truncated: it says that it is longer"));
    }
    read(Format::WebP, WebPDecoder::new(Cursor::new(&*without_promises(bytes))), limits, pixels)
}

/// The WebP without flags for chunks that nobody wants here or that are not there: the decoder insists on them, libwebp does not.
fn without_promises(webp: &[u8]) -> Cow<'_, [u8]> {
    let flags = match webp.get(FIRST_CHUNK_AT..=FLAGS_AT) {
        Some([b'V', b'P', b'8', b'X', .., flags]) => *flags,
        _ => return Cow::Borrowed(webp),
    };
    let mut kept = flags & !EXTRAS;
    if kept & ANIMATION == 0 && !chunk_names(webp).any(|name| name == b"ALPH" || name == b"VP8L") {
        kept &= !ALPHA;
    }
    if kept == flags {
        return Cow::Borrowed(webp);
    }
    let mut plain = webp.to_vec();
    plain[FLAGS_AT] = kept;
    Cow::Owned(plain)
}

fn chunk_names(webp: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = FIRST_CHUNK_AT;
    std::iter::from_fn(move || {
        let (name, length) = webp.get(at..at.checked_add(HEAD_BYTES)?)?.split_at(HEAD_BYTES / 2);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        // Chunks of odd length have a byte behind them.
        at = at.checked_add(HEAD_BYTES)?.checked_add(length)?.checked_add(length & 1)?;
        Some(name)
    })
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
