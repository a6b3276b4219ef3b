//! Feeds training from a stream: records drawn one after the other, pictures decoded and changed on many threads, the order kept.

use std::path::{Path, PathBuf};

use astromech_towers::{ImageLimits, Tokenizer, decode_and_squash};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, FaultKind, ZeroError};
use super::stream::{Drawn, Position, RecordStream, StreamSettings};
use crate::checkpoint::write_atomically;
use crate::corpus::augment::AugmentConfig;
use crate::corpus::{
    Batch, BatchSource, CorpusError, Picture, SAMPLE_STRIDE, Sample, SampleSettings, collate, sample, with_background,
};

/// File of the positions inside a run's folder.
pub const POSITIONS_FILE: &str = "stream.json";
/// Positions kept in it: that of the newest state, and of the one before in case the newest was not written to its end.
const POSITIONS_KEPT: usize = 2;
/// Concepts are stored as f32 with the feature queue, exact below 2^24: half of them are for groups, half for single records.
const CONCEPTS: u64 = 1 << 23;

/// Batches out of a stream. Which records make a batch follows from the stream's order alone, however many threads decode.
pub struct StreamBatches {
    stream: RecordStream,
    sampler: Sampler,
    out: PathBuf,
}

/// What the threads that decode share.
struct Sampler {
    tokenizer: Tokenizer,
    settings: SampleSettings,
    working_px: usize,
}

impl StreamBatches {
    /// Opens a stream; `out` is the run's folder, where [`Positions`] are.
    ///
    /// # Errors
    /// No shards are there, or fewer than workers.
    pub fn open(
        stream: StreamSettings,
        settings: SampleSettings,
        tokenizer: Tokenizer,
        working_px: usize,
        out: &Path,
    ) -> Result<Self, CorpusError> {
        let stream = RecordStream::open(stream, settings.seed)?;
        tracing::info!(shards = stream.shards(), "streaming");
        Ok(Self { stream, sampler: Sampler { tokenizer, settings, working_px }, out: out.to_path_buf() })
    }
}

impl Sampler {
    fn sample(&self, drawn: &Drawn, changes: &AugmentConfig) -> Result<Sample, Fault> {
        let record = &drawn.record;
        let (texts, weights) = record.texts(&self.settings.texts)?;
        let bytes = record.picture()?;
        let square = decode_and_squash(&bytes, self.working_px as u32, &ImageLimits::default())
            .map_err(|error| record.fault(FaultKind::BadPicture, format!("picture of record {}: {error}", record.id)))?;
        let picture = Picture { side: self.working_px, rgba: with_background(square.pixels(), self.working_px) };
        let stream = drawn.number.wrapping_mul(SAMPLE_STRIDE);
        Ok(sample(&self.settings, &self.tokenizer, (&texts, &weights), &picture, changes, stream))
    }
}

/// Concept number: one for all records of a group, another for each other record. Numbers repeat after 2^23 records, far beyond any
/// feature queue.
fn concept(drawn: &Drawn) -> i64 {
    let number = match drawn.record.group {
        Some(group) => 2 * (group % CONCEPTS) + 1,
        None => 2 * (drawn.number % CONCEPTS),
    };
    number as i64
}

impl BatchSource for StreamBatches {
    fn begin(&mut self, step: u64) -> Result<(), CorpusError> {
        if step > 0 {
            let position = Positions::read(&self.out, step)?;
            self.stream.resume(&position)?;
            tracing::info!(step, epoch = position.epoch, consumed = position.consumed, "the stream goes on");
        }
        Ok(())
    }

    fn next(&mut self, step: u64) -> Result<Batch, CorpusError> {
        let changes = self.sampler.settings.augment.at_step(step);
        let wanted = self.sampler.settings.plan.batch;
        let (mut samples, mut concepts) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted));
        while samples.len() < wanted {
            let missing = wanted - samples.len();
            let drawn = (0..missing).map(|_| self.stream.draw()).collect::<Result<Vec<Drawn>, ZeroError>>()?;
            let made: Vec<Result<Sample, Fault>> = drawn.par_iter().map(|drawn| self.sampler.sample(drawn, &changes)).collect();
            for (drawn, made) in drawn.iter().zip(made) {
                match made {
                    Ok(sample) => {
                        samples.push(sample);
                        concepts.push(concept(drawn));
                    }
                    Err(fault) => self.stream.fault(&fault)?,
                }
            }
        }
        let mut batch = collate(step, concepts, samples, &self.sampler.settings);
        batch.position = Some(self.stream.position());
        Ok(batch)
    }
}

/// Where the stream stood behind the newest batch that was trained on, written beside the state of a run.
#[derive(Debug, Default)]
pub struct Positions {
    latest: Option<Position>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    step: u64,
    position: Position,
}

impl Positions {
    /// Takes the position of a batch that was used.
    pub fn note(&mut self, position: Option<Position>) {
        self.latest = position;
    }

    /// Writes the position of a step into the run's folder; nothing where no stream feeds the run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, out: &Path, step: u64) -> Result<(), ZeroError> {
        let Some(position) = self.latest.clone() else { return Ok(()) };
        let path = out.join(POSITIONS_FILE);
        let mut entries = if path.exists() { entries(&path)? } else { Vec::new() };
        // Entries of later steps are of a run that was begun anew.
        entries.retain(|entry| entry.step < step);
        entries.push(Entry { step, position });
        let kept = &entries[entries.len().saturating_sub(POSITIONS_KEPT)..];
        let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other).map_err(ZeroError::io(&path))?;
        write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(ZeroError::io(&path))
    }

    /// The position of a step.
    ///
    /// # Errors
    /// The file cannot be read, or holds no position of that step.
    pub fn read(out: &Path, step: u64) -> Result<Position, ZeroError> {
        let path = out.join(POSITIONS_FILE);
        let entries = entries(&path)?;
        let known: Vec<String> = entries.iter().map(|entry| entry.step.to_string()).collect();
        let message = format!("it has the positions of steps {}, not of step {step}", known.join(", "));
        let found = entries.into_iter().find(|entry| entry.step == step);
        found.map(|entry| entry.position).ok_or(ZeroError::Changed { path, message })
    }
}

fn entries(path: &Path) -> Result<Vec<Entry>, ZeroError> {
    let bytes = std::fs::read(path).map_err(ZeroError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| ZeroError::Changed { path: path.to_path_buf(), message: error.to_string() })
}
