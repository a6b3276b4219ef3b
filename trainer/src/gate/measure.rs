//! One bundle's figures.

use astromech_schemas::Manifest;
use astromech_schemas::manifest::Precision;
use astromech_towers::{Bundle, PreparedImage, PreparedText, Towers, TowersConfig};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{GateConfig, GateError, SetConfig, newest};
use crate::corpus::{CorpusError, MatchPairs, PairSource, TaskPicture};
use crate::evaluate::{EvaluateOptions, Report, TaskItems, evaluate, evaluate_matching};
use crate::files::file_error;

/// End of the names of matching tasks.
const MATCH_SUFFIX: &str = ".match";

/// What one bundle showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Retrieval and matching, each task named `<set>.<task>`.
    pub report: Report,
    /// Bytes of all its files.
    pub bytes: u64,
    /// int8 beside f32; none where it has not both.
    pub drift: Option<Drift>,
    /// Times of single requests.
    pub latency: Latency,
}

/// Median times of one request, milliseconds; pictures are decoded and texts tokenised before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// One picture through the image tower.
    pub image_ms: f64,
    /// One text through the text tower.
    pub text_ms: f64,
}

/// Cosines of int8's embeddings to f32's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Mean over the pictures.
    pub image_mean: f64,
    /// Least of the pictures.
    pub image_least: f64,
    /// Mean over the texts.
    pub text_mean: f64,
    /// Least of the texts.
    pub text_least: f64,
}

/// One set's tasks, read once for both bundles.
pub(super) struct LoadedSet {
    pub(super) config: SetConfig,
    pub(super) retrieval: Vec<TaskItems>,
    pub(super) matching: Vec<MatchPairs>,
}

/// Reads every set before a bundle is measured: broken data should not cost a measurement.
pub(super) fn load_sets(config: &GateConfig) -> Result<Vec<LoadedSet>, GateError> {
    config.sets.iter().map(load_set).collect()
}

fn load_set(config: &SetConfig) -> Result<LoadedSet, GateError> {
    let mut set = LoadedSet { config: config.clone(), retrieval: Vec::new(), matching: Vec::new() };
    for name in &config.tasks {
        if name.ends_with(MATCH_SUFFIX) {
            set.matching.push(PairSource::corpus_task(&config.corpus, name).read()?);
        } else {
            set.retrieval.push(TaskItems::load(&config.corpus, name)?);
        }
    }
    if let Some(newest) = &config.newest {
        let (items, pairs) = newest::tasks(&config.corpus, newest)?;
        set.retrieval.push(items);
        set.matching.push(pairs);
    }
    for items in &mut set.retrieval {
        items.name = format!("{}.{}", config.name, items.name);
    }
    for pairs in &mut set.matching {
        pairs.name = format!("{}.{}", config.name, pairs.name);
    }
    Ok(set)
}

/// Everything but the latency.
pub(super) fn measure(
    runtime: &Runtime,
    config: &GateConfig,
    sets: &[LoadedSet],
    bundle: &Bundle,
) -> Result<Measured, GateError> {
    let towers = start(bundle, config, config.precision, true)?;
    let mut report = Report::of(bundle, &towers);
    for set in sets {
        for items in &set.retrieval {
            let options = EvaluateOptions { top_k: set.config.top_k, text_to_image_only: false };
            report.tasks.push(runtime.block_on(evaluate(&towers, items, options))?);
        }
        for pairs in &set.matching {
            report.matching.push(runtime.block_on(evaluate_matching(&towers, pairs, true))?);
        }
    }
    drop(towers);
    let manifest = &bundle.manifest;
    let drift = if manifest.precisions.contains(&Precision::F32) && manifest.precisions.contains(&Precision::Int8) {
        Some(drift(runtime, config, sets, bundle)?)
    } else {
        None
    };
    Ok(Measured { report, bytes: bytes(manifest), drift, latency: Latency::default() })
}

fn bytes(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.bytes).sum()
}

pub(super) fn start(
    bundle: &Bundle,
    config: &GateConfig,
    precision: Option<Precision>,
    load_cross: bool,
) -> Result<Towers, GateError> {
    let mut towers = TowersConfig { precision, threads: config.threads, load_cross, ..TowersConfig::default() };
    if !load_cross {
        // Single requests: nobody comes to share their batch.
        towers.image.wait_us_max = 0;
        towers.text.wait_us_max = 0;
    }
    Ok(Towers::start(bundle, &towers)?)
}

/// The first pictures and texts of the sets, in turns over the sets.
pub(super) fn samples(
    towers: &Towers,
    sets: &[LoadedSet],
    most: usize,
) -> Result<(Vec<PreparedImage>, Vec<PreparedText>), GateError> {
    let share = most.div_ceil(sets.len().max(1));
    let (mut pictures, mut texts) = (Vec::new(), Vec::new());
    for set in sets {
        let of_set = set.retrieval.iter().flat_map(|items| &items.pictures);
        pictures.extend(of_set.chain(set.matching.iter().flat_map(|pairs| &pairs.pictures)).take(share));
        let asked = set.retrieval.iter().flat_map(|items| items.texts.iter());
        texts.extend(asked.chain(set.matching.iter().flat_map(|pairs| pairs.pairs.iter().map(|pair| &pair.text))).take(share));
    }
    let images = pictures.into_iter().take(most).map(|picture| read(towers, picture)).collect::<Result<_, _>>()?;
    Ok((images, texts.into_iter().take(most).map(|text| towers.prepare_text(text)).collect()))
}

fn read(towers: &Towers, picture: &TaskPicture) -> Result<PreparedImage, CorpusError> {
    let bytes = std::fs::read(&picture.path).map_err(file_error(&picture.path))?;
    towers.prepare_image(&bytes).map_err(|error| CorpusError::Picture {
        id: picture.id.clone(),
        path: picture.path.clone(),
        message: error.to_string(),
    })
}

fn drift(runtime: &Runtime, config: &GateConfig, sets: &[LoadedSet], bundle: &Bundle) -> Result<Drift, GateError> {
    let embed = |precision| -> Result<[Vec<Vec<f32>>; 2], GateError> {
        let towers = start(bundle, config, Some(precision), false)?;
        let (images, texts) = samples(&towers, sets, config.speed.samples)?;
        runtime.block_on(async {
            let (mut of_images, mut of_texts) = (Vec::new(), Vec::new());
            for image in images {
                of_images.push(towers.embed_image(image).await?.vectors().to_vec());
            }
            for text in texts {
                of_texts.push(towers.embed_text(text).await?.vectors().to_vec());
            }
            Ok([of_images, of_texts])
        })
    };
    let [whole, small] = [embed(Precision::F32)?, embed(Precision::Int8)?];
    let [(image_mean, image_least), (text_mean, text_least)] = [0, 1].map(|kind| cosines(&whole[kind], &small[kind]));
    Ok(Drift { image_mean, image_least, text_mean, text_least })
}

/// Mean and least cosine of vectors, or of an item's tokens one after another, which is the mean of theirs.
fn cosines(a: &[Vec<f32>], b: &[Vec<f32>]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosines: Vec<f64> = a.iter().zip(b).map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
    (mean, cosines.into_iter().fold(f64::INFINITY, f64::min))
}
