//! JPEG by libjpeg-turbo, which Pillow and the models' training pictures were decoded with; with Pillow's handling of CMYK, of damage
//! and of files that end early.

use std::borrow::Cow;

use turbojpeg::{Colorspace, DecompressHeader, Decompressor, Error, Image, PixelFormat, ScalingFactor};

use super::segments::{survey, with_plain_header};
use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Each block of 8 x 8 pixels has a code of at least one bit. A file below that lacks blocks; it would cost gigabytes of gray.
const PIXELS_PER_BYTE_MAX: usize = 64 * 8;
/// Most scans: each is a pass over the whole picture, however few its bytes are. Encoders write about ten.
const SCANS_MAX: usize = 100;
/// How many times the square's edge a picture is decoded to at least, where it is scaled while it is decoded.
const SCALED_EDGES_MIN: u32 = 2;
/// Divisors of the size that libjpeg-turbo has vector code for; its other scales take longer than the whole picture.
const DIVISORS: [u32; 3] = [8, 4, 2];
/// Beginnings of libjpeg's warnings (jerror.h): the picture is whole, or what could be saved of it is there, as in Pillow and in
/// browsers. The binding tells them from errors by these words only.
const WARNINGS: [&str; 7] = [
    "Corrupt JPEG data: ",
    "Inconsistent progression sequence ",
    "Invalid SOS parameters for sequential JPEG",
    "Premature end of JPEG file",
    "Unknown Adobe color transform code ",
    "Warning: unknown JFIF revision number ",
    "Application transferred too many scanlines",
];

/// Decodes for a square of `target` pixels: from a scale that is at least [`SCALED_EDGES_MIN`] times as large, whole without one.
pub(super) fn decode(
    bytes: &[u8],
    target: Option<u32>,
    limits: &ImageLimits,
    pixels: &mut Vec<u8>,
) -> Result<Decoded, ImageError> {
    let mut decoder = Decompressor::new().map_err(failed)?;
    let (header, bytes) = read_header(&mut decoder, bytes)?;
    let (width, height) = (header.width as u32, header.height as u32);
    check_size(Format::Jpeg, width, height, limits)?;
    let survey = survey(&bytes);
    if !survey.ends {
        return Err(damaged("it is truncated: the end-of-image marker is missing"));
    }
    if survey.scans > SCANS_MAX {
        return Err(damaged(format!("it has {} scans; at most {SCANS_MAX} are read", survey.scans)));
    }
    if header.width * header.height > bytes.len().saturating_mul(PIXELS_PER_BYTE_MAX) {
        return Err(damaged(format!("{} bytes can't hold the {width} x {height} pixels that it declares", bytes.len())));
    }
    let divisor = if header.is_lossless { 1 } else { target.map_or(1, |target| divisor(width, height, target)) };
    let scale = ScalingFactor::new(1, divisor as usize);
    decoder.set_scaling_factor(scale).map_err(failed)?;
    let (format, layout) = match header.colorspace {
        Colorspace::Gray => (PixelFormat::GRAY, Layout::Gray),
        Colorspace::RGB | Colorspace::YCbCr => (PixelFormat::RGB, Layout::Rgb),
        Colorspace::CMYK | Colorspace::YCCK => (PixelFormat::CMYK, Layout::Rgb),
    };
    let scaled = header.scaled(scale);
    let pitch = scaled.width * format.size();
    // Not cleared first: the decoder writes every byte.
    pixels.resize(pitch * scaled.height, 0);
    let output = Image { pixels: &mut pixels[..], width: scaled.width, pitch, height: scaled.height, format };
    match decoder.decompress(&bytes, output) {
        Err(error) if !is_warning(&error) => return Err(failed(error)),
        _ => {}
    }
    if format == PixelFormat::CMYK {
        cmyk_to_rgb(pixels);
    }
    let covers = [width, height].map(|edge| f64::from(edge) / f64::from(divisor));
    Ok(Decoded { width: scaled.width as u32, height: scaled.height as u32, covers, layout })
}

/// The header, and the file that it is read of without a warning: the binding decodes nothing behind one.
fn read_header<'a>(decoder: &mut Decompressor, bytes: &'a [u8]) -> Result<(DecompressHeader, Cow<'a, [u8]>), ImageError> {
    match decoder.read_header(bytes) {
        Ok(header) => Ok((header, Cow::Borrowed(bytes))),
        Err(error) if is_warning(&error) => {
            let plain = with_plain_header(bytes);
            Ok((decoder.read_header(&plain).map_err(failed)?, Cow::Owned(plain)))
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_warning(error: &Error) -> bool {
    matches!(error, Error::TurboJpegError(message) if WARNINGS.iter().any(|warning| message.starts_with(warning)))
}

/// The largest divisor that leaves both edges long enough.
fn divisor(width: u32, height: u32, target: u32) -> u32 {
    let shortest = u64::from(width.min(height));
    let wanted = u64::from(target) * u64::from(SCALED_EDGES_MIN);
    DIVISORS.into_iter().find(|divisor| shortest >= wanted * u64::from(*divisor)).unwrap_or(1)
}

fn failed(error: Error) -> ImageError {
    match error {
        Error::TurboJpegError(message) => damaged(message),
        // A file of tables alone has no size.
        Error::IntegerOverflow(_) => damaged("it has no frame header"),
        other => damaged(other),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn damaged(reason: impl ToString) -> ImageError {
    ImageError::Damaged { format: Format::Jpeg.as_str(), reason: reason.to_string() }
}

/// Adobe's inverted CMYK to RGB in place, three bytes for four, in Pillow's arithmetic: it takes every four-component JPEG for
/// inverted, and R = (255 - K) - (C * (255 - K)) / 255.
fn cmyk_to_rgb(pixels: &mut Vec<u8>) {
    let area = pixels.len() / 4;
    for index in 0..area {
        let [c, m, y, k] = [0, 1, 2, 3].map(|channel| pixels[index * 4 + channel]);
        for (channel, ink) in [c, m, y].into_iter().enumerate() {
            pixels[index * 3 + channel] = k - multiply_255(255 - ink, k);
        }
    }
    pixels.truncate(area * 3);
}

/// `a * b / 255`, rounded: Pillow's MULDIV255.
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::{cmyk_to_rgb, divisor, multiply_255};

    #[test]
    fn cmyk_is_read_inverted_with_pillows_rounding() {
        // Image.frombytes("CMYK", ..., "raw", "CMYK;I").convert("RGB") of Pillow 13.
        let mut pixels = vec![255, 255, 255, 255, 0, 128, 255, 200, 10, 20, 30, 40];
        cmyk_to_rgb(&mut pixels);
        assert_eq!(pixels, [255, 255, 255, 0, 100, 200, 2, 3, 5]);
        assert_eq!(multiply_255(255, 255), 255);
    }

    #[test]
    fn a_picture_is_decoded_to_at_least_twice_the_square() {
        let expected =
            [(4000, 3000, 4), (3584, 3584, 8), (3583, 9999, 4), (896, 896, 2), (895, 9999, 1), (800, 600, 1), (1, 1, 1)];
        for (width, height, by) in expected {
            assert_eq!(divisor(width, height, 224), by, "{width} x {height}");
        }
    }
}
