//! Pictures made to do harm, and odd ones that are in order: all written by hand or by an encoder and then spoilt.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::codecs::bmp::BmpEncoder;
use image::codecs::gif::GifEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, Frame, ImageEncoder as _, RgbaImage};

pub const WIDTH: u32 = 64;
pub const HEIGHT: u32 = 48;
/// Where a PNG's second chunk begins: signature and header are before.
const PNG_HEADER_ENDS: usize = 33;

/// A pattern that hardly compresses.
fn pattern(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

pub fn png() -> Vec<u8> {
    png_of(&pattern(WIDTH * HEIGHT * 3), WIDTH, HEIGHT, ExtendedColorType::Rgb8)
}

pub fn png_of(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).expect("a PNG is written");
    bytes
}

/// 16 bits a sample, colour and alpha.
pub fn png_16_bit() -> Vec<u8> {
    png_of(&pattern(WIDTH * HEIGHT * 8), WIDTH, HEIGHT, ExtendedColorType::Rgba16)
}

pub fn webp() -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.write_image(&pattern(WIDTH * HEIGHT * 3), WIDTH, HEIGHT, ExtendedColorType::Rgb8).expect("a WebP is written");
    bytes
}

pub fn bmp() -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = BmpEncoder::new(&mut bytes);
    encoder.write_image(&pattern(WIDTH * HEIGHT * 3), WIDTH, HEIGHT, ExtendedColorType::Rgb8).expect("a BMP is written");
    bytes
}

/// Animated, of so many frames.
pub fn gif(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    let pixels = RgbaImage::from_raw(16, 16, pattern(16 * 16 * 4)).expect("as many bytes as pixels need");
    for _ in 0..frames {
        encoder.encode_frame(Frame::new(pixels.clone())).expect("a frame is written");
    }
    drop(encoder);
    bytes
}

/// CRC-32 of PNG (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [name, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

fn png_header(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
    let data = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &data)].concat()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("bytes are packed");
    packed.finish().expect("bytes are packed")
}

/// A PNG whose header says so, with its right checksums and next to no pixels.
pub fn png_declaring(width: u32, height: u32) -> Vec<u8> {
    [png_header(width, height, 8, 2), chunk(b"IDAT", &zlib(&[])), chunk(b"IEND", b"")].concat()
}

/// Nothing but a header and an end.
pub fn png_without_pixels(width: u32, height: u32) -> Vec<u8> {
    [png_header(width, height, 8, 2), chunk(b"IEND", b"")].concat()
}

/// A header that no decoder knows, before pixels that are in order.
pub fn png_with(depth: u8, color: u8) -> Vec<u8> {
    [&png_header(WIDTH, HEIGHT, depth, color), &png()[PNG_HEADER_ENDS..]].concat()
}

/// Pixels that end in the middle, packed and summed as they should be.
pub fn png_with_half_its_pixels() -> Vec<u8> {
    let rows = zlib(&pattern((WIDTH * 3 + 1) * HEIGHT / 2));
    [png_header(WIDTH, HEIGHT, 8, 2), chunk(b"IDAT", &rows), chunk(b"IEND", b"")].concat()
}

/// `extra` between the header and the pixels of a PNG that is in order.
fn png_with_chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let png = png();
    [&png[..PNG_HEADER_ENDS], &chunk(name, data), &png[PNG_HEADER_ENDS..]].concat()
}

/// In order, with a colour profile of 64 MiB of zeros in some 65 kB.
pub fn png_with_profile_bomb() -> Vec<u8> {
    png_with_chunk(b"iCCP", &[&b"icc\0\0"[..], &zlib(&vec![0; 64 << 20])].concat())
}

/// In order, with a compressed text of 64 MiB.
pub fn png_with_text_bomb() -> Vec<u8> {
    png_with_chunk(b"zTXt", &[&b"Comment\0\0"[..], &zlib(&vec![b'x'; 64 << 20])].concat())
}

/// A JPEG of one 8 x 8 block a component, all gray, by hand: `frame` is its frame marker (0xc0 is baseline), `depth` the bits a sample.
pub fn jpeg(frame: u8, depth: u8, width: u16, height: u16, components: u8) -> Vec<u8> {
    let quantisation = [&[0xff, 0xdb, 0, 67, 0][..], &[1; 64]].concat();
    // Inverted CMYK, as Adobe's programs write it.
    let adobe: &[u8] = if components == 4 { b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" } else { b"" };
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    let length = |fixed: u8, each: u8| fixed + each * components;
    let mut header = vec![0xff, frame, 0, length(8, 3), depth, h1, h0, w1, w0, components];
    let mut scan = vec![0xff, 0xda, 0, length(6, 2), components];
    for id in 1..=components {
        header.extend_from_slice(&[id, 0x11, 0]);
        scan.extend_from_slice(&[id, 0]);
    }
    scan.extend_from_slice(&[0, 63, 0]);
    // A table of one code, one bit long: no difference, and end of block. Two bits a block, filled up with ones.
    let codes = |class: u8| [&[0xff, 0xc4, 0, 20, class, 1][..], &[0; 15], &[0]].concat();
    let bits = 0xff_u8.checked_shr(2 * u32::from(components)).unwrap_or(0);
    [&[0xff, 0xd8][..], adobe, &quantisation, &header, &codes(0), &codes(0x10), &scan, &[bits, 0xff, 0xd9]].concat()
}

/// A GIF of one picture, `width` x `height`, on a canvas of its own size, whose pixels are missing.
pub fn gif_declaring(canvas: (u16, u16), picture: (u16, u16)) -> Vec<u8> {
    let pair = |(width, height): (u16, u16)| [width.to_le_bytes(), height.to_le_bytes()].concat();
    let colours = [0x80, 0, 0, 0, 0, 0, 255, 255, 255];
    let image = [&b"\x2c\0\0\0\0"[..], &pair(picture), &[0, 2, 2, 0x44, 0x01, 0]].concat();
    [&b"GIF89a"[..], &pair(canvas), &colours, &image, b"\x3b"].concat()
}

/// The header of an extended WebP of that canvas, animated where `flags` has bit 1.
pub fn webp_declaring(width: u32, height: u32, flags: u8) -> Vec<u8> {
    let edge = |edge: u32| (edge - 1).to_le_bytes()[..3].to_vec();
    let body = [&b"WEBPVP8X\x0a\0\0\0"[..], &[flags, 0, 0, 0], &edge(width), &edge(height)].concat();
    [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
}

pub fn bmp_declaring(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = bmp();
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}
