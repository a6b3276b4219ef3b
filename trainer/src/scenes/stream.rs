//! Scenes in training batches, beside what the batches are made of otherwise.

use std::path::Path;
use std::sync::Arc;

use astromech_towers::Tokenizer;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::artist::{Artist, Part, Scene};
use super::config::{KindWeights, ScenesConfig};
use super::error::SceneError;
use super::kind::{KINDS, SceneKind};
use super::stock::Stock;
use crate::corpus::{Batch, BatchSource, CorpusError, SAMPLE_STRIDE, Sample, SampleSettings, collate, mix};

/// Keeps the random numbers of scenes apart from those of the corpus under the same seed.
const SCENES: u64 = 0x5CE7_E5B1_7D41_A83F;
/// Concepts are stored as f32 with the feature queue, exact below 2^24; those of scenes are negative, which no other is.
const CONCEPTS: u64 = 1 << 23;

/// An endless sequence of pairs of scenes: the pair of any number follows from the seed.
#[derive(Debug)]
pub struct SceneStream {
    artist: Artist,
    weights: [(SceneKind, f64); KINDS],
    twins: f64,
    seed: u64,
}

impl SceneStream {
    /// Opens the training part.
    ///
    /// # Errors
    /// No kind has a weight, or no concepts go together for one.
    pub fn new(stock: Arc<Stock>, kinds: &KindWeights, twins: f64, seed: u64) -> Result<Self, SceneError> {
        let weights = kinds.all();
        let used: Vec<SceneKind> = weights.iter().filter(|(_, weight)| *weight > 0.0).map(|(kind, _)| *kind).collect();
        if used.is_empty() {
            return Err(SceneError::NoKind);
        }
        Ok(Self { artist: Artist::new(stock, Part::TRAIN, &used)?, weights, twins, seed })
    }

    /// The pair of scenes of a number, and the random numbers to go on with: twins, or two that have nothing to do with each other.
    fn pair(&self, number: u64) -> ([Scene; 2], StdRng) {
        let mut rng = StdRng::seed_from_u64(self.seed.rotate_left(32) ^ SCENES ^ number.wrapping_mul(SAMPLE_STRIDE));
        let first = self.artist.draw(self.kind(&mut rng), &mut rng).scenes;
        if rng.random::<f64>() < self.twins {
            return (first, rng);
        }
        let [other, _] = self.artist.draw(self.kind(&mut rng), &mut rng).scenes;
        let [first, _] = first;
        ([first, other], rng)
    }

    /// The pair of scenes of a number with their pixels, `side * side * 3` bytes each, row by row.
    pub fn painted(&self, number: u64) -> [(Scene, Vec<u8>); 2] {
        self.pair(number).0.map(|scene| {
            let pixels = self.artist.paint(&scene);
            (scene, pixels)
        })
    }

    fn kind(&self, rng: &mut impl Rng) -> SceneKind {
        let total: f64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.random::<f64>() * total;
        let mut last = SceneKind::Relation;
        for &(kind, weight) in self.weights.iter().filter(|(_, weight)| *weight > 0.0) {
            last = kind;
            at -= weight;
            if at < 0.0 {
                break;
            }
        }
        last
    }
}

/// Batches of scenes, and of another source beside them. Scenes follow from seed and step alone; a resumed run draws the same ones.
pub struct SceneBatches {
    stream: SceneStream,
    settings: SampleSettings,
    tokenizer: Tokenizer,
    /// Scenes a batch.
    count: usize,
    beside: Option<Box<dyn BatchSource>>,
}

impl SceneBatches {
    /// Cuts the objects out of the corpus; each batch has `count` scenes, and what `beside` gives.
    ///
    /// # Errors
    /// The corpus cannot be read, or scenes cannot be composed of it.
    pub fn open(
        config: &ScenesConfig,
        corpus: &Path,
        (settings, tokenizer): (SampleSettings, Tokenizer),
        count: usize,
        beside: Option<Box<dyn BatchSource>>,
    ) -> Result<Self, SceneError> {
        let stock = Arc::new(Stock::load(&config.stock(corpus), settings.side)?);
        tracing::info!(concepts = stock.concepts(), objects = stock.objects(), scenes_a_batch = count, "composing scenes");
        let stream = SceneStream::new(stock, &config.kinds, config.twins, settings.seed)?;
        Ok(Self { stream, settings, tokenizer, count, beside })
    }

    fn scenes(&self, step: u64) -> Batch {
        let pairs = self.count.div_ceil(2);
        let first = step.wrapping_mul(pairs as u64);
        let (stream, settings, tokenizer) = (&self.stream, &self.settings, &self.tokenizer);
        let make = |pair: u64| {
            let (scenes, mut rng) = stream.pair(first.wrapping_add(pair));
            scenes.map(|scene| {
                let pixels = planes(&stream.artist.paint(&scene));
                Sample::of(settings, tokenizer, &scene.caption, pixels, &mut rng)
            })
        };
        let made: Vec<[Sample; 2]> = (0..pairs as u64).into_par_iter().map(make).collect();
        let samples: Vec<Sample> = made.into_iter().flatten().take(self.count).collect();
        let concept = |index: u64| -1 - (first.wrapping_mul(2).wrapping_add(index) % CONCEPTS) as i64;
        collate(step, (0..samples.len() as u64).map(concept).collect(), samples, &self.settings)
    }
}

impl BatchSource for SceneBatches {
    fn begin(&mut self, step: u64) -> Result<(), CorpusError> {
        self.beside.as_mut().map_or(Ok(()), |beside| beside.begin(step))
    }

    fn steps_per_epoch(&self) -> u64 {
        self.beside.as_ref().map_or(0, BatchSource::steps_per_epoch)
    }

    fn next(&mut self, step: u64) -> Result<Batch, CorpusError> {
        let scenes = self.scenes(step);
        let Some(beside) = &mut self.beside else { return Ok(scenes) };
        let other = beside.next(step)?;
        // The matching loss takes its anchors from the beginning of a batch: both kinds must be there.
        let mut order: Vec<usize> = (0..other.size + scenes.size).collect();
        order.shuffle(&mut StdRng::seed_from_u64(self.stream.seed ^ SCENES ^ step));
        Ok(mix(other, &scenes, &order))
    }
}

/// Rows of pixels as three planes.
fn planes(rgb: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3).copied()).collect()
}
