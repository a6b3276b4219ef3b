//! A small corpus of drawn shapes, and a training configuration for it.

use std::fmt::Write as _;
use std::path::Path;

use astromech_trainer::train::TrainConfig;

/// Concepts: a colour and a side of the picture.
const COLOURS: [(&str, [u8; 3]); 4] =
    [("红", [220, 30, 30]), ("绿", [30, 180, 40]), ("蓝", [40, 60, 220]), ("黄", [230, 210, 40])];
const PLACES: [&str; 4] = ["左上", "右上", "左下", "右下"];
const SIDE: u32 = 32;
/// The model, but for the size of its vocabulary.
const MODEL: &str = include_str!("../tiny_model.toml");

/// Writes records, pictures, a vocabulary and one task below `folder`.
pub fn write_corpus(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).unwrap();
    std::fs::create_dir_all(folder.join("tasks")).unwrap();
    let (mut rows, mut task) = (String::new(), String::new());
    for (colour_index, (colour, rgb)) in COLOURS.iter().enumerate() {
        for (place_index, place) in PLACES.iter().enumerate() {
            for variant in 0..2u32 {
                let id = format!("{colour_index}-{place_index}-{variant}");
                let picture = image::RgbImage::from_fn(SIDE, SIDE, |x, y| {
                    let (column, row) = (place_index as u32 % 2, place_index as u32 / 2);
                    let inside = x / (SIDE / 2) == column && y / (SIDE / 2) == row && (x + y + variant) % 7 != 0;
                    image::Rgb(if inside { *rgb } else { [255, 255, 255] })
                });
                picture.save(folder.join(format!("images/{id}.png"))).unwrap();
                let text = format!("{colour}色在{place}");
                let row = serde_json::json!({
                    "id": id, "image": format!("images/{id}.png"), "title": text, "query": text, "content": text, "alt_queries": [],
                    "concept": format!("{colour}{place}"), "domain": "shape", "licence": "MIT", "split": "train",
                });
                writeln!(rows, "{row}").unwrap();
                if variant == 0 {
                    writeln!(
                        task,
                        "{}",
                        serde_json::json!({ "text": text, "images": [id, format!("{colour_index}-{place_index}-1")] })
                    )
                    .unwrap();
                }
            }
        }
    }
    std::fs::write(folder.join("train.jsonl"), rows).unwrap();
    std::fs::write(folder.join("tasks/train.shape.long.jsonl"), task).unwrap();
    let mut vocabulary: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).into();
    let texts = COLOURS.iter().map(|(name, _)| *name).chain(PLACES).chain(["色在"]);
    let mut characters: Vec<char> = texts.flat_map(str::chars).collect();
    characters.sort_unstable();
    characters.dedup();
    vocabulary.extend(characters.into_iter().map(String::from));
    std::fs::write(folder.join("vocab.txt"), vocabulary.join("\n")).unwrap();
}

/// TOML of a small run on it.
pub fn config_text(folder: &Path, out: &Path) -> String {
    format!(
        r#"
{model}[data]
corpus = "{corpus}"
vocabulary = "{vocabulary}"
working_px = 32
max_tokens = 16
batch = 16
[augment]
crop_scale = [0.95, 1.0]
crop_ratio = [1.0, 1.0]
affine_p = 0.0
hue_p = 0.0
recolour_p = 0.0
gray_p = 0.0
outline_p = 0.0
inked_p = 0.0
background_p = 0.0
invert_p = 0.0
[loss]
dropout = 0.1
itm_every = 2
itm_pairs_max = 24
[optim]
lr = 1e-3
warmup_steps = 4
steps = 12
ema = 0.9
[eval]
every_steps = 0
tasks = ["train.shape.long"]
[run]
out = "{out}"
seed = 7
threads = 1
log_every_steps = 1
"#,
        model = MODEL.replace("[model]\n", "[model]\nvocab = 32\n"),
        corpus = folder.display(),
        vocabulary = folder.join("vocab.txt").display(),
        out = out.display(),
    )
}

/// Reads [`config_text`] with overrides.
pub fn config(folder: &Path, out: &Path, overrides: &[&str]) -> TrainConfig {
    let path = folder.join("train.toml");
    std::fs::write(&path, config_text(folder, out)).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
    TrainConfig::read(&path, &overrides).unwrap()
}
