//! The training configuration: one TOML file, each value of which the command line can override by `--set section.key=value`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::config_parts::{MatchingConfig, ScheduleKind};
use crate::corpus::augment::AugmentConfig;
use crate::corpus::{PublishedSet, TextKindWeights};
use crate::distil::DistilConfig;
use crate::model::ModelConfig;
use crate::nn::{Device, Precision};
use crate::zero::StreamSettings;

/// Everything one run is determined by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Sizes of the model.
    pub model: ModelConfig,
    /// What is read.
    pub data: DataConfig,
    /// How pictures are changed.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// How often each text of a record is used.
    #[serde(default)]
    pub texts: TextKindWeights,
    /// The objective.
    #[serde(default)]
    pub loss: LossConfig,
    /// A teacher whose view of each batch is learnt too.
    #[serde(default)]
    pub distil: Option<DistilConfig>,
    /// Optimiser and schedule.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Fine-tuning for matching: where it is given, labelled pairs are trained on in place of the corpus.
    #[serde(default)]
    pub matching: Option<MatchingConfig>,
    /// Periodic validation.
    #[serde(default)]
    pub eval: EvalConfig,
    /// Where and how it runs.
    pub run: RunConfig,
}

/// What batches are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataSource {
    /// The corpus, in memory: batches follow from seed and step.
    #[default]
    Corpus,
    /// Shards of any size, `data.stream`.
    Stream,
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// What batches are made of.
    #[serde(default)]
    pub source: DataSource,
    /// Shards and how they are streamed, where the source is a stream.
    #[serde(default)]
    pub stream: StreamSettings,
    /// Corpus folder with `<split>.jsonl`, `images/`, `tasks/`; a stream needs it for `eval.tasks` only.
    #[serde(default)]
    pub corpus: PathBuf,
    /// A published retrieval set (icr, iqr, flickr30k-cna) to train on in place of a corpus's records; `corpus` is then its folder, and
    /// `splits` are its.
    #[serde(default)]
    pub set: Option<PublishedSet>,
    /// Folder of that set's pictures, where it is not the usual one.
    #[serde(default)]
    pub images: Option<PathBuf>,
    /// Leave out rows of that set whose picture is not there; else such a row is an error.
    #[serde(default)]
    pub skip_missing: bool,
    /// BERT vocabulary.
    pub vocabulary: PathBuf,
    /// Splits to train on.
    #[serde(default = "splits_default")]
    pub splits: Vec<String>,
    /// Licences to train on, exact; empty allows all.
    #[serde(default)]
    pub licences: Vec<String>,
    /// Domains to train on; empty allows all.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Side in pixels that pictures are kept at in memory; crops are cut from it.
    #[serde(default = "working_px_default")]
    pub working_px: usize,
    /// Longest text in tokens, at most `model.positions`.
    #[serde(default = "max_tokens_default")]
    pub max_tokens: usize,
    /// Records a batch.
    #[serde(default = "batch_default")]
    pub batch: usize,
    /// Pairs encoded at a time (gradient caching: the batch's exact gradient with this many activations in memory, for one forward pass
    /// more); 0 encodes the batch at once. Does not go with `loss.token_wise`.
    #[serde(default)]
    pub micro_batch: usize,
    /// Avoid two records of one concept in a batch; where they meet all the same they are each other's positives.
    #[serde(default = "yes")]
    pub distinct_concepts: bool,
    /// Fraction of batches drawn from one domain only (harder negatives).
    #[serde(default)]
    pub one_domain_fraction: f64,
    /// Fraction of patches kept in training; 1 keeps all.
    #[serde(default = "one")]
    pub patch_keep: f64,
}

/// The objective.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Spread over all columns of the contrastive targets.
    pub label_smoothing: f64,
    /// Similarity of a pair by its tokens (late interaction, FILIP and Wukong) instead of its embeddings; goes with neither queue nor
    /// momentum.
    pub token_wise: bool,
    /// Features of recent steps that serve as further columns of the contrastive loss; 0 has none.
    pub queue_slots: i64,
    /// Weight of a queued column is multiplied by this every step (the authors' talk names 0.99); 1 weighs all alike.
    pub queue_decay: f64,
    /// First progress (0..1) with the queue: at the start features change too fast to be kept.
    pub queue_start_progress: f64,
    /// The columns and the queue hold the features of the momentum towers (the moving average of the weights, `optim.ema`), at the
    /// cost of one more forward pass; else the towers' own.
    pub momentum: bool,
    /// With `momentum`, whose features the batch's own columns are: true takes the momentum towers' (BriVL, ALBEF, docs/R2D2.md §2.4), so
    /// that gradient reaches the row's side of a similarity only; false takes the towers' own with gradient on both sides, as GCPR does
    /// in the official fine-tuning (§2.1), and leaves the momentum towers the queue and the targets. Our choice for R2D2 is false: with
    /// true it learns at half of CLIP's pace (trainer/results).
    pub momentum_columns: bool,
    /// Target-guided distillation: part of the targets that comes from the momentum towers; needs `momentum` (ALBEF: 0.4).
    pub tgd_alpha: f64,
    /// First progress (0..1) with it. Before, where nothing else reads the momentum towers, their forward pass (a fifth of a step) is left out.
    pub tgd_start_progress: f64,
    /// Progress (0..1) from there on over which that part grows from 0.
    pub tgd_ramp_progress: f64,
    /// Weight of the matching loss beside the contrastive one.
    pub fgr_weight: f64,
    /// The matching loss is computed every this many steps; 0 switches it off.
    pub itm_every: u64,
    /// At most this many pairs in it: a positive and its negatives an anchor, a third positives where one negative is drawn.
    pub itm_pairs_max: i64,
    /// Pictures drawn as negatives of each text, and texts of each picture (the official code: 1). They are drawn from the batch.
    pub fgr_negatives: i64,
    /// Weight, within the matching loss, of ranking each match first among its own negatives (our choice; the source has none); 0
    /// switches it off.
    pub fgr_listwise_weight: f64,
    /// First step with the matching loss.
    pub itm_start_step: u64,
    /// First progress (0..1) with the matching loss; both conditions must hold.
    pub itm_start_progress: f64,
    /// Weight of masked language modelling, computed where the matching loss is, by the same pass over the masked text (enhanced
    /// training, docs/R2D2.md §2.3); 0 switches it off. Needs `model.mlm_head`.
    pub mlm_weight: f64,
    /// Part of the tokens that is hidden (BERT, ALBEF: 0.15).
    pub mlm_probability: f64,
    /// Weight of feature-guided distillation; 0 switches it off. Needs `momentum` and `mlm_weight`.
    pub fgd_weight: f64,
    /// The matching loss does not reach the towers: they train by the contrastive loss alone, and a step with it costs less.
    pub itm_detach: bool,
    /// The temperature learns; else it stays at its initial value.
    pub learn_temperature: bool,
    /// Hidden dropout on the text side. 0 for training from scratch: at the start all texts look nearly alike, and noise hides what
    /// tells them apart (a small drawn corpus that is learnt in 200 steps without it is not in 1,000 with 0.1).
    pub dropout: f64,
    /// Attention dropout; above 0 leaves the fused kernel.
    pub attention_dropout: f64,
    /// Stochastic depth of the last vision block.
    pub drop_path: f64,
}

impl LossConfig {
    /// Pairs of a batch that the matching loss takes as anchors.
    pub fn fgr_anchors(&self, batch: i64) -> i64 {
        batch.min((self.itm_pairs_max / (1 + 2 * self.fgr_negatives)).max(1))
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            token_wise: false,
            queue_slots: 0,
            queue_decay: 1.0,
            queue_start_progress: 0.0,
            momentum: false,
            momentum_columns: true,
            tgd_alpha: 0.0,
            tgd_start_progress: 0.0,
            tgd_ramp_progress: 0.1,
            fgr_weight: 1.0,
            itm_every: 4,
            itm_pairs_max: 96,
            fgr_negatives: 1,
            fgr_listwise_weight: 0.0,
            itm_start_step: 0,
            itm_start_progress: 0.0,
            mlm_weight: 0.0,
            mlm_probability: 0.15,
            fgd_weight: 0.0,
            itm_detach: false,
            learn_temperature: true,
            dropout: 0.0,
            attention_dropout: 0.0,
            drop_path: 0.0,
        }
    }
}

/// Optimiser and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end, as a fraction of the peak.
    pub lr_end: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Learning rate of Muon for the matrices inside the blocks, as a multiple of `lr`; 0 leaves them to AdamW.
    pub muon_lr_scale: f64,
    /// Momentum of Muon.
    pub muon_momentum: f64,
    /// Decay biases, LayerNorm weights and the temperature too (the official recipe does, docs/R2D2.md §3.1).
    pub decay_vectors: bool,
    /// First and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest gradient norm; 0 switches clipping off.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights; the first steps use less.
    pub ema: f64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Passes over the data; above 0 they set the steps.
    pub epochs: u64,
    /// Steps of an epoch where the data does not say; 0 takes records / batch.
    pub steps_per_epoch: u64,
    /// Beginnings of the names of parameters that do not learn, such as `visual_encoder.`: no gradient, no decay, no averaging.
    pub freeze: Vec<String>,
    /// Parts of the names of parameters that are not decayed, such as `bias`.
    pub no_decay: Vec<String>,
    /// Seconds of the whole run; the schedule follows whichever of steps and seconds is further. 0 has no limit.
    pub max_seconds: u64,
    /// Shape of the learning rate.
    pub schedule: ScheduleKind,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            lr_end: 0.01,
            warmup_steps: 200,
            weight_decay: 0.05,
            muon_lr_scale: 0.0,
            muon_momentum: 0.95,
            decay_vectors: false,
            betas: [0.9, 0.98],
            eps: 1e-8,
            clip_norm: 1.0,
            ema: 0.998,
            steps: 10_000,
            epochs: 0,
            steps_per_epoch: 0,
            freeze: Vec::new(),
            no_decay: Vec::new(),
            max_seconds: 0,
            schedule: ScheduleKind::Cosine,
        }
    }
}

/// Periodic validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between validations; 0 validates at the end only.
    pub every_steps: u64,
    /// Task names: `tasks/<name>.jsonl`.
    pub tasks: Vec<String>,
    /// At most this many queries of a task are used, from its start; 0 uses all.
    pub queries_max: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every_steps: 500, tasks: Vec::new(), queries_max: 0 }
    }
}

/// Where and how it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Folder of checkpoints, metrics and curves.
    pub out: PathBuf,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Where it runs: `cpu`, `cuda` or `cuda:N`. CUDA asked for and not there is an error.
    #[serde(default)]
    pub device: Device,
    /// Precision of matrix products.
    #[serde(default = "precision_default")]
    pub precision: Precision,
    /// LibTorch's threads; 0 takes all cores.
    #[serde(default)]
    pub threads: usize,
    /// Threads that make batches.
    #[serde(default = "one_thread")]
    pub data_threads: usize,
    /// Seconds between checkpoints.
    #[serde(default = "save_seconds_default")]
    pub save_every_seconds: u64,
    /// Checkpoints kept in `checkpoints/step-N` beside the newest; 0 keeps the newest alone.
    #[serde(default)]
    pub keep_last: usize,
    /// Steps between lines of metrics.
    #[serde(default = "log_default")]
    pub log_every_steps: u64,
    /// Save and stop after this many steps of this part of the run, to go on by `--resume`; 0 has no limit.
    #[serde(default)]
    pub part_steps: u64,
    /// Weights to start from, a native checkpoint; none starts from random ones.
    #[serde(default)]
    pub init: Option<PathBuf>,
    /// Start the image tower's attention near the identity (mimetic initialisation, Trockman and Kolter 2023): it looks at its own
    /// neighbourhood from the first step on. Without effect where `init` is given.
    #[serde(default)]
    pub mimetic: bool,
}

fn splits_default() -> Vec<String> {
    vec!["train".into()]
}
fn working_px_default() -> usize {
    96
}
fn max_tokens_default() -> usize {
    64
}
fn batch_default() -> usize {
    192
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn one_thread() -> usize {
    1
}
fn precision_default() -> Precision {
    Precision::F32
}
fn save_seconds_default() -> u64 {
    300
}
fn log_default() -> u64 {
    10
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum TrainConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the TOML expected; the message has line and field.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From the TOML reader.
        message: String,
    },
    /// An override that is not `section.key=value`.
    #[error("--set {given}: {message}; write it as section.key=value")]
    Override {
        /// What was given.
        given: String,
        /// What is wrong.
        message: String,
    },
    /// A value outside its range.
    #[error("{field} is {value}; it must be {limit}")]
    Range {
        /// Dotted name.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        limit: &'static str,
    },
    /// Sizes that are no model.
    #[error(transparent)]
    Model(#[from] crate::model::ConfigError),
}

impl TrainConfig {
    /// Reads a file, applies overrides of the form `section.key=value`, checks every range.
    ///
    /// # Errors
    /// The file cannot be read, a field is unknown, missing or of the wrong type, or a value is outside its range.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, TrainConfigError> {
        let text = read_text(path)?;
        let fail = |message: String| TrainConfigError::Parse { path: path.to_path_buf(), message };
        let config: Self = if overrides.is_empty() {
            toml::from_str(&text).map_err(|error| fail(error.to_string()))?
        } else {
            read_table(path, &text, overrides)?.try_into().map_err(|error| fail(error.to_string()))?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `run.device` alone: the program may have to start once more for it, before anything else is done.
    ///
    /// # Errors
    /// The file is not TOML, or the device's name is none.
    pub fn read_device(path: &Path, overrides: &[String]) -> Result<Device, TrainConfigError> {
        let table = read_table(path, &read_text(path)?, overrides)?;
        let Some(device) = table.get("run").and_then(|run| run.get("device")) else { return Ok(Device::default()) };
        let fail = |message: String| TrainConfigError::Parse { path: path.to_path_buf(), message };
        device.clone().try_into().map_err(|error: toml::de::Error| fail(error.to_string()))
    }

    /// Patches kept of each picture in training.
    pub fn patches_kept(&self) -> usize {
        let patches = self.model.vision.patches() as f64;
        ((patches * self.data.patch_keep).round() as usize).max(1)
    }
}

fn read_text(path: &Path) -> Result<String, TrainConfigError> {
    std::fs::read_to_string(path).map_err(|source| TrainConfigError::Io { path: path.to_path_buf(), source })
}

fn read_table(path: &Path, text: &str, overrides: &[String]) -> Result<toml::Table, TrainConfigError> {
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| TrainConfigError::Parse { path: path.to_path_buf(), message: error.to_string() })?;
    for given in overrides {
        apply_override(&mut table, given).map_err(|message| TrainConfigError::Override { given: given.clone(), message })?;
    }
    Ok(table)
}

fn apply_override(table: &mut toml::Table, given: &str) -> Result<(), String> {
    let (path, value) = given.split_once('=').ok_or("there is no `=`")?;
    // A bare word is taken as a string, so that paths need no quotes.
    let parsed: toml::Value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let (parents, key) = path.rsplit_once('.').ok_or("the key has no section")?;
    let mut at = table;
    for part in parents.split('.') {
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` is not a section"))?;
    }
    // `lr=1` means 1.0 where a float stands.
    let value = match (at.get(key), parsed) {
        (Some(toml::Value::Float(_)), toml::Value::Integer(value)) => toml::Value::Float(value as f64),
        (_, value) => value,
    };
    at.insert(key.to_owned(), value);
    Ok(())
}
