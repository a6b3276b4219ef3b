//! Feeds training from a stream: records drawn one after the other, pictures decoded and changed on many threads, the order kept.

use std::path::{Path, PathBuf};

use astromech_towers::{ImageLimits, Tokenizer, decode_and_squash};
use rayon::prelude::*;

use super::augment::AugmentConfig;
use super::batch::{Batch, BatchSource, SAMPLE_STRIDE, Sample, SampleSettings, collate, sample};
use super::error::CorpusError;
use super::pictures::{Picture, with_background};
use super::record::Record;
use super::texts::TextKindWeights;
use crate::zero::{Drawn, FaultKind, Positions, RecordStream, ShardFault, StreamSettings, ZeroError, ZeroRecord};

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
    fn sample(&self, drawn: &Drawn, changes: &AugmentConfig) -> Result<Sample, ShardFault> {
        let record = &drawn.record;
        let (texts, weights) = texts_of(record, &self.settings.texts)?;
        let bytes = record.picture()?;
        let square = decode_and_squash(&bytes, self.working_px as u32, &ImageLimits::default())
            .map_err(|error| record.fault(FaultKind::BadPicture, format!("picture of record {}: {error}", record.id)))?;
        let picture = Picture { side: self.working_px, rgba: with_background(square.pixels(), self.working_px) };
        let stream = drawn.number.wrapping_mul(SAMPLE_STRIDE);
        Ok(sample(&self.settings, &self.tokenizer, (&texts, &weights), &picture, changes, stream))
    }
}

/// The record as the corpus has it, with weights that leave out its empty texts.
///
/// # Errors
/// The fault: every text that has a weight is empty.
fn texts_of(own: &ZeroRecord, weights: &TextKindWeights) -> Result<(Record, TextKindWeights), ShardFault> {
    let mut used = *weights;
    if own.content.is_empty() {
        used.content = 0.0;
    }
    if own.title.is_empty() {
        used.title = 0.0;
    }
    if own.query.is_empty() {
        (used.query, used.alt_query) = (0.0, 0.0);
    }
    if used.content + used.title + used.query + used.alt_query <= 0.0 {
        let message = "every text with a weight above 0 in [texts] is empty";
        return Err(own.fault(FaultKind::EmptyText, message));
    }
    let record = Record {
        id: own.id.clone(),
        image: String::new(),
        title: own.title.clone(),
        query: own.query.clone(),
        content: own.content.clone(),
        alt_queries: Vec::new(),
        concept: String::new(),
        domain: String::new(),
        vendor: String::new(),
        licence: String::new(),
        split: String::new(),
    };
    Ok((record, used))
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
            let made: Vec<Result<Sample, ShardFault>> =
                drawn.par_iter().map(|drawn| self.sampler.sample(drawn, &changes)).collect();
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
