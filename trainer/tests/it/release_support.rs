//! Bundles of the drawn corpus (`synthetic`).

use std::path::Path;

use astromech_schemas::manifest::Precision;
use astromech_towers::Tokenizer;
use astromech_trainer::checkpoint::load_model;
use astromech_trainer::corpus::RecordFilter;
use astromech_trainer::export::OPSET_DEFAULT;
use astromech_trainer::release::{CardFacts, ReleaseOptions, Samples, release};

/// Releases the checkpoint of a run on the drawn corpus in `folder` as a bundle of f32 graphs.
pub fn release_bundle(folder: &Path, checkpoint: &Path, out: &Path, name: &str) {
    release_precisions(folder, checkpoint, out, name, &[Precision::F32]);
}

/// As [`release_bundle`], with graphs of those precisions.
pub fn release_precisions(folder: &Path, checkpoint: &Path, out: &Path, name: &str, precisions: &[Precision]) {
    release_with(folder, checkpoint, out, |options| ReleaseOptions {
        name: name.to_owned(),
        precisions: precisions.to_vec(),
        ..options
    });
}

/// As [`release_bundle`], with options changed.
pub fn release_with(folder: &Path, checkpoint: &Path, out: &Path, change: impl FnOnce(ReleaseOptions) -> ReleaseOptions) {
    let loaded = load_model(checkpoint).unwrap();
    let vocabulary = std::fs::read(folder.join("vocab.txt")).unwrap();
    let tokenizer = Tokenizer::from_vocab_bytes(&vocabulary, 16).unwrap();
    let filter = RecordFilter { splits: vec!["train".into()], ..RecordFilter::default() };
    let samples = Samples::from_corpus(folder, &filter, &loaded.model.config, &tokenizer).unwrap();
    let options = ReleaseOptions {
        name: "drawn".to_owned(),
        parent: None,
        precisions: vec![Precision::F32],
        opset: OPSET_DEFAULT,
        max_tokens: 16,
        keep_f32: Vec::new(),
        late_interaction: false,
        vocabulary,
        facts: CardFacts::default(),
        force: false,
    };
    release(out, &loaded, &samples, &change(options)).unwrap();
}
