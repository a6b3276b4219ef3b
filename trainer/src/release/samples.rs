//! Pictures and texts that the golden vectors are made from.

use std::path::Path;

use astromech_towers::{ImageLimits, RgbSquare, Tokenizer, decode_and_squash};
use ndarray::{Array2, Array4};

use super::{PIXEL_MEAN, PIXEL_STD, ReleaseError};
use crate::corpus::{CorpusError, RecordFilter, read_records};
use crate::export::verify::{GraphInputs, normalise, pad_texts};
use crate::model::ModelConfig;

/// Fewest samples of a bundle.
pub const SAMPLES_MIN: usize = 4;
/// Most samples of a bundle: each start of the daemon replays them.
pub const SAMPLES_MAX: usize = 8;

/// Samples, picture i with text i.
#[derive(Debug, Clone)]
pub struct Samples {
    /// [N, H, W, 3].
    squares: Array4<u8>,
    texts: Vec<Vec<i64>>,
}

impl Samples {
    /// From squashed pictures and token ids.
    ///
    /// # Errors
    /// Not [`SAMPLES_MIN`] to [`SAMPLES_MAX`] of each, or pictures of different sizes.
    pub fn new(pictures: &[RgbSquare], texts: Vec<Vec<i64>>) -> Result<Self, ReleaseError> {
        let count = pictures.len();
        if !(SAMPLES_MIN..=SAMPLES_MAX).contains(&count) || texts.len() != count {
            let found = format!("{count} pictures and {} texts; give {SAMPLES_MIN} to {SAMPLES_MAX} of each", texts.len());
            return Err(ReleaseError::Samples(found));
        }
        let side = pictures[0].size() as usize;
        let bytes: Vec<u8> = pictures.iter().flat_map(|picture| picture.pixels().iter().copied()).collect();
        let squares = Array4::from_shape_vec((count, side, side, 3), bytes)
            .map_err(|_| ReleaseError::Samples("the pictures have different sizes".to_owned()))?;
        Ok(Self { squares, texts })
    }

    /// Takes [`SAMPLES_MAX`] records of one split of a corpus, evenly spaced, long and short texts in turn.
    ///
    /// # Errors
    /// The corpus or a picture can't be read, or the split has too few records.
    pub fn from_corpus(corpus: &Path, split: &str, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<Self, ReleaseError> {
        let filter = RecordFilter { splits: vec![split.to_owned()], ..RecordFilter::default() };
        let records = read_records(corpus, &filter)?;
        if records.len() < SAMPLES_MAX {
            return Err(ReleaseError::Samples(format!("split {split} has {} records, {SAMPLES_MAX} are needed", records.len())));
        }
        let (mut pictures, mut texts) = (Vec::new(), Vec::new());
        for sample in 0..SAMPLES_MAX {
            let record = &records[sample * records.len() / SAMPLES_MAX];
            let path = corpus.join(&record.image);
            let bytes = std::fs::read(&path).map_err(ReleaseError::io(&path))?;
            let picture = decode_and_squash(&bytes, config.vision.image as u32, &ImageLimits::default())
                .map_err(|error| CorpusError::Picture { id: record.id.clone(), path, message: error.to_string() })?;
            pictures.push(picture);
            texts.push(tokenizer.encode(if sample % 2 == 0 { &record.content } else { &record.query }));
        }
        Self::new(&pictures, texts)
    }

    /// Fails unless pictures and texts fit the model.
    pub(super) fn check(&self, config: &ModelConfig, max_tokens: usize) -> Result<(), ReleaseError> {
        let side = self.squares.dim().1;
        if side != config.vision.image as usize {
            let problem = format!("the pictures are {side} pixels wide, the model takes {}", config.vision.image);
            return Err(ReleaseError::Samples(problem));
        }
        let id_max = self.texts.iter().flatten().copied().max().unwrap_or(0);
        if id_max >= config.vocab {
            let problem = format!("token id {id_max} is outside the model's vocabulary of {}; take the vocabulary it was trained with", config.vocab);
            return Err(ReleaseError::Samples(problem));
        }
        match self.texts.iter().map(Vec::len).find(|length| !(2..=max_tokens).contains(length)) {
            Some(length) => Err(ReleaseError::Samples(format!("a text has {length} tokens; 2 to {max_tokens} are taken"))),
            None => Ok(()),
        }
    }

    /// [N, H, W, 3].
    pub(super) fn squares(&self) -> &Array4<u8> {
        &self.squares
    }

    /// Token ids and mask, [N, L].
    pub(super) fn texts(&self) -> (Array2<i64>, Array2<i64>) {
        pad_texts(&self.texts)
    }

    /// Inputs of the graphs; pair i is picture i with text i.
    pub(super) fn inputs(&self) -> GraphInputs {
        let (ids, mask) = self.texts();
        let pairs = Array2::from_shape_fn((self.texts.len(), 2), |(pair, _)| pair as i64);
        GraphInputs { pixels: normalise(&self.squares, PIXEL_MEAN, PIXEL_STD), ids, mask, pairs }
    }
}
