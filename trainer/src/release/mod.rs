//! A bundle: graphs, vocabulary, golden vectors, model card and manifest in one folder that appears whole or not at all.

mod card;
mod error;
mod folder;
mod golden;
mod samples;

use std::collections::BTreeMap;
use std::path::Path;

use astromech_schemas::manifest::{Architecture, ImageInput, Manifest, Precision, Similarity, StackSize, TextInput, Training};
use astromech_schemas::{Blend, Fingerprint};
use astromech_towers::{Bundle, Tokenizer, Towers, TowersConfig};

pub use card::{CardFacts, ModelFacts};
pub use error::ReleaseError;
pub use samples::{SAMPLES_MAX, SAMPLES_MIN, Samples};

use crate::checkpoint::{LoadedModel, METRICS_FILE};
use crate::export::runtime::TowerGraphs;
use crate::export::verify::{Measured, verify_against_f32, verify_against_torch};
use crate::export::{GraphOptions, Tower, WeightMap, export_tower};
use crate::files::file_error;
use crate::model::{ModelConfig, PIXEL_MEAN, PIXEL_STD, R2d2};
use folder::{StagedFolder, sha256};

/// File name of the vocabulary inside a bundle.
pub const VOCABULARY_FILE: &str = "vocab.txt";
/// File name of the golden vectors inside a bundle.
pub const GOLDEN_FILE: &str = "golden.safetensors";
/// File name of the model card inside a bundle.
pub const CARD_FILE: &str = "MODEL_CARD.md";
/// What a release is made of beside the model.
pub struct ReleaseOptions {
    /// Name of the model, for people.
    pub name: String,
    /// Fingerprint of the bundle it was trained from.
    pub parent: Option<Fingerprint>,
    /// Precisions; the golden vectors are made with the first.
    pub precisions: Vec<Precision>,
    /// 23 or 20.
    pub opset: u32,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Parts of the names of layers that stay f32 in int8 graphs: see [`GraphOptions::keep_f32`].
    pub keep_f32: Vec<String>,
    /// Whether items are compared token by token: for a model trained with `loss.token_wise`.
    pub late_interaction: bool,
    /// The vocabulary's file.
    pub vocabulary: Vec<u8>,
    /// What only people can say of it, and how it was trained.
    pub facts: CardFacts,
    /// Replace a bundle that is already there.
    pub force: bool,
}

/// What was released, and how far it is from what it was made of.
#[derive(Debug, Clone)]
pub struct Released {
    /// The manifest as written.
    pub manifest: Manifest,
    /// Largest difference of the f32 graphs from LibTorch.
    pub torch_difference: f64,
    /// Per precision beside f32, on the samples.
    pub measured: Vec<(Precision, Measured)>,
}

/// Exports the model, checks every graph and writes the bundle `out`.
///
/// # Errors
/// A graph that differs from the model, a part that does not fit, or a folder that can't be written. Nothing is left behind then.
pub fn release(out: &Path, loaded: &LoadedModel, samples: &Samples, options: &ReleaseOptions) -> Result<Released, ReleaseError> {
    let weights = WeightMap::from_params(&loaded.params)?;
    release_weights(out, loaded, &weights, samples, options)
}

/// As [`release`], with the weights given beside the model that they are held to.
///
/// # Errors
/// As [`release`].
pub fn release_weights(
    out: &Path,
    loaded: &LoadedModel,
    weights: &WeightMap,
    samples: &Samples,
    options: &ReleaseOptions,
) -> Result<Released, ReleaseError> {
    check(options)?;
    let config = &loaded.model.config;
    samples.check(config, options.max_tokens)?;
    let tokenizer = Tokenizer::from_vocab_bytes(&options.vocabulary, options.max_tokens)?;
    let mut manifest = manifest(config, options)?;
    let mut staged = StagedFolder::create(out, options.force)?;
    let graphs = |staged: &mut StagedFolder, precision| -> Result<TowerGraphs, ReleaseError> {
        let graph_options = GraphOptions {
            precision,
            opset: options.opset,
            max_tokens: options.max_tokens,
            keep_f32: options.keep_f32.clone(),
            late_interaction: options.late_interaction,
        };
        for (tower, bytes) in Tower::ALL.into_iter().zip(export_all(config, weights, &graph_options)?) {
            staged.write(&precision.graph_file(tower.as_str()), &bytes)?;
        }
        let manifest = Manifest { precisions: vec![precision], files: staged.files().to_vec(), ..manifest.clone() };
        Ok(TowerGraphs::open(&Bundle { dir: staged.path().to_owned(), manifest }, precision)?)
    };

    // The f32 graphs are always made: they tie LibTorch to whatever is shipped.
    let mut f32_graphs = graphs(&mut staged, Precision::F32)?;
    let torch_difference = verify_against_torch(&loaded.model, &loaded.params, &mut f32_graphs, &tokenizer)?;
    let reference = f32_graphs.run(samples.inputs())?;
    drop(f32_graphs);
    let mut measured = Vec::new();
    let mut golden = None;
    for &precision in &options.precisions {
        let outputs = if precision == Precision::F32 {
            reference.clone()
        } else {
            let outputs = graphs(&mut staged, precision)?.run(samples.inputs())?;
            measured.push((precision, verify_against_f32(precision, &outputs, &reference)?));
            outputs
        };
        golden.get_or_insert(outputs);
    }
    if !options.precisions.contains(&Precision::F32) {
        for tower in Tower::ALL {
            staged.remove(&Precision::F32.graph_file(tower.as_str()))?;
        }
    }
    let golden = golden.ok_or_else(no_precision)?;
    staged.write(GOLDEN_FILE, &golden::golden_file(samples.inputs(), &golden)?)?;
    staged.write(VOCABULARY_FILE, &options.vocabulary)?;
    let facts = ModelFacts { torch_difference: Some(torch_difference), measured: measured.clone() };
    finish(&mut staged, &mut manifest, |manifest| card::model_card(manifest, &options.facts, &facts))?;
    // What the daemon does at its start: every file's sum, every precision's golden vectors. What would not start is not published.
    let bundle = Bundle::open(staged.path())?;
    for &precision in &options.precisions {
        Towers::start(&bundle, &TowersConfig { precision: Some(precision), ..TowersConfig::default() })?;
    }
    staged.publish()?;
    Ok(Released { manifest, torch_difference, measured })
}

/// Writes measured metrics into the manifest and the model card of a finished bundle. Neither is part of the fingerprint, so the
/// vector space keeps its name.
///
/// # Errors
/// The bundle is damaged or can't be written.
pub fn add_metrics(bundle: &Path, metrics: BTreeMap<String, f64>) -> Result<Manifest, ReleaseError> {
    amend(bundle, |manifest| manifest.training.metrics.extend(metrics))
}

/// Writes the blend of the single tower's probabilities and the cosine into the manifest of a finished bundle, and its figures into the model
/// card. The vector space keeps its name.
///
/// # Errors
/// The bundle is damaged or can't be written.
pub fn set_blend(bundle: &Path, blend: Blend) -> Result<Manifest, ReleaseError> {
    amend(bundle, |manifest| {
        let figures = [("blend.w_text", f64::from(blend.text)), ("blend.w_image", f64::from(blend.image))];
        let r1 = blend.fitted.iter().flat_map(|fit| [("blend.r1_by_cosine", fit.r1[0]), ("blend.r1_fitted", fit.r1[1])]);
        manifest.training.metrics.extend(figures.into_iter().chain(r1).map(|(name, value)| (name.to_owned(), value)));
        manifest.blend = Some(blend);
    })
}

/// Changes what a finished bundle's manifest says beside its files, and the model card's metrics with it.
fn amend(bundle: &Path, change: impl FnOnce(&mut Manifest)) -> Result<Manifest, ReleaseError> {
    let mut manifest = Bundle::open(bundle)?.manifest;
    change(&mut manifest);
    let mut staged = StagedFolder::create(bundle, true)?;
    let mut card = String::new();
    for file in &manifest.files {
        let path = bundle.join(&file.name);
        if file.name == CARD_FILE {
            card = std::fs::read_to_string(&path).map_err(file_error(&path))?;
        } else {
            staged.copy(&path, &file.name)?;
        }
    }
    let card = card::replace_metrics(&card, &manifest.training.metrics);
    finish(&mut staged, &mut manifest, |_| card)?;
    staged.publish()?;
    Ok(manifest)
}

fn check(options: &ReleaseOptions) -> Result<(), ReleaseError> {
    if options.precisions.is_empty() {
        return Err(no_precision());
    }
    for (index, precision) in options.precisions.iter().enumerate() {
        if options.precisions[..index].contains(precision) {
            let problem = "it is listed twice; list each precision once".to_owned();
            return Err(ReleaseError::Setting { field: "precisions", value: precision.as_str().to_owned(), problem });
        }
    }
    if options.precisions[1..].contains(&Precision::F32) {
        let problem = "list f32 first: the golden vectors are made with the first, and f32 must repeat them to 0.9999".to_owned();
        return Err(ReleaseError::Setting { field: "precisions", value: Precision::F32.as_str().to_owned(), problem });
    }
    if options.name.trim().is_empty() {
        let problem = "give the model a name".to_owned();
        return Err(ReleaseError::Setting { field: "name", value: options.name.clone(), problem });
    }
    Ok(())
}

fn no_precision() -> ReleaseError {
    let problem = "list at least one of f32, int8, fp16".to_owned();
    ReleaseError::Setting { field: "precisions", value: String::new(), problem }
}

/// The three graphs, in the order of [`Tower::ALL`].
///
/// # Errors
/// The weights do not fit the sizes.
pub fn export_all(config: &ModelConfig, weights: &WeightMap, options: &GraphOptions) -> Result<[Vec<u8>; 3], ReleaseError> {
    let export = |tower| export_tower(tower, config, weights, options);
    Ok([export(Tower::Image)?, export(Tower::Text)?, export(Tower::Cross)?])
}

/// Writes card and manifest over the files that are staged.
fn finish(
    staged: &mut StagedFolder,
    manifest: &mut Manifest,
    card: impl FnOnce(&Manifest) -> String,
) -> Result<(), ReleaseError> {
    manifest.files = staged.files().to_vec();
    manifest.fingerprint = Manifest::compute_fingerprint(&manifest.files);
    let card = card(manifest);
    staged.write(CARD_FILE, card.as_bytes())?;
    manifest.files = staged.files().to_vec();
    let mut json = serde_json::to_vec_pretty(manifest).map_err(|error| ReleaseError::Manifest(error.to_string()))?;
    json.push(b'\n');
    // What the daemon would refuse is refused here.
    Manifest::from_json(&json).map_err(|error| ReleaseError::Manifest(error.to_string()))?;
    staged.write_manifest(&json)
}

fn manifest(config: &ModelConfig, options: &ReleaseOptions) -> Result<Manifest, ReleaseError> {
    let alive = ModelConfig { dead_weights: false, ..config.clone() };
    let parameters = R2d2::numel(&alive).map_err(crate::export::ExportError::from)?;
    let stack = |width, layers, heads, mlp| StackSize { width, layers, heads, mlp };
    let (v, t, c) = (&config.vision, &config.text, &config.cross);
    let similarity = if options.late_interaction {
        Similarity::LateInteraction { image_tokens: v.tokens() as u32, text_tokens: options.max_tokens as u32 }
    } else {
        Similarity::Cosine
    };
    Ok(Manifest {
        schema: similarity.schema(),
        name: options.name.clone(),
        fingerprint: Manifest::compute_fingerprint(&[]),
        parent: options.parent.clone(),
        architecture: Architecture {
            vision: stack(v.width as u32, v.layers as u32, v.heads as u32, v.mlp as u32),
            patch: v.patch as u32,
            text: stack(t.width as u32, t.layers as u32, t.heads as u32, t.mlp as u32),
            cross: stack(t.width as u32, c.layers as u32, c.heads as u32, c.mlp as u32),
            parameters: parameters as u64,
        },
        embedding_dim: config.embed as u32,
        similarity,
        precisions: options.precisions.clone(),
        opset: options.opset,
        image: ImageInput {
            size: v.image as u32,
            resize: "squash".to_owned(),
            filter: "bicubic".to_owned(),
            mean: PIXEL_MEAN,
            std: PIXEL_STD,
        },
        text: TextInput { max_tokens: options.max_tokens as u32, vocabulary_sha256: sha256(&options.vocabulary) },
        training: Training {
            data: options.facts.data.clone(),
            pairs: options.facts.pairs,
            steps: options.facts.steps,
            metrics: BTreeMap::new(),
        },
        blend: None,
        files: Vec::new(),
    })
}

/// Optimiser steps of the run whose folder holds `checkpoint`, by its metrics; 0 when there are none.
pub fn steps_of_run(checkpoint: &Path) -> u64 {
    let metrics = checkpoint.with_file_name(METRICS_FILE);
    let text = std::fs::read_to_string(metrics).unwrap_or_default();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64();
    text.lines().filter_map(step).max().unwrap_or(0)
}
