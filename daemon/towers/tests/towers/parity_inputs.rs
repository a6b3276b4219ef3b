//! What goes into the graphs is what the official code puts in.

use crate::common::{inputs, read_npz, shared};
use astromech_towers::{ImageLimits, Tokenizer, decode_and_squash, decode_rgb};

/// The pack's bar: mean absolute difference of a picture, of 255.
const DIFFERENCE_MAX: f64 = 0.5;

#[test]
fn token_ids_and_masks_are_the_official_ones() {
    let (Some(pack), Some(vocabulary)) = (shared("parity"), shared("vocab.txt")) else { return };
    let (texts, _) = inputs(&pack);
    let expected = read_npz(&pack.join("expected.npz"));
    let (ids, mask) = (expected["input_ids"].i64(), expected["attention_mask"].i64());
    let tokenizer = Tokenizer::from_vocab_file(vocabulary, 64).unwrap();
    for (index, text) in texts.iter().enumerate() {
        let mut found = tokenizer.encode(text);
        let length = found.len();
        found.resize(64, 0);
        assert_eq!(found, ids[index * 64..][..64], "{text}");
        assert_eq!(length as i64, mask[index * 64..][..64].iter().sum::<i64>(), "{text}");
    }
}

#[test]
fn pixels_are_the_official_ones_within_half_a_step() {
    let Some(pack) = shared("parity") else { return };
    let limits = ImageLimits::default();
    let (_, names) = inputs(&pack);
    for name in names {
        let bytes = std::fs::read(pack.join("images").join(&name)).unwrap();
        let found = decode_and_squash(&bytes, 224, &limits).unwrap();
        let file = std::fs::read_dir(pack.join("pixels"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name))
            .unwrap_or_else(|| panic!("no reference pixels of {name}"));
        let expected = decode_rgb(&std::fs::read(file).unwrap(), &limits).unwrap();
        assert_eq!(found.pixels().len(), expected.pixels.len());
        let differences = found.pixels().iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b));
        let worst = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / expected.pixels.len() as f64;
        assert!(mean <= DIFFERENCE_MAX, "{name}: mean difference {mean:.3}, worst {worst}");
    }
}
