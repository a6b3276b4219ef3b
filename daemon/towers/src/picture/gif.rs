//! The first picture of a GIF on its canvas, as Pillow lays it out.

use gif::{ColorOutput, DecodeOptions, Decoder, MemoryLimit};

use super::sniff::Format;
use super::{Decoded, Layout, check_size};
use crate::{ImageError, ImageLimits};

/// Bytes of a colour in a table.
const COLOUR: usize = 3;
/// Colours of a whole table.
const COLOURS_MAX: usize = 256;

/// The canvas grows with a picture that reaches beyond it. What the picture leaves free has the transparent colour, else the first of
/// the table; the background colour is not used, as browsers and Pillow do not. Without a table the indices are gray.
pub(super) fn decode(bytes: &[u8], limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // Bytes between blocks are passed over.
    options.allow_unknown_blocks(true);
    // The size is held to the limits below, before the picture's buffer is made.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder: Decoder<&[u8]> = options.read_info(bytes).map_err(damaged)?;
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
    let table = table.as_deref().or(decoder.global_palette()).filter(|table| !table.is_empty());
    let colours = table.map(whole_table);
    let channels = if colours.is_some() { COLOUR } else { 1 };
    let paint = |target: &mut [u8], index: u8| match &colours {
        Some(colours) => target.copy_from_slice(&colours[usize::from(index)]),
        None => target.fill(index),
    };
    pixels.resize(width as usize * height as usize * channels, 0);
    for (row, line) in (0..).zip(pixels.chunks_exact_mut(width as usize * channels)) {
        let inside =
            (top..top + down).contains(&row).then(|| &indices[(row - top) as usize * across as usize..][..across as usize]);
        for (column, target) in (0..).zip(line.chunks_exact_mut(channels)) {
            let index =
                inside.filter(|_| (left..left + across).contains(&column)).map_or(free, |row| row[(column - left) as usize]);
            paint(target, index);
        }
    }
    Ok(Decoded::whole(width, height, if colours.is_some() { Layout::Rgb } else { Layout::Gray }))
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
