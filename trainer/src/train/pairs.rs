//! Batches of labelled pairs, to be prepared by a [`crate::corpus::Loader`] while the step runs.

use astromech_towers::Tokenizer;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::corpus::augment::{AugmentConfig, augment};
use crate::corpus::{CorpusError, MatchPairs, Picture};

/// Separates the streams of random numbers of neighbouring epochs and samples.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bytes of a pixel in memory.
const PIXEL_BYTES: u64 = 4;

/// One batch as plain memory.
pub(super) struct PairBatch {
    pub(super) size: usize,
    /// [size, 3, side, side].
    pub(super) pixels: Vec<u8>,
    /// [size, length] token ids, padded with 0.
    pub(super) ids: Vec<i64>,
    /// [size, length], 1 where a token is.
    pub(super) mask: Vec<i64>,
    pub(super) length: usize,
    /// 1 match, 0 no match.
    pub(super) labels: Vec<i64>,
}

/// Makes the batch of any step: a pure function of seed and step.
pub(super) struct PairMaker {
    pairs: MatchPairs,
    /// Decoded pictures, where they fit.
    kept: Option<Vec<Picture>>,
    tokenizer: Tokenizer,
    settings: PairSettings,
    /// Full batches of an epoch; what is left over waits for another epoch's order (docs/R2D2.md §3.2: drop_last).
    pub(super) steps_per_epoch: u64,
}

/// How batches are made.
#[derive(Debug, Clone)]
pub(super) struct PairSettings {
    pub(super) seed: u64,
    pub(super) batch: usize,
    /// Side of the model's pictures in pixels.
    pub(super) side: usize,
    /// Side that pictures are decoded to.
    pub(super) working_px: usize,
    pub(super) augment: AugmentConfig,
    /// Pictures stay in memory while all of them take at most this.
    pub(super) pictures_bytes_max: u64,
}

impl PairMaker {
    /// Decodes the pictures where they fit the limit; else each batch decodes its own.
    pub(super) fn new(pairs: MatchPairs, tokenizer: Tokenizer, settings: PairSettings) -> Result<Self, CorpusError> {
        let bytes = pairs.pictures.len() as u64 * (settings.working_px as u64).pow(2) * PIXEL_BYTES;
        let kept = if bytes <= settings.pictures_bytes_max {
            let read = pairs.pictures.par_iter().map(|picture| Picture::read(&picture.path, &picture.id, settings.working_px));
            Some(read.collect::<Result<Vec<_>, CorpusError>>()?)
        } else {
            tracing::info!(
                bytes,
                limit = settings.pictures_bytes_max,
                "pictures do not fit the memory, every batch decodes its own"
            );
            None
        };
        let steps_per_epoch = (pairs.pairs.len() / settings.batch.max(1)) as u64;
        Ok(Self { pairs, kept, tokenizer, settings, steps_per_epoch })
    }

    /// Pairs of one step.
    fn chosen(&self, step: u64) -> Vec<usize> {
        let epoch = step / self.steps_per_epoch.max(1);
        let mut order: Vec<usize> = (0..self.pairs.pairs.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(self.settings.seed ^ epoch.wrapping_mul(STRIDE)));
        let at = (step % self.steps_per_epoch.max(1)) as usize * self.settings.batch;
        order[at..at + self.settings.batch].to_vec()
    }

    /// The batch of a step.
    pub(super) fn make(&self, step: u64) -> Result<PairBatch, CorpusError> {
        let chosen = self.chosen(step);
        let augmentation = self.settings.augment.at_step(step);
        let sample = |(slot, &index): (usize, &usize)| -> Result<(Vec<u8>, Vec<i64>), CorpusError> {
            let pair = &self.pairs.pairs[index];
            let stream = step.wrapping_mul(STRIDE).wrapping_add(slot as u64);
            let mut rng = StdRng::seed_from_u64(self.settings.seed.rotate_left(32) ^ stream);
            let mut pixels = Vec::new();
            let mut changed = |picture: &Picture| augment(picture, self.settings.side, &augmentation, &mut rng, &mut pixels);
            if let Some(kept) = &self.kept {
                changed(&kept[pair.picture]);
            } else {
                let picture = &self.pairs.pictures[pair.picture];
                changed(&Picture::read(&picture.path, &picture.id, self.settings.working_px)?);
            }
            Ok((pixels, self.tokenizer.encode(&pair.text)))
        };
        let samples = chosen.par_iter().enumerate().map(sample).collect::<Result<Vec<_>, CorpusError>>()?;
        let length = samples.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
        let size = samples.len();
        let mut batch = PairBatch {
            size,
            pixels: Vec::with_capacity(samples.iter().map(|(pixels, _)| pixels.len()).sum()),
            ids: vec![0; size * length],
            mask: vec![0; size * length],
            length,
            labels: chosen.iter().map(|&index| i64::from(self.pairs.pairs[index].label)).collect(),
        };
        for (row, (pixels, ids)) in samples.into_iter().enumerate() {
            batch.pixels.extend_from_slice(&pixels);
            batch.ids[row * length..][..ids.len()].copy_from_slice(&ids);
            batch.mask[row * length..][..ids.len()].fill(1);
        }
        Ok(batch)
    }
}
