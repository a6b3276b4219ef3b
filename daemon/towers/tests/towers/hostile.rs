//! Pictures and texts of anybody's making: any header, any damage, any text. No panic, nothing allocated beyond the limits, and what the
//! header declares is what the decoder finds.

use astromech_towers::{ImageError, ImageLimits, Tokenizer, decode_and_squash, decode_rgb};
use image::codecs::bmp::BmpEncoder;
use image::codecs::gif::GifEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use proptest::collection::vec;
use proptest::prelude::*;

/// Tries of each property: all of them together take a few seconds.
const CASES: u32 = 400;

/// Small, so that a picture that passes costs little.
const LIMITS: ImageLimits = ImageLimits { bytes_max: 1 << 20, pixels_max: 10_000, edge_max: 1000 };

const WIDTH: u32 = 12;
const HEIGHT: u32 = 7;

/// A baseline JPEG of 8 x 8 gray pixels, by hand: tables with one code each, one block.
fn jpeg() -> Vec<u8> {
    let quantisation = [&[0xff, 0xdb, 0, 67, 0][..], &[1; 64]].concat();
    let frame = [0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0];
    let codes = |class: u8| [&[0xff, 0xc4, 0, 20, class, 1][..], &[0; 15], &[0]].concat();
    let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x3f, 0xff, 0xd9];
    [&[0xff, 0xd8][..], &quantisation, &frame, &codes(0), &codes(0x10), &scan].concat()
}

/// One small picture of each format that is read, by name.
fn pictures() -> Vec<(&'static str, Vec<u8>)> {
    let pixels: Vec<u8> = (0..WIDTH * HEIGHT * 3).map(|n| (n * 37 % 251) as u8).collect();
    let (mut png, mut webp, mut gif, mut bmp) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    PngEncoder::new(&mut png).write_image(&pixels, WIDTH, HEIGHT, ExtendedColorType::Rgb8).unwrap();
    WebPEncoder::new_lossless(&mut webp).write_image(&pixels, WIDTH, HEIGHT, ExtendedColorType::Rgb8).unwrap();
    GifEncoder::new(&mut gif).encode(&pixels, WIDTH, HEIGHT, ExtendedColorType::Rgb8).unwrap();
    BmpEncoder::new(&mut bmp).write_image(&pixels, WIDTH, HEIGHT, ExtendedColorType::Rgb8).unwrap();
    vec![("PNG", png), ("WebP", webp), ("GIF", gif), ("BMP", bmp), ("JPEG", jpeg())]
}

/// Where each format keeps width and height, and how: written there they are what the file declares.
fn declaring(name: &str, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = pictures().into_iter().find(|(of, _)| *of == name).unwrap().1;
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    let (w, h) = (u32::from(width), u32::from(height));
    match name {
        "PNG" => {
            put(16, &w.to_be_bytes());
            put(20, &h.to_be_bytes());
        }
        "GIF" => {
            put(6, &width.to_le_bytes());
            put(8, &height.to_le_bytes());
        }
        "BMP" => {
            put(18, &w.to_le_bytes());
            put(22, &h.to_le_bytes());
        }
        "WebP" => put(21, &((w - 1) & 0x3fff | ((h - 1) & 0x3fff) << 14).to_le_bytes()),
        _ => {
            let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
            bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
            bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        }
    }
    bytes
}

#[test]
fn the_pictures_of_these_tests_are_read() {
    for (name, bytes) in pictures() {
        let picture = decode_rgb(&bytes, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
        let size = if name == "JPEG" { (8, 8) } else { (WIDTH, HEIGHT) };
        assert_eq!((picture.width, picture.height), size, "{name}");
    }
}

#[test]
fn a_header_that_declares_too_much_is_too_large_whatever_is_left_of_the_file() {
    for (name, _) in pictures() {
        let bytes = declaring(name, 16_000, 16_000);
        // Behind the header nothing is needed to tell, and nothing hides it.
        let header_ends = match name {
            "PNG" => 33,
            "JPEG" => bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 9,
            _ => 30,
        };
        for bytes in [&bytes[..], &bytes[..header_ends]] {
            let error = decode_and_squash(bytes, 8, &LIMITS).unwrap_err();
            let told = matches!(error, ImageError::TooManyPixels { width: 16_000, height: 16_000, .. });
            assert!(told && error.is_too_large(), "{name}, {} bytes: {error}", bytes.len());
        }
    }
    let long = decode_and_squash(&declaring("PNG", 1, 1001), 8, &LIMITS).unwrap_err();
    assert!(matches!(long, ImageError::EdgeTooLong { height: 1001, .. }), "{long}");
}

#[test]
fn a_colour_profile_that_unpacks_to_gigabytes_is_left_packed_and_the_picture_is_read() {
    let png = pictures().remove(0).1;
    // Deflate's densest: a literal zero, then copies of 258 bytes at one bit each. Damaged or not, nobody may unpack it.
    let packed = [&[0x78, 0xda, 0xed, 0xc1][..], &vec![0; 4 << 20]].concat();
    let data = [&b"icc\0\0"[..], &packed].concat();
    let chunk = [&(data.len() as u32).to_be_bytes()[..], b"iCCP", &data, &[0; 4]].concat();
    let bombs = [&png[..33], &chunk, &chunk, &png[33..]].concat();
    let limits = ImageLimits { bytes_max: 16 << 20, ..LIMITS };
    assert_eq!(decode_rgb(&bombs, &limits).unwrap(), decode_rgb(&png, &limits).unwrap());
}

fn tokenizer() -> Tokenizer {
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n中\n文\na\n##a\nab\n!\n";
    Tokenizer::from_vocab_bytes(vocabulary.as_bytes(), 16).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_declared_size_is_what_is_decoded_or_refused(
        which in 0_usize..5, width in 1_u16..40, height in 1_u16..40,
    ) {
        let name = pictures()[which].0;
        if let Ok(picture) = decode_rgb(&declaring(name, width, height), &LIMITS) {
            // A GIF declares its canvas, which grows with its first picture.
            let (wide, high) = if name == "GIF" { (WIDTH, HEIGHT) } else { (0, 0) };
            prop_assert_eq!((picture.width, picture.height), (wide.max(width.into()), high.max(height.into())), "{}", name);
            prop_assert_eq!(picture.pixels.len() as u32, picture.width * picture.height * 3);
        }
    }

    #[test]
    fn any_declared_size_beyond_the_limits_is_too_large(which in 0_usize..5, width in 1001_u16..16_384, height in 1_u16..16_384) {
        let name = pictures()[which].0;
        let error = decode_and_squash(&declaring(name, width, height), 8, &LIMITS).unwrap_err();
        prop_assert!(error.is_too_large(), "{name} of {width} x {height}: {error}");
    }

    #[test]
    fn a_damaged_picture_is_refused_or_within_the_limits(
        which in 0_usize..5, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), keep in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let mut bytes = pictures().remove(which).1;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(picture) = decode_rgb(&bytes, &LIMITS) {
            prop_assert!(u64::from(picture.width) * u64::from(picture.height) <= LIMITS.pixels_max);
            prop_assert_eq!(picture.pixels.len() as u32, picture.width * picture.height * 3);
        }
        let _ = decode_and_squash(&bytes, 8, &LIMITS);
    }

    #[test]
    fn a_magic_number_before_any_bytes_is_no_panic(which in 0_usize..5, rest in vec(any::<u8>(), 0..300)) {
        let start = pictures().remove(which).1[..16].to_vec();
        let _ = decode_and_squash(&[start, rest].concat(), 8, &LIMITS);
    }

    #[test]
    fn any_text_becomes_ids_of_the_vocabulary_between_its_marks(text in any::<String>(), times in 1_usize..40) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text.repeat(times));
        prop_assert!(ids.len() <= tokenizer.max_tokens() && ids.len() >= 2);
        prop_assert_eq!((ids[0], ids[ids.len() - 1]), (2, 3));
        prop_assert!(ids.iter().all(|id| (0..tokenizer.vocabulary() as i64).contains(id)));
    }

    #[test]
    fn a_vocabulary_of_any_bytes_is_refused_or_encodes(bytes in vec(any::<u8>(), 0..200), text in "\\PC{0,20}") {
        let whole = [b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n".as_slice(), &bytes].concat();
        if let Ok(tokenizer) = Tokenizer::from_vocab_bytes(&whole, 8) {
            prop_assert!(tokenizer.encode(&text).len() <= 8);
        }
    }
}
