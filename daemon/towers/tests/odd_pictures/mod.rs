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

#[test]
fn odd_and_damaged_pictures_are_read_as_pillow_reads_them() {
    let odd = odd_pictures();
    assert!(odd.len() > 1_000, "the archive is whole");
    let differences: Vec<String> = odd.iter().filter_map(|odd| Some(format!("{} {}", odd.name, difference(odd)?))).collect();
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), odd.len(), differences.join("\n"));
}
