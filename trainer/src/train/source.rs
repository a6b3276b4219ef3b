//! What a configuration's batches come from.

use std::path::PathBuf;

use astromech_towers::Tokenizer;

use super::config::{DataConfig, DataSource, TrainConfig};
use super::error::TrainError;
use crate::corpus::{
    BatchMaker, BatchSource, MaskSettings, Pictures, PlanSettings, PublishedSet, PublishedSource, Record, RecordFilter,
    SampleSettings, StreamBatches, open_tokenizer, read_records,
};
use crate::scenes::SceneBatches;

/// What makes the batches of a configuration: the corpus in memory, or a stream, and composed scenes beside either.
///
/// # Errors
/// As [`batch_maker`], a stream without shards, or a corpus that no scenes can be composed of.
pub fn batch_source(config: &TrainConfig) -> Result<Box<dyn BatchSource>, TrainError> {
    let Some(scenes) = &config.data.scenes else { return plain_source(config) };
    let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
    let settings = sample_settings(config, &tokenizer);
    let count = scenes.count(config.data.batch);
    let mut rest = config.clone();
    rest.data.batch -= count;
    let beside = if rest.data.batch > 0 { Some(plain_source(&rest)?) } else { None };
    Ok(Box::new(SceneBatches::open(scenes, &config.data.corpus, (settings, tokenizer), count, beside)?))
}

/// What a configuration's batches come from, but for scenes.
fn plain_source(config: &TrainConfig) -> Result<Box<dyn BatchSource>, TrainError> {
    if config.data.source == DataSource::Stream {
        let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
        let settings = sample_settings(config, &tokenizer);
        let stream = config.data.stream.clone();
        return Ok(Box::new(StreamBatches::open(stream, settings, tokenizer, config.data.working_px, &config.run.out)?));
    }
    let maker = batch_maker(config)?;
    tracing::info!(records = maker.len(), steps_per_epoch = maker.steps_per_epoch, "corpus in memory");
    Ok(Box::new(maker))
}

/// The batches of a configuration: records filtered, pictures decoded, ready to be made by step.
///
/// # Errors
/// The corpus or the vocabulary cannot be used, or holds fewer records than one batch.
pub fn batch_maker(config: &TrainConfig) -> Result<BatchMaker, TrainError> {
    let data = &config.data;
    let filter = RecordFilter { splits: data.splits.clone(), licences: data.licences.clone(), domains: data.domains.clone() };
    let (folder, records) = match data.set {
        Some(set) => published_records(data, set)?,
        None => (data.corpus.clone(), read_records(&data.corpus, &filter)?),
    };
    if records.len() < data.batch {
        return Err(TrainError::TooFewRecords { batch: data.batch, records: records.len() });
    }
    let pictures = Pictures::load(&folder, &records, data.working_px)?;
    let tokenizer = open_tokenizer(&data.vocabulary, data.max_tokens)?;
    let settings = sample_settings(config, &tokenizer);
    Ok(BatchMaker::new(records, pictures, tokenizer, settings))
}

fn sample_settings(config: &TrainConfig, tokenizer: &Tokenizer) -> SampleSettings {
    let data = &config.data;
    let masking = (config.loss.mlm_weight > 0.0).then(|| MaskSettings {
        probability: config.loss.mlm_probability,
        mask: tokenizer.mask_id(),
        vocabulary: tokenizer.vocabulary() as i64,
    });
    let plan = PlanSettings {
        batch: data.batch,
        distinct_concepts: data.distinct_concepts,
        one_domain_fraction: data.one_domain_fraction,
    };
    SampleSettings {
        seed: config.run.seed,
        side: config.model.vision.image as usize,
        patches: config.model.vision.patches() as usize,
        patches_kept: config.patches_kept(),
        plan,
        texts: config.texts,
        masking,
        augment: config.augment.clone(),
    }
}

/// Rows of a published set as records, all splits asked for.
fn published_records(data: &DataConfig, set: PublishedSet) -> Result<(PathBuf, Vec<Record>), TrainError> {
    let (mut folder, mut all) = (PathBuf::new(), Vec::new());
    for split in &data.splits {
        let (images, skip_missing) = (data.images.clone(), data.skip_missing);
        let source = PublishedSource { set, folder: data.corpus.clone(), split: split.clone(), images, skip_missing };
        let (images, records) = source.records()?;
        folder = images;
        all.extend(records);
    }
    Ok((folder, all))
}
