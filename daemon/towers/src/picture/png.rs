//! PNG, with Pillow's handling of damage and its conversions of 16-bit samples.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

const SIGNATURE_BYTES: usize = 8;
/// Length and name before a chunk's data, check behind it.
const HEAD_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;
/// Where the header chunk's data have the colour type, and that of a palette.
const COLOR_TYPE_AT: usize = 9;
const INDEXED: u8 = 3;
/// Bytes of the largest palette: what a file's own lacks is black.
const PALETTE_BYTES: usize = 256 * 3;
/// Bytes that the decoder may take beside the pixels: rows, windows.
const DECODER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the widest pixel, 16-bit RGBA.
const PIXEL_BYTES_MAX: u64 = 8;

pub(super) fn decode(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let mut options = DecodeOptions::default();
    // The checks of header and palette are compared below. Those of the pixels' chunks are not, as in Pillow: their stream has its own.
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(without_extras(bytes)?), options);
    let allocated_max = limits.pixels_max.saturating_mul(PIXEL_BYTES_MAX).saturating_add(DECODER_BYTES_MAX);
    decoder.set_limits(Limits { bytes: usize::try_from(allocated_max).unwrap_or(usize::MAX) });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = reader.info().size();
    check_size(Format::Png, width, height, limits)?;
    let needed = reader.output_buffer_size().ok_or_else(|| damaged("its pixels take more memory than there is"))?;
    // Not cleared first: the decoder writes every byte.
    pixels.resize(needed, 0);
    if let Err(error) = reader.next_frame(pixels) {
        // Every row was there: what is wrong or missing behind them does no harm, but for a check that says that they are others.
        let whole = matches!(reader.next_row(), Ok(None));
        let message = error.to_string();
        if !whole || message.contains("WrongChecksum") {
            return Err(damaged(message));
        }
    }
    let (color, depth) = reader.output_color_type();
    let layout = match color {
        ColorType::Grayscale => Layout::Gray,
        ColorType::GrayscaleAlpha => Layout::GrayAlpha,
        ColorType::Rgb => Layout::Rgb,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Indexed => return Err(damaged("its palette was not applied")),
    };
    if depth == BitDepth::Sixteen {
        // Pillow keeps 16-bit gray as numbers and clips them; 16-bit samples of the other kinds lose their low byte.
        narrow(pixels, if layout == Layout::Gray { clip } else { high_byte });
    }
    Ok(Decoded::whole(width, height, layout))
}

/// A chunk; where the file ends inside it, what there is of it.
struct Chunk<'a> {
    name: &'a [u8],
    data: &'a [u8],
    check: &'a [u8],
}

impl Chunk<'_> {
    fn is_intact(&self) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.name);
        hasher.update(self.data);
        self.check == hasher.finalize().to_be_bytes()
    }
}

fn chunks(png: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = png.get(SIGNATURE_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_at_checked(HEAD_BYTES)?;
        let (length, name) = head.split_at(HEAD_BYTES / 2);
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (data, behind) = behind.split_at(length.min(behind.len()));
        let (check, behind) = behind.split_at(CHECK_BYTES.min(behind.len()));
        rest = behind;
        Some(Chunk { name, data, check })
    })
}

/// The PNG of its header, its palette and its pixels alone: nothing else changes them, and much else is damaged in files that every
/// browser shows. A colour profile of a few kilobytes may hold gigabytes, and alpha is dropped in any case. Where the file ends early the
/// chunk does too.
fn without_extras(png: &[u8]) -> Result<Vec<u8>, ImageError> {
    let (mut header, mut palette, mut pixels) = (None, None, Vec::new());
    for chunk in chunks(png) {
        match chunk.name {
            b"IHDR" | b"PLTE" if !chunk.is_intact() && pixels.is_empty() => {
                return Err(damaged(format!("its chunk {} has another check", String::from_utf8_lossy(chunk.name))));
            }
            b"IHDR" if header.is_none() => header = Some(chunk.data),
            b"PLTE" if palette.is_none() && pixels.is_empty() => palette = Some(chunk.data),
            b"IDAT" => pixels.push(chunk.data),
            // Pixels are in chunks one behind the other.
            _ if !pixels.is_empty() => break,
            _ => {}
        }
    }
    let header = header.ok_or_else(|| damaged("it has no header"))?;
    if pixels.is_empty() {
        return Err(damaged("it has no pixels"));
    }
    let mut plain = png[..SIGNATURE_BYTES].to_vec();
    let mut put = |name: &[u8; 4], parts: &[&[u8]]| {
        plain.extend((parts.iter().map(|part| part.len()).sum::<usize>() as u32).to_be_bytes());
        plain.extend_from_slice(name);
        for part in parts {
            plain.extend_from_slice(part);
        }
        plain.extend([0; CHECK_BYTES]);
    };
    put(b"IHDR", &[header]);
    if header.get(COLOR_TYPE_AT) == Some(&INDEXED) {
        let mut whole = palette.unwrap_or_default().to_vec();
        whole.resize(PALETTE_BYTES, 0);
        put(b"PLTE", &[&whole]);
    }
    put(b"IDAT", &pixels);
    put(b"IEND", &[]);
    Ok(plain)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn damaged(reason: impl ToString) -> ImageError {
    ImageError::Damaged { format: Format::Png.as_str(), reason: reason.to_string() }
}

/// 16-bit samples, big-endian, to 8-bit ones, in place.
fn narrow(pixels: &mut Vec<u8>, convert: fn([u8; 2]) -> u8) {
    let samples = pixels.len() / 2;
    for index in 0..samples {
        pixels[index] = convert([pixels[index * 2], pixels[index * 2 + 1]]);
    }
    pixels.truncate(samples);
}

fn clip([high, low]: [u8; 2]) -> u8 {
    if high == 0 { low } else { u8::MAX }
}

const fn high_byte([high, _]: [u8; 2]) -> u8 {
    high
}
