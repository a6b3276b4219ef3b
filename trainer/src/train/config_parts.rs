//! Sections and values of the training configuration that have a file of the loop to themselves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Shape of the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleKind {
    /// Linear warm-up from 0, then cosine over progress.
    #[default]
    Cosine,
    /// Cosine that changes between epochs only, lr_e = ½·lr·(1 + cos(π·e/E)). In the first epoch, and in every step below
    /// `optim.warmup_steps`, a linear warm-up from `warmup_from`·lr takes its place, capped at the peak (docs/R2D2.md §3.1).
    CosinePerEpoch {
        /// Learning rate of the first step, as a fraction of the peak.
        warmup_from: f64,
    },
    /// Rises linearly from `low`·lr to lr in `up_steps`, falls back in as many, and repeats (docs/R2D2.md §3.2).
    Triangular {
        /// Steps from the low to the peak.
        up_steps: u64,
        /// The low as a fraction of the peak.
        low: f64,
    },
}

/// Fine-tuning for matching. The other sections of the configuration keep their meaning where they apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchingConfig {
    /// Files of labelled pairs to train on: JSON Lines of `image` (id of a record of `data.corpus`), `text`, `label`; of `image_path`,
    /// `text`, `label` as Zero publishes ICM and IQM; or `.tsv` lines of picture, text, label.
    pub train: Vec<PathBuf>,
    /// Files to validate on.
    #[serde(default)]
    pub valid: Vec<PathBuf>,
    /// Folder of the pictures that rows name by file.
    #[serde(default)]
    pub images: Option<PathBuf>,
    /// Leave out rows whose picture is not there; else such a row is an error.
    #[serde(default)]
    pub skip_missing: bool,
    /// At most this many pairs of a file are validated on, from its start; 0 uses all.
    #[serde(default)]
    pub valid_pairs_max: usize,
    /// Pairs that go through the model at a time, to bound memory; the gradient is that of the whole batch all the same. 0 takes all.
    #[serde(default)]
    pub micro_batch: usize,
    /// Decoded pictures stay in memory while all of them take at most this many bytes.
    #[serde(default = "pictures_bytes_default")]
    pub pictures_bytes_max: u64,
}

fn pictures_bytes_default() -> u64 {
    1 << 30
}
