//! A model that starts from towers trained elsewhere: a BERT, a CLIP or ViT, or the official dual tower PRD2.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::filler::Filler;
use super::maps::{Fate, HEAD, Slot, TEXT, TextFormat, VISION, VisionFormat};
use super::report::{TowerReport, grouped};
use super::source::Source;
use crate::model::{ModelConfig, R2d2, TEMPERATURE_KEY};
use crate::nn::Params;

const BERT: &str = "BERT";
const PRD2: &str = "PRD2";

/// How what no file fills starts.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Seed of the random values.
    pub seed: i64,
    /// Start the cross encoders' self-attention and feed-forward parts from the last layers of the text tower, as ALBEF's fusion
    /// encoder does; how R2D2's started is not known (docs/R2D2.md §1.4), so this is our choice. Cross-attention starts from random values.
    pub cross_from_text: bool,
    /// Go on when a file lacks keys or holds them in other shapes: they keep their initial values.
    pub partial: bool,
}

/// Files of towers: safetensors, or PyTorch zip containers such as `pytorch_model.bin`.
#[derive(Debug, Clone, Copy)]
pub struct Pretrained<'a> {
    /// A BERT, such as chinese-roberta-wwm-ext.
    pub text: Option<&'a Path>,
    /// A CLIP or a ViT.
    pub vision: Option<&'a Path>,
}

/// What became of every key and parameter.
#[derive(Debug, Clone, Default)]
pub struct PretrainedReport {
    /// One a file.
    pub files: Vec<TowerReport>,
    /// Parameters of the cross encoders that start from the text tower's.
    pub from_text: Vec<String>,
    /// Parameters that keep their initial values.
    pub initial: Vec<String>,
}

impl fmt::Display for PretrainedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{}: {file}", file.path.display())?;
        }
        writeln!(f, "from the text tower: {}", grouped(&self.from_text))?;
        write!(f, "initial values: {}", grouped(&self.initial))
    }
}

/// A model with its weights.
pub struct PretrainedModel {
    /// Architecture.
    pub model: R2d2,
    /// Weights.
    pub params: Params,
    /// Where they come from.
    pub report: PretrainedReport,
}

/// Starts a model from a text tower, an image tower or both; everything else starts at random.
///
/// # Errors
/// Neither file is given, one is damaged or holds no such tower, keys are missing or mis-shaped (unless `start.partial`), or the sizes
/// are no model.
pub fn import_pretrained(from: Pretrained<'_>, config: &ModelConfig, start: Start) -> Result<PretrainedModel, CheckpointError> {
    let path = from.text.or(from.vision).unwrap_or(Path::new(""));
    let mut imported = fresh(path, config, start)?;
    if let Some(path) = from.text {
        let report = fill_text(path, &mut imported.params)?;
        imported.add(report, start)?;
    }
    if let Some(path) = from.vision {
        let report = fill_vision(path, &mut imported.params)?;
        imported.add(report, start)?;
    }
    imported.finish(config, start.cross_from_text && from.text.is_some());
    Ok(imported)
}

/// Loads the official dual tower PRD2 (docs/R2D2.md §1.8): both towers, both projections and the temperature under their official names. The
/// single tower is not in it and starts at random or from the text tower, so it has to be trained before its scores mean anything.
///
/// # Errors
/// The file is damaged, keys of the dual tower are missing or mis-shaped (unless `start.partial`), or the sizes are no model.
pub fn import_prd2(path: &Path, config: &ModelConfig, start: Start) -> Result<PretrainedModel, CheckpointError> {
    let mut imported = fresh(path, config, start)?;
    let mut source = Source::open(path)?;
    let mut filler = Filler::new(&mut imported.params, PRD2, &source, is_dual);
    filler.take_all(&mut source, |key| {
        if key.ends_with("position_ids") { Fate::Ignore } else { Fate::Take(vec![(key.to_owned(), Slot::Whole)]) }
    })?;
    let mut report = filler.finish(is_dead);
    report.notes.push("PRD2 has no single tower: train it before its scores are used".to_owned());
    imported.add(report, start)?;
    imported.finish(config, start.cross_from_text);
    Ok(imported)
}

fn fresh(path: &Path, config: &ModelConfig, start: Start) -> Result<PretrainedModel, CheckpointError> {
    let sizes = |source| CheckpointError::Config { path: path.to_path_buf(), source };
    let (model, mut params) = R2d2::new(config).map_err(sizes)?;
    params.initialise(start.seed);
    let initial = params.named().iter().map(|named| named.name.clone()).collect();
    Ok(PretrainedModel { model, params, report: PretrainedReport { initial, ..PretrainedReport::default() } })
}

/// Parameters of the dual tower (docs/R2D2.md §1.8).
fn is_dual(name: &str) -> bool {
    name == TEMPERATURE_KEY || [VISION, TEXT, "vision_proj.", "text_proj."].iter().any(|start| name.starts_with(start))
}

/// Weights that no forward pass reads (docs/R2D2.md §1.2, §1.4).
fn is_dead(name: &str) -> bool {
    name.contains(".pooler.") || name.contains(".post_layernorm.")
}

fn not_there(path: &Path, what: &str) -> CheckpointError {
    CheckpointError::Format { path: PathBuf::from(path), message: format!("it holds no {what}") }
}

fn fill_text(path: &Path, params: &mut Params) -> Result<TowerReport, CheckpointError> {
    let mut source = Source::open(path)?;
    let keys = source.keys.clone();
    let format = TextFormat::find(keys.iter().map(|(key, _)| key.as_str()))
        .ok_or_else(|| not_there(path, "BERT: no key ends in embeddings.word_embeddings.weight"))?;
    let mut filler = Filler::new(params, BERT, &source, |name| name.starts_with(TEXT) || name.starts_with(HEAD));
    filler.take_all(&mut source, |key| format.fate(key))?;
    Ok(filler.finish(|name| is_dead(name) || name.starts_with(HEAD)))
}

fn fill_vision(path: &Path, params: &mut Params) -> Result<TowerReport, CheckpointError> {
    let mut source = Source::open(path)?;
    let keys = source.keys.clone();
    let format = VisionFormat::find(&keys.iter().map(|(key, _)| key.as_str()))
        .ok_or_else(|| not_there(path, "vision transformer: no key ends in class_embedding or cls_token"))?;
    let mut filler = Filler::new(params, format.name(), &source, |name| name.starts_with(VISION));
    filler.take_all(&mut source, |key| format.fate(key))?;
    let plain = format.is_plain_vit();
    let mut report = filler.finish(|name| is_dead(name) || (plain && name.contains(".pre_layrnorm.")));
    if plain {
        // The blocks are alike but for these; fine-tuning has to make up for them.
        let note = "its blocks were trained with erf GELU and mostly LayerNorm eps 1e-6 or 1e-12; this tower computes quick GELU and 1e-5";
        report.notes.push(note.to_owned());
    }
    Ok(report)
}

impl PretrainedModel {
    fn add(&mut self, report: TowerReport, start: Start) -> Result<(), CheckpointError> {
        if !report.is_complete() && !start.partial {
            return Err(CheckpointError::Tower { report: Box::new(report) });
        }
        self.report.files.push(report);
        Ok(())
    }

    fn finish(&mut self, config: &ModelConfig, cross_from_text: bool) {
        if cross_from_text {
            self.report.from_text = start_cross(&mut self.params, config);
        }
        // What a file filled is what it neither lacked nor held in another shape.
        let unfilled: HashSet<&String> = self
            .report
            .files
            .iter()
            .flat_map(|file| file.missing.iter().chain(&file.absent).chain(file.mis_shaped.iter().map(|key| &key.name)))
            .collect();
        let touched = |name: &String| {
            self.report.from_text.contains(name)
                || (self.report.files.iter().any(|file| file_covers(file, name)) && !unfilled.contains(name))
        };
        let initial = self.report.initial.iter().filter(|name| !touched(name)).cloned().collect();
        self.report.initial = initial;
    }
}

/// Whether a file of that format is where a parameter comes from.
fn file_covers(file: &TowerReport, name: &str) -> bool {
    match file.format {
        BERT => name.starts_with(TEXT) || name.starts_with(HEAD),
        PRD2 => is_dual(name),
        _ => name.starts_with(VISION),
    }
}

/// Parts of a layer that the text tower's layers and the cross encoders' share.
const ATTENTION: [&str; 5] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
];
const FEED_FORWARD: [&str; 3] = ["intermediate.dense", "output.dense", "output.LayerNorm"];

/// Copies layers of the text tower into both cross encoders where sizes allow; returns the names filled.
fn start_cross(params: &mut Params, config: &ModelConfig) -> Vec<String> {
    let (text, cross) = (&config.text, &config.cross);
    let attention = if text.heads == cross.heads { &ATTENTION[..] } else { &[] };
    let feed_forward = if text.mlp == cross.mlp { &FEED_FORWARD[..] } else { &[] };
    let mut filled = Vec::new();
    // The last of the text tower's layers; a deeper cross encoder's top layers stay as they are.
    let layers = cross.layers.min(text.layers);
    for stack in ["text_joint_layer", "img_joint_layer"] {
        for layer in 0..layers {
            let from = text.layers - layers + layer;
            for part in attention.iter().chain(feed_forward) {
                for kind in ["weight", "bias"] {
                    let target = format!("{stack}.encoder.layer.{layer}.{part}.{kind}");
                    let Some(value) = params.value(&format!("{TEXT}encoder.layer.{from}.{part}.{kind}")) else { continue };
                    if params.copy_named(&target, &value) {
                        filled.push(target);
                    }
                }
            }
        }
    }
    filled
}
