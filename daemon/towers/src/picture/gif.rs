//! The first picture of a GIF on its canvas, as Pillow lays it out.

use std::ops::Range;

use gif::{ColorOutput, DecodeOptions, Decoder, MemoryLimit};

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Bytes of a colour in a table.
const COLOUR: usize = 3;
/// Colours of a whole table.
const COLOURS_MAX: usize = 256;
/// Bytes before a table: signature and screen descriptor.
const SCREEN_BYTES: usize = 13;
/// Where the screen's flags stand; the highest says that a table follows, the lowest three how long it is.
const FLAGS_AT: usize = 10;
const HAS_TABLE: u8 = 0x80;
const TABLE_SIZE: u8 = 0x07;
/// What a block begins with.
const PICTURE: u8 = 0x2c;
const EXTENSION: u8 = 0x21;
const TRAILER: u8 = 0x3b;
const GRAPHIC_CONTROL: u8 = 0xf9;

/// The canvas grows with a picture that reaches beyond it. What the picture leaves free has the transparent colour, else the first of
/// the table; the background colour is not used, as browsers and Pillow do not.
pub(super) fn decode(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let plain = before_first_picture(bytes);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // The size is held to the limits below, before the picture's buffer is made.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder: Decoder<&[u8]> = options.read_info(&plain[..]).map_err(damaged)?;
    let canvas = [decoder.width(), decoder.height()].map(u32::from);
    let frame = decoder.next_frame_info().map_err(damaged)?.ok_or_else(|| damaged("it has no picture"))?;
    let [left, top, across, down] = [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    let free = frame.transparent.unwrap_or(0);
    let table = frame.palette.clone();
    if across == 0 || down == 0 {
        return Err(damaged(format!("its first picture is {across} x {down} pixels")));
    }
    let (width, height) = (canvas[0].max(left + across), canvas[1].max(top + down));
    check_size(Format::Gif, width, height, limits)?;
    let mut indices = vec![0; across as usize * down as usize];
    decoder.read_into_buffer(&mut indices).map_err(damaged)?;
    let colours = whole_table(table.as_deref().or(decoder.global_palette()).unwrap_or_default());
    let rows_of_picture: Range<u32> = top..top + down;
    let columns_of_picture = left..left + across;
    pixels.resize(width as usize * height as usize * COLOUR, 0);
    for (row, line) in (0..).zip(pixels.chunks_exact_mut(width as usize * COLOUR)) {
        let inside =
            rows_of_picture.contains(&row).then(|| &indices[(row - top) as usize * across as usize..][..across as usize]);
        for (column, target) in (0..).zip(line.chunks_exact_mut(COLOUR)) {
            let inside = inside.filter(|_| columns_of_picture.contains(&column));
            let index = inside.map_or(free, |row| row[(column - left) as usize]);
            target.copy_from_slice(&colours[usize::from(index)]);
        }
    }
    Ok(Decoded::whole(width, height, Layout::Rgb))
}

/// The file without what stands before its first picture and is neither table nor graphic control: comments, applications, bytes that
/// belong to no block. A screen without a table gets the gray one that the indices mean then.
fn before_first_picture(bytes: &[u8]) -> Vec<u8> {
    let Some(screen) = bytes.get(..SCREEN_BYTES) else { return bytes.to_vec() };
    let mut plain = screen.to_vec();
    let flags = screen[FLAGS_AT];
    let mut at = SCREEN_BYTES;
    if flags & HAS_TABLE == 0 {
        plain[FLAGS_AT] |= HAS_TABLE | TABLE_SIZE;
        plain.extend((0..=u8::MAX).flat_map(|gray| [gray; COLOUR]));
    } else {
        let end = (at + (COLOUR << ((flags & TABLE_SIZE) + 1))).min(bytes.len());
        plain.extend_from_slice(&bytes[at..end]);
        at = end;
    }
    while let Some(first) = bytes.get(at) {
        let start = at;
        match *first {
            PICTURE | TRAILER => break,
            EXTENSION => {
                at += 2;
                // Sub-blocks, each behind its length, up to an empty one.
                while let Some(length @ 1..) = bytes.get(at).copied() {
                    at += 1 + usize::from(length);
                }
                at += 1;
                if bytes.get(start + 1) == Some(&GRAPHIC_CONTROL) {
                    plain.extend_from_slice(bytes.get(start..at).unwrap_or_default());
                }
            }
            _ => at += 1,
        }
    }
    plain.extend_from_slice(bytes.get(at..).unwrap_or_default());
    plain
}

/// 256 colours, those that the table lacks black.
fn whole_table(table: &[u8]) -> [[u8; COLOUR]; COLOURS_MAX] {
    let mut colours = [[0; COLOUR]; COLOURS_MAX];
    for (colour, bytes) in colours.iter_mut().zip(table.chunks_exact(COLOUR)) {
        colour.copy_from_slice(bytes);
    }
    colours
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn damaged(reason: impl ToString) -> ImageError {
    ImageError::Damaged { format: Format::Gif.as_str(), reason: reason.to_string() }
}
