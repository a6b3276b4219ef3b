//! Held-out shards → corpus folder; checkpoint → bundle.

use std::path::Path;

use astromech_schemas::manifest::MANIFEST_FILE;
use astromech_schemas::{Fingerprint, Manifest};
use astromech_towers::Tokenizer;

use super::config::FRESH;
use super::context::Job;
use super::error::RefreshError;
use super::state::Run;
use super::training::{exported, is_warm, trained_by};
use crate::checkpoint::load_model;
use crate::collect::{SHARDS_HELD_OUT, SnapshotManifest};
use crate::corpus::RecordFilter;
use crate::export::MAX_TOKENS_DEFAULT;
use crate::release::{ReleaseError, ReleaseOptions, Samples, release, steps_of_run};
use crate::zero::{FolderOptions, RecordStream, StreamSettings, ZeroError, write_folder};

/// Makes the corpus folder of the newest held-out records: golden samples, and tasks to evaluate on.
pub(super) fn hold_out(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let folder = job.folder(run);
    let (out, partial) = (folder.join(FRESH), folder.join(".fresh.new"));
    if out.exists() {
        return Ok(());
    }
    let failed = || RefreshError::failed(partial.display().to_string());
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(failed())?;
    }
    let wrong = |error: ZeroError| RefreshError::of("hold_out", !matches!(error, ZeroError::Io(_)), error);
    let shards = folder.join("snapshot").join(SHARDS_HELD_OUT).display().to_string();
    let settings = StreamSettings { shards: vec![shards], shuffle_records: 1, ..StreamSettings::default() };
    let mut stream = RecordStream::open(settings, 0).map_err(wrong)?;
    let licence = job.config.export.licence.clone();
    let options = FolderOptions { out: partial.clone(), held_out: usize::MAX, licence, domain: FRESH.to_owned() };
    let stats = write_folder(&mut stream, &options).map_err(wrong)?;
    tracing::info!(records = stats.val, tasks = ?stats.tasks, "held out");
    std::fs::rename(&partial, &out).map_err(failed())
}

/// Exports the run's model as a bundle.
pub(super) fn export(job: &mut Job<'_>, run: &Run, snapshot: &SnapshotManifest) -> Result<(), RefreshError> {
    let (out, step) = (job.bundle(run), &job.config.export);
    if out.join(MANIFEST_FILE).is_file() {
        return Ok(());
    }
    let wrong = |error: ReleaseError| {
        let is_input = matches!(error, ReleaseError::Samples(_) | ReleaseError::Setting { .. });
        RefreshError::of("export", is_input, error)
    };
    let checkpoint = exported(job, run);
    let loaded = load_model(&checkpoint).map_err(RefreshError::failed("export"))?;
    let trained = trained_by(job, run)?;
    let vocabulary_path = trained.data.vocabulary;
    let broken = || vocabulary_path.display().to_string();
    let vocabulary = std::fs::read(&vocabulary_path).map_err(|error| RefreshError::of(broken(), true, error))?;
    let positions = loaded.model.config.positions.max(0) as usize;
    let max_tokens = step.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT.min(positions));
    let tokenizer = Tokenizer::from_vocab_bytes(&vocabulary, max_tokens);
    let tokenizer = tokenizer.map_err(|error| RefreshError::of(broken(), true, error))?;
    let filter = RecordFilter { splits: vec!["val".to_owned()], ..RecordFilter::default() };
    let corpus = step.samples.clone().unwrap_or_else(|| job.folder(run).join(FRESH));
    let samples = Samples::from_corpus(&corpus, &filter, &loaded.model.config, &tokenizer).map_err(wrong)?;
    let mut facts = step.facts.clone();
    facts.pairs = snapshot.records.train;
    facts.steps = steps_of_run(&checkpoint);
    if facts.data.is_empty() {
        let topics: Vec<&str> = snapshot.topics.iter().map(|topic| topic.topic.as_str()).collect();
        facts.data = format!("Items and clicks of the topics {}.", topics.join(", "));
    }
    let options = ReleaseOptions {
        name: step.name.clone(),
        parent: run.live.clone().filter(|_| is_warm(job, run)),
        precisions: step.precisions.clone(),
        opset: step.opset,
        keep_f32: step.keep_f32.clone(),
        max_tokens,
        late_interaction: trained.loss.token_wise,
        vocabulary,
        facts,
        force: false,
    };
    let released = release(&out, &loaded, &samples, &options).map_err(wrong)?;
    tracing::info!(fingerprint = %released.manifest.fingerprint, difference = released.torch_difference, "exported");
    Ok(())
}

/// Fingerprint of a bundle.
pub(super) fn fingerprint(bundle: &Path) -> Result<Fingerprint, RefreshError> {
    let path = bundle.join(MANIFEST_FILE);
    let failed = || path.display().to_string();
    let bytes = std::fs::read(&path).map_err(RefreshError::failed(failed()))?;
    Ok(Manifest::from_json(&bytes).map_err(RefreshError::failed(failed()))?.fingerprint)
}
