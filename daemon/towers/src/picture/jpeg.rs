//! JPEG, with Pillow's handling of CMYK and of files that end early.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Longest side that the format can declare.
const EDGE_FORMAT_MAX: usize = 65_535;
/// Each block of 8 x 8 pixels has a code of at least one bit. A file below that lacks blocks; it would cost gigabytes of gray.
const PIXELS_PER_BYTE_MAX: usize = 64 * 8;

pub(super) fn decode(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let options = DecoderOptions::new_fast()
        .set_max_width(EDGE_FORMAT_MAX)
        .set_max_height(EDGE_FORMAT_MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("it has no frame header"))?;
    let (width, height) = (width as u32, height as u32);
    check_size(Format::Jpeg, width, height, limits)?;
    // The decoder paints what is missing gray and calls it done; Pillow refuses, and so do we.
    if !has_end(bytes) {
        return Err(damaged("it is truncated: the end-of-image marker is missing"));
    }
    let area = width as usize * height as usize;
    if area > bytes.len().saturating_mul(PIXELS_PER_BYTE_MAX) {
        return Err(damaged(format!("{} bytes can't hold the {width} x {height} pixels that it declares", bytes.len())));
    }
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => (ColorSpace::RGB, 3),
        Some(ColorSpace::CMYK) => (ColorSpace::CMYK, 4),
        Some(ColorSpace::YCCK) => (ColorSpace::YCCK, 4),
        other => return Err(damaged(format!("its colour space {other:?} is not read"))),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    // Not cleared first: the decoder writes every byte.
    pixels.resize(area * channels, 0);
    decoder.decode_into(pixels).map_err(damaged)?;
    let layout = match space {
        ColorSpace::Luma => Layout::Gray,
        ColorSpace::CMYK | ColorSpace::YCCK => {
            cmyk_to_rgb(pixels, space == ColorSpace::YCCK);
            pixels.truncate(area * 3);
            Layout::Rgb
        }
        _ => Layout::Rgb,
    };
    Ok(Decoded { width, height, layout })
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn damaged(reason: impl ToString) -> ImageError {
    ImageError::Damaged { format: Format::Jpeg.as_str(), reason: reason.to_string() }
}

/// Whether an end-of-image marker follows the first scan. The header segments are skipped by their lengths, because an embedded
/// thumbnail has such a marker too; inside a scan `ff d9` can be nothing else.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        match (first, marker) {
            (0xff, 0xda) => return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0x00 | 0xff) | (0..=0xfe, _) => at += 1,
            _ => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    false
}

/// Adobe's inverted CMYK (or YCCK) to RGB in place, three bytes for four, in Pillow's arithmetic: it takes every four-component
/// JPEG for inverted, and R = (255 - K) - (C * (255 - K)) / 255.
fn cmyk_to_rgb(pixels: &mut [u8], is_ycck: bool) {
    for index in 0..pixels.len() / 4 {
        let [a, b, c, k] = [0, 1, 2, 3].map(|channel| pixels[index * 4 + channel]);
        // libjpeg makes CMY of YCC as 255 - RGB, and Pillow's inversion makes RGB of it again.
        let inverted = if is_ycck { ycc_to_rgb(a, b, c) } else { [255 - a, 255 - b, 255 - c] };
        for (channel, ink) in inverted.into_iter().enumerate() {
            pixels[index * 3 + channel] = k - multiply_255(ink, k);
        }
    }
}

/// `a * b / 255`, rounded: Pillow's MULDIV255.
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// ITU-T T.871 §7 with libjpeg's rounding.
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let rgb = [y + 1.402 * cr, y - 0.344_136_3 * cb - 0.714_136_3 * cr, y + 1.772 * cb];
    rgb.map(|value| value.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::{cmyk_to_rgb, has_end, multiply_255};

    #[test]
    fn an_end_marker_of_a_thumbnail_does_not_hide_a_truncation() {
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 2, 1, 2, 0xff, 0x00, 3];
        let truncated = [&head[..], &scan].concat();
        assert!(!has_end(&truncated));
        assert!(has_end(&[&truncated[..], &[0xff, 0xd9, 0, 0]].concat()));
        for length in 0..truncated.len() {
            assert!(!has_end(&truncated[..length]));
        }
    }

    #[test]
    fn cmyk_is_read_inverted_with_pillows_rounding() {
        // Image.frombytes("CMYK", ..., "raw", "CMYK;I").convert("RGB") of Pillow 13.
        let mut pixels = [255, 255, 255, 255, 0, 128, 255, 200, 10, 20, 30, 40];
        cmyk_to_rgb(&mut pixels, false);
        assert_eq!(pixels[..9], [255, 255, 255, 0, 100, 200, 2, 3, 5]);
        assert_eq!(multiply_255(255, 255), 255);
    }
}
