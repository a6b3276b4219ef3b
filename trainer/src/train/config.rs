//! The training configuration: one TOML file, each value of which the command line can override by `--set section.key=value`. Every
//! mistake is reported at once, with line (or `--set`), field and fix.

use std::path::{Path, PathBuf};

use astromech_settings::kinds::{above_zero, array, choice, flag, float, int, list, path, text};
use astromech_settings::{Document, Mistake, SettingError, SettingErrors, Tree, Value as _, checked, defaults, settings};

use super::config_parts::{CrossOptimConfig, MatchingConfig, ScheduleKind};
use crate::corpus::augment::AugmentConfig;
use crate::corpus::{PublishedSet, TextKindWeights};
use crate::distil::DistilConfig;
use crate::model::ModelConfig;
use crate::nn::{Device, Precision};
use crate::scenes::ScenesConfig;
use crate::zero::StreamSettings;

/// A file that shows the keys.
const EXAMPLE: &str = "configs/train-demo.toml";
/// No end: what is too much shows in time or memory, which no fixed number knows.
const ANY: u64 = u64::MAX;
/// Weights, rates and norms have no largest value.
const NO_END: f64 = f64::INFINITY;

/// What batches are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataSource {
    /// The corpus, in memory: batches follow from seed and step.
    #[default]
    Corpus,
    /// Shards of any size, `data.stream`.
    Stream,
}

const SOURCES: &[(&str, DataSource)] = &[("corpus", DataSource::Corpus), ("stream", DataSource::Stream)];
const PRECISIONS: &[(&str, Precision)] = &[("f32", Precision::F32), ("bf16", Precision::Bf16)];
const SETS: &[(&str, PublishedSet)] = &[
    ("icm", PublishedSet::Icm),
    ("iqm", PublishedSet::Iqm),
    ("icr", PublishedSet::Icr),
    ("iqr", PublishedSet::Iqr),
    ("flickr30k-cna", PublishedSet::Flickr30kCna),
];

settings! {
    /// Everything one run is determined by.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TrainConfig {
        /// Sizes of the model.
        model: ModelConfig;
        /// What is read.
        data: DataConfig;
        /// How pictures are changed.
        augment: AugmentConfig;
        /// How often each text of a record is used.
        texts: TextKindWeights;
        /// The objective.
        loss: LossConfig;
        /// A teacher whose view of each batch is learnt too.
        distil: Option<DistilConfig>;
        /// Optimiser and schedule.
        optim: OptimConfig;
        /// Fine-tuning for matching: where it is given, labelled pairs are trained on in place of the corpus.
        matching: Option<MatchingConfig>;
        /// Periodic validation.
        eval: EvalConfig;
        /// Where and how it runs.
        run: RunConfig;
    }

    /// What is read.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DataConfig {
        /// What batches are made of.
        source: DataSource = "corpus" => choice(SOURCES);
        /// Shards and how they are streamed, where the source is a stream.
        stream: StreamSettings;
        /// Corpus folder with `<split>.jsonl`, `images/`, `tasks/`; a stream needs it for `eval.tasks` only.
        corpus: PathBuf = "" => path();
        /// A published retrieval set (icr, iqr, flickr30k-cna) to train on in place of a corpus's records; `corpus` is then its folder,
        /// and `splits` are its.
        set: Option<PublishedSet> = optional => choice(SETS).or_none();
        /// Folder of that set's pictures, where it is not the usual one.
        images: Option<PathBuf> = optional => path().or_none();
        /// Leave out rows of that set whose picture is not there; else such a row is an error.
        skip_missing: bool = false => flag();
        /// BERT vocabulary.
        vocabulary: PathBuf = (required "vocab.txt") => path();
        /// Splits to train on.
        splits: Vec<String> = ["train"] => list(text());
        /// Licences to train on, exact; empty allows all.
        licences: Vec<String> = [] => list(text());
        /// Domains to train on; empty allows all.
        domains: Vec<String> = [] => list(text());
        /// Side in pixels that pictures are kept at in memory; crops are cut from it.
        working_px: usize = 96 => int(8, ANY);
        /// Longest text in tokens, at most `model.positions`.
        max_tokens: usize = 64 => int(3, ANY);
        /// Records a batch.
        batch: usize = 192 => int(2, ANY);
        /// Pairs encoded at a time (gradient caching: the batch's exact gradient with this many activations in memory, for one forward
        /// pass more); 0 encodes the batch at once. Does not go with `loss.token_wise`.
        micro_batch: usize = 0 => int(0, ANY);
        /// Avoid two records of one concept in a batch; where they meet all the same they are each other's positives.
        distinct_concepts: bool = true => flag();
        /// Fraction of batches drawn from one domain only (harder negatives).
        one_domain_fraction: f64 = 0.0 => float(0.0, 1.0);
        /// Fraction of patches kept in training; 1 keeps all.
        patch_keep: f64 = 1.0 => float(0.0, 1.0);
        /// Composed scenes mixed into every batch, such as `{ share = 0.5 }`.
        scenes: Option<ScenesConfig>;
    }

    /// The objective.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LossConfig {
        /// Spread over all columns of the contrastive targets.
        label_smoothing: f64 = 0.0 => float(0.0, 1.0);
        /// Similarity of a pair by its tokens (late interaction, FILIP and Wukong) instead of its embeddings; goes with neither queue nor
        /// momentum.
        token_wise: bool = false => flag();
        /// Features of recent steps that serve as further columns of the contrastive loss; 0 has none.
        queue_slots: i64 = 0 => int(0, ANY);
        /// Weight of a queued column is multiplied by this every step (the authors' talk names 0.99); 1 weighs all alike.
        queue_decay: f64 = 1.0 => float(0.0, 1.0);
        /// First progress (0..1) with the queue: at the start features change too fast to be kept.
        queue_start_progress: f64 = 0.0 => float(0.0, NO_END);
        /// The columns and the queue hold the features of the momentum towers (the moving average of the weights, `optim.ema`), at the
        /// cost of one more forward pass; else the towers' own.
        momentum: bool = false => flag();
        /// With `momentum`, whose features the batch's own columns are: true takes the momentum towers' (BriVL, ALBEF, docs/R2D2.md §2.4), so
        /// that gradient reaches the row's side of a similarity only; false takes the towers' own with gradient on both sides, as GCPR
        /// does in the official fine-tuning (§2.1), and leaves the momentum towers the queue and the targets. Our choice for R2D2 is
        /// false: with true it learns at half of CLIP's pace (trainer/results).
        momentum_columns: bool = true => flag();
        /// Target-guided distillation: part of the targets that comes from the momentum towers; needs `momentum` (ALBEF: 0.4).
        tgd_alpha: f64 = 0.0 => float(0.0, 1.0);
        /// First progress (0..1) with it. Before, where nothing else reads the momentum towers, their forward pass (a fifth of a step) is
        /// left out.
        tgd_start_progress: f64 = 0.0 => float(0.0, 1.0);
        /// Progress (0..1) from there on over which that part grows from 0.
        tgd_ramp_progress: f64 = 0.1 => float(0.0, NO_END);
        /// Weight of the matching loss beside the contrastive one.
        fgr_weight: f64 = 1.0 => float(0.0, NO_END);
        /// The matching loss is computed every this many steps; 0 switches it off.
        itm_every: u64 = 4 => int(0, ANY);
        /// At most this many pairs in it: a positive and its negatives an anchor, a third positives where one negative is drawn.
        itm_pairs_max: i64 = 96 => int(0, ANY);
        /// Pictures drawn as negatives of each text, and texts of each picture (the official code: 1). They are drawn from the batch.
        fgr_negatives: i64 = 1 => int(1, ANY);
        /// Part of the anchors whose negatives are drawn evenly from the batch instead of by the model's own probabilities. Hard ones alone
        /// hold a head at ln 2 for longer.
        fgr_uniform: f64 = 0.0 => float(0.0, 1.0);
        /// Weight, within the matching loss, of ranking each match first among its own negatives (our choice; the source has none); 0
        /// switches it off.
        fgr_listwise_weight: f64 = 0.0 => float(0.0, NO_END);
        /// First step with the matching loss.
        itm_start_step: u64 = 0 => int(0, ANY);
        /// First progress (0..1) with the matching loss; both conditions must hold.
        itm_start_progress: f64 = 0.0 => float(0.0, NO_END);
        /// Weight of masked language modelling, computed where the matching loss is, by the same pass over the masked text (enhanced
        /// training, docs/R2D2.md §2.3); 0 switches it off. Needs `model.mlm_head`.
        mlm_weight: f64 = 0.0 => float(0.0, NO_END);
        /// Part of the tokens that is hidden (BERT, ALBEF: 0.15).
        mlm_probability: f64 = 0.15 => float(0.0, 1.0);
        /// Weight of feature-guided distillation; 0 switches it off. Needs `momentum` and `mlm_weight`.
        fgd_weight: f64 = 0.0 => float(0.0, NO_END);
        /// Standardise each channel of the image states before the cross encoders, by the mean and deviation of the batch with which
        /// they start. States of a vision tower that is trained from scratch reach any size and drown the text-image cross encoder. The
        /// saved model has it folded into the official weights. Without effect where `run.init` is given: its cross encoders know
        /// their states.
        itm_standardise: bool = true => flag();
        /// The matching loss does not reach the towers: they train by the contrastive loss alone, and a step with it costs less.
        itm_detach: bool = false => flag();
        /// The temperature learns; else it stays at its initial value.
        learn_temperature: bool = true => flag();
        /// Hidden dropout on the text side. 0 for training from scratch: at the start all texts look nearly alike, and noise hides what
        /// tells them apart (a small drawn corpus that is learnt in 200 steps without it is not in 1,000 with 0.1).
        dropout: f64 = 0.0 => float(0.0, 1.0);
        /// Attention dropout; above 0 leaves the fused kernel.
        attention_dropout: f64 = 0.0 => float(0.0, 1.0);
        /// Stochastic depth of the last vision block.
        drop_path: f64 = 0.0 => float(0.0, 1.0);
    }

    /// Optimiser and schedule.
    #[derive(Debug, Clone, PartialEq)]
    pub struct OptimConfig {
        /// Peak learning rate.
        lr: f64 = 1e-3 => float(0.0, NO_END).parsed(above_zero, || 1.0);
        /// Learning rate at the end, as a fraction of the peak.
        lr_end: f64 = 0.01 => float(0.0, NO_END);
        /// Steps of linear warm-up.
        warmup_steps: u64 = 200 => int(0, ANY);
        /// Decoupled weight decay.
        weight_decay: f64 = 0.05 => float(0.0, NO_END);
        /// Learning rate of Muon for the matrices inside the blocks, as a multiple of `lr`; 0 leaves them to AdamW.
        muon_lr_scale: f64 = 0.0 => float(0.0, NO_END);
        /// Momentum of Muon.
        muon_momentum: f64 = 0.95 => float(0.0, 1.0);
        /// Decay biases, LayerNorm weights and the temperature too (the official recipe does, docs/R2D2.md §3.1).
        decay_vectors: bool = false => flag();
        /// First and second moment.
        betas: [f64; 2] = [0.9, 0.98] => array(float(0.0, 1.0));
        /// Added to the root of the second moment.
        eps: f64 = 1e-8 => float(0.0, NO_END);
        /// Largest gradient norm; 0 switches clipping off.
        clip_norm: f64 = 1.0 => float(0.0, NO_END);
        /// Decay of the moving average of the weights; the first steps use less.
        ema: f64 = 0.998 => float(0.0, 1.0);
        /// Steps of the whole run.
        steps: u64 = 10000 => int(1, ANY);
        /// Passes over the data; above 0 they set the steps.
        epochs: u64 = 0 => int(0, ANY);
        /// Steps of an epoch where the data does not say; 0 takes records / batch.
        steps_per_epoch: u64 = 0 => int(0, ANY);
        /// Beginnings of the names of parameters that do not learn, such as `visual_encoder.`: no gradient, no decay, no averaging.
        freeze: Vec<String> = [] => list(text());
        /// Parts of the names of parameters that are not decayed, such as `bias`.
        no_decay: Vec<String> = [] => list(text());
        /// Seconds of the whole run; the schedule follows whichever of steps and seconds is further. 0 has no limit.
        max_seconds: u64 = 0 => int(0, ANY);
        /// Shape of the learning rate.
        schedule: ScheduleKind;
        /// A learning rate of the cross encoders' own; where it is not given they learn at that of the towers.
        cross: Option<CrossOptimConfig>;
    }

    /// Periodic validation.
    #[derive(Debug, Clone, PartialEq)]
    pub struct EvalConfig {
        /// Steps between validations; 0 validates at the end only.
        every_steps: u64 = 500 => int(0, ANY);
        /// Task names: `tasks/<name>.jsonl`.
        tasks: Vec<String> = [] => list(text());
        /// At most this many queries of a task are used, from its start; 0 uses all.
        queries_max: usize = 0 => int(0, ANY);
    }

    /// Where and how it runs.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RunConfig {
        /// Folder of checkpoints, metrics and curves.
        out: PathBuf = (required "runs/demo") => path();
        /// Seed of everything random.
        seed: u64 = 0 => int(0, ANY);
        /// Where it runs: `cpu`, `cuda` or `cuda:N`. CUDA asked for and not there is an error.
        device: Device = "cpu" => text().parsed(|text| device(&text), Device::default);
        /// Precision of matrix products.
        precision: Precision = "f32" => choice(PRECISIONS);
        /// LibTorch's threads; 0 takes all cores.
        threads: usize = 0 => int(0, 4096);
        /// Threads that make batches.
        data_threads: usize = 1 => int(0, 4096);
        /// Seconds between checkpoints.
        save_every_seconds: u64 = 300 => int(0, ANY);
        /// Checkpoints kept in `checkpoints/step-N` beside the newest; 0 keeps the newest alone.
        keep_last: usize = 0 => int(0, ANY);
        /// Steps between lines of metrics.
        log_every_steps: u64 = 10 => int(0, ANY);
        /// Save and stop after this many steps of this part of the run, to go on by `--resume`; 0 has no limit.
        part_steps: u64 = 0 => int(0, ANY);
        /// Weights to start from, a native checkpoint; none starts from random ones.
        init: Option<PathBuf> = optional => path().or_none();
        /// Start the image tower's attention near the identity (mimetic initialisation, Trockman and Kolter 2023): it looks at its own
        /// neighbourhood from the first step on. Without effect where `init` is given.
        mimetic: bool = false => flag();
    }
}

fn device(name: &str) -> Result<Device, Mistake> {
    let fix = "write \"cpu\", \"cuda\" or \"cuda:N\" with N from 0";
    Device::try_from(name.to_owned()).map_err(|_| Mistake::new(format!("`{name}` is no device"), fix))
}

impl LossConfig {
    /// Pairs of a batch that the matching loss takes as anchors.
    pub fn fgr_anchors(&self, batch: i64) -> i64 {
        batch.min((self.itm_pairs_max / (1 + 2 * self.fgr_negatives)).max(1))
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        defaults()
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        defaults()
    }
}

impl Default for EvalConfig {
    fn default() -> Self {
        defaults()
    }
}

impl TrainConfig {
    /// Reads a file, applies overrides of the form `section.key=value`, checks every range.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it and in the overrides: a field is unknown, missing, of the wrong type or outside
    /// its range.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, SettingErrors> {
        let (document, errors) = open(path, overrides)?;
        let checked = checked(&document, errors, EXAMPLE, Self::check);
        checked.map_err(|errors| SettingErrors { file: path.to_owned(), errors })
    }

    /// Reads `run.device` alone: the program may have to start once more for it, before anything else is done.
    ///
    /// # Errors
    /// The file cannot be read, or the device's name is none.
    pub fn read_device(path: &Path, overrides: &[String]) -> Result<Device, SettingErrors> {
        let (document, _) = open(path, overrides)?;
        let Some(node) = document.get("run.device") else { return Ok(Device::default()) };
        // What is no string is reported with everything else, by [`Self::read`].
        let Tree::Text(name) = &node.tree else { return Ok(Device::default()) };
        device(name).map_err(|Mistake { problem, fix }| {
            let errors = vec![SettingError::new(node.spot, "run.device", problem, fix)];
            SettingErrors { file: path.to_owned(), errors }
        })
    }

    /// Patches kept of each picture in training.
    pub fn patches_kept(&self) -> usize {
        let patches = self.model.vision.patches() as f64;
        ((patches * self.data.patch_keep).round() as usize).max(1)
    }
}

/// The file with its overrides, and the mistakes of both.
fn open(path: &Path, overrides: &[String]) -> Result<(Document, Vec<SettingError>), SettingErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fix = format!("give the path of a file such as {EXAMPLE}");
        SettingErrors { file: path.to_owned(), errors: vec![SettingError::of_file(error.to_string(), fix)] }
    })?;
    let (mut document, mut errors) = Document::parse(&text);
    errors.extend(overrides.iter().filter_map(|given| document.set(given)));
    Ok((document, errors))
}
