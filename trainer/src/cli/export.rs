use std::path::PathBuf;

use anyhow::Context as _;
use astromech_schemas::Fingerprint;
use astromech_schemas::manifest::Precision;
use astromech_settings::load;
use astromech_towers::Tokenizer;
use astromech_trainer::checkpoint::load_model;
use astromech_trainer::corpus::RecordFilter;
use astromech_trainer::export::{MAX_TOKENS_DEFAULT, OPSET_DEFAULT};
use astromech_trainer::release::{CardFacts, ReleaseOptions, Samples, release, steps_of_run};

/// Exports a checkpoint as a bundle: graphs checked against LibTorch, golden vectors, model card, manifest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Weights: `model.safetensors` of a run, or of `trainer import`.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Folder of the bundle; it must not be there yet.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model, for people.
    #[arg(long)]
    name: String,
    /// Graphs to write: f32, int8, fp16. The golden vectors are made with the first; f32 comes first where it is listed.
    #[arg(long, value_delimiter = ',', default_value = "f32,int8,fp16", value_parser = precision)]
    precisions: Vec<Precision>,
    /// 23 writes the Attention operator, 20 is for older runtimes.
    #[arg(long, default_value_t = OPSET_DEFAULT)]
    opset: u32,
    /// Longest text in tokens; else 64, or as many as the model has positions.
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Parts of the names of layers that stay f32 in int8 graphs, such as text_encoder or output.dense: for a model whose int8 graph is
    /// refused as too far from f32.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    keep_f32: Vec<String>,
    /// How items are to be compared: late-interaction for a model trained with loss.token_wise = true, and for no other.
    #[arg(long, value_enum, default_value_t = Comparison::Cosine)]
    similarity: Comparison,
    /// Vocabulary the model was trained with.
    #[arg(long)]
    vocabulary: PathBuf,
    /// Corpus folder that the golden pictures and texts are taken from.
    #[arg(long)]
    samples: PathBuf,
    /// Its split.
    #[arg(long, default_value = "val")]
    samples_split: String,
    /// Licences of the pictures that may be taken: the bundle carries their pixels.
    #[arg(long, value_delimiter = ',', default_value = "Apache-2.0,MIT,CC-BY-4.0")]
    samples_licences: Vec<String>,
    /// TOML with what the model card says: licence, data, data_licences, pairs, steps, repeat, notes.
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Fingerprint of the bundle that this one was trained from.
    #[arg(long, value_parser = fingerprint)]
    parent: Option<Fingerprint>,
    /// Replace the bundle that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Comparison {
    /// By one vector each.
    Cosine,
    /// Token by token.
    LateInteraction,
}

pub(super) fn precision(text: &str) -> Result<Precision, String> {
    [Precision::F32, Precision::Int8, Precision::Fp16]
        .into_iter()
        .find(|precision| precision.as_str() == text)
        .ok_or_else(|| "give f32, int8 or fp16".to_owned())
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    Fingerprint::try_from(text.to_owned())
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut facts: CardFacts = match &args.facts {
        Some(path) => load(path, "configs/demo/bundle-facts.toml", |_, _, _| {})?,
        None => CardFacts::default(),
    };
    if facts.steps == 0 {
        facts.steps = steps_of_run(&args.checkpoint);
    }
    let loaded = load_model(&args.checkpoint)?;
    let vocabulary = std::fs::read(&args.vocabulary).with_context(|| args.vocabulary.display().to_string())?;
    let positions = loaded.model.config.positions.max(0) as usize;
    let max_tokens = args.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT.min(positions));
    let tokenizer = Tokenizer::from_vocab_bytes(&vocabulary, max_tokens)?;
    let filter = RecordFilter {
        splits: vec![args.samples_split.clone()],
        licences: args.samples_licences.clone(),
        ..RecordFilter::default()
    };
    let samples = Samples::from_corpus(&args.samples, &filter, &loaded.model.config, &tokenizer)?;
    let options = ReleaseOptions {
        name: args.name.clone(),
        parent: args.parent.clone(),
        precisions: args.precisions.clone(),
        opset: args.opset,
        keep_f32: args.keep_f32.clone(),
        max_tokens,
        late_interaction: args.similarity == Comparison::LateInteraction,
        vocabulary,
        facts,
        force: args.force,
    };
    let released = release(&args.out, &loaded, &samples, &options)?;
    tracing::info!(difference = released.torch_difference, "f32 graphs agree with LibTorch");
    for (precision, measured) in &released.measured {
        tracing::info!(
            image_cosine = measured.image_cosine,
            text_cosine = measured.text_cosine,
            match_difference = measured.match_difference,
            "{} beside f32",
            precision.as_str()
        );
    }
    let bytes: u64 = released.manifest.files.iter().map(|file| file.bytes).sum();
    tracing::info!(fingerprint = %released.manifest.fingerprint, bytes, "released to {}", args.out.display());
    Ok(())
}
