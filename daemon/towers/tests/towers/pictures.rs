//! Bad pictures are refused for the right reason and at no cost; odd ones are read as Pillow reads them.

use crate::common::shared;
use astromech_towers::{ImageError, ImageLimits, decode_and_squash, decode_rgb, squash};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

fn refuse(bytes: &[u8]) -> ImageError {
    refuse_within(bytes, &ImageLimits::default())
}

fn refuse_within(bytes: &[u8], limits: &ImageLimits) -> ImageError {
    let error = decode_and_squash(bytes, 224, limits).unwrap_err();
    assert_eq!(decode_rgb(bytes, limits).unwrap_err(), error);
    error
}

fn png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
    bytes
}

/// The PNG's CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A small PNG whose header claims another size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let check = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&check.to_be_bytes());
    bytes
}

#[test]
fn a_png_claiming_60000_by_60000_is_refused_on_its_header() {
    let error = refuse(&png_claiming(60_000, 60_000));
    assert!(matches!(error, ImageError::TooManyPixels { width: 60_000, height: 60_000, .. }), "{error}");
    assert!(error.is_too_large());
    assert_eq!(error.to_string(), "the PNG picture declares 60000 x 60000 pixels; pixels_max is 50000000");
    let error = refuse(&png_claiming(40_000, 10));
    assert!(matches!(error, ImageError::EdgeTooLong { edge_max: 32_768, .. }) && error.is_too_large(), "{error}");
}

#[test]
fn a_picture_at_its_limits_passes_and_one_beyond_does_not() {
    let bytes = png(&[7; 3 * 20 * 10], 20, 10, ExtendedColorType::Rgb8);
    let at = ImageLimits { bytes_max: bytes.len(), pixels_max: 200, edge_max: 20 };
    assert!(decode_and_squash(&bytes, 224, &at).is_ok());
    assert!(matches!(refuse_within(&bytes, &ImageLimits { pixels_max: 199, ..at }), ImageError::TooManyPixels { .. }));
    assert!(matches!(refuse_within(&bytes, &ImageLimits { edge_max: 19, ..at }), ImageError::EdgeTooLong { .. }));
    let error = refuse_within(&bytes, &ImageLimits { bytes_max: bytes.len() - 1, ..at });
    assert!(matches!(error, ImageError::TooManyBytes { .. }) && error.is_too_large());
}

#[test]
fn what_is_no_picture_is_named() {
    assert_eq!(refuse(b""), ImageError::Empty);
    let error = refuse(b"<!DOCTYPE html><html><title>404</title></html>");
    assert!(!error.is_too_large());
    let expected = "the bytes are not a picture that is read but an HTML page; send JPEG, PNG, WebP, GIF or BMP";
    assert_eq!(error.to_string(), expected);
    assert!(refuse(b"<svg xmlns='http://www.w3.org/2000/svg'/>").to_string().contains("SVG"));
}

#[test]
fn a_truncated_picture_of_any_format_is_an_error() {
    let Some(pack) = shared("parity/images") else { return };
    for name in [
        "photo.jpg",
        "large_progressive.jpg",
        "cmyk.jpg",
        "gray.jpg",
        "exif_rotated.jpg",
        "rgba.png",
        "palette.png",
        "photo.webp",
    ] {
        let bytes = std::fs::read(pack.join(name)).unwrap();
        for length in [bytes.len() / 2, bytes.len() / 10, 30, bytes.len() - bytes.len() / 20] {
            let error = refuse(&bytes[..length]);
            assert!(matches!(error, ImageError::Damaged { .. }) && !error.is_too_large(), "{name} cut to {length}: {error}");
        }
    }
    let jpeg = std::fs::read(pack.join("photo.jpg")).unwrap();
    let error = refuse(&jpeg[..jpeg.len() - 2]);
    assert_eq!(error.to_string(), "the JPEG picture is damaged: it is truncated: the end-of-image marker is missing");
    let padded = [&jpeg[..], &[0; 100]].concat();
    assert!(decode_and_squash(&padded, 224, &ImageLimits::default()).is_ok(), "bytes after the end do no harm");
}

#[test]
fn a_few_bytes_that_declare_a_huge_jpeg_are_refused_before_it_is_allocated() {
    let Some(pack) = shared("parity/images") else { return };
    let mut bytes = std::fs::read(pack.join("tall_64x512.jpg")).unwrap();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x1b, 0x58, 0x1b, 0x58]);
    let error = refuse(&bytes);
    assert!(error.to_string().ends_with("can't hold the 7000 x 7000 pixels that it declares"), "{error}");
}

/// Waves that grow finer from left to right, edges and flat parts.
fn drawn_jpeg(width: usize, height: usize) -> Vec<u8> {
    let wave = |x: usize, y: usize, channel: usize| {
        let (across, down) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave = (across * across * 90.0 + down * 9.0 * (channel + 1) as f32).sin() * 60.0;
        let edge = if (x / 97 + y / 61) % 3 == channel { 50.0 } else { 0.0 };
        (110.0 + wave + edge) as u8
    };
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [0, 1, 2].map(|channel| wave(x, y, channel)))).collect();
    let image = turbojpeg::Image { pixels: &pixels[..], width, pitch: width * 3, height, format: turbojpeg::PixelFormat::RGB };
    turbojpeg::compress(image, 88, turbojpeg::Subsamp::Sub2x2).unwrap().to_vec()
}

/// Of the differences from the mean: gray pictures would all be alike.
fn cosine(a: &[u8], b: &[u8]) -> f64 {
    let centred = |bytes: &[u8]| {
        let mean = bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / bytes.len() as f64;
        bytes.iter().map(|byte| f64::from(*byte) - mean).collect::<Vec<_>>()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

#[test]
fn a_jpeg_scaled_while_it_is_decoded_is_the_whole_one_to_a_cosine_of_0_999() {
    let limits = ImageLimits::default();
    for (width, height) in [(900, 1000), (1203, 901), (1999, 1801), (4000, 3000), (3601, 3585), (8001, 450)] {
        let bytes = drawn_jpeg(width, height);
        let scaled = decode_and_squash(&bytes, 224, &limits).unwrap();
        let whole = squash(&decode_rgb(&bytes, &limits).unwrap(), 224);
        let cosine = cosine(scaled.pixels(), whole.pixels());
        assert!(cosine >= 0.999, "{width} x {height}: {cosine:.5}");
    }
}

#[test]
fn a_jpeg_of_more_scans_than_any_encoder_writes_is_refused() {
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_progressive(true).unwrap();
    let image =
        turbojpeg::Image { pixels: &[90; 40 * 30][..], width: 40, pitch: 40, height: 30, format: turbojpeg::PixelFormat::GRAY };
    compressor.set_subsamp(turbojpeg::Subsamp::Gray).unwrap();
    let bytes = compressor.compress_to_vec(image).unwrap();
    let scans: Vec<usize> = (0..bytes.len() - 1).filter(|at| bytes[*at..*at + 2] == [0xff, 0xda]).collect();
    let (last, end) = (*scans.last().unwrap(), bytes.len() - 2);
    let of_scans = |count: usize| [&bytes[..last], &bytes[last..end].repeat(count - scans.len() + 1), &[0xff, 0xd9]].concat();
    let whole = decode_rgb(&bytes, &ImageLimits::default()).unwrap();
    assert_eq!(decode_rgb(&of_scans(100), &ImageLimits::default()).unwrap(), whole);
    assert!(refuse(&of_scans(101)).to_string().ends_with("it has 101 scans; at most 100 are read"));
}

#[test]
fn no_prefix_and_no_flipped_byte_of_a_picture_panics() {
    let Some(pack) = shared("parity/images") else { return };
    let limits = ImageLimits { pixels_max: 1_000_000, ..ImageLimits::default() };
    for name in ["tiny_40x30.png", "tall_64x512.jpg", "one_pixel.png", "bilevel.png"] {
        let bytes = std::fs::read(pack.join(name)).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 61 + 1) {
            let _ = decode_and_squash(&bytes[..at], 64, &limits);
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let _ = decode_and_squash(&flipped, 64, &limits);
        }
    }
}

#[test]
fn sixteen_bit_samples_become_eight_as_in_pillow() {
    // Values of Pillow 13: I;16 is clipped, the samples of RGB lose their low byte.
    let samples: [u16; 8] = [0, 1, 128, 255, 256, 1000, 32_768, 65_535];
    let limits = ImageLimits::default();
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect();
    let gray = decode_rgb(&png(&bytes, 8, 1, ExtendedColorType::L16), &limits).unwrap();
    let first = |pixels: &[u8]| pixels.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>();
    assert_eq!(first(&gray.pixels), [0, 1, 128, 255, 255, 255, 255, 255]);
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| [sample.to_ne_bytes(); 3]).flatten().collect();
    let rgb = decode_rgb(&png(&bytes, 8, 1, ExtendedColorType::Rgb16), &limits).unwrap();
    assert_eq!(first(&rgb.pixels), [0, 0, 0, 0, 1, 3, 128, 255]);
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| [*sample, 30_000]).flat_map(u16::to_ne_bytes).collect();
    let gray_alpha = decode_rgb(&png(&bytes, 8, 1, ExtendedColorType::La16), &limits).unwrap();
    assert_eq!(first(&gray_alpha.pixels), [0, 0, 0, 0, 1, 3, 128, 255]);
}

#[test]
fn alpha_is_dropped_and_not_blended() {
    let limits = ImageLimits::default();
    let picture = decode_rgb(&png(&[10, 20, 30, 0, 40, 50, 60, 128], 2, 1, ExtendedColorType::Rgba8), &limits).unwrap();
    assert_eq!(picture.pixels, [10, 20, 30, 40, 50, 60]);
    let square = decode_and_squash(&png(&[10, 20, 30, 0], 1, 1, ExtendedColorType::Rgba8), 4, &limits).unwrap();
    assert_eq!(square.pixels(), [10, 20, 30].repeat(16));
    let square = decode_and_squash(&png(&[9, 0], 1, 1, ExtendedColorType::La8), 4, &limits).unwrap();
    assert_eq!(square.pixels(), [9; 48]);
}
