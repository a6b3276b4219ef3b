//! Pictures and texts that the golden vectors are made from.

use std::path::Path;

use astromech_towers::{ImageLimits, PreparedImage, PreparedText, Tokenizer, decode_and_squash};

use super::ReleaseError;
use crate::corpus::{CorpusError, RecordFilter, read_records};
use crate::export::runtime::GraphInputs;
use crate::files::file_error;
use crate::model::ModelConfig;

/// Fewest samples of a bundle.
pub const SAMPLES_MIN: usize = 4;
/// Most samples of a bundle: each start of the daemon replays them.
pub const SAMPLES_MAX: usize = 8;

/// Samples, picture i with text i.
#[derive(Debug, Clone)]
pub struct Samples {
    inputs: GraphInputs,
}

impl Samples {
    /// From squashed pictures and tokenised texts.
    ///
    /// # Errors
    /// Not [`SAMPLES_MIN`] to [`SAMPLES_MAX`] of each.
    pub fn new(images: Vec<PreparedImage>, texts: Vec<PreparedText>) -> Result<Self, ReleaseError> {
        let count = images.len();
        if !(SAMPLES_MIN..=SAMPLES_MAX).contains(&count) || texts.len() != count {
            let found = format!("{count} pictures and {} texts; give {SAMPLES_MIN} to {SAMPLES_MAX} of each", texts.len());
            return Err(ReleaseError::Samples(found));
        }
        let pairs = (0..count as u32).map(|index| (index, index)).collect();
        Ok(Self { inputs: GraphInputs { images, texts, pairs } })
    }

    /// Takes [`SAMPLES_MAX`] records of a corpus that pass the filter, evenly spaced, long and short texts in turn. The bundle carries
    /// their pixels, so their licences must allow that.
    ///
    /// # Errors
    /// The corpus or a picture can't be read, or the split has too few records.
    pub fn from_corpus(
        corpus: &Path,
        filter: &RecordFilter,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ReleaseError> {
        let records = read_records(corpus, filter)?;
        if records.len() < SAMPLES_MAX {
            return Err(ReleaseError::Samples(format!(
                "{} records pass the filter, {SAMPLES_MAX} are needed; widen --samples-split or --samples-licences",
                records.len()
            )));
        }
        let (mut pictures, mut texts) = (Vec::new(), Vec::new());
        for sample in 0..SAMPLES_MAX {
            let record = &records[sample * records.len() / SAMPLES_MAX];
            let path = corpus.join(&record.image);
            let bytes = std::fs::read(&path).map_err(file_error(&path))?;
            let picture = decode_and_squash(&bytes, config.vision.image as u32, &ImageLimits::default())
                .map_err(|error| CorpusError::Picture { id: record.id.clone(), path, message: error.to_string() })?;
            pictures.push(picture);
            texts.push(tokenizer.prepare(if sample % 2 == 0 { &record.content } else { &record.query }));
        }
        Self::new(pictures, texts)
    }

    /// Fails unless pictures and texts fit the model.
    pub(super) fn check(&self, config: &ModelConfig, max_tokens: usize) -> Result<(), ReleaseError> {
        if let Some(picture) = self.inputs.images.iter().find(|picture| i64::from(picture.size()) != config.vision.image) {
            let problem = format!("a picture is {} pixels wide, the model takes {}", picture.size(), config.vision.image);
            return Err(ReleaseError::Samples(problem));
        }
        for text in &self.inputs.texts {
            if text.ids().len() > max_tokens {
                let problem = format!("a text has {} tokens, the graphs take {max_tokens}", text.ids().len());
                return Err(ReleaseError::Samples(problem));
            }
            if let Some(id) = text.ids().iter().find(|id| **id >= config.vocab) {
                let problem = format!(
                    "token id {id} is outside the model's vocabulary of {}; give the vocabulary it was trained with",
                    config.vocab
                );
                return Err(ReleaseError::Samples(problem));
            }
        }
        Ok(())
    }

    /// Inputs of the graphs; pair i is picture i with text i.
    pub(super) fn inputs(&self) -> &GraphInputs {
        &self.inputs
    }
}
