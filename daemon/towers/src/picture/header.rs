//! The size that a file declares, read by hand from its first bytes: a decoder may want more of the file before it tells, and a bomb that
//! lacks the rest should still be called what it is.

use super::sniff::Format;

/// Longest walk through the segments of a JPEG or the blocks of a GIF.
const STEPS_MAX: usize = 100_000;

/// Width and height as declared; `None` where the file ends before it says, or is damaged there: the decoder then tells what is wrong. A
/// GIF declares a canvas and each picture on it: the larger sides of the canvas and the first picture, the one that is read.
pub(super) fn declared_size(format: Format, bytes: &[u8]) -> Option<(u32, u32)> {
    match format {
        Format::Png => png(bytes),
        Format::Jpeg => jpeg(bytes),
        Format::Gif => gif(bytes),
        Format::WebP => webp(bytes),
        Format::Bmp => bmp(bytes),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u16::from_be_bytes).map(u32::from)
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u16::from_le_bytes).map(u32::from)
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
}

fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((be32(bytes, 16)?, be32(bytes, 20)?))
}

/// Of the first frame header (ITU-T T.81 B.2.2).
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    for _ in 0..STEPS_MAX {
        let [first, marker] = array(bytes, at)?;
        at += match (first, marker) {
            (0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) => {
                return Some((be16(bytes, at + 7)?, be16(bytes, at + 5)?));
            }
            (0xff, 0xd9 | 0xda) => return None,
            (0xff, 0x01 | 0xd0..=0xd8) => 2,
            (0xff, 0x00 | 0xff) | (0..=0xfe, _) => 1,
            _ => 2 + be16(bytes, at + 2)? as usize,
        };
    }
    None
}

fn gif(bytes: &[u8]) -> Option<(u32, u32)> {
    let canvas = (le16(bytes, 6)?, le16(bytes, 8)?);
    let picture = first_picture_of_gif(bytes).unwrap_or(canvas);
    Some((canvas.0.max(picture.0), canvas.1.max(picture.1)))
}

fn first_picture_of_gif(bytes: &[u8]) -> Option<(u32, u32)> {
    let flags = *bytes.get(10)?;
    let colours = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + colours;
    for _ in 0..STEPS_MAX {
        match *bytes.get(at)? {
            0x2c => return Some((le16(bytes, at + 5)?, le16(bytes, at + 7)?)),
            // An extension: its label, then sub-blocks up to an empty one.
            0x21 => {
                at += 2;
                while let length @ 1.. = usize::from(*bytes.get(at)?) {
                    at += 1 + length;
                }
                at += 1;
            }
            _ => return None,
        }
    }
    None
}

/// Of the first chunk: lossy, lossless or extended (RFC 9649 §2.5 to 2.7).
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8 " => {
            (bytes.get(23..26)? == [0x9d, 0x01, 0x2a]).then_some(())?;
            Some((le16(bytes, 26)? & 0x3fff, le16(bytes, 28)? & 0x3fff))
        }
        b"VP8L" => {
            (*bytes.get(20)? == 0x2f).then_some(())?;
            let packed = u32::from_le_bytes(array(bytes, 21)?);
            Some(((packed & 0x3fff) + 1, ((packed >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => Some((le24(bytes, 24)? + 1, le24(bytes, 27)? + 1)),
        _ => None,
    }
}

/// A height below zero means rows from the top.
fn bmp(bytes: &[u8]) -> Option<(u32, u32)> {
    let header_bytes = u32::from_le_bytes(array(bytes, 14)?);
    if header_bytes == 12 {
        return Some((le16(bytes, 18)?, le16(bytes, 20)?));
    }
    let (width, height) = (i32::from_le_bytes(array(bytes, 18)?), i32::from_le_bytes(array(bytes, 22)?));
    Some((width.unsigned_abs(), height.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_picture_of_a_gif_counts_where_it_is_larger_than_the_canvas() {
        let canvas = b"GIF89a\x01\x00\x02\x00\x80\x00\x00\x01\x02\x03\x04\x05\x06";
        let comment = b"\x21\xfe\x03abc\x02de\x00";
        let picture = b"\x2c\x00\x00\x00\x00\xff\xff\x00\x10\x00";
        let whole = [&canvas[..], comment, picture].concat();
        assert_eq!(declared_size(Format::Gif, &whole), Some((0xffff, 0x1000)));
        assert_eq!(declared_size(Format::Gif, canvas), Some((1, 2)));
        for length in 0..canvas.len() {
            let _ = declared_size(Format::Gif, &whole[..length]);
        }
    }

    #[test]
    fn a_jpegs_size_stands_behind_its_tables_and_before_its_scan() {
        let tables = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xdb, 0, 3, 9];
        let frame = [0xff, 0xc2, 0, 11, 8, 0x12, 0x34, 0x56, 0x78];
        assert_eq!(declared_size(Format::Jpeg, &[&tables[..], &frame].concat()), Some((0x5678, 0x1234)));
        assert_eq!(declared_size(Format::Jpeg, &[&tables[..], &[0xff, 0xda], &frame].concat()), None);
    }
}
