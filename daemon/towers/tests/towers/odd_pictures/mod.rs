//! Odd and damaged pictures of every format against what Pillow 13 reads of them: the archive is made by `make.py`.

use std::collections::HashMap;
use std::io::{Cursor, Read as _};

use astromech_towers::{ImageLimits, RgbPicture, decode_rgb};

const ARCHIVE: &[u8] = include_bytes!("odd_pictures.zip");

/// A picture of the archive.
struct Odd {
    name: String,
    bytes: Vec<u8>,
    /// As Pillow reads it, or what it says.
    expected: Result<RgbPicture, String>,
}

fn odd_pictures() -> Vec<Odd> {
    let mut archive = zip::ZipArchive::new(Cursor::new(ARCHIVE)).unwrap();
    let mut files = HashMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        files.insert(file.name().to_owned(), bytes);
    }
    let index = String::from_utf8(files["index.tsv"].clone()).unwrap();
    let parse = |line: &str| {
        let [name, digest, why] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let expected = match digest {
            "-" => Err(why.to_owned()),
            digest => {
                let [w0, w1, h0, h1, ref pixels @ ..] = files[&format!("{digest}.rgb")][..] else { panic!("{digest} is cut") };
                let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
                Ok(RgbPicture { width: width.into(), height: height.into(), pixels: pixels.to_vec() })
            }
        };
        Odd { name: name.to_owned(), bytes: files[name].clone(), expected }
    };
    index.lines().map(parse).collect()
}

/// What differs, in words.
fn difference(odd: &Odd) -> Option<String> {
    match (decode_rgb(&odd.bytes, &ImageLimits::default()), &odd.expected) {
        (Err(_), Err(_)) => None,
        (Ok(_), Err(why)) => Some(format!("is read, but Pillow: {why}")),
        (Err(error), Ok(_)) => Some(format!("is refused: {error}")),
        (Ok(found), Ok(expected)) if (found.width, found.height) != (expected.width, expected.height) => {
            Some(format!("is {} x {}, not {} x {}", found.width, found.height, expected.width, expected.height))
        }
        (Ok(found), Ok(expected)) => {
            let differences = found.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b));
            let worst = differences.clone().max().unwrap_or(0);
            let places = differences.filter(|difference| *difference > 0).count();
            (places > 0).then(|| format!("differs in {places} of {} samples, by up to {worst}", expected.pixels.len()))
        }
    }
}

/// Kinds that are read though Pillow refuses them: damage of chunks and segments that no pixel needs (Pillow parses them), sizes of a
/// RIFF and of its last chunk that are wrong, two flipped bits that libwebp notices. By the beginnings of their names.
const ALSO_READ: [&str; 32] = [
    "jpeg-garbage-before-start",
    "jpeg-noisy-twice",
    "jpeg-tem-",
    "png-actl-short",
    "png-chroma-short",
    "png-crc-gamma",
    "png-crc-physical",
    "png-crc-profile",
    "png-crc-text.",
    "png-fctl-alone",
    "png-fdat-alone",
    "png-gamma-short",
    "png-kind-0-1-transparent-short",
    "png-kind-0-16-transparent-short",
    "png-kind-0-2-transparent-short",
    "png-kind-0-4-transparent-short",
    "png-kind-0-8-transparent-short",
    "png-kind-2-16-transparent-short",
    "png-kind-2-8-transparent-short",
    "png-physical-short",
    "png-pillow-la-cut-adler",
    "png-profile-empty",
    "png-profile-method",
    "png-srgb-short",
    "png-transparency-empty",
    "png-ztxt-method",
    "webp-alpha-",
    "webp-lossless-",
    "webp-lossless-alpha-",
    "webp-lossy-",
    "webp-lossy-10-",
    "webp-palette-",
];
/// How the names of the WebP kinds end that are read though libwebp refuses them.
const ALSO_READ_WEBP: [&str; 8] =
    ["exif-too-long", "extended-long", "last-too-long", "reserved-bits", "size-0", "size-small", "twice", "flip-4"];
/// Refused though Pillow reads them: the last byte, of padding, is missing.
const NOT_READ: [&str; 4] = ["bmp-1-cut-one.bmp", "bmp-l-cut-one.bmp", "bmp-p-cut-one.bmp", "bmp-rgb-cut-one.bmp"];

/// Whether a difference is one of those above.
fn is_known(odd: &Odd) -> bool {
    let (stem, ending) = odd.name.rsplit_once('.').expect("names have an ending");
    let is_kind = ending != "webp" || ALSO_READ_WEBP.iter().any(|end| stem.ends_with(end));
    let also_read = is_kind && ALSO_READ.iter().any(|start| odd.name.starts_with(start));
    if odd.expected.is_err() { also_read } else { NOT_READ.contains(&&*odd.name) }
}

#[test]
fn odd_and_damaged_pictures_are_read_as_pillow_reads_them() {
    let odd = odd_pictures();
    assert!(odd.len() > 1_000, "the archive is whole");
    let found: Vec<(&Odd, String)> = odd.iter().filter_map(|odd| Some((odd, difference(odd)?))).collect();
    let unknown: Vec<String> =
        found.iter().filter(|(odd, _)| !is_known(odd)).map(|(odd, what)| format!("{} {what}", odd.name)).collect();
    assert!(unknown.is_empty(), "{} of {} differ:\n{}", unknown.len(), odd.len(), unknown.join("\n"));
    for start in ALSO_READ.iter().chain(&NOT_READ) {
        assert!(found.iter().any(|(odd, _)| odd.name.starts_with(start)), "{start} is read as Pillow reads it: strike it out");
    }
}
